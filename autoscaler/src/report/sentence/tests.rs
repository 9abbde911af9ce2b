//! The sentence of a decision, and that it stays short.

use std::time::Duration;

use pd_api::v1alpha1::{PDAutoscaler, status::MESSAGE_LENGTH_MAX};
use pd_core::{
    Memory, PerRole, RoleState, Signals, Snapshot, Timestamp, plan, signal::Coverage,
    snapshot::Paused,
};
use serde_json::json;

use super::*;

fn snapshot() -> Snapshot {
    let role = |name: &str| {
        json!({ "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
                "minReplicas": 3, "maxReplicas": 8 })
    };
    let object: PDAutoscaler = serde_json::from_value(json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
        "metadata": { "name": "llama" },
        "spec": { "prefill": role("p"), "decode": role("d"), "budget": { "gpus": 6 },
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
        signals: Signals {
            coverage: PerRole {
                prefill: Coverage::default(),
                decode: Coverage::default(),
            },
            rate_window: Duration::from_mins(2),
            ..Signals::default()
        },
        paused: Paused::default(),
        profile: None,
    }
}

#[test]
fn the_step_that_decided_comes_first_and_descriptions_are_left_out() {
    let snapshot = snapshot();
    let report = plan(&snapshot, &Memory::default(), Timestamp::from_millis(0)).report;
    let text = sentence(&report);
    assert!(text.starts_with(&report.headline()), "{text}");
    assert!(text.chars().count() <= MESSAGE_LENGTH_MAX, "{text}");
    let first = report.step(report.reason);
    assert!(
        first.is_none_or(|step| text.contains(&step.message)),
        "{text}"
    );
    assert!(!text.contains("forecast by"), "{text}");
}
