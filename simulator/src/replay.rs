//! `pd-sim replay`: recorded snapshots through today's decision code, and where it decides
//! otherwise.
//!
//! A recording is the lines of the policy protocol with the decision added, as `pd-sim simulate
//! --record` writes them. Every line is decided with the memory of the lines before, on the
//! recorded replicas, so a decision that differs does not change what later lines were recorded
//! with.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use clap::ValueEnum;
use pd_core::PerRole;
use serde::Serialize;
use thiserror::Error;

use crate::policy::{Decider, PolicyError, given};
use crate::protocol::Answer;

/// Options as the user gave them.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayOptions {
    /// The recording
    #[arg(value_name = "FILE")]
    pub recording: PathBuf,
    /// The PDAutoscaler whose spec decides; without, what the recording says the owner wanted
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: Form,
}

/// How to print the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// One line per difference, and a sum.
    Text,
    /// One JSON object.
    Json,
}

/// A recording that cannot be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("recording `{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is no observation.
    #[error("recording `{}`, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Why.
        reason: String,
    },
    /// There is nothing in it.
    #[error("recording `{}` is empty: write one with `pd-sim simulate --record`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] PolicyError),
    /// The result cannot be written as JSON.
    #[error("the result cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// A decision that is not the recorded one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Line of the recording, from 1.
    pub line: u64,
    /// Its time.
    pub time_milliseconds: i64,
    /// The decision of then.
    pub recorded: PerRole<u32>,
    /// The decision of now.
    pub replayed: PerRole<u32>,
    /// Why, by the last step of the report.
    pub reason: Option<String>,
}

/// The result of a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// Lines decided on.
    pub decisions: u64,
    /// Lines that have a recorded decision.
    pub recorded_decisions: u64,
    /// Where both differ.
    pub differences: Vec<Difference>,
}

/// Replays and returns the text to print.
pub fn run(options: &ReplayOptions) -> Result<String, ReplayError> {
    let replay = replay(options)?;
    if options.output == Form::Json {
        return Ok(serde_json::to_string_pretty(&replay)?);
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    for difference in &replay.differences {
        let (then, now) = (difference.recorded, difference.replayed);
        let _ = writeln!(
            text,
            "line {}, {} s: {}P {}D recorded, {}P {}D now{}",
            difference.line,
            difference.time_milliseconds as f64 / 1e3,
            then.prefill,
            then.decode,
            now.prefill,
            now.decode,
            difference
                .reason
                .as_ref()
                .map_or(String::new(), |reason| format!(": {reason}"))
        );
    }
    let _ = writeln!(
        text,
        "{} decisions, {} of {} recorded ones differ",
        replay.decisions,
        replay.differences.len(),
        replay.recorded_decisions
    );
    Ok(text)
}

/// Replays the whole recording.
pub fn replay(options: &ReplayOptions) -> Result<Replay, ReplayError> {
    let path = &options.recording;
    let unreadable = |source| ReplayError::Unreadable {
        path: path.clone(),
        source,
    };
    let config = options.config.as_deref();
    let given = config.map(|path| given(path, &[])).transpose()?;
    let mut decider = Decider::new(given.unwrap_or_default());
    let mut replay = Replay {
        decisions: 0,
        recorded_decisions: 0,
        differences: Vec::new(),
    };
    let file = File::open(path).map_err(unreadable)?;
    for (line, text) in (1..).zip(BufReader::new(file).lines()) {
        let text = text.map_err(unreadable)?;
        let told = |reason| ReplayError::Line {
            path: path.clone(),
            line,
            reason,
        };
        let observation = decider.read(&text).map_err(told)?;
        let (time_milliseconds, recorded) = (observation.time_milliseconds, observation.replicas);
        let answer = decider.decide(observation).map_err(told)?;
        replay.decisions += 1;
        replay.recorded_decisions += u64::from(recorded.is_some());
        let Answer::Decided {
            replicas, reason, ..
        } = answer
        else {
            continue;
        };
        if let Some(recorded) = recorded.filter(|recorded| *recorded != replicas) {
            replay.differences.push(Difference {
                line,
                time_milliseconds,
                recorded,
                replayed: replicas,
                reason,
            });
        }
    }
    if replay.decisions == 0 {
        return Err(ReplayError::Empty { path: path.clone() });
    }
    Ok(replay)
}
