//! Replicas as their pods show them.
//!
//! A replica of several pods serves when all of them do. One pod that is lost, not ready or
//! unschedulable takes the whole replica with it, and the replica counts once, however many of its
//! pods are in trouble. It is on its way out when its serving pod is.

use std::collections::BTreeMap;

use pd_core::{RoleState, role_state::StuckCause};

use crate::{
    gpus::GpusUnknown,
    place::{Place, Unit},
    pod::{PodFacts, PodPhase},
    stuck::{CAUSES, Stuck, cause_of_create_failure},
    victims::Replica,
};

/// One role's replicas as observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Replicas, for the core.
    pub state: RoleState,
    /// Names of the ready replicas' pods that serve metrics, sorted.
    pub serving_pods: Vec<String>,
    /// The replicas that a controller may remove.
    pub live: Vec<Replica>,
    /// Why GPUs are not known, if they are not; they count as none then.
    pub gpus_unknown: Option<GpusUnknown>,
}

/// Counts the replicas of `place` among `pods`, of which those of other workloads are passed over.
pub fn observe(place: &Place, pods: &[PodFacts]) -> Observed {
    let mut replicas: BTreeMap<Vec<&str>, Vec<&PodFacts>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| place.pods.has(pod)) {
        replicas.entry(key(&place.unit, pod)).or_default().push(pod);
    }
    let mut state = RoleState {
        current: place.desired,
        rolling_out: place.rolling_out,
        ..RoleState::default()
    };
    let mut stuck = Stuck::default();
    let (mut serving_pods, mut live, mut shown) = (Vec::new(), Vec::new(), None);
    for pods in replicas.values() {
        shown = shown.or_else(|| gpus(&place.unit, pods));
        let phase = phase(&place.unit, pods);
        live.extend(phase.is_live().then(|| replica(&place.unit, pods, phase)));
        match phase {
            PodPhase::Ready => {
                state.ready += 1;
                let serving = pods
                    .iter()
                    .filter(|pod| pod.is_live() && place.unit.serving.has(pod));
                serving_pods.extend(serving.map(|pod| pod.name.clone()));
            }
            PodPhase::Starting => {
                state.starting += 1;
                if let Some(cause) = cause(pods) {
                    stuck.add(cause, 1);
                }
            }
            PodPhase::Terminating => state.terminating += 1,
            PodPhase::Ended => {}
        }
    }
    if let Some(message) = &place.create_failure {
        let existing = state.ready.saturating_add(state.starting);
        let missing = place.desired.saturating_sub(existing);
        stuck.add(cause_of_create_failure(message), missing);
    }
    state.stuck = stuck.most();
    serving_pods.sort_unstable();
    let known = match (&place.gpus, shown) {
        (Ok(gpus), _) => Ok(*gpus),
        // Its pods show what the template leaves to its operator.
        (Err(GpusUnknown::NoneAsked), Some(Ok(gpus))) => Ok(gpus),
        (Err(unknown), _) => Err(unknown.clone()),
    };
    state.gpus_per_replica = *known.as_ref().unwrap_or(&0);
    Observed {
        state,
        serving_pods,
        live,
        gpus_unknown: known.err(),
    }
}

/// The label values that the pods of one replica share.
fn key<'a>(unit: &Unit, pod: &'a PodFacts) -> Vec<&'a str> {
    let of = |labels: &&[&str]| {
        let label = labels.iter().find_map(|label| pod.labels.get(*label));
        label.unwrap_or(&pod.name).as_str()
    };
    unit.key.iter().map(of).collect()
}

fn phase(unit: &Unit, pods: &[&PodFacts]) -> PodPhase {
    let live: Vec<&&PodFacts> = pods.iter().filter(|pod| pod.is_live()).collect();
    let leaves = pods.iter().any(|pod| pod.phase == PodPhase::Terminating);
    let serves = live.iter().any(|pod| unit.serving.has(pod));
    let leader_leaves = pods
        .iter()
        .any(|pod| pod.phase == PodPhase::Terminating && unit.serving.has(pod));
    match () {
        () if live.is_empty() && leaves => PodPhase::Terminating,
        () if live.is_empty() => PodPhase::Ended,
        // The serving pod goes and none has taken its place: the others follow it.
        () if leader_leaves && !serves => PodPhase::Terminating,
        () => {
            let ready = live
                .iter()
                .filter(|pod| pod.phase == PodPhase::Ready)
                .count();
            let wanted = usize::try_from(unit.pods).unwrap_or(usize::MAX);
            if ready == live.len() && ready >= wanted && serves {
                PodPhase::Ready
            } else {
                PodPhase::Starting
            }
        }
    }
}

/// A replica that exists, by its serving pod: in a replica that starts there may be none yet.
fn replica(unit: &Unit, pods: &[&PodFacts], phase: PodPhase) -> Replica {
    let mut live = pods.iter().filter(|pod| pod.is_live());
    let first = pods.first();
    let serving = live.find(|pod| unit.serving.has(pod)).or(first);
    Replica {
        pod: serving.map(|pod| pod.name.clone()).unwrap_or_default(),
        is_ready: phase == PodPhase::Ready,
        cost: serving.and_then(|pod| pod.cost),
    }
}

/// The cause that a person would fix first among those of one replica's pods.
fn cause(pods: &[&PodFacts]) -> Option<StuckCause> {
    let has = |cause: &StuckCause| pods.iter().any(|pod| pod.stuck == Some(*cause));
    CAUSES.into_iter().find(has)
}

/// GPUs of a replica that has all of its pods.
fn gpus(unit: &Unit, pods: &[&PodFacts]) -> Option<Result<u32, GpusUnknown>> {
    let live = pods.iter().filter(|pod| pod.is_live());
    let whole = u32::try_from(live.clone().count()).ok() == Some(unit.pods);
    whole.then(|| crate::gpus::sum(live.map(|pod| (1, pod.gpus.clone()))))
}

#[cfg(test)]
mod tests;
