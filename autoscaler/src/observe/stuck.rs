//! Replicas that will not serve without help, and the cause.
//!
//! A pod's own cause is [`crate::cluster::pod_cause`]'s. Pods that cannot even be created show
//! nothing: their controller does, in a condition of the workload. StatefulSets have
//! no such condition; their missing replicas count as late in the core. Pure: objects in, a count
//! and a cause out.

use pd_core::role_state::StuckCause;
use pd_systems::stuck::{Stuck, cause_of_create_failure};

use crate::cluster::pods::PodFacts;

/// Pods that a workload cannot create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateFailure {
    /// The API server's answer.
    pub message: String,
}

/// Replicas of `pods` that will not serve without help, together with those of the `wanted` ones
/// that `failure` keeps from being created; and the most common cause. Where new pods would not
/// come either, only the replicas that show it: to the core these are another matter than broken
/// ones.
pub fn stuck(
    pods: &[PodFacts],
    wanted: u32,
    failure: Option<&CreateFailure>,
) -> Option<(u32, StuckCause)> {
    let mut stuck = Stuck::default();
    for cause in pods.iter().filter_map(|pod| pod.stuck) {
        stuck.add(cause, 1);
    }
    if let Some(failure) = failure {
        let existing = pods.iter().filter(|pod| pod.phase.is_live()).count();
        let existing = u32::try_from(existing).unwrap_or(u32::MAX);
        let missing = wanted.saturating_sub(existing);
        stuck.add(cause_of_create_failure(&failure.message), missing);
    }
    stuck.most()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Pod;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::{pod_cause::pod_cause, pod_phase::pod_phase};

    fn waits(reason: &str) -> Value {
        json!({ "phase": "Pending", "containerStatuses": [{
            "name": "engine", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason } },
        }] })
    }

    fn scheduled(status: &str, reason: &str) -> Value {
        json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": status, "reason": reason },
        ] })
    }

    fn pods(statuses: &[Value]) -> Vec<PodFacts> {
        let statuses = statuses.iter();
        statuses
            .map(|status| {
                let pod = json!({ "metadata": { "name": "x" }, "status": status });
                facts(&serde_json::from_value(pod).unwrap())
            })
            .collect()
    }

    fn facts(pod: &Pod) -> PodFacts {
        PodFacts {
            name: "x".into(),
            labels: Arc::default(),
            owner: Arc::default(),
            phase: pod_phase(pod),
            stuck: pod_cause(pod),
            cost: None,
        }
    }

    #[rstest]
    #[case::no_node(scheduled("False", "Unschedulable"), Some(StuckCause::Unschedulable))]
    #[case::held_back_on_purpose(scheduled("False", "SchedulingGated"), None)]
    #[case::no_place(json!({ "phase": "Pending", "conditions": [
        { "type": "pdautoscaler.io/placement", "status": "False", "reason": "WaitingForRoom" }] }), Some(StuckCause::Unschedulable))]
    #[case::scheduled(scheduled("True", ""), None)]
    #[case::pull_fails(waits("ErrImagePull"), Some(StuckCause::ImagePull))]
    #[case::pull_waits(waits("ImagePullBackOff"), Some(StuckCause::ImagePull))]
    #[case::crashes(waits("CrashLoopBackOff"), Some(StuckCause::CrashLoop))]
    #[case::no_secret(waits("CreateContainerConfigError"), Some(StuckCause::CreateFailed))]
    #[case::cannot_run(waits("RunContainerError"), Some(StuckCause::CreateFailed))]
    #[case::starts(waits("ContainerCreating"), None)]
    #[case::nothing_known(json!({}), None)]
    fn a_pod_says_why_it_does_not_come(#[case] status: Value, #[case] want: Option<StuckCause>) {
        let got = stuck(&pods(&[status]), 1, None);
        assert_eq!(got, want.map(|cause| (1, cause)));
    }

    #[test]
    fn a_pod_in_a_queue_of_kueue_waits_for_quota() {
        let mut pod = json!({ "metadata": { "name": "x" },
            "spec": { "containers": [], "schedulingGates": [{ "name": "kueue.x-k8s.io/admission" }] },
            "status": scheduled("False", "SchedulingGated") });
        let seen = |pod: &Value| {
            stuck(
                &[facts(&serde_json::from_value(pod.clone()).unwrap())],
                1,
                None,
            )
        };
        assert_eq!(seen(&pod), Some((1, StuckCause::QuotaExceeded)));
        pod["spec"]["schedulingGates"] = json!([{ "name": "kueue.x-k8s.io/topology" }]);
        assert_eq!(seen(&pod), None);
    }

    #[test]
    fn an_init_container_counts_too() {
        let mut status = waits("ImagePullBackOff");
        status["initContainerStatuses"] = status["containerStatuses"].take();
        status.as_object_mut().unwrap().remove("containerStatuses");
        assert_eq!(
            stuck(&pods(&[status]), 1, None),
            Some((1, StuckCause::ImagePull))
        );
    }

    #[rstest]
    #[case::quota(
        "pods \"llama-d\" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1",
        StuckCause::QuotaExceeded
    )]
    #[case::webhook(
        "admission webhook \"deny.example.com\" denied the request",
        StuckCause::CreateFailed
    )]
    fn pods_that_cannot_be_created_count_by_their_workloads_condition(
        #[case] message: &str,
        #[case] want: StuckCause,
    ) {
        let failure = CreateFailure {
            message: message.to_owned(),
        };
        let there = pods(&[json!({})]);
        assert_eq!(stuck(&there, 3, Some(&failure)), Some((2, want)));
        assert_eq!(stuck(&there, 1, Some(&failure)), None);
    }

    #[test]
    fn all_broken_replicas_count_and_those_first_that_foretell_that_new_ones_fail() {
        let mixed = pods(&[
            waits("CrashLoopBackOff"),
            waits("ImagePullBackOff"),
            waits("CrashLoopBackOff"),
            waits("ContainerCreating"),
        ]);
        assert_eq!(stuck(&mixed, 4, None), Some((3, StuckCause::CrashLoop)));
        let nodeless = pods(&[
            waits("CrashLoopBackOff"),
            scheduled("False", "Unschedulable"),
            waits("CrashLoopBackOff"),
        ]);
        assert_eq!(
            stuck(&nodeless, 3, None),
            Some((1, StuckCause::Unschedulable))
        );
        let tied = pods(&[
            waits("CrashLoopBackOff"),
            scheduled("False", "Unschedulable"),
        ]);
        assert_eq!(stuck(&tied, 2, None), Some((1, StuckCause::Unschedulable)));
    }

    #[test]
    fn pods_that_serve_or_leave_are_not_stuck() {
        let mut serving = waits("CrashLoopBackOff");
        serving["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
        let leaving = json!({
            "metadata": { "name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "status": waits("CrashLoopBackOff"),
        });
        let mut all = pods(&[serving]);
        all.push(facts(&serde_json::from_value(leaving).unwrap()));
        assert_eq!(stuck(&all, 2, None), None);
    }
}
