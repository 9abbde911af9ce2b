//! Our own programs as targets of a real Prometheus, and whether dashboards show them.
//!
//! They are scraped as the chart's monitors have it: with the labels of their pods, and with the
//! labels of the metrics honoured, for `namespace` is a label of both.

use std::{io, path::Path, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    control_plane::{ControlPlaneError, eventually},
    dashboards::Panel,
    prometheus::Prometheus,
    supervisor::Process,
};

/// How long a program may take to listen, and a panel to show something: a window of rates.
const WITHIN: Duration = Duration::from_mins(1);

/// The window of rates, as long as what a test does.
const RATE_INTERVAL: &str = "5m";

/// A file of targets that a Prometheus looks at all the time.
#[derive(Debug)]
pub struct Scrape {
    directory: TempDir,
}

impl Scrape {
    /// Without targets.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            directory: tempfile::tempdir()?,
        })
    }

    /// The entry of `scrape_configs`.
    pub fn config(&self) -> Value {
        let files = self.directory.path().join("*.json");
        json!({
            "job_name": "pdautoscaler",
            "honor_labels": true,
            "file_sd_configs": [{ "files": [files], "refresh_interval": "1s" }],
        })
    }

    /// Has `process` scraped as the pod `name`, in place of another one of that name.
    pub async fn add(&self, name: &str, process: &Process) -> Result<(), ControlPlaneError> {
        let file = self.directory.path().join(format!("{name}.json"));
        let before = std::fs::read_to_string(file).unwrap_or_default();
        // A program that was started again writes on in the log of the one before.
        let address = eventually("the admin endpoint to listen", WITHIN, async || {
            let address = admin_address(&process.log());
            let new = address.filter(|address| !before.contains(address.as_str()));
            new.ok_or_else(|| process.log_tail())
        })
        .await?;
        let labels = json!({ "namespace": "pd-system", "pod": name });
        let targets = json!([{ "targets": [address], "labels": labels }]);
        write_whole(self.directory.path(), name, &targets.to_string())?;
        Ok(())
    }
}

/// Prometheus may look at any time, and never at half a file.
fn write_whole(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let draft = directory.join(format!("{name}.draft"));
    std::fs::write(&draft, text)?;
    std::fs::rename(draft, directory.join(format!("{name}.json")))
}

/// The admin endpoint's address, as the program logged it last.
fn admin_address(log: &str) -> Option<String> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let endpoints = lines.filter(|line| line["message"] == "admin server listens");
    let mut addresses = endpoints.filter_map(|line| line["address"].as_str().map(str::to_owned));
    addresses.next_back()
}

/// Waits until every query of `panels` has data that are numbers, with `variables` filled in.
pub async fn until_shown(
    prometheus: &Prometheus,
    panels: &[&Panel],
    variables: &[(&str, &str)],
) -> Result<(), ControlPlaneError> {
    eventually("panels with data", WITHIN, async || {
        let mut empty = Vec::new();
        for panel in panels {
            for query in &panel.queries {
                let expression = query.filled(variables, RATE_INTERVAL);
                let answer = prometheus.query(&expression).await;
                let answer = answer.map_err(|error| format!("{expression}: {error}"))?;
                if !answer.iter().any(|(_, value)| value.is_finite()) {
                    empty.push(format!("{}: {expression}: {answer:?}", panel.title));
                }
            }
        }
        if empty.is_empty() {
            Ok(())
        } else {
            Err(format!("{empty:#?}"))
        }
    })
    .await
}
