//! The policy protocol: one observation per line out, one answer per line back, both JSON.
//!
//! It lets anybody's policy decide in this simulator, and ours in anybody's. The same lines with
//! the decision added are a recording, which `pd-sim replay` reads. `docs/policy-protocol.md` tells
//! users all of it. Unknown fields are ignored on both sides, so that either can grow.

use pd_core::{PerRole, Snapshot};
use serde::{Deserialize, Serialize};

/// The version that is spoken; it rises when a field changes its meaning.
pub const VERSION: u32 = 1;

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
    },
    /// The policy cannot go on.
    Failed {
        /// Why.
        error: String,
    },
}

/// A line that is not what it should be: what is wrong with it.
fn told(text: &str, error: &serde_json::Error, wanted: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    let dots = if shown.len() < text.len() { "..." } else { "" };
    format!("`{shown}{dots}` is not {wanted}: {error}")
}

impl ObservationLine {
    /// Reads a line.
    pub fn read(line: &str) -> Result<Self, String> {
        let observation: Self = serde_json::from_str(line)
            .map_err(|error| told(line, &error, "an observation of the policy protocol"))?;
        if observation.version != VERSION {
            return Err(format!(
                "the observation has version `{}`: write version {VERSION}",
                observation.version
            ));
        }
        Ok(observation)
    }
}

impl Answer {
    /// Reads a line.
    pub fn read(line: &str) -> Result<Self, String> {
        let wanted = "an answer such as {\"replicas\":{\"prefill\":2,\"decode\":3}}";
        serde_json::from_str(line).map_err(|error| told(line, &error, wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoscaler::observation::testing::observation;

    #[test]
    fn an_observation_reads_back() {
        let observation = ObservationLine {
            version: VERSION,
            time_milliseconds: 15_000,
            snapshot: observation(PerRole::default()).snapshot,
            replicas: Some(PerRole {
                prefill: 1,
                decode: 2,
            }),
        };
        let line = serde_json::to_string(&observation).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(ObservationLine::read(&line), Ok(observation.clone()));
        let later = line.replacen("\"version\":1", "\"version\":2", 1);
        assert!(
            ObservationLine::read(&later)
                .unwrap_err()
                .contains("version `2`")
        );
        assert!(
            ObservationLine::read("{}")
                .unwrap_err()
                .contains("`{}` is not an observation")
        );
    }

    #[test]
    fn answers_and_what_is_none() {
        let decided = Answer::read(r#"{"replicas":{"prefill":2,"decode":3},"more":1}"#);
        let replicas = PerRole {
            prefill: 2,
            decode: 3,
        };
        assert_eq!(
            decided,
            Ok(Answer::Decided {
                replicas,
                reason: None
            })
        );
        let failed = Answer::read(r#"{"error":"no"}"#);
        assert_eq!(
            failed,
            Ok(Answer::Failed {
                error: "no".to_owned()
            })
        );
        for line in [
            "",
            "2 3",
            r#"{"replicas":{"prefill":2}}"#,
            r#"{"replicas":{"prefill":-1,"decode":1}}"#,
        ] {
            assert!(
                Answer::read(line).unwrap_err().contains("is not an answer"),
                "{line}"
            );
        }
    }
}
