//! Why a pod will not serve without help, as its conditions, its scheduling gates and what its
//! containers wait for show. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use pd_core::role_state::StuckCause;
use pd_systems::stuck::{cause_of_gate, cause_of_wait, is_without_place};

use super::pod_phase::{PodPhase, pod_phase};

/// Why a pod that should start will not; nothing for one that serves, ends, leaves or just starts.
pub fn pod_cause(pod: &Pod) -> Option<StuckCause> {
    if !matches!(pod_phase(pod), PodPhase::Starting) {
        return None;
    }
    let status = pod.status.as_ref()?;
    let unschedulable = status.conditions.iter().flatten().any(|condition| {
        let reason = condition.reason.as_deref().unwrap_or_default();
        is_without_place(&condition.type_, &condition.status, reason)
    });
    if unschedulable {
        return Some(StuckCause::Unschedulable);
    }
    let mut gates = pod
        .spec
        .iter()
        .flat_map(|spec| spec.scheduling_gates.iter().flatten());
    if let Some(cause) = gates.find_map(|gate| cause_of_gate(&gate.name)) {
        return Some(cause);
    }
    let init = status.init_container_statuses.iter().flatten();
    let containers = status.container_statuses.iter().flatten();
    init.chain(containers).find_map(waits_for)
}

fn waits_for(container: &ContainerStatus) -> Option<StuckCause> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    cause_of_wait(waiting.reason.as_deref()?)
}
