//! `pd-sim policy`: the product as a process of the policy protocol, for use inside other
//! simulators.
//!
//! Observations come from standard input and answers go to standard output, line by line. What the
//! owner wants is taken from a `PDAutoscaler` file if one is given, as the controller would take
//! it, and otherwise from each observation. Memory is kept between lines; time must not fall.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use pd_api::Manifest;
use pd_core::policy::Policy;
use pd_core::{Facts, Memory, Timestamp, audit_after, plan};
use thiserror::Error;

use crate::protocol::{Answer, ObservationLine};

/// Options as the user gave them.
#[derive(Clone, Debug, clap::Args)]
pub struct PolicyOptions {
    /// The PDAutoscaler whose spec decides; without, what the observations say the owner wants
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// A policy process that cannot go on.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The object cannot be read.
    #[error("config `{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no such object.
    #[error("config `{}` is not a PDAutoscaler: {reason}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Why, with the line.
        reason: String,
    },
    /// The object is not valid.
    #[error("config `{}` is not valid: {reasons}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong.
        reasons: String,
    },
    /// A line is no observation.
    #[error("line {line}: {reason}")]
    Line {
        /// The line, from 1.
        line: u64,
        /// Why.
        reason: String,
    },
    /// Standard input or output failed.
    #[error("standard input or output failed: {0}")]
    Pipe(#[from] std::io::Error),
}

/// The decision core over lines.
#[derive(Debug, Default)]
pub struct Decider {
    policy: Option<Policy>,
    memory: Memory,
    before: Option<i64>,
}

impl Decider {
    /// Decides by `policy`, or by what each observation says.
    pub fn new(policy: Option<Policy>) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// Decides on one line.
    pub fn answer(&mut self, line: &str) -> Result<Answer, String> {
        self.decide(ObservationLine::read(line)?)
    }

    /// Decides on one observation.
    pub fn decide(&mut self, observation: ObservationLine) -> Result<Answer, String> {
        let at = observation.time_milliseconds;
        if let Some(before) = self.before.filter(|before| *before > at) {
            return Err(format!(
                "timeMilliseconds is `{at}` after `{before}`: write observations in order of time"
            ));
        }
        self.before = Some(at);
        let mut snapshot = observation.snapshot;
        if let Some(policy) = &self.policy {
            snapshot.policy = policy.clone();
        }
        let now = Timestamp::from_millis(at);
        let decision = plan(&snapshot, &self.memory, now);
        let facts = Facts::of(&self.memory, &snapshot, now);
        if let Some(finding) = audit_after(&facts, &snapshot, &decision).first() {
            return Err(format!("the plan breaks an invariant: {finding:?}"));
        }
        self.memory = decision.memory;
        let reason = decision
            .report
            .steps
            .last()
            .map(|step| step.message.clone());
        Ok(Answer::Decided {
            replicas: decision.plan.replicas,
            reason,
        })
    }
}

/// The policy of a `PDAutoscaler` file.
pub fn read_policy(path: &Path) -> Result<Policy, PolicyError> {
    Ok(read_object(path)?.1)
}

/// A `PDAutoscaler` file and its policy.
pub fn read_object(path: &Path) -> Result<(Manifest, Policy), PolicyError> {
    let path_buf = || path.to_owned();
    let text = std::fs::read_to_string(path).map_err(|source| PolicyError::Unreadable {
        path: path_buf(),
        source,
    })?;
    let object: Manifest = serde_saphyr::from_str(&text).map_err(|error| PolicyError::Yaml {
        path: path_buf(),
        reason: error.to_string(),
    })?;
    let policy = object.spec.policy().map_err(|errors| {
        let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
        PolicyError::Invalid {
            path: path_buf(),
            reasons: reasons.join("; "),
        }
    })?;
    Ok((object, policy))
}

/// Answers every line of `input` until it ends.
pub fn run(
    options: &PolicyOptions,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<(), PolicyError> {
    let policy = options.config.as_deref().map(read_policy).transpose()?;
    let mut decider = Decider::new(policy);
    for (line, text) in (1..).zip(input.lines()) {
        let text = text?;
        let answer = decider.answer(&text);
        let told = answer
            .clone()
            .unwrap_or_else(|error| Answer::Failed { error });
        let json = serde_json::to_string(&told).map_err(std::io::Error::from)?;
        writeln!(output, "{json}")?;
        output.flush()?;
        answer.map_err(|reason| PolicyError::Line { line, reason })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pd_core::PerRole;

    use super::*;
    use crate::autoscaler::observation::testing::{alike, observation};
    use crate::protocol::VERSION;

    fn line(time_milliseconds: i64) -> String {
        let seen = observation(PerRole {
            prefill: alike(2, 0.0, 0.0, 0.0),
            decode: alike(3, 0.0, 0.0, 0.0),
        });
        serde_json::to_string(&ObservationLine {
            version: VERSION,
            time_milliseconds,
            snapshot: seen.snapshot,
            replicas: None,
        })
        .unwrap()
    }

    fn answers(options: &PolicyOptions, lines: &str) -> (String, Result<(), PolicyError>) {
        let mut output = Vec::new();
        let ended = run(options, lines.as_bytes(), &mut output);
        (String::from_utf8(output).unwrap(), ended)
    }

    #[test]
    fn every_line_is_answered_and_unknown_signals_hold() {
        let lines = format!("{}\n{}\n", line(0), line(15_000));
        let (text, ended) = answers(&PolicyOptions { config: None }, &lines);
        ended.unwrap();
        assert_eq!(text.lines().count(), 2);
        for line in text.lines() {
            assert!(
                line.contains(r#""replicas":{"prefill":2,"decode":3}"#),
                "{line}"
            );
        }
    }

    #[test]
    fn a_bad_line_and_a_step_back_in_time_are_told_on_both_sides() {
        let (text, ended) = answers(&PolicyOptions { config: None }, "nonsense\n");
        assert!(text.contains("\"error\""), "{text}");
        assert!(
            ended
                .unwrap_err()
                .to_string()
                .starts_with("line 1: `nonsense`")
        );
        let lines = format!("{}\n{}\n", line(15_000), line(0));
        let (_, ended) = answers(&PolicyOptions { config: None }, &lines);
        let message = ended.unwrap_err().to_string();
        assert_eq!(
            message,
            "line 2: timeMilliseconds is `0` after `15000`: write observations in order of time"
        );
    }

    #[test]
    fn the_shipped_examples_are_policies_and_a_bad_one_is_refused_by_field() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let policy = read_policy(&examples.join("pdautoscaler-minimal.yaml")).unwrap();
        assert!(policy.bounds.prefill.max_replicas >= 1);
        let text = std::fs::read_to_string(examples.join("pdautoscaler-minimal.yaml")).unwrap();
        let broken = text.replacen("maxReplicas: ", "maxReplicas: -", 1);
        assert_ne!(text, broken);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), broken).unwrap();
        let message = read_policy(file.path()).unwrap_err().to_string();
        assert!(message.contains("maxReplicas"), "{message}");
        let missing = read_policy(Path::new("no-such.yaml"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("config `no-such.yaml` cannot be read"),
            "{missing}"
        );
    }
}
