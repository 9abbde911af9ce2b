//! Errors that keep a simulation from being run.

use std::path::PathBuf;

use thiserror::Error;

use crate::compare::table::CsvError;
use crate::scenario::ScenarioError;
use crate::trace::TraceError;
use crate::traffic::{DayError, DrawnError};

/// A simulation that cannot be run.
#[derive(Debug, Error)]
pub enum SimulateError {
    /// The scenario is not valid.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The embedded traffic cannot be made.
    #[error(transparent)]
    Day(#[from] DayError),
    /// The traffic cannot be drawn.
    #[error(transparent)]
    Drawn(#[from] DrawnError),
    /// No fixed replicas attain the objective.
    #[error(
        "no fixed number of replicas up to {prefill} prefill and {decode} decode attains {percent} %: raise \
         `spec.prefill.maxReplicas` and `spec.decode.maxReplicas` of the scenario, or relax its objective"
    )]
    Unattainable {
        /// Most prefill replicas.
        prefill: u32,
        /// Most decode replicas.
        decode: u32,
        /// The objective.
        percent: u8,
    },
    /// The policy's process failed, or the recording.
    #[error("{0}")]
    Policy(String),
    /// The recording cannot be begun.
    #[error("recording `{}` cannot be written: {source}", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has changed between the two readings.
    #[error(
        "the trace had {surveyed} requests when first read and {played} when played: leave the file alone"
    )]
    Changed {
        /// Requests at first.
        surveyed: u64,
        /// Requests played.
        played: u64,
    },
    /// The result cannot be written as JSON.
    #[error("the result cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The result cannot be written as CSV.
    #[error(transparent)]
    Csv(#[from] CsvError),
}
