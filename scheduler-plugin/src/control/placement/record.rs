//! All that is known of a group, to and from the status of its object.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use pd_api::v1alpha1::{
    PlacementGroupStatus,
    placement_group::{EndingPodStatus, ExcludedNodeStatus, PlacementRoleStatus, PlannedPodStatus},
};
use pd_placement::gate::{Assignment, Ending, GroupState, Record};

/// The condition of a group.
const PLACED: &str = "Placed";

/// Reads a record. Times and numbers that cannot be are absent.
pub(super) fn read(status: Option<&PlacementGroupStatus>) -> Record {
    let Some(status) = status else {
        return Record::default();
    };
    let roles = status.roles.iter();
    Record {
        plan: u64::try_from(status.plan).unwrap_or(0),
        assignments: status.planned.iter().map(assignment).collect(),
        deadline_seconds: status.deadline.as_ref().and_then(seconds),
        ending: status.ending.iter().map(ending).collect(),
        was_placed: status.was_placed,
        replicas: roles
            .map(|role| (role.name.clone(), u32::try_from(role.replicas).unwrap_or(0)))
            .collect(),
        short_since_seconds: status.short_since.as_ref().and_then(seconds),
        since_seconds: status.since.as_ref().and_then(seconds).unwrap_or(0),
        excluded: status
            .excluded_nodes
            .iter()
            .filter_map(|excluded| {
                Some((excluded.node.clone(), seconds(excluded.until.as_ref()?)?))
            })
            .collect(),
        failures: u32::try_from(status.failures).unwrap_or(0),
        retry_seconds: status.retry_at.as_ref().and_then(seconds),
        state: GroupState::named(&status.state).unwrap_or_default(),
        message: status.message.clone(),
        domain: status.domain.clone(),
        holds: status.held_nodes.iter().cloned().collect(),
    }
}

/// The status with this record, `now` being the time of a change of its condition.
pub(super) fn written(
    record: &Record,
    before: Option<&PlacementGroupStatus>,
    generation: Option<i64>,
    now: &Time,
) -> PlacementGroupStatus {
    let replicas = record.replicas.iter();
    PlacementGroupStatus {
        observed_generation: generation,
        conditions: vec![condition(record, before, generation, now)],
        state: record.state.as_str().to_owned(),
        message: record.message.clone(),
        domain: record.domain.clone(),
        plan: i64::try_from(record.plan).unwrap_or(i64::MAX),
        planned: record
            .assignments
            .iter()
            .map(|assignment| PlannedPodStatus {
                pod: assignment.pod.clone(),
                uid: assignment.uid.clone(),
                node: assignment.node.clone(),
            })
            .collect(),
        deadline: record.deadline_seconds.and_then(time),
        ending: record
            .ending
            .iter()
            .map(|ending| EndingPodStatus {
                pod: ending.pod.clone(),
                uid: ending.uid.clone(),
            })
            .collect(),
        was_placed: record.was_placed,
        roles: replicas
            .map(|(name, count)| PlacementRoleStatus {
                name: name.clone(),
                replicas: i32::try_from(*count).unwrap_or(i32::MAX),
            })
            .collect(),
        short_since: record.short_since_seconds.and_then(time),
        since: time(record.since_seconds),
        excluded_nodes: record
            .excluded
            .iter()
            .map(|(node, until)| ExcludedNodeStatus {
                node: node.clone(),
                until: time(*until),
            })
            .collect(),
        failures: i32::try_from(record.failures).unwrap_or(i32::MAX),
        retry_at: record.retry_seconds.and_then(time),
        held_nodes: record.holds.iter().cloned().collect(),
    }
}

fn condition(
    record: &Record,
    before: Option<&PlacementGroupStatus>,
    generation: Option<i64>,
    now: &Time,
) -> Condition {
    let mut before = before.into_iter().flat_map(|status| &status.conditions);
    let before = before.find(|condition| condition.type_ == PLACED);
    let holds = |condition: &Condition| condition.status == "True";
    let is_placed = record
        .state
        .is_placed()
        .unwrap_or_else(|| before.is_some_and(holds));
    let same = before.filter(|condition| holds(condition) == is_placed);
    Condition {
        type_: PLACED.to_owned(),
        status: if is_placed { "True" } else { "False" }.to_owned(),
        reason: record.state.as_str().to_owned(),
        message: record.message.clone(),
        observed_generation: generation,
        last_transition_time: same
            .map_or_else(|| now.clone(), |same| same.last_transition_time.clone()),
    }
}

fn assignment(status: &PlannedPodStatus) -> Assignment {
    Assignment {
        pod: status.pod.clone(),
        uid: status.uid.clone(),
        node: status.node.clone(),
    }
}

fn ending(status: &EndingPodStatus) -> Ending {
    Ending {
        pod: status.pod.clone(),
        uid: status.uid.clone(),
    }
}

fn seconds(time: &Time) -> Option<u64> {
    u64::try_from(time.0.as_second()).ok()
}

fn time(seconds: u64) -> Option<Time> {
    let seconds = i64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Timestamp::from_second(seconds).ok().map(Time)
}

/// Roles and their replicas, for tests and logs.
#[cfg(test)]
pub(super) fn replicas(pairs: &[(&str, u32)]) -> std::collections::BTreeMap<String, u32> {
    pairs
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        for state in GroupState::ALL {
            let record = Record {
                plan: 7,
                assignments: vec![Assignment {
                    pod: "p".to_owned(),
                    uid: "u".to_owned(),
                    node: "n".to_owned(),
                }],
                deadline_seconds: Some(1_700_000_060),
                ending: vec![Ending {
                    pod: "q".to_owned(),
                    uid: "v".to_owned(),
                }],
                was_placed: true,
                replicas: replicas(&[("decode", 2), ("prefill", 0)]),
                short_since_seconds: Some(1_700_000_000),
                since_seconds: 1_600_000_000,
                excluded: [("bad".to_owned(), 1_700_000_600)].into(),
                failures: 3,
                retry_seconds: Some(1_700_000_040),
                state,
                message: "why".to_owned(),
                domain: "rack r1".to_owned(),
                holds: ["h".to_owned()].into(),
            };
            let now = time(1_700_000_000).unwrap();
            let status = written(&record, None, Some(2), &now);
            // Through the text that the API server keeps.
            let text = serde_json::to_string(&status).unwrap();
            let status: PlacementGroupStatus = serde_json::from_str(&text).unwrap();
            assert_eq!(read(Some(&status)), record);
        }
    }

    #[test]
    fn a_group_on_its_way_keeps_the_condition_that_it_had() {
        let (then, now) = (time(1_700_000_000).unwrap(), time(1_700_000_900).unwrap());
        let of = |state| Record {
            state,
            ..Record::default()
        };
        let first = written(&of(GroupState::Placing), None, None, &then);
        assert_eq!(first.conditions[0].status, "False");
        let placed = written(&of(GroupState::Placed), Some(&first), None, &then);
        let more = written(&of(GroupState::Placing), Some(&placed), None, &now);
        assert_eq!(more.conditions[0].status, "True");
        assert_eq!(more.conditions[0].last_transition_time, then);
        let lost = written(&of(GroupState::WaitingForRoom), Some(&more), None, &now);
        assert_eq!(lost.conditions[0].status, "False");
        assert_eq!(lost.conditions[0].last_transition_time, now);
    }
}
