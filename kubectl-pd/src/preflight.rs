//! `kubectl pd preflight`: whether a cluster has all that PDAutoscalers need.
//!
//! [`probe`] asks the cluster, [`judge`] says what follows: one check a line, each with its remedy.
//! A thing that cannot be seen is a warning, never a failure and never fine. Nothing is changed.

pub mod judge;
pub mod probe;
pub mod rights;
pub mod series;
pub mod workload;

use serde::Serialize;

use crate::table::table;

/// The subject of a check, in the order in which they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Topic {
    /// The CRDs and their versions.
    Crd,
    /// The controller's pods.
    Controller,
    /// The controller's Lease.
    Lease,
    /// The caller's rights.
    YourRights,
    /// The controller's rights.
    ControllerRights,
    /// Prometheus, and the engines' series there.
    Prometheus,
    /// The workloads of PDAutoscalers.
    Target,
}

impl Topic {
    /// The words in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crd => "CRD",
            Self::Controller => "Controller",
            Self::Lease => "Lease",
            Self::YourRights => "Your rights",
            Self::ControllerRights => "Its rights",
            Self::Prometheus => "Prometheus",
            Self::Target => "Target",
        }
    }
}

/// How bad a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// It cannot be seen, or something less than it should works.
    Warning,
    /// Something does not work.
    Failure,
}

impl Verdict {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "Ok",
            Self::Warning => "Warning",
            Self::Failure => "Failure",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// The subject.
    pub topic: Topic,
    /// How bad it is.
    pub verdict: Verdict,
    /// The thing that was looked at.
    pub subject: String,
    /// How it is.
    pub message: String,
    /// The remedy, where it is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    /// A check of something that is as it should be.
    pub fn ok(topic: Topic, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            topic,
            verdict: Verdict::Ok,
            subject: subject.into(),
            message: message.into(),
            remedy: None,
        }
    }

    /// A check of something that cannot be seen, or works less than it should.
    pub fn warning(
        topic: Topic,
        subject: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(topic, subject, message)
        }
    }

    /// A check of something that does not work.
    pub fn failure(
        topic: Topic,
        subject: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Failure,
            ..Self::warning(topic, subject, message, remedy)
        }
    }
}

/// The checks for people, with a summary.
pub fn text(checks: &[Check]) -> String {
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|check| {
            let remedy = check.remedy.as_ref();
            let remedy = remedy.map_or_else(String::new, |remedy| format!(": {remedy}"));
            vec![
                check.topic.as_str().to_owned(),
                check.verdict.as_str().to_owned(),
                check.subject.clone(),
                format!("{}{remedy}", check.message),
            ]
        })
        .collect();
    let lines = table(&["Check", "Verdict", "Subject", "Message"], &rows);
    format!("{lines}\n{}\n", summary(checks))
}

/// How many checks are how bad.
fn summary(checks: &[Check]) -> String {
    let count = |verdict| {
        checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    };
    let things = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        many => format!("{many} {word}s"),
    };
    let (failures, warnings) = (count(Verdict::Failure), count(Verdict::Warning));
    format!(
        "{}, {}, {}.",
        things(checks.len(), "check"),
        things(failures, "failure"),
        things(warnings, "warning")
    )
}

/// Whether something does not work.
pub fn fails(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.verdict == Verdict::Failure)
}
