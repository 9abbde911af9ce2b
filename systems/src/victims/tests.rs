//! The pods that get a cost, and the laws of their choice.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

fn ready(pod: &str) -> Replica {
    Replica {
        pod: pod.to_owned(),
        is_ready: true,
        cost: None,
    }
}

fn with(pod: &str, value: i32, is_ours: bool) -> Replica {
    Replica {
        cost: Some(Cost { value, is_ours }),
        ..ready(pod)
    }
}

fn starting(pod: &str) -> Replica {
    Replica {
        is_ready: false,
        ..ready(pod)
    }
}

fn work(of: &[(&str, f64)]) -> BTreeMap<String, f64> {
    of.iter()
        .map(|(pod, work)| ((*pod).to_owned(), *work))
        .collect()
}

/// The pods with their new costs.
fn edits(replicas: &[Replica], of: &[(&str, f64)], fewer: usize) -> Vec<(String, Option<i32>)> {
    let edits = cost_edits(replicas, &work(of), fewer);
    edits
        .into_iter()
        .map(|edit| (edit.pod, edit.cost))
        .collect()
}

fn set(pod: &str, cost: i32) -> (String, Option<i32>) {
    (pod.to_owned(), Some(cost))
}

fn taken(pod: &str) -> (String, Option<i32>) {
    (pod.to_owned(), None)
}

const LOADED: [(&str, f64); 4] = [("a", 7.0), ("b", 0.0), ("c", 3.0), ("d", 0.5)];

#[test]
fn those_with_the_least_work_go_first_and_no_other_is_written() {
    let pods = ["a", "b", "c", "d"].map(ready);
    assert_eq!(edits(&pods, &LOADED, 1), [set("b", -1)]);
    assert_eq!(edits(&pods, &LOADED, 2), [set("b", -2), set("d", -1)]);
    assert_eq!(
        edits(&pods, &LOADED, 3),
        [set("b", -3), set("d", -2), set("c", -1)]
    );
}

#[rstest]
#[case::none_goes(0)]
#[case::all_go(4)]
#[case::more_than_there_are(9)]
fn where_nothing_is_chosen_nothing_is_written(#[case] fewer: usize) {
    let pods = ["a", "b", "c", "d"].map(ready);
    assert_eq!(edits(&pods, &LOADED, fewer), []);
}

#[test]
fn pods_that_are_not_ready_go_without_a_cost() {
    let pods = [ready("a"), ready("b"), starting("x"), starting("y")];
    assert_eq!(edits(&pods, &LOADED, 1), []);
    assert_eq!(edits(&pods, &LOADED, 2), []);
    assert_eq!(edits(&pods, &LOADED, 3), [set("b", -1)]);
}

#[test]
fn a_pod_without_a_measurement_is_the_last_to_go() {
    let pods = ["a", "m", "n"].map(ready);
    assert_eq!(edits(&pods, &[("a", 900.0)], 1), [set("a", -1)]);
    assert_eq!(
        edits(&pods, &[("a", 1.0), ("m", f64::NAN)], 1),
        [set("a", -1)]
    );
    // Where nothing is known of any, there is no reason to choose.
    assert_eq!(edits(&pods, &[], 1), []);
    assert_eq!(edits(&pods, &[("a", 1.0)], 2), [set("a", -1)]);
    let marked = [with("m", -1, true), ready("a"), ready("n")];
    assert_eq!(edits(&marked, &[("a", 1.0)], 2), [taken("m"), set("a", -1)]);
}

#[test]
fn an_old_cost_is_taken_away() {
    let pods = [with("a", -1, true), ready("b"), ready("c")];
    assert_eq!(edits(&pods, &LOADED, 0), [taken("a")]);
    assert_eq!(edits(&pods, &LOADED, 1), [taken("a"), set("b", -1)]);
    let late = [
        Replica {
            is_ready: false,
            ..with("x", -1, true)
        },
        ready("b"),
    ];
    assert_eq!(edits(&late, &LOADED, 0), [taken("x")]);
}

#[test]
fn costs_that_are_in_order_already_are_left() {
    let pods = [
        with("b", -2, true),
        with("d", -1, true),
        ready("a"),
        ready("c"),
    ];
    assert_eq!(edits(&pods, &LOADED, 2), []);
    // One more than was to go before.
    assert_eq!(
        edits(&pods, &LOADED, 3),
        [set("b", -3), set("d", -2), set("c", -1)]
    );
    let turned = [with("b", -1, true), with("d", -2, true), ready("a")];
    assert_eq!(edits(&turned, &LOADED, 2), [set("b", -2), set("d", -1)]);
}

#[test]
fn what_somebody_else_set_is_theirs_and_decides_first() {
    let kept = [with("b", 100, false), ready("a"), ready("c")];
    assert_eq!(edits(&kept, &LOADED, 1), [set("c", -1)]);
    let first = [with("a", -5, false), ready("b"), ready("c")];
    assert_eq!(edits(&first, &LOADED, 1), []);
    assert_eq!(edits(&first, &LOADED, 2), [set("b", -1)]);
}

#[test]
fn a_step_of_very_many_is_no_flood() {
    let pods: Vec<Replica> = (0..1_000).map(|pod| ready(&format!("{pod:04}"))).collect();
    let idle = pods
        .iter()
        .map(|replica| (replica.pod.clone(), 0.0))
        .collect();
    let edits = cost_edits(&pods, &idle, 500);
    assert_eq!(edits.len(), EDITS_MAX);
    assert_eq!(edits[0].cost, Some(-500));
}

#[rstest]
#[case::ours(json!([{ "manager": "pd-autoscaler", "fieldsV1": { "f:metadata": { "f:annotations": { "f:controller.kubernetes.io/pod-deletion-cost": {} } } } }]), true)]
#[case::ours_of_something_else(json!([{ "manager": "pd-autoscaler", "fieldsV1": { "f:metadata": { "f:annotations": { "f:x": {} } } } }]), false)]
#[case::anothers(json!([{ "manager": "kubectl", "fieldsV1": { "f:metadata": { "f:annotations": { "f:controller.kubernetes.io/pod-deletion-cost": {} } } } }]), false)]
#[case::nobodys(json!([]), false)]
fn a_cost_is_ours_by_its_field_manager(#[case] fields: Value, #[case] is_ours: bool) {
    let metadata = json!({ "annotations": { DELETION_COST: "-3" }, "managedFields": fields });
    assert_eq!(Cost::of(&metadata), Some(Cost { value: -3, is_ours }));
    assert_eq!(Cost::of(&json!({ "managedFields": fields })), None);
}

/// As Kubernetes reads them.
#[rstest]
#[case("7", 7)]
#[case("-7", -7)]
#[case("0", 0)]
#[case::a_sign("+7", 0)]
#[case::a_zero_before("07", 0)]
#[case::beyond("99999999999", 0)]
#[case::no_number("low", 0)]
fn a_cost_that_is_no_number_is_none(#[case] text: &str, #[case] want: i32) {
    assert_eq!(number(text), want);
}

/// Readiness, cost with whose it is, and work of a replica.
type Drawn = (bool, Option<(i32, bool)>, Option<f64>);

fn replicas() -> impl Strategy<Value = (Vec<Replica>, BTreeMap<String, f64>)> {
    let cost = prop::option::of((-4..4_i32, any::<bool>()));
    let measured = prop::option::of((0..6_u32).prop_map(f64::from));
    prop::collection::vec((any::<bool>(), cost, measured), 0..9).prop_map(|pods| {
        let mut work = BTreeMap::new();
        let replica = |(index, (is_ready, cost, measured)): (usize, Drawn)| {
            let pod = format!("p{index}");
            work.extend(Option::map(measured, |measured| (pod.clone(), measured)));
            let cost = cost.map(|(value, is_ours)| Cost { value, is_ours });
            Replica {
                pod,
                is_ready,
                cost,
            }
        };
        let replicas = pods.into_iter().enumerate().map(replica).collect();
        (replicas, work)
    })
}

/// The replicas after `edits`.
fn after(replicas: &[Replica], edits: &[CostEdit]) -> Vec<Replica> {
    let mut after = replicas.to_vec();
    for edit in edits {
        let replica = after.iter_mut().find(|replica| replica.pod == edit.pod);
        let cost = edit.cost.map(|value| Cost {
            value,
            is_ours: true,
        });
        replica.unwrap().cost = cost;
    }
    after
}

/// The pods that a ReplicaSet removes: not ready first, then by cost.
fn removed(replicas: &[Replica], fewer: usize) -> Vec<&Replica> {
    let mut order: Vec<&Replica> = replicas.iter().collect();
    order.sort_by_key(|replica| (replica.is_ready, replica.cost.map_or(0, |cost| cost.value)));
    order.into_iter().take(fewer).collect()
}

proptest! {
    #[test]
    fn the_choice_keeps_its_laws((replicas, work) in replicas(), fewer in 0..10_usize) {
        let edits = cost_edits(&replicas, &work, fewer);
        let own = |replica: &&Replica| replica.cost.is_some_and(|cost| cost.is_ours);
        let stale = replicas.iter().filter(own).count();
        prop_assert!(edits.len() <= fewer + stale);
        for edit in &edits {
            let before = replicas.iter().find(|replica| replica.pod == edit.pod).unwrap();
            prop_assert!(before.cost.is_none_or(|cost| cost.is_ours));
            prop_assert!(before.cost.map(|cost| cost.value) != edit.cost);
        }
        let after = after(&replicas, &edits);
        prop_assert_eq!(cost_edits(&after, &work, fewer), []);
        if fewer < replicas.len() {
            // Where nobody else has a say, the work of every pod that goes is no more than that of
            // any that stays, and the least goes first.
            let gone = removed(&after, fewer);
            let load = |replica: &Replica| work.get(&replica.pod).copied().unwrap_or(f64::INFINITY);
            let free = |replica: &&Replica| replica.is_ready && replica.cost.is_none_or(|cost| cost.is_ours);
            let going: Vec<f64> = gone.iter().copied().filter(free).map(load).collect();
            prop_assert!(going.is_sorted());
            let stays = after.iter().filter(|replica| !gone.iter().any(|gone| gone.pod == replica.pod));
            let least = stays.filter(free).map(load).fold(f64::INFINITY, f64::min);
            let others = replicas.iter().any(|replica| replica.cost.is_some_and(|cost| !cost.is_ours));
            prop_assert!(others || going.iter().all(|load| *load <= least));
        }
    }
}
