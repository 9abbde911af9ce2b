//! A real Prometheus for a test: scrapes what it is told to, dies and comes back with its data.
//!
//! It has a supervisor and a directory of its own, so it needs no cluster. Killing it is the test
//! of "metrics are gone"; after a restart it has the same address and the data it had written.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    control_plane::{ControlPlaneError, run, wait_ready},
    ports::ReservedPort,
    supervisor::{Process, ProcessSpec, Supervisor, lock},
    tools::{KubernetesVersion, Tools},
};

/// The targets that a [`Prometheus`] scrapes.
#[derive(Debug, Clone)]
pub struct PrometheusOptions {
    /// Time between scrapes of a target and between evaluations of rules.
    pub scrape_interval: Duration,
    /// HTTP service discovery addresses (`http_sd`), asked for targets once per scrape interval.
    pub http_sd_urls: Vec<String>,
    /// Directories whose `*.json` and `*.yaml` files list targets (`file_sd`).
    pub file_sd_directories: Vec<PathBuf>,
    /// Fixed targets (`host:port`), scraped at `/metrics` as job `static`.
    pub targets: Vec<String>,
    /// Further entries of `scrape_configs`.
    pub scrape_configs: Vec<Value>,
    /// Rule files.
    pub rule_files: Vec<PathBuf>,
    /// TLS and logins (`--web.config.file`). Whoever gives it waits until its own client is let in.
    pub web_config: Option<Value>,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(1),
            http_sd_urls: Vec::new(),
            file_sd_directories: Vec::new(),
            targets: Vec::new(),
            scrape_configs: Vec::new(),
            rule_files: Vec::new(),
            web_config: None,
        }
    }
}

/// A running Prometheus; dropping it ends the process and removes its data.
#[derive(Debug)]
pub struct Prometheus {
    process: Mutex<Option<Process>>,
    supervisor: Supervisor,
    tools: Tools,
    port: ReservedPort,
    web_config: Option<PathBuf>,
}

impl Prometheus {
    /// Starts Prometheus and returns when it is ready to be asked.
    pub async fn start(options: &PrometheusOptions) -> Result<Self, ControlPlaneError> {
        let version = KubernetesVersion::from_environment()?;
        let tools = tokio::task::spawn_blocking(move || Tools::locate_or_build(version)).await??;
        let supervisor = Supervisor::start("pd-prometheus-")?;
        let configuration = configuration(options).to_string();
        std::fs::write(
            supervisor.directory().join("prometheus.yaml"),
            configuration,
        )?;
        let web_config = match &options.web_config {
            Some(config) => {
                let path = supervisor.directory().join("web.yaml");
                std::fs::write(&path, config.to_string())?;
                Some(path)
            }
            None => None,
        };
        let port = ReservedPort::reserve()?;
        let prometheus = Self {
            process: Mutex::default(),
            supervisor,
            tools,
            port,
            web_config,
        };
        prometheus.restart().await?;
        Ok(prometheus)
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = self.web_config.as_ref().map_or("http", |_| "https");
        format!("{scheme}://127.0.0.1:{}", self.port.number())
    }

    /// Kills it with SIGKILL; returns when it is gone.
    pub async fn kill(&self) -> Result<(), ControlPlaneError> {
        let process = lock(&self.process).take();
        match process {
            Some(process) => Ok(process.kill().await?),
            None => Ok(()),
        }
    }

    /// Starts it again with its data, killing it first if it still runs; returns when it is ready.
    pub async fn restart(&self) -> Result<(), ControlPlaneError> {
        self.kill().await?;
        let process = self.supervisor.spawn(self.spec()).await?;
        *lock(&self.process) = Some(process.clone());
        if self.web_config.is_some() {
            return Ok(());
        }
        let url = format!("{}/-/ready", self.url());
        wait_ready(&process, &url, None, Duration::from_mins(1)).await
    }

    /// Makes it hang (SIGSTOP): connections are accepted and not answered.
    pub async fn pause(&self) -> Result<(), ControlPlaneError> {
        Ok(self.process()?.pause().await?)
    }

    /// Ends the hang (SIGCONT).
    pub async fn resume(&self) -> Result<(), ControlPlaneError> {
        Ok(self.process()?.resume().await?)
    }

    /// The value of each series an instant query gives, by the series' labels.
    pub async fn query(
        &self,
        query: &str,
    ) -> Result<Vec<(BTreeMap<String, String>, f64)>, ControlPlaneError> {
        crate::control_plane::install_crypto_provider();
        let failed = |error: reqwest::Error| ControlPlaneError::Io(std::io::Error::other(error));
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .map_err(failed)?;
        let url = format!("{}/api/v1/query", self.url());
        let response = client
            .get(url)
            .query(&[("query", query)])
            .send()
            .await
            .map_err(failed)?;
        let answer: Value = response.json().await.map_err(failed)?;
        let refused = || ControlPlaneError::Io(std::io::Error::other(answer.to_string()));
        let series = answer["data"]["result"].as_array().ok_or_else(refused)?;
        let read = |series: &Value| {
            let labels = serde_json::from_value(series["metric"].clone()).ok()?;
            Some((labels, series["value"][1].as_str()?.parse().ok()?))
        };
        series
            .iter()
            .map(|series| read(series).ok_or_else(refused))
            .collect()
    }

    /// Runs promtool and gives its standard output.
    pub async fn promtool(&self, arguments: &[&str]) -> Result<String, ControlPlaneError> {
        run(
            &self.tools.promtool,
            arguments,
            self.supervisor.directory(),
            None,
            None,
        )
        .await
    }

    /// Has promtool check the configuration in use, rule files included.
    pub async fn check_configuration(&self) -> Result<String, ControlPlaneError> {
        let path = self.supervisor.directory().join("prometheus.yaml");
        self.promtool(&["check", "config", &path.to_string_lossy()])
            .await
    }

    /// The directory of its data, configuration and log.
    pub fn directory(&self) -> &Path {
        self.supervisor.directory()
    }

    fn process(&self) -> Result<Process, ControlPlaneError> {
        lock(&self.process)
            .clone()
            .ok_or(ControlPlaneError::NotRunning("prometheus"))
    }

    fn spec(&self) -> ProcessSpec {
        let directory = self.supervisor.directory();
        let web_config = self.web_config.iter();
        let web_config = web_config.map(|path| format!("--web.config.file={}", path.display()));
        let arguments = [
            format!(
                "--config.file={}",
                directory.join("prometheus.yaml").display()
            ),
            format!("--storage.tsdb.path={}", directory.join("data").display()),
            "--storage.tsdb.retention.time=1d".to_owned(),
            format!("--web.listen-address=127.0.0.1:{}", self.port.number()),
            "--log.level=warn".to_owned(),
        ];
        ProcessSpec {
            name: "prometheus".to_owned(),
            program: self.tools.prometheus.clone(),
            arguments: arguments.into_iter().chain(web_config).collect(),
            ..ProcessSpec::default()
        }
    }
}

fn configuration(options: &PrometheusOptions) -> Value {
    let interval = format!("{}ms", options.scrape_interval.as_millis());
    let mut scrape_configs = options.scrape_configs.clone();
    if !options.targets.is_empty() {
        scrape_configs.push(json!({
            "job_name": "static",
            "static_configs": [{ "targets": options.targets }],
        }));
    }
    if !options.http_sd_urls.is_empty() {
        let discoveries: Vec<Value> = options
            .http_sd_urls
            .iter()
            .map(|url| json!({ "url": url, "refresh_interval": interval }))
            .collect();
        scrape_configs.push(json!({ "job_name": "http", "http_sd_configs": discoveries }));
    }
    if !options.file_sd_directories.is_empty() {
        let files: Vec<String> = options
            .file_sd_directories
            .iter()
            .flat_map(|directory| ["*.json", "*.yaml"].map(|glob| directory.join(glob)))
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        scrape_configs.push(json!({
            "job_name": "file",
            "file_sd_configs": [{ "files": files, "refresh_interval": interval }],
        }));
    }
    json!({
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": options.rule_files,
        "scrape_configs": scrape_configs,
    })
}
