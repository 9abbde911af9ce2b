//! `pd-sim sweep`: one policy over a grid of one or two parameters, on all cores.
//!
//! A parameter is an option of `pd-sim simulate` or any field of the scenario by its path. Each
//! point of the grid is one [`Run`], prepared and played by itself, so the clairvoyant bound beside
//! a result is that of the very point. A seed among the parameters is a repetition: the plots show
//! the mean over the seeds, and the text the mean and the range.

pub mod options;

mod parameter;
mod report;
mod table;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use self::options::SweepOptions;
use self::parameter::Parameter;
use crate::batch::{parallel, progress};
use crate::compare::stem;
use crate::compare::table::CsvError;
use crate::scenario::{Scenario, ScenarioError};
use crate::simulate::options as simulate_options;
use crate::simulate::options::{Output, PolicyName};
use crate::simulate::outcome::RunOutcome;
use crate::simulate::{Run, SimulateError};

/// Most points of a grid.
const POINTS_MAX: usize = 10_000;

/// A sweep that cannot be made.
#[derive(Debug, Error)]
pub enum SweepError {
    /// The scenario is not valid.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A parameter cannot have a value.
    #[error("`--vary {name}={value}`: {reason}")]
    Parameter {
        /// The parameter.
        name: String,
        /// The value.
        value: String,
        /// Why, and what to give instead.
        reason: String,
    },
    /// The parameters cannot be varied together.
    #[error("{0}")]
    Grid(String),
    /// A run cannot be made.
    #[error("{point}: {source}")]
    Run {
        /// The values of the parameters.
        point: String,
        /// Why.
        source: Box<SimulateError>,
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
    Csv(#[from] CsvError),
}

/// One result: the keys of `pd-sim simulate`, the trace and the values of the parameters, less what
/// depends on the machine.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Name of the trace: its file without folder and endings, or `day`.
    pub trace: String,
    /// First parameter's value, as given.
    pub first: String,
    /// Second parameter's value, as given; nothing where only one is varied.
    pub second: Option<String>,
    /// The result of the run.
    #[serde(flatten)]
    pub outcome: RunOutcome,
}

/// All results of a sweep.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sweep {
    /// Name of the first parameter.
    pub first_parameter: String,
    /// Name of the second parameter, if there is one.
    pub second_parameter: Option<String>,
    /// One result per point: all of the second parameter for the first one's first value, and so
    /// on.
    pub runs: Vec<Row>,
}

/// One point of the grid.
struct Point {
    values: Vec<String>,
    options: simulate_options::SimulateOptions,
    scenario: Scenario,
}

/// Sweeps what the options ask for and returns the text to print.
pub fn run(options: &SweepOptions) -> Result<String, SweepError> {
    let sweep = sweep(options)?;
    if let Some(path) = &options.report {
        let page = report::page(&sweep);
        std::fs::write(path, page).map_err(|source| SweepError::Report {
            path: path.clone(),
            source,
        })?;
    }
    Ok(match options.simulate.output {
        Output::Text => table::text(&sweep),
        Output::Json => serde_json::to_string_pretty(&sweep)?,
        Output::Csv => table::csv(&sweep)?,
    })
}

/// Plays every point of the grid.
pub fn sweep(options: &SweepOptions) -> Result<Sweep, SweepError> {
    let points = points(options)?;
    let trace = options.simulate.trace.as_deref();
    let trace = trace.map_or("day".to_owned(), stem);
    let policy = match options.simulate.policy_command {
        Some(_) => PolicyName::Command,
        None => options.simulate.policy,
    };
    let bar = progress(points.len());
    let runs: Result<Vec<Row>, SweepError> = parallel(options.jobs, &points, |point| {
        bar.set_message(point.values.join(" "));
        let run = Run::prepare_in(point.scenario.clone(), &point.options);
        let outcome = run.and_then(|run| run.play(policy));
        bar.inc(1);
        let outcome = outcome.map_err(|source| SweepError::Run {
            point: told(options, &point.values),
            source: Box::new(source),
        })?;
        Ok(Row {
            trace: trace.clone(),
            first: point.values.first().cloned().unwrap_or_default(),
            second: point.values.get(1).cloned(),
            outcome: RunOutcome {
                speed: None,
                ..outcome
            },
        })
    });
    bar.finish_and_clear();
    Ok(Sweep {
        first_parameter: options
            .vary
            .first()
            .map_or(String::new(), |vary| vary.name.clone()),
        second_parameter: options.vary.get(1).map(|vary| vary.name.clone()),
        runs: runs?,
    })
}

/// A point as the user would write it.
fn told(options: &SweepOptions, values: &[String]) -> String {
    let pairs = options.vary.iter().zip(values);
    let pairs: Vec<String> = pairs
        .map(|(vary, value)| format!("{} {value}", vary.name))
        .collect();
    pairs.join(", ")
}

/// The whole grid, every value of it checked before anything is played.
fn points(options: &SweepOptions) -> Result<Vec<Point>, SweepError> {
    let grid = |reason: &str| Err(SweepError::Grid(reason.to_owned()));
    let (first, second) = match options.vary.as_slice() {
        [first] => (first, None),
        [first, second] if first.name == second.name => {
            return grid("both `--vary` name the same parameter: give its values in one");
        }
        [first, second] => (first, Some(second)),
        _ => return grid("give one or two `--vary`"),
    };
    if options.simulate.record.is_some() {
        return grid("`--record` is for one run: use `pd-sim simulate`");
    }
    if first.values.len() * second.map_or(1, |vary| vary.values.len()) > POINTS_MAX {
        return grid("the grid has more than 10000 points: give fewer values");
    }
    let scenario = match &options.simulate.scenario {
        Some(path) => Scenario::read(path)?,
        None => Scenario::default(),
    };
    let base = serde_json::to_value(&scenario)?;
    let mut points = Vec::new();
    for a in &first.values {
        let Some(second) = second else {
            points.push(point(options, &base, &[(&first.name, a)])?);
            continue;
        };
        for b in &second.values {
            points.push(point(
                options,
                &base,
                &[(&first.name, a), (&second.name, b)],
            )?);
        }
    }
    Ok(points)
}

fn point(
    options: &SweepOptions,
    base: &Value,
    values: &[(&str, &str)],
) -> Result<Point, SweepError> {
    let mut simulate = options.simulate.clone();
    let mut scenario = base.clone();
    let mut read = Scenario::default();
    for (name, value) in values {
        let refused = |reason| SweepError::Parameter {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            reason,
        };
        let parameter = Parameter::named(name);
        let set = parameter.set(value, &mut simulate, &mut scenario);
        set.map_err(refused)?;
        let parsed = Scenario::of_json(scenario.clone());
        read = parsed.map_err(|error| refused(error.to_string()))?;
    }
    Ok(Point {
        values: values
            .iter()
            .map(|(_, value)| (*value).to_owned())
            .collect(),
        options: simulate,
        scenario: read,
    })
}

#[cfg(test)]
mod tests;
