//! Laws that no story may break, whatever happens in it: many pods, groups, a rate limit, failures,
//! restarts of nothing.
//!
//! Happenings are random and so is what becomes of requests. Nobody is ordered early, twice, or
//! while its numbers tolerate the node; time to look again always lies ahead.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    eviction::{
        TolerationPeriod,
        queue::EvictionQueue,
        rate_limit::RateLimit,
        request::{EvictionOptions, PlacedPod, PodId, RequestOutcome},
        rules::{Because, TolerationRules},
    },
    rewrite::rewrite,
};
use jiff::Timestamp;

const VALUES: [&str; 5] = ["", "5", "15", "25", "odd"];

#[derive(Clone, Debug)]
enum Happens {
    Value(usize, usize),
    Pod(usize, usize, i64),
    Gone(usize),
    Nothing,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0..3_usize, 0..VALUES.len()).prop_map(|(node, value)| Happens::Value(node, value)),
        4 => (0..6_usize, 0..3_usize, 0..20_i64)
            .prop_map(|(pod, group, seconds)| Happens::Pod(pod, group, seconds)),
        1 => (0..6_usize).prop_map(Happens::Gone),
        2 => Just(Happens::Nothing),
    ]
}

/// A pod stays on its node for life; its group and its seconds may change.
fn placed(pod: usize, group: usize, seconds: i64) -> PlacedPod {
    let sla = |operator, value, seconds| toleration("sla", operator, value, "NoExecute", seconds);
    let list = [sla("Gt", "20", None), sla("Gt", "10", Some(seconds))];
    let (spec, originals) = rewrite(&list);
    PlacedPod {
        id: PodId {
            uid: format!("{pod}"),
            namespace: "default".to_owned(),
            name: format!("pod-{pod}"),
        },
        node: format!("{}", pod % 3),
        rules: (pod > 0).then(|| TolerationRules::read(&spec, &originals).unwrap()),
        group: (group > 0).then(|| format!("{group}")),
        persisted: None,
    }
}

fn taint_of(value: usize) -> Vec<Taint> {
    match VALUES[value] {
        "" => Vec::new(),
        value => vec![Taint::new("sla", value, Effect::NoExecute)],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_goes_early_or_twice_or_while_tolerated(
        story in prop::collection::vec((0..4_i64, happens(), 0..4_u8), 1..120),
        moves in any::<bool>(), limited in any::<bool>(),
    ) {
        let pace = RateLimit { interval: Duration::from_secs(2), burst: 2 };
        let mut queue = EvictionQueue::new(EvictionOptions {
            shorten: moves, lengthen: moves, rate: limited.then_some(pace),
        });
        let (mut nodes, mut pods) = (BTreeMap::<String, Vec<Taint>>::new(), BTreeMap::new());
        let (mut requested, mut now) = (BTreeSet::new(), Timestamp::default());
        for (seconds, happens, outcome_drawn) in story {
            now += Duration::from_secs(seconds.unsigned_abs());
            match happens {
                Happens::Value(node, value) => {
                    nodes.insert(node.to_string(), taint_of(value));
                    queue.node(&node.to_string(), &taint_of(value), "zone", now);
                }
                Happens::Pod(pod, group, seconds) => {
                    let placed = placed(pod, group, seconds);
                    pods.insert(pod.to_string(), placed.clone());
                    queue.pod(placed, now);
                }
                Happens::Gone(pod) => {
                    pods.remove(&pod.to_string());
                    requested.remove(&pod.to_string());
                    queue.pod_gone(&pod.to_string(), now);
                }
                Happens::Nothing => {}
            }
            for request in queue.requests(now) {
                let uid = &request.pod.uid;
                prop_assert!(request.due <= now);
                prop_assert!(requested.insert(uid.clone()), "{uid} was requested before");
                if !matches!(request.because, Because::Group { .. }) {
                    let pod: &PlacedPod = &pods[uid];
                    let judgement = pod.rules.as_ref().unwrap().judge(&nodes[&pod.node]);
                    prop_assert_ne!(judgement.period, TolerationPeriod::Forever);
                }
                let outcome = match outcome_drawn {
                    0 => RequestOutcome::Failed,
                    1 => RequestOutcome::Refused,
                    // Still under way.
                    2 => continue,
                    _ => RequestOutcome::Leaves,
                };
                queue.finish(uid, outcome, now);
                if outcome != RequestOutcome::Leaves {
                    requested.remove(uid);
                }
            }
            // Only those that follow a pod that has just left may be due at once.
            let next = queue.next();
            prop_assert!(next.is_none_or(|next| next > now || outcome_drawn == 3), "{next:?} at {now:?}");
        }
    }
}
