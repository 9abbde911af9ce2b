//! The report: why a plan has the replicas that it has.
//!
//! It is made of the values of a decision once they all are known. It renders as one paragraph for
//! people and serialises for status and logs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    bottleneck::Bottleneck,
    bounds::Bounds,
    capacity,
    error_budget::RiskTarget,
    forecast::Forecast,
    ratio::{Breach, Ratio, RatioPolicy},
    reason::Reason,
    role::{PerRole, Role},
    signal::inputs::Input,
    step::{Stage, Step},
    workload::Observed,
};

/// Replicas of both roles after one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// The stage.
    pub stage: Stage,
    /// Replicas; nothing where the stage cannot say.
    pub replicas: PerRole<Option<u32>>,
}

/// How long replicas of a role take from being requested to serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeadTime {
    /// Half of them take no longer, seconds.
    pub p50_seconds: f64,
    /// Nine of ten take no longer, seconds.
    pub p90_seconds: f64,
    /// Measured replicas that this rests on; 0 means that it is assumed.
    pub samples: u32,
}

/// Performance that a replica of a role was taken to have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleCapacity {
    /// Where its times come from.
    pub source: capacity::Source,
    /// Multiple of them that is measured.
    pub factor: f64,
    /// Their relative error, one standard deviation, from 0 to 1.
    pub error: f64,
}

/// The P:D ratio as judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RatioReport {
    /// The policy in force; nothing when the ratio follows the traffic.
    pub policy: Option<RatioPolicy>,
    /// The ratio that the traffic needs, smoothed.
    pub traffic: Option<Ratio>,
    /// The band is left, since when and why.
    pub breach: Option<Breach>,
    /// The operating point in force, if there are any.
    pub operating_point: Option<String>,
}

/// Why a plan has the replicas that it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The reason that decided.
    pub reason: Reason,
    /// The steps of all stages.
    pub steps: Vec<Step>,
    /// Measured values.
    pub observed: Observed,
    /// Replicas the objective needs, before any limit; nothing when not known.
    pub need: PerRole<Option<u32>>,
    /// Replicas after each stage, in their order.
    pub proposals: Vec<Proposal>,
    /// The signals as they were read, with ages and samples.
    pub inputs: Vec<Input>,
    /// Whether every signal needed for a full decision about the role is known.
    pub metrics_complete: PerRole<bool>,
    /// The risk of a miss that sizing took, and the part of the error budget that is left.
    pub risk_target: PerRole<RiskTarget>,
    /// Performance that a replica was taken to have.
    pub capacity: PerRole<RoleCapacity>,
    /// Work expected when replicas requested now serve: of prefill in busy replicas, of decode in
    /// tokens per second.
    pub forecast: PerRole<Option<Forecast>>,
    /// How long replicas take from being requested to serving.
    pub lead: PerRole<LeadTime>,
    /// Replica bounds in force.
    pub bounds: PerRole<Bounds>,
    /// The ratio band in force, and since when it is left and why.
    pub ratio: RatioReport,
    /// Where requests lose time.
    pub bottleneck: Bottleneck,
    /// Replicas before.
    pub from: PerRole<u32>,
    /// Replicas after.
    pub to: PerRole<u32>,
}

impl Report {
    /// Whether some step has `reason`.
    pub fn has(&self, reason: Reason) -> bool {
        self.steps.iter().any(|step| step.reason == reason)
    }

    /// The first step with `reason`.
    pub fn step(&self, reason: Reason) -> Option<&Step> {
        self.steps.iter().find(|step| step.reason == reason)
    }

    /// The change, in a few words: `prefill 4 -> 6, decode stays 8`.
    pub fn headline(&self) -> String {
        let change = |role: Role| {
            let (from, to) = (self.from[role], self.to[role]);
            if from == to {
                format!("{role} stays {to}")
            } else {
                format!("{role} {from} -> {to}")
            }
        };
        format!("{}, {}", change(Role::Prefill), change(Role::Decode))
    }

    /// The whole report as one paragraph.
    pub fn paragraph(&self) -> String {
        use fmt::Write as _;
        let mut text = format!("{} ({})", self.headline(), self.reason);
        for step in &self.steps {
            let separator = if step.stage == Stage::Signals {
                ". Known: "
            } else {
                ". "
            };
            let role = step.role.map_or(String::new(), |role| format!("{role}: "));
            // Writing to a String cannot fail.
            let _ = write!(text, "{separator}{role}{}", step.message);
        }
        text.push('.');
        text
    }
}
