//! Pods counted into replicas: what is ready, starting, terminating or stuck.

use pd_core::role_state::StuckCause;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::{
    systems::apps::DEPLOYMENT,
    testing::{object, pod, resolve, template},
};

fn deployment(failure: Option<&str>) -> Place {
    let spec = json!({ "replicas": 3, "selector": { "matchLabels": { "app": "a" } }, "template": template(1) });
    let mut place = resolve(
        &DEPLOYMENT,
        &object(&DEPLOYMENT, "a", spec),
        &[],
        None,
        pd_core::Role::Decode,
    )
    .unwrap();
    place.pods.owner = None;
    place.create_failure = failure.map(str::to_owned);
    place
}

fn pods(causes: &[Option<StuckCause>]) -> Vec<PodFacts> {
    let pod = |(index, cause): (usize, &Option<StuckCause>)| PodFacts {
        stuck: *cause,
        ..pod(&format!("a-{index}"), "starting", &[("app", "a")])
    };
    causes.iter().enumerate().map(pod).collect()
}

#[rstest]
#[case::quota("pods is forbidden: exceeded quota: gpus", StuckCause::QuotaExceeded)]
#[case::webhook("admission webhook \"x\" denied the request", StuckCause::CreateFailed)]
fn pods_that_cannot_be_created_count_by_their_workloads_condition(
    #[case] message: &str,
    #[case] want: StuckCause,
) {
    let place = deployment(Some(message));
    assert_eq!(observe(&place, &pods(&[None])).state.stuck, Some((2, want)));
    assert_eq!(
        observe(&place, &pods(&[None, None, None])).state.stuck,
        None
    );
}

#[test]
fn all_broken_replicas_count_and_those_first_that_say_that_new_ones_fail() {
    let stuck =
        |causes: &[Option<StuckCause>]| observe(&deployment(None), &pods(causes)).state.stuck;
    let (crash, pull, nodeless) = (
        Some(StuckCause::CrashLoop),
        Some(StuckCause::ImagePull),
        Some(StuckCause::Unschedulable),
    );
    assert_eq!(
        stuck(&[crash, pull, crash, None]),
        Some((3, StuckCause::CrashLoop))
    );
    assert_eq!(
        stuck(&[crash, nodeless, crash]),
        Some((1, StuckCause::Unschedulable))
    );
    assert_eq!(
        stuck(&[crash, nodeless]),
        Some((1, StuckCause::Unschedulable))
    );
}

#[test]
fn gpus_that_a_template_leaves_open_are_read_off_the_pods() {
    let mut place = deployment(None);
    place.gpus = Err(GpusUnknown::NoneAsked);
    // The pods of these tests hold two.
    assert_eq!(
        observe(&place, &[pod("a", "ready", &[("app", "a")])])
            .state
            .gpus_per_replica,
        2
    );
    let nothing = observe(&place, &[]);
    assert_eq!(
        (nothing.state.gpus_per_replica, nothing.gpus_unknown),
        (0, Some(GpusUnknown::NoneAsked))
    );
    // A share is not made whole by what pods show.
    place.gpus = Err(GpusUnknown::NotWhole("nvidia.com/gpu.shared".into()));
    assert!(
        observe(&place, &[pod("a", "ready", &[("app", "a")])])
            .gpus_unknown
            .is_some()
    );
}

proptest! {
    /// Every replica is counted once, whatever its pods are, and none serves with a pod in trouble.
    #[test]
    fn a_replica_is_counted_once(
        states in proptest::collection::vec((0_usize..4, 0_usize..4), 0..24),
        size in 1_u32..5,
    ) {
        let names = ["ready", "starting", "leaving", "unschedulable"];
        let mut place = deployment(None);
        place.unit = Unit { pods: size, key: &[&["group"]], serving: crate::place::Serving::Every };
        let pods: Vec<PodFacts> = states
            .iter()
            .enumerate()
            .map(|(index, (group, state))| {
                pod(&format!("a-{index}"), names[*state], &[("app", "a"), ("group", &group.to_string())])
            })
            .collect();
        let state = observe(&place, &pods).state;
        let groups: std::collections::BTreeSet<usize> = states.iter().map(|(group, _)| *group).collect();
        let counted = state.ready + state.starting + state.terminating;
        prop_assert_eq!(usize::try_from(counted).unwrap(), groups.len());
        let whole = groups.iter().filter(|group| {
            let of = |wanted: usize| states.iter().filter(|(g, s)| g == *group && *s == wanted).count();
            of(0) >= usize::try_from(size).unwrap() && of(1) == 0 && of(3) == 0
        });
        prop_assert_eq!(usize::try_from(state.ready).unwrap(), whole.count());
        prop_assert!(state.stuck.is_none_or(|(stuck, _)| stuck <= state.starting));
    }
}
