//! `pd-sim policy`: the product as a process of the policy protocol, for use inside other
//! simulators.
//!
//! Observations come from standard input and answers go to standard output, line by line. What the
//! owner wants is taken from a `PDAutoscaler` file if one is given, as the controller would take
//! it, its performance profile included, and otherwise from each observation. Memory is kept
//! between lines; time must not fall.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use pd_api::Manifest;
use pd_core::policy::Policy;
use pd_core::{Facts, Memory, PerRole, Report, Timestamp, audit_after, plan};
use pd_signals::stated::Stated;
use thiserror::Error;

use crate::backtest::stated::{self, StatedError};
use crate::protocol::{Answer, Given, ObservationLine};

/// Options as the user gave them.
#[derive(Clone, Debug, clap::Args)]
pub struct PolicyOptions {
    /// The PDAutoscaler whose spec decides; without, what the observations say the owner wants
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Manifests of the `ConfigMap`s that it takes profiles from, separated by commas
    #[arg(long, value_name = "FILES", value_delimiter = ',', requires = "config")]
    pub config_map: Vec<PathBuf>,
    /// Add the whole report to each answer: every step, need, forecast and input
    #[arg(long)]
    pub explain: bool,
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
    /// The profile that the object states cannot be had.
    #[error(transparent)]
    Profile(#[from] StatedError),
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
    given: Given,
    explain: bool,
    memory: Memory,
    before: Option<i64>,
}

impl Decider {
    /// Decides by what an object says, and by what each observation says of the rest.
    pub fn new(given: Given) -> Self {
        Self {
            given,
            ..Self::default()
        }
    }

    /// The same with a whole report in each answer, or without.
    #[must_use]
    pub fn explaining(self, explain: bool) -> Self {
        Self { explain, ..self }
    }

    /// Reads a line.
    pub fn read(&self, line: &str) -> Result<ObservationLine, String> {
        ObservationLine::read_given(line, &self.given)
    }

    /// Decides on one line.
    pub fn answer(&mut self, line: &str) -> Result<Answer, String> {
        self.decide(self.read(line)?)
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
        if self.given.profile.is_some() {
            snapshot.profile.clone_from(&self.given.profile);
        } else if snapshot.profile.is_none() {
            // As the controller makes it of the owner's coefficients.
            let stated = Stated::of(snapshot.policy.coefficients, PerRole::default());
            snapshot.profile = stated.profile;
        }
        let now = Timestamp::from_millis(at);
        let decision = plan(&snapshot, &self.memory, now);
        let facts = Facts::of(&self.memory, &snapshot, now);
        if let Some(finding) = audit_after(&facts, &snapshot, &decision).first() {
            return Err(format!("the plan breaks an invariant: {finding:?}"));
        }
        self.memory = decision.memory;
        let report = self.explain.then(|| serde_json::to_value(&decision.report));
        Ok(Answer::Decided {
            replicas: decision.plan.replicas,
            reason: reason(&decision.report),
            report: report.transpose().map_err(|error| error.to_string())?,
        })
    }
}

/// The step that decided, with the role that it is about.
fn reason(report: &Report) -> Option<String> {
    let step = report.step(report.reason).or(report.steps.last())?;
    Some(match step.role {
        Some(role) => format!("{role}: {}", step.message),
        None => step.message.clone(),
    })
}

/// All that a `PDAutoscaler` file says, with the profiles of these manifests.
pub fn given(path: &Path, config_maps: &[PathBuf]) -> Result<Given, PolicyError> {
    let (object, policy) = read_object(path)?;
    let gpus_per_replica = PerRole::from_fn(|role| {
        let stated = object.spec.role(role).gpus_per_replica;
        stated.and_then(|gpus| u32::try_from(gpus).ok())
    });
    let gpus = gpus_per_replica.map(|gpus| gpus.unwrap_or(1));
    Ok(Given {
        profile: stated::profile(&object, &policy, gpus, config_maps)?,
        policy: Some(policy),
        gpus_per_replica,
    })
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
    let yaml = |error: serde_saphyr::Error| PolicyError::Yaml {
        path: path_buf(),
        reason: error.to_string(),
    };
    let object: Manifest = serde_saphyr::from_str(&text).map_err(yaml)?;
    let plain: serde_json::Value = serde_saphyr::from_str(&text).map_err(yaml)?;
    let unknown = unknown_fields(plain);
    if !unknown.is_empty() {
        return Err(PolicyError::Invalid {
            path: path_buf(),
            reasons: format!("{} is not known", unknown.join(" is not known; ")),
        });
    }
    let policy = object.spec.policy().map_err(|errors| {
        let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
        PolicyError::Invalid {
            path: path_buf(),
            reasons: reasons.join("; "),
        }
    })?;
    Ok((object, policy))
}

/// Fields of the spec that nobody reads: an API server would drop them in silence.
fn unknown_fields(object: serde_json::Value) -> Vec<String> {
    let mut unknown = Vec::new();
    // Whatever else is wrong was said before.
    let _ = serde_ignored::deserialize::<_, _, Manifest>(object, |path| {
        unknown.push(format!("`{}`", path.to_string().replace(".?", "")));
    });
    unknown.retain(|path| path.starts_with("`spec."));
    unknown
}

/// Answers every line of `input` until it ends.
pub fn run(
    options: &PolicyOptions,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<(), PolicyError> {
    let config = options.config.as_deref();
    let given = config.map(|path| given(path, &options.config_map));
    let given = given.transpose()?.unwrap_or_default();
    let mut decider = Decider::new(given).explaining(options.explain);
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
        let observation = ObservationLine {
            version: VERSION,
            time_milliseconds,
            snapshot: seen.snapshot,
            replicas: None,
        };
        observation.to_line().unwrap()
    }

    const PLAIN: PolicyOptions = PolicyOptions {
        config: None,
        config_map: Vec::new(),
        explain: false,
    };

    fn answers(options: &PolicyOptions, lines: &str) -> (String, Result<(), PolicyError>) {
        let mut output = Vec::new();
        let ended = run(options, lines.as_bytes(), &mut output);
        (String::from_utf8(output).unwrap(), ended)
    }

    #[test]
    fn every_line_is_answered_and_unknown_signals_hold() {
        let lines = format!("{}\n{}\n", line(0), line(15_000));
        let (text, ended) = answers(&PLAIN, &lines);
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
        let (text, ended) = answers(&PLAIN, "nonsense\n");
        assert!(text.contains("\"error\""), "{text}");
        assert!(
            ended
                .unwrap_err()
                .to_string()
                .starts_with("line 1: `nonsense`")
        );
        let lines = format!("{}\n{}\n", line(15_000), line(0));
        let (_, ended) = answers(&PLAIN, &lines);
        let message = ended.unwrap_err().to_string();
        assert_eq!(
            message,
            "line 2: timeMilliseconds is `0` after `15000`: write observations in order of time"
        );
    }

    #[test]
    fn stated_coefficients_and_gpus_count() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let text = std::fs::read_to_string(examples.join("pdautoscaler-minimal.yaml")).unwrap();
        let coefficients = "spec:
  capacity:
    decode:
      coefficients: { baseMicros: 8640, perRequestNanos: 47000 }
";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text.replacen("spec:\n", coefficients, 1)).unwrap();
        let given = given(file.path(), &[]).unwrap();
        assert!(given.profile.is_some());
        let mut decider = Decider::new(given.clone());
        let mut busy = ObservationLine::read_given(&line(0), &given).unwrap();
        busy.snapshot.signals = pd_core::Signals {
            prefill_completion_rate_rps: pd_core::Reading::Value(10.0),
            ..busy.snapshot.signals
        };
        let of = |decider: &mut Decider| match decider.decide(busy.clone()).unwrap() {
            Answer::Decided { report, .. } => report,
            Answer::Failed { error } => panic!("{error}"),
        };
        assert_eq!(of(&mut decider), None);
        // Coefficients that each observation says count the same.
        let mut silent = Decider::new(Given {
            profile: None,
            ..given
        })
        .explaining(true);
        let report = of(&mut silent).unwrap();
        let mut stated = decider.explaining(true);
        assert_eq!(of(&mut stated).unwrap()["capacity"], report["capacity"]);
        assert_ne!(
            report["capacity"]["decode"]["source"],
            report["capacity"]["prefill"]["source"]
        );
    }

    #[test]
    fn a_reason_names_its_role() {
        let (text, _) = answers(&PLAIN, &format!("{}\n", line(0)));
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let reason = answer["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("prefill: ") || reason.starts_with("decode: "),
            "{reason}"
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
        let misspelt = text.replacen("  prefill:\n", "  capacities: {}\n  prefill:\n", 1);
        std::fs::write(file.path(), misspelt).unwrap();
        let message = read_policy(file.path()).unwrap_err().to_string();
        assert!(
            message.contains("`spec.capacities` is not known"),
            "{message}"
        );
        let missing = read_policy(Path::new("no-such.yaml"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("config `no-such.yaml` cannot be read"),
            "{missing}"
        );
    }
}
