//! The policy protocol: one observation per line out, one answer per line back, both JSON.
//!
//! It lets anybody's policy decide in this simulator, and ours in anybody's. The same lines with
//! the decision added are a recording, which `pd-sim replay` reads. `docs/policy-protocol.md` has
//! all of it for users, and [`schema`] for programs. A field that is not known is refused: a
//! misspelt signal that was let pass would be a signal that is missing.

mod filled;
mod forms;
pub mod schema;

use pd_core::{PerRole, Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::filled::Given;

/// The version that is spoken; it rises when a field changes its form or meaning. Lines of the
/// first are read as well: they have durations in seconds and nanoseconds.
pub const VERSION: u32 = 2;

/// The observation of one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservationLine {
    /// [`VERSION`] of whoever wrote it.
    pub version: u32,
    /// Time since some origin that does not change between lines, milliseconds; never falls.
    pub time_milliseconds: i64,
    /// The service: what its owner wants, replicas, signals.
    pub snapshot: Snapshot,
    /// The decision, in recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<PerRole<u32>>,
}

/// A decision, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", untagged)]
pub enum Answer {
    /// Replicas to ask for.
    Decided {
        /// By role; beyond the bounds of the snapshot's policy the bound counts.
        replicas: PerRole<u32>,
        /// Why, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// All that led to it, where it was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Value>,
    },
    /// The policy cannot go on.
    Failed {
        /// Why.
        error: String,
    },
}

/// A line that is not what it should be: what is wrong with it.
fn refused(text: &str, error: &str, wanted: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    let dots = if shown.len() < text.len() { "..." } else { "" };
    format!("`{shown}{dots}` is not {wanted}: {error}")
}

impl ObservationLine {
    /// Reads a line that says what the owner wants.
    pub fn read(line: &str) -> Result<Self, String> {
        Self::read_given(line, &Given::default())
    }

    /// Reads a line where a `PDAutoscaler` says so much.
    pub fn read_given(line: &str, given: &Given) -> Result<Self, String> {
        let wrong = |error: String| refused(line, &error, "an observation of the policy protocol");
        let mut value: Value =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        match value.get("version").map(Value::as_u64) {
            None => return Err(wrong(format!("`version` is missing: write {VERSION}"))),
            Some(Some(version)) if (1..=u64::from(VERSION)).contains(&version) => {}
            Some(_) => {
                return Err(format!(
                    "the observation has version `{}`: write version {VERSION}",
                    value["version"]
                ));
            }
        }
        forms::read(&mut value).map_err(wrong)?;
        filled::fill(&mut value, given).map_err(wrong)?;
        let mut unknown = Vec::new();
        let observation = serde_ignored::deserialize(value, |path| {
            // Options show in a path as a question mark.
            unknown.push(path.to_string().replace(".?", ""));
        });
        let observation: Self =
            observation.map_err(|error: serde_json::Error| wrong(error.to_string()))?;
        if observation.version == 1 {
            // It was written when unknown fields were let pass, and policies have lost some since.
            unknown.retain(|path: &String| !path.starts_with("snapshot.policy."));
        }
        match unknown.first() {
            Some(path) => Err(wrong(not_known(path))),
            None => Ok(observation),
        }
    }

    /// The line.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        let value = forms::written(serde_json::to_value(self)?);
        serde_json::to_string(&value)
    }
}

/// A sentence on a field that nobody reads, with those that might be meant.
fn not_known(path: &str) -> String {
    let known: Vec<String> = match path.strip_prefix("snapshot.signals.") {
        Some(signal) => {
            let all = pd_core::signal::name::SignalName::ALL.iter();
            let mut all: Vec<String> = all.flat_map(|signal| schema::paths(*signal)).collect();
            // Those that begin alike first.
            let alike = |name: &str| {
                let same = name.chars().zip(signal.chars()).take_while(|(a, b)| a == b);
                std::cmp::Reverse(same.count())
            };
            all.sort_by_key(|name| alike(name));
            all.into_iter().take(SUGGESTED_MAX).collect()
        }
        None => Vec::new(),
    };
    let remedy = if known.is_empty() {
        "see docs/policy-protocol.schema.json".to_owned()
    } else {
        format!("is it one of {}?", known.join(", "))
    };
    format!("`{path}` is not known: {remedy}")
}

/// Signals that are suggested for one that is not known.
const SUGGESTED_MAX: usize = 3;

impl Answer {
    /// Reads a line.
    pub fn read(line: &str) -> Result<Self, String> {
        let wanted = "an answer such as {\"replicas\":{\"prefill\":2,\"decode\":3}}";
        let wrong = |error: String| refused(line, &error, wanted);
        let value: Value = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let known = ["replicas", "reason", "report", "error"];
        let fields = value.as_object().into_iter().flatten();
        if let Some((name, _)) = fields
            .clone()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            return Err(wrong(format!("`{name}` is not known")));
        }
        let roles = value.get("replicas").and_then(Value::as_object);
        let roles = roles.into_iter().flatten();
        if let Some((name, _)) = roles
            .clone()
            .find(|(name, _)| !["prefill", "decode"].contains(&name.as_str()))
        {
            return Err(wrong(format!("`replicas.{name}` is not known")));
        }
        serde_json::from_value(value).map_err(|error| wrong(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
