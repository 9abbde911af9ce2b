//! The queue against a simulation that looks at every second.
//!
//! The other reading knows no events, no deadlines in a queue and no intervals of numbers: each
//! second it takes the taints and tolerations of that second, compares where they changed, and
//! counts. It is run twice, once as a cluster with the feature (what has to come out), once on the
//! rewritten list without it (what the cluster does anyway). Both together must take the pod at the
//! second at which the first of the two does, and never otherwise.

use proptest::prelude::*;

use super::*;
use crate::{
    eviction::queue::EvictionQueue,
    eviction::request::{EvictionOptions, PlacedPod, PodId, RequestOutcome},
    eviction::rules::TolerationRules,
    rewrite::rewrite,
};
use jiff::Timestamp;

const END: i64 = 80;

/// A change from a second on.
#[derive(Clone, Debug)]
enum Event {
    Taints(Vec<(&'static str, &'static str)>),
    /// The seconds of the tolerations, which a live pod may change.
    Seconds(Vec<Option<i64>>),
    Restart,
}

type Script = Vec<(i64, Event)>;

fn number(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn answers(t: &Toleration, key: &str, value: &str, compares: bool) -> bool {
    let holds = |wanted: fn(i64, i64) -> bool| match (number(value), number(&t.value)) {
        (Some(taint), Some(bound)) => compares && wanted(taint, bound),
        _ => false,
    };
    t.key == key
        && match t.operator.as_str() {
            "Exists" => true,
            "Gt" => holds(|taint, bound| taint > bound),
            "Lt" => holds(|taint, bound| taint < bound),
            _ => t.value == value,
        }
}

/// The second at which a cluster's own controller takes the pod.
fn simulated(
    tolerations: &[Toleration],
    script: &Script,
    compares: bool,
    restarts: bool,
) -> Option<i64> {
    let mut list = tolerations.to_vec();
    let mut node: Vec<(&str, &str)> = Vec::new();
    let mut left: Option<i64> = None;
    for second in 0..=END {
        left = left.map(|left| left - 1);
        if left == Some(0) {
            return Some(second);
        }
        for (_, event) in script.iter().filter(|(at, _)| *at == second) {
            let mut looks = true;
            match event {
                Event::Taints(taints) => {
                    looks = node != *taints;
                    node.clone_from(taints);
                }
                Event::Seconds(seconds) => {
                    let before = list.clone();
                    for (toleration, seconds) in list.iter_mut().zip(seconds) {
                        toleration.toleration_seconds = *seconds;
                    }
                    looks = list != before;
                }
                Event::Restart if restarts => left = None,
                Event::Restart => looks = false,
            }
            if !looks {
                continue;
            }
            let mut bounds = Vec::new();
            for (key, value) in &node {
                match list.iter().find(|t| answers(t, key, value, compares)) {
                    None => return Some(second),
                    Some(toleration) => bounds.extend(toleration.toleration_seconds),
                }
            }
            match bounds.iter().min() {
                None => left = None,
                Some(seconds) if *seconds <= 0 => return Some(second),
                Some(seconds) => left = left.or(Some(*seconds)),
            }
        }
    }
    None
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(second, 0).unwrap()
}

/// The second at which the queue requests the pod to go, up to the end of the script or `gone`.
fn ordered(tolerations: &[Toleration], script: &Script, gone: Option<i64>) -> Option<i64> {
    let mut queue = EvictionQueue::new(EvictionOptions::default());
    let mut list = tolerations.to_vec();
    let mut node: Vec<Taint> = Vec::new();
    let placed = |list: &[Toleration]| {
        let (spec, originals) = rewrite(list);
        PlacedPod {
            id: PodId {
                uid: "u".to_owned(),
                ..PodId::default()
            },
            node: "n".to_owned(),
            rules: Some(TolerationRules::read(&spec, &originals).unwrap()),
            group: None,
            persisted: None,
        }
    };
    queue.pod(placed(&list), at(0));
    for second in 0..=gone.unwrap_or(END).min(END) {
        if let Some(request) = queue.requests(at(second)).first() {
            queue.finish(&request.pod.uid, RequestOutcome::Leaves, at(second));
            return Some(second);
        }
        for (_, event) in script.iter().filter(|(at, _)| *at == second) {
            match event {
                Event::Taints(taints) => {
                    let taint =
                        |(key, value): &(&str, &str)| Taint::new(*key, *value, Effect::NoExecute);
                    node = taints.iter().map(taint).collect();
                    queue.node("n", &node, "", at(second));
                }
                Event::Seconds(seconds) => {
                    for (toleration, seconds) in list.iter_mut().zip(seconds) {
                        toleration.toleration_seconds = *seconds;
                    }
                    queue.pod(placed(&list), at(second));
                }
                Event::Restart => {
                    queue = EvictionQueue::new(EvictionOptions::default());
                    queue.node("n", &node, "", at(second));
                    queue.pod(placed(&list), at(second));
                }
            }
            if let Some(request) = queue.requests(at(second)).first() {
                queue.finish(&request.pod.uid, RequestOutcome::Leaves, at(second));
                return Some(second);
            }
        }
    }
    None
}

const KEYS: [&str; 2] = ["sla", "cost"];
const VALUES: [&str; 9] = [
    "0",
    "5",
    "10",
    "11",
    "90",
    "010",
    "high",
    "",
    "99999999999999999999",
];

fn seconds() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![3 => Just(None), 6 => (1_i64..40).prop_map(Some), 1 => (-1_i64..1).prop_map(Some)]
}

fn tolerations() -> impl Strategy<Value = Vec<Toleration>> {
    let one = (
        prop::sample::select(&KEYS[..]),
        prop::sample::select(&["Gt", "Lt", "Gt", "Lt", "Exists", "Equal"][..]),
        prop::sample::select(&["-1", "5", "10", "11", "50"][..]),
        seconds(),
    );
    let one = one.prop_map(|(key, operator, value, seconds)| {
        let value = if operator == "Exists" { "" } else { value };
        toleration(key, operator, value, "NoExecute", seconds)
    });
    prop::collection::vec(one, 1..6)
}

fn event(restarts: bool) -> impl Strategy<Value = Event> {
    let value = || prop::sample::select(&VALUES[..]);
    let taints = prop_oneof![
        1 => Just(Vec::new()),
        6 => value().prop_map(|value| vec![("sla", value)]),
        2 => (value(), value()).prop_map(|(sla, cost)| vec![("sla", sla), ("cost", cost)]),
    ];
    let edits = prop::collection::vec(seconds(), 6);
    prop_oneof![
        6 => taints.prop_map(Event::Taints),
        u32::from(!restarts) => edits.prop_map(Event::Seconds),
        u32::from(restarts) => Just(Event::Restart),
    ]
}

fn script(restarts: bool) -> impl Strategy<Value = Script> {
    // No two at one second: upstream's clock is finer, so that it tells them apart.
    prop::collection::btree_map(0_i64..60, event(restarts), 1..10)
        .prop_map(|script| script.into_iter().collect())
}

fn without_numbers(tolerations: &[Toleration]) -> Vec<Toleration> {
    rewrite(tolerations).0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_together_take_the_pod_at_the_very_second(tolerations in tolerations(), script in script(false)) {
        let native = simulated(&tolerations, &script, true, false);
        let cluster = simulated(&without_numbers(&tolerations), &script, false, false);
        let ours = ordered(&tolerations, &script, cluster);
        let least = |one: Option<i64>, other: Option<i64>| one.into_iter().chain(other).min();
        prop_assert_eq!(least(ours, cluster), least(native, cluster));
        // Never early, and never a pod that a cluster with the feature would keep.
        if let Some(ours) = ours {
            prop_assert_eq!(Some(ours), native);
        }
    }

    #[test]
    fn a_restart_is_upstreams_restart(tolerations in tolerations(), script in script(true)) {
        let native = simulated(&tolerations, &script, true, true);
        let rewritten = without_numbers(&tolerations);
        let cluster = simulated(&rewritten, &script, false, false);
        let cluster_restarted = simulated(&rewritten, &script, false, true);
        if let Some(ours) = ordered(&tolerations, &script, cluster) {
            // Upstream, one process restarts. Here the cluster's own goes on, and at the same
            // moment as ours where its timer, begun again, would have ended before.
            let by_its_timer = cluster == Some(ours) && native < cluster && native == cluster_restarted;
            prop_assert!(native == Some(ours) || by_its_timer, "{:?} {:?}", ours, native);
        } else {
            // Left to the cluster, whose clock may have been read later than it runs.
            let end = cluster.into_iter().chain(cluster_restarted).min().unwrap_or(END);
            prop_assert!(native.is_none_or(|native| end <= native), "{:?} {:?}", native, cluster);
        }
    }
}
