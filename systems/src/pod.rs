//! A pod as capacity sees it: whose it is, its phase, and why it will not serve.

use pd_core::role_state::StuckCause;
use serde_json::Value;

use crate::{
    gpus::{GpusUnknown, of_pod},
    json::{controller, list, name, text},
    selector::Labels,
    stuck::{cause_of_gate, cause_of_wait, is_without_place},
    victims::Cost,
};

/// The facts of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// The object that controls it, if any.
    pub owner: Option<PodOwner>,
    /// Its phase.
    pub phase: PodPhase,
    /// Why it will not serve without help.
    pub stuck: Option<StuckCause>,
    /// GPUs that it holds, without those of claims.
    pub gpus: Result<u32, GpusUnknown>,
    /// Its deletion cost, if it has one.
    pub cost: Option<Cost>,
}

/// The object that controls a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodOwner {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// The phase of a pod, as far as capacity is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPhase {
    /// It serves.
    Ready,
    /// It does not serve yet.
    Starting,
    /// It is being deleted.
    Terminating,
    /// It has ended and counts no more.
    Ended,
}

impl PodPhase {
    /// The phase of a pod that has ended, is being deleted, or is ready.
    pub const fn of(is_ended: bool, is_deleted: bool, is_ready: bool) -> Self {
        match (is_ended, is_deleted, is_ready) {
            (true, ..) => Self::Ended,
            (_, true, _) => Self::Terminating,
            (_, _, true) => Self::Ready,
            _ => Self::Starting,
        }
    }

    /// Whether the pod exists and is not on its way out.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Ready | Self::Starting)
    }
}

impl PodFacts {
    /// The facts of `pod`, an object of the API server.
    pub fn of(pod: &Value) -> Self {
        let phase = phase(pod);
        let labels = pod.pointer("/metadata/labels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        Self {
            name: name(pod).to_owned(),
            labels: labels
                .filter_map(|(label, value)| Some((label.clone(), value.as_str()?.to_owned())))
                .collect(),
            owner: controller(pod).map(|owner| {
                let of = |field| text(owner, field).unwrap_or_default().to_owned();
                PodOwner {
                    kind: of("/kind"),
                    name: of("/name"),
                    uid: of("/uid"),
                }
            }),
            phase,
            stuck: (phase == PodPhase::Starting).then(|| stuck(pod)).flatten(),
            gpus: of_pod(&pod["spec"], [].iter()),
            cost: Cost::of(&pod["metadata"]),
        }
    }

    /// Whether it exists and is not on its way out.
    pub fn is_live(&self) -> bool {
        self.phase.is_live()
    }
}

fn phase(pod: &Value) -> PodPhase {
    PodPhase::of(
        matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed")),
        text(pod, "/metadata/deletionTimestamp").is_some(),
        crate::json::condition(pod, "Ready"),
    )
}

/// Why a pod that should start will not; nothing for one that just starts.
fn stuck(pod: &Value) -> Option<StuckCause> {
    let unschedulable = list(pod, "/status/conditions").iter().any(|condition| {
        let of = |field| text(condition, field).unwrap_or_default();
        is_without_place(of("/type"), of("/status"), of("/reason"))
    });
    if unschedulable {
        return Some(StuckCause::Unschedulable);
    }
    let mut gates = list(pod, "/spec/schedulingGates").iter();
    if let Some(cause) = gates.find_map(|gate| cause_of_gate(text(gate, "/name")?)) {
        return Some(cause);
    }
    let init = list(pod, "/status/initContainerStatuses").iter();
    init.chain(list(pod, "/status/containerStatuses"))
        .find_map(|container| cause_of_wait(text(container, "/state/waiting/reason")?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::stuck::PLACEMENT_CONDITION;

    fn waits(reason: &str) -> Value {
        json!({ "phase": "Pending", "containerStatuses": [
            { "name": "engine", "state": { "waiting": { "reason": reason } } }] })
    }

    fn scheduled(status: &str, reason: &str) -> Value {
        json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": status, "reason": reason }] })
    }

    #[rstest]
    #[case::no_node(scheduled("False", "Unschedulable"), Some(StuckCause::Unschedulable))]
    #[case::held_back_on_purpose(scheduled("False", "SchedulingGated"), None)]
    #[case::no_place(json!({ "conditions": [{ "type": PLACEMENT_CONDITION, "status": "False", "reason": "WaitingForRoom" }] }), Some(StuckCause::Unschedulable))]
    #[case::placed(json!({ "conditions": [{ "type": PLACEMENT_CONDITION, "status": "True", "reason": "Placed" }] }), None)]
    #[case::scheduled(scheduled("True", ""), None)]
    #[case::pull_fails(waits("ErrImagePull"), Some(StuckCause::ImagePull))]
    #[case::crashes(waits("CrashLoopBackOff"), Some(StuckCause::CrashLoop))]
    #[case::no_secret(waits("CreateContainerConfigError"), Some(StuckCause::CreateFailed))]
    #[case::starts(waits("ContainerCreating"), None)]
    #[case::nothing_known(json!({}), None)]
    fn a_pod_says_why_it_does_not_come(#[case] status: Value, #[case] want: Option<StuckCause>) {
        let pod = json!({ "metadata": { "name": "x" }, "status": status });
        assert_eq!(PodFacts::of(&pod).stuck, want);
        // One that leaves is not waited for.
        let leaving =
            json!({ "metadata": { "name": "x", "deletionTimestamp": "t" }, "status": status });
        assert_eq!(PodFacts::of(&leaving).stuck, None);
    }

    #[rstest]
    #[case::of_a_queue("kueue.x-k8s.io/admission", Some(StuckCause::QuotaExceeded))]
    #[case::of_placement("pdautoscaler.io/placement", None)]
    #[case::of_a_topology("kueue.x-k8s.io/topology", None)]
    fn a_pod_in_a_queue_waits_for_quota(#[case] gate: &str, #[case] want: Option<StuckCause>) {
        let gates = json!([{ "name": "pdautoscaler.io/placement" }, { "name": gate }]);
        let pod = json!({ "metadata": { "name": "x" }, "spec": { "schedulingGates": gates },
            "status": scheduled("False", "SchedulingGated") });
        assert_eq!(PodFacts::of(&pod).stuck, want);
    }

    #[test]
    fn a_pod_that_leaves_does_not_serve() {
        let ready =
            json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
        let of = |metadata: Value, status: &Value| {
            PodFacts::of(&json!({ "metadata": metadata, "status": status })).phase
        };
        assert_eq!(
            of(json!({ "deletionTimestamp": "t" }), &ready),
            PodPhase::Terminating
        );
        assert_eq!(of(json!({}), &ready), PodPhase::Ready);
        assert_eq!(of(json!({}), &Value::Null), PodPhase::Starting);
        assert_eq!(
            of(json!({}), &json!({ "phase": "Failed" })),
            PodPhase::Ended
        );
    }

    #[test]
    fn an_init_container_counts_too() {
        let pod = json!({ "status": { "initContainerStatuses": waits("ErrImagePull")["containerStatuses"] } });
        assert_eq!(PodFacts::of(&pod).stuck, Some(StuckCause::ImagePull));
    }
}
