//! Status conditions: a fixed set of types, each kept as Kubernetes expects.
//!
//! `lastTransitionTime` is when the status last changed and nothing else, so that "for how long"
//! can be read off and alerts do not reset when only a message changes. Time is an argument.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use pd_core::Reason;

use crate::v1alpha1::status::{MESSAGE_LENGTH_MAX, truncated};

/// The subject of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// Decisions are made and, in mode Auto, applied.
    Ready,
    /// Both targets exist and can be scaled.
    TargetResolved,
    /// Coefficients and profiles of replicas could be read.
    CapacityResolved,
    /// Every signal that decisions need is known.
    MetricsAvailable,
    /// The objective holds over the attainment window.
    ObjectiveMet,
    /// Bounds, budget, ratio or rate limits keep replicas from what the objective needs.
    ScalingLimited,
    /// The P:D ratio lies inside its band.
    RatioInBand,
    /// The budget allows at least the minimum replicas.
    BudgetFeasible,
    /// Somebody else scales a target too.
    TargetContended,
    /// A person has paused at least one direction.
    Paused,
    /// Decisions come when they are due.
    OnTime,
    /// Pods that leave end their requests, and those with the least work go first where asked.
    DrainSafe,
}

impl ConditionType {
    /// Every type, in the order they are shown.
    pub const ALL: [Self; 12] = [
        Self::Ready,
        Self::TargetResolved,
        Self::CapacityResolved,
        Self::MetricsAvailable,
        Self::ObjectiveMet,
        Self::ScalingLimited,
        Self::RatioInBand,
        Self::BudgetFeasible,
        Self::TargetContended,
        Self::Paused,
        Self::OnTime,
        Self::DrainSafe,
    ];

    /// The name in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::TargetResolved => "TargetResolved",
            Self::CapacityResolved => "CapacityResolved",
            Self::MetricsAvailable => "MetricsAvailable",
            Self::ObjectiveMet => "ObjectiveMet",
            Self::ScalingLimited => "ScalingLimited",
            Self::RatioInBand => "RatioInBand",
            Self::BudgetFeasible => "BudgetFeasible",
            Self::TargetContended => "TargetContended",
            Self::Paused => "Paused",
            Self::OnTime => "OnTime",
            Self::DrainSafe => "DrainSafe",
        }
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionState {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known.
    Unknown,
}

impl ConditionState {
    /// The word in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionState {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// The state of one condition, as found out now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The subject.
    pub condition: ConditionType,
    /// Whether it holds.
    pub state: ConditionState,
    /// Why, one word.
    pub reason: Reason,
    /// Why, as a sentence; cut at 1024 characters.
    pub message: String,
}

/// Writes a finding into `conditions`, and says whether anything but the generation changed.
///
/// `generation` is the generation of the spec that was looked at.
pub fn set(
    conditions: &mut Vec<Condition>,
    finding: &Finding,
    generation: i64,
    now: &Time,
) -> bool {
    let wanted = |last_transition_time| Condition {
        type_: finding.condition.as_str().to_owned(),
        status: finding.state.as_str().to_owned(),
        reason: finding.reason.as_str().to_owned(),
        message: truncated(&finding.message, MESSAGE_LENGTH_MAX).into_owned(),
        observed_generation: Some(generation),
        last_transition_time,
    };
    let Some(old) = conditions
        .iter_mut()
        .find(|c| c.type_ == finding.condition.as_str())
    else {
        conditions.push(wanted(now.clone()));
        return true;
    };
    let same_state = old.status == finding.state.as_str();
    let since = if same_state {
        &old.last_transition_time
    } else {
        now
    };
    let new = wanted(since.clone());
    let changed =
        (&new.status, &new.reason, &new.message) != (&old.status, &old.reason, &old.message);
    *old = new;
    changed
}

/// The condition of a type, if it has been set.
pub fn get(conditions: &[Condition], condition: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == condition.as_str())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn metrics(state: ConditionState, message: &str) -> Finding {
        Finding {
            condition: ConditionType::MetricsAvailable,
            state,
            reason: Reason::MetricsMissing,
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_new_message_keeps_the_transition_time() {
        let mut conditions = Vec::new();
        assert!(set(
            &mut conditions,
            &metrics(ConditionState::False, "a"),
            1,
            &at(10)
        ));
        assert!(set(
            &mut conditions,
            &metrics(ConditionState::False, "b"),
            2,
            &at(20)
        ));
        let got = get(&conditions, ConditionType::MetricsAvailable).unwrap();
        assert_eq!(
            (&got.last_transition_time, got.message.as_str()),
            (&at(10), "b")
        );
        assert_eq!(got.observed_generation, Some(2));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn another_state_moves_the_transition_time() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            &metrics(ConditionState::False, "a"),
            1,
            &at(10),
        );
        assert!(set(
            &mut conditions,
            &metrics(ConditionState::True, "a"),
            1,
            &at(20)
        ));
        assert_eq!(conditions[0].last_transition_time, at(20));
    }

    #[test]
    fn the_same_finding_changes_nothing() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            &metrics(ConditionState::True, "a"),
            1,
            &at(10),
        );
        assert!(!set(
            &mut conditions,
            &metrics(ConditionState::True, "a"),
            1,
            &at(20)
        ));
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            &metrics(ConditionState::True, &"ß".repeat(2_000)),
            1,
            &at(10),
        );
        assert_eq!(conditions[0].message.chars().count(), MESSAGE_LENGTH_MAX);
        assert!(conditions[0].message.ends_with('…'));
    }
}
