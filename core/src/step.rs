//! Stages of a decision, and the typed step that a stage leaves in the report.
//!
//! A stage returns its value together with its steps, as [`Staged`]. [`Staged::record`] takes
//! the steps off in the order in which the stages run, so that no stage sees the steps of another.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::{reason::Reason, role::Role};

/// A stage of a decision, in the order they run.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Stage {
    /// The measurements, and those that are missing.
    Signals,
    /// The work that arrives.
    Workload,
    /// The performance of one replica.
    Capacity,
    /// The work that will come within the lead time.
    Forecast,
    /// Replicas the objective takes.
    Need,
    /// The replica bounds in force: schedules, and scale to zero.
    Bounds,
    /// Whether a need is large and lasting enough.
    Stabilize,
    /// Both roles in ratio, bounds and budget.
    Solve,
    /// How fast replicas may change.
    Guard,
}

impl Stage {
    /// The word used in texts.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The finding or the action of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The stage.
    pub stage: Stage,
    /// The role it is about; both when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<Role>,
    /// Why.
    pub reason: Reason,
    /// A sentence without its full stop, with the numbers.
    pub message: String,
}

impl Step {
    /// A step about `role`.
    pub const fn of_role(stage: Stage, role: Role, reason: Reason, message: String) -> Self {
        Self {
            stage,
            role: Some(role),
            reason,
            message,
        }
    }

    /// A step about both roles.
    pub const fn of_both(stage: Stage, reason: Reason, message: String) -> Self {
        Self {
            stage,
            role: None,
            reason,
            message,
        }
    }
}

/// The value of a stage, and its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Staged<T> {
    /// For the stages that follow.
    pub value: T,
    /// For the report.
    pub steps: Vec<Step>,
}

impl<T> Staged<T> {
    /// `value` with the steps that led to it.
    pub fn new(value: T, steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            value,
            steps: steps.into_iter().collect(),
        }
    }

    /// The value; its steps go behind those of the stages before.
    pub fn record(self, steps: &mut Steps) -> T {
        steps.0.extend(self.steps);
        self.value
    }
}

/// The steps of all stages so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps(Vec<Step>);

impl Steps {
    /// All steps, in the order of the stages.
    pub fn into_vec(self) -> Vec<Step> {
        self.0
    }
}
