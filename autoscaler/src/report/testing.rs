//! A snapshot for tests of what is said about a decision.

use pd_api::v1alpha1::PDAutoscaler;
use pd_core::{PerRole, RoleState, Signals, Snapshot, snapshot::Paused};
use serde_json::json;

/// Two ready replicas of each role, which may have from `least` to 8, with one GPU each.
pub(super) fn snapshot(least: u32) -> Snapshot {
    let role = |name: &str| {
        json!({ "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
                "minReplicas": least, "maxReplicas": 8 })
    };
    let object: PDAutoscaler = serde_json::from_value(json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
        "metadata": { "name": "llama" },
        "spec": { "prefill": role("p"), "decode": role("d"),
            "objective": { "ttft": { "target": "500ms" }, "tpot": { "target": "50ms" } } },
    }))
    .unwrap();
    let state = RoleState {
        current: 2,
        ready: 2,
        gpus_per_replica: 1,
        ..RoleState::default()
    };
    Snapshot {
        policy: object.spec.policy().unwrap(),
        roles: PerRole {
            prefill: state,
            decode: state,
        },
        signals: Signals::default(),
        paused: Paused::default(),
        profile: None,
    }
}
