//! The phase of a pod as capacity sees it: starting, ready, terminating or ended. Pure.

use k8s_openapi::api::core::v1::Pod;
pub use pd_systems::pod::PodPhase;

/// The phase of `pod`.
pub fn pod_phase(pod: &Pod) -> PodPhase {
    let status = pod.status.as_ref();
    let ended = matches!(
        status.and_then(|s| s.phase.as_deref()),
        Some("Succeeded" | "Failed")
    );
    let conditions = status
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    PodPhase::of(ended, pod.metadata.deletion_timestamp.is_some(), ready)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_that_leaves_does_not_serve() {
        let ready =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let leaving = pod(json!({
            "metadata": {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": ready}));
        assert!(matches!(pod_phase(&leaving), PodPhase::Terminating));
        assert!(matches!(
            pod_phase(&pod(json!({"metadata": {"name": "x"}, "status": ready}))),
            PodPhase::Ready
        ));
        assert!(matches!(
            pod_phase(&pod(json!({"metadata": {"name": "x"}}))),
            PodPhase::Starting
        ));
        let ended = pod(json!({"metadata": {"name": "x"}, "status": {"phase": "Failed"}}));
        assert!(matches!(pod_phase(&ended), PodPhase::Ended));
    }
}
