//! Events: one for each write of replicas, one for each condition that turns good or bad.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use pd_api::{ConditionType, condition, v1alpha1::status::truncated};
use pd_core::Role;

use super::sentence;
use crate::outcome::{Applied, ReconcileOutcome};

/// Action of the events about replica writes.
pub const SCALE: &str = "Scale";

/// Longest note the events API takes, bytes; characters of ours are mostly single bytes.
const NOTE_LENGTH_MAX: usize = 1_000;

/// Events for `outcome`, given the conditions before and after.
pub fn events(outcome: &ReconcileOutcome, before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let mut events: Vec<Event> = match outcome {
        Ok(applied) => applied
            .written()
            .iter()
            .map(|&role| scaled(applied, role))
            .collect(),
        Err(_) => Vec::new(),
    };
    for event in ConditionType::ALL
        .into_iter()
        .filter_map(|kind| turned(kind, before, after))
    {
        // Ready repeats another condition; one event is enough.
        if !events
            .iter()
            .any(|known| known.reason == event.reason && known.note == event.note)
        {
            events.push(event);
        }
    }
    events
}

fn scaled(applied: &Applied, role: Role) -> Event {
    let report = &applied.decision.report;
    let (from, to) = (report.from[role], report.to[role]);
    let because = sentence::of_role(report, role);
    let note = format!("{role} {from} -> {to}: {because}");
    // The role's own reason where it has one: the decision's may be about the other role.
    let own = report
        .steps
        .iter()
        .find(|step| step.role == Some(role) && step.stage == pd_core::Stage::Need);
    let reason = own.map_or(report.reason, |step| step.reason);
    event(EventType::Normal, reason.as_str(), &note, SCALE)
}

/// The event for a condition that turned good or bad; none for one that is good from the start.
fn turned(kind: ConditionType, before: &[Condition], after: &[Condition]) -> Option<Event> {
    let now = condition::get(after, kind)?;
    let good = is_good(kind, &now.status);
    match condition::get(before, kind) {
        Some(was) if was.status == now.status && was.reason == now.reason => None,
        // From one good reason to another is no news.
        Some(was) if good && is_good(kind, &was.status) => None,
        None if good => None,
        // Not knowing ends an alarm without an all-clear.
        Some(_) if now.status == "Unknown" => None,
        _ => {
            let type_ = if good {
                EventType::Normal
            } else {
                EventType::Warning
            };
            Some(event(type_, &now.reason, &now.message, kind.as_str()))
        }
    }
}

/// Whether a condition of `kind` with `status` is as it should be. Not knowing is no alarm.
fn is_good(kind: ConditionType, status: &str) -> bool {
    let bad = match kind {
        ConditionType::ScalingLimited | ConditionType::TargetContended | ConditionType::Paused => {
            "True"
        }
        _ => "False",
    };
    status != bad
}

fn event(type_: EventType, reason: &str, note: &str, action: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(truncated(note, NOTE_LENGTH_MAX).into_owned()),
        action: action.to_owned(),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;
    use crate::outcome::Stopped;

    fn condition(kind: ConditionType, status: &str, reason: &str) -> Condition {
        Condition {
            type_: kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: reason.to_lowercase(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    fn reasons(before: &[Condition], after: &[Condition]) -> Vec<String> {
        events(&Err(Stopped::Off), before, after)
            .into_iter()
            .map(|event| event.reason)
            .collect()
    }

    #[test]
    fn a_condition_has_an_event_when_it_turns_and_then_none() {
        use ConditionType::MetricsAvailable;
        let good = [condition(MetricsAvailable, "True", "AllMetricsAvailable")];
        let bad = [condition(
            MetricsAvailable,
            "False",
            "PrometheusUnreachable",
        )];
        assert_eq!(reasons(&[], &good), Vec::<String>::new());
        assert_eq!(reasons(&good, &bad), ["PrometheusUnreachable"]);
        assert_eq!(reasons(&bad, &bad), Vec::<String>::new());
        assert_eq!(reasons(&bad, &good), ["AllMetricsAvailable"]);
    }

    #[test]
    fn one_cause_has_one_event() {
        let bad = [
            condition(ConditionType::Ready, "False", "TargetNotFound"),
            condition(ConditionType::TargetResolved, "False", "TargetNotFound"),
        ];
        assert_eq!(reasons(&[], &bad), ["TargetNotFound"]);
    }
}
