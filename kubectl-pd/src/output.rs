//! The forms of an answer: for people, and as JSON or YAML for programs.
//!
//! JSON and YAML hold the same values with the same names. Numbers and times are those of the API.

use clap::ValueEnum;
use serde::Serialize;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns.
    Table,
    /// Columns, all of them.
    Wide,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// Why an answer has no JSON or YAML.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The value cannot be written as JSON.
    #[error("the answer cannot be written as JSON: use --output=table")]
    Json(#[from] serde_json::Error),
    /// The value cannot be written as YAML.
    #[error("the answer cannot be written as YAML: use --output=json")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

/// `value` as JSON, with a line break at its end.
pub fn json(value: &impl Serialize) -> Result<String, OutputError> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// `value` as YAML, with a line break at its end.
pub fn yaml(value: &impl Serialize) -> Result<String, OutputError> {
    let text = serde_saphyr::to_string(value)?;
    Ok(format!("{}\n", text.trim_end()))
}
