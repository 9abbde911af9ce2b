//! Requests in flight by worker: the work that is lost or waited for when it goes.

use std::{collections::BTreeMap, time::Duration};

use pd_core::{PerRole, Role, signal::name::SignalName};

use super::{Answers, answer::Answer, by_pod::ByPod};
use crate::{
    engine::Recipe,
    queries::Scope,
    tag::{Part, Tag},
};

/// Requests that wait or run at each of the `ready` pods, by its name, in answers to the queries of
/// `scope`. A pod is left out whose sample is older than `age_max`, or that lacks a number; all are
/// where the answer is not whole, for then each number may be too small.
pub fn in_flight<E>(
    answers: &Answers<E>,
    ready: PerRole<&[String]>,
    scope: &Scope,
    age_max: Duration,
) -> PerRole<BTreeMap<String, f64>> {
    if answers.partial {
        return PerRole::default();
    }
    let state = Answer::of(&answers.state);
    let by_pod = ByPod::new(&state, ready, age_max);
    PerRole::from_fn(|role| {
        let of_role = |signal: &SignalName| scope.engine.recipe(*signal) != Recipe::Absent;
        let mut each = signals(role)
            .into_iter()
            .filter(of_role)
            .map(|signal| by_pod.numbers(Tag::Signal(signal, Part::Value), role));
        let mut sum = each.next().unwrap_or_default();
        for more in each {
            sum.retain(|pod, _| more.contains_key(pod));
            for (pod, requests) in &mut sum {
                *requests += more.get(pod).copied().unwrap_or_default();
            }
        }
        let named = sum.into_iter();
        named
            .map(|(pod, requests)| (pod.to_owned(), requests))
            .collect()
    })
}

const fn signals(role: Role) -> [SignalName; 2] {
    match role {
        Role::Prefill => [
            SignalName::PrefillWaitingRequests,
            SignalName::PrefillRunningRequests,
        ],
        Role::Decode => [
            SignalName::DecodeWaitingRequests,
            SignalName::DecodeRunningRequests,
        ],
    }
}
