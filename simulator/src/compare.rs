//! `pd-sim compare`: policies x traces x lead times, on all cores, as a table, JSON, CSV and a
//! report.
//!
//! Every cell is one [`Run`] of one policy, and cells know nothing of each other, so the result
//! does not depend on how many run at once: the same options give the same bytes. A trace and a
//! lead time are read once for all policies. The first error ends everything, and nothing is
//! written.

pub mod options;

mod report;
pub(crate) mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use self::options::CompareOptions;
use crate::batch::{parallel, progress};
use crate::simulate::options as simulate_options;
use crate::simulate::options::{Output, PolicyName};
use crate::simulate::outcome::RunOutcome;
use crate::simulate::{Run, SimulateError, Timeline};

/// A comparison that cannot be made.
#[derive(Debug, Error)]
pub enum CompareError {
    /// A run cannot be made.
    #[error("{trace}, lead {lead_seconds} s{policy}: {source}")]
    Run {
        /// The trace.
        trace: String,
        /// The lead time.
        lead_seconds: f64,
        /// The policy, after a comma, if one was being played.
        policy: String,
        /// Why.
        source: Box<SimulateError>,
    },
    /// There is neither one scenario nor one per trace.
    #[error("{scenarios} scenarios for {traces} traces: give one for all, or one for each")]
    Scenarios {
        /// Scenarios given.
        scenarios: usize,
        /// Traces given.
        traces: usize,
    },
    /// The report cannot be written.
    #[error("report `{}` cannot be written: {source}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The result cannot be written as JSON.
    #[error("the result cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The result cannot be written as CSV.
    #[error(transparent)]
    Csv(#[from] table::CsvError),
}

/// One result: the keys of `pd-sim simulate` and the trace, less what depends on the machine.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Name of the trace: its file without folder and endings, or `day`.
    pub trace: String,
    /// The result of the run.
    #[serde(flatten)]
    pub outcome: RunOutcome,
}

/// A result and the run in pieces.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The result.
    pub row: Row,
    /// The run in pieces.
    pub timeline: Timeline,
}

/// One trace at one lead time.
struct Scene {
    trace: String,
    lead: Duration,
    options: simulate_options::SimulateOptions,
}

/// Compares what the options ask for and returns the text to print.
pub fn run(options: &CompareOptions) -> Result<String, CompareError> {
    let cells = cells(options)?;
    if let Some(path) = &options.report {
        let page = report::page(&cells);
        std::fs::write(path, page).map_err(|source| CompareError::Report {
            path: path.clone(),
            source,
        })?;
    }
    let rows: Vec<&Row> = cells.iter().map(|cell| &cell.row).collect();
    Ok(match options.output {
        Output::Text => table::text(&rows),
        Output::Json => serde_json::to_string_pretty(&rows)?,
        Output::Csv => table::csv(&table::columns(), &rows)?,
    })
}

/// Plays every cell; in order of traces, lead times and policies.
pub fn cells(options: &CompareOptions) -> Result<Vec<Cell>, CompareError> {
    let scenes = scenes(options)?;
    let mut policies = options.policies.clone();
    if options.policy_command.is_some() {
        policies.push(PolicyName::Command);
    }
    let bar = progress(scenes.len() * (policies.len() + 1));
    let runs = parallel(options.jobs, &scenes, |scene| {
        let run = Run::prepare(&scene.options);
        bar.inc(1);
        run.map_err(|source| failed(scene, None, source))
    })?;
    let plays: Vec<(usize, PolicyName)> = (0..scenes.len())
        .flat_map(|scene| policies.iter().map(move |policy| (scene, *policy)))
        .collect();
    let cells = parallel(options.jobs, &plays, |(place, policy)| {
        let (scene, run) = (&scenes[*place], &runs[*place]);
        bar.set_message(format!("{} {policy}", scene.trace));
        let played = run.play_in_pieces(*policy);
        bar.inc(1);
        let (outcome, timeline) = played.map_err(|source| failed(scene, Some(*policy), source))?;
        let row = Row {
            trace: scene.trace.clone(),
            outcome: RunOutcome {
                speed: None,
                ..outcome
            },
        };
        Ok(Cell { row, timeline })
    });
    bar.finish_and_clear();
    cells
}

fn failed(scene: &Scene, policy: Option<PolicyName>, source: SimulateError) -> CompareError {
    CompareError::Run {
        trace: scene.trace.clone(),
        lead_seconds: scene.lead.as_secs_f64(),
        policy: policy.map_or(String::new(), |policy| format!(", {policy}")),
        source: Box::new(source),
    }
}

fn scenes(options: &CompareOptions) -> Result<Vec<Scene>, CompareError> {
    let traces: Vec<Option<PathBuf>> = if options.traces.is_empty() {
        vec![None]
    } else {
        options.traces.iter().cloned().map(Some).collect()
    };
    let scenarios = options.scenario.len();
    if scenarios > 1 && scenarios != traces.len() {
        return Err(CompareError::Scenarios {
            scenarios,
            traces: traces.len(),
        });
    }
    let mut scenes = Vec::new();
    for (place, trace) in traces.iter().enumerate() {
        let scenario = options.scenario.get(place).or(options.scenario.first());
        for lead in &options.leads {
            scenes.push(Scene {
                trace: trace.as_deref().map_or("day".to_owned(), stem),
                lead: *lead,
                options: simulate_options::SimulateOptions {
                    traffic: simulate_options::TrafficOptions::default(),
                    trace: trace.clone(),
                    scenario: scenario.cloned(),
                    lead: Some(*lead),
                    policy: PolicyName::Pdautoscaler,
                    policy_command: options.policy_command.clone(),
                    policy_timeout: options.policy_timeout,
                    constant: None,
                    record: None,
                    play: options.play,
                    output: Output::Json,
                },
            });
        }
    }
    Ok(scenes)
}

/// A file's name without its endings.
pub(crate) fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let plain = [".csv", ".jsonl", ".json"]
        .into_iter()
        .find_map(|ending| name.strip_suffix(ending));
    plain.unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests;
