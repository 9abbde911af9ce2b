//! LeaderWorkerSets.

use pd_core::{Role, role_state::StuckCause};
use rstest::rstest;
use serde_json::json;

use super::{GROUP, LEADER_WORKER_SET, NAME, WORKER};
use crate::{
    kind::Victim,
    observe::observe,
    pod::PodFacts,
    refusal::Refusal,
    testing::{counts, made_by, object, pod, resolve, template, wanted},
};

fn lws() -> serde_json::Value {
    let spec = json!({ "replicas": 2, "leaderWorkerTemplate": {
        "size": 3, "leaderTemplate": template(4), "workerTemplate": template(8) } });
    object(&LEADER_WORKER_SET, "p", spec)
}

fn of_group(group: &str, index: &str, state: &str) -> PodFacts {
    pod(
        &format!("p-{group}-{index}"),
        state,
        &[(NAME, "p"), (GROUP, group), (WORKER, index)],
    )
}

#[test]
fn a_group_is_one_replica_with_the_gpus_of_all_its_pods() {
    let place = resolve(&LEADER_WORKER_SET, &lws(), &[], None, Role::Prefill).unwrap();
    assert_eq!(
        (place.desired, place.unit.pods, place.gpus.clone()),
        (2, 3, Ok(20))
    );
    assert_eq!(place.past_pods.as_deref(), Some("p-[0-9]+"));
    // Without a template of its own a leader has the workers'.
    let mut plain = lws();
    plain["spec"]["leaderWorkerTemplate"]
        .as_object_mut()
        .unwrap()
        .remove("leaderTemplate");
    let place = resolve(&LEADER_WORKER_SET, &plain, &[], None, Role::Prefill).unwrap();
    assert_eq!(place.gpus, Ok(24));
}

#[rstest]
#[case::whole(["ready", "ready", "ready"], (1, 0, 0), None)]
#[case::a_worker_not_ready(["ready", "ready", "starting"], (0, 1, 0), None)]
#[case::a_worker_lost(["ready", "ready", ""], (0, 1, 0), None)]
#[case::the_leader_lost(["", "ready", "ready"], (0, 1, 0), None)]
#[case::a_worker_unschedulable(["ready", "ready", "unschedulable"], (0, 1, 0), Some((1, StuckCause::Unschedulable)))]
#[case::two_unschedulable_count_once(["ready", "unschedulable", "unschedulable"], (0, 1, 0), Some((1, StuckCause::Unschedulable)))]
#[case::a_worker_replaced(["ready", "ready", "leaving"], (0, 1, 0), None)]
#[case::the_leader_leaves(["leaving", "ready", "ready"], (0, 0, 1), None)]
#[case::all_leave(["leaving", "leaving", "leaving"], (0, 0, 1), None)]
fn one_pod_in_trouble_takes_the_group_with_it(
    #[case] states: [&str; 3],
    #[case] want: (u32, u32, u32),
    #[case] stuck: Option<(u32, StuckCause)>,
) {
    let place = resolve(&LEADER_WORKER_SET, &lws(), &[], None, Role::Prefill).unwrap();
    let mut pods = vec![
        of_group("0", "0", "ready"),
        of_group("0", "1", "ready"),
        of_group("0", "2", "ready"),
    ];
    let second = ["0", "1", "2"].into_iter().zip(states);
    pods.extend(
        second
            .filter(|(_, state)| !state.is_empty())
            .map(|(index, state)| of_group("1", index, state)),
    );
    let (ready, starting, terminating, serving) = counts(&place, &pods);
    assert_eq!((ready, starting, terminating), (want.0 + 1, want.1, want.2));
    let leaders: &[&str] = if want.0 == 1 {
        &["p-0-0", "p-1-0"]
    } else {
        &["p-0-0"]
    };
    assert_eq!(serving, leaders);
    assert_eq!(observe(&place, &pods).state.stuck, stuck);
}

#[test]
fn groups_with_a_hash_for_a_name_have_victims_by_cost() {
    let mut hashed = lws();
    hashed["spec"]["groupIdentity"] = json!("Hash");
    let place = resolve(&LEADER_WORKER_SET, &hashed, &[], None, Role::Prefill).unwrap();
    assert_eq!(
        (place.victim, place.past_pods.clone()),
        (Victim::DeletionCost, None)
    );
    let hash = "4f1c9a0b3d2e5f60718293a4b5c6d7e8f9012345";
    let pods: Vec<PodFacts> = ["0", "1", "2"]
        .map(|index| of_group(hash, index, "ready"))
        .into();
    assert_eq!(counts(&place, &pods).0, 1);
}

#[test]
fn an_update_is_a_rollout_and_more_replicas_are_none() {
    let mut set = lws();
    set["status"] = json!({ "replicas": 2, "updatedReplicas": 2, "conditions": [
        { "type": "Progressing", "status": "True" }] });
    assert!(
        !resolve(&LEADER_WORKER_SET, &set, &[], None, Role::Prefill)
            .unwrap()
            .rolling_out
    );
    set["status"]["conditions"][0]["type"] = json!("UpdateInProgress");
    assert!(
        resolve(&LEADER_WORKER_SET, &set, &[], None, Role::Prefill)
            .unwrap()
            .rolling_out
    );
}

#[rstest]
#[case("DisaggregatedSet")]
#[case("RoleBasedGroup")]
#[case("LLMInferenceService")]
#[case("Service")]
fn a_group_set_of_another_object_is_its_to_scale(#[case] owner: &str) {
    let set = made_by(lws(), owner, "boss");
    let place = resolve(&LEADER_WORKER_SET, &set, &[], None, Role::Prefill).unwrap();
    assert!(matches!(wanted(&[(&place, 3)]), Err(Refusal::Contended(_))));
}
