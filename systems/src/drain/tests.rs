//! Traps of a scale-down, each with relatives that are none, and the marks of victims.

use rstest::rstest;
use serde_json::json;

use super::*;

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal reads better without a borrow"
)]
fn template(spec: Value, labels: Value) -> Value {
    json!({ "metadata": { "labels": labels }, "spec": spec })
}

#[rstest]
#[case::nothing(json!({}), json!({}), Role::Prefill, &[])]
#[case::short_grace(json!({ "terminationGracePeriodSeconds": 10 }), json!({}), Role::Prefill, &[Trap::GraceBelowLease { grace: 10 }])]
#[case::grace_of_decode(json!({ "terminationGracePeriodSeconds": 10 }), json!({}), Role::Decode, &[])]
#[case::as_long_as_the_lease(json!({ "terminationGracePeriodSeconds": 30 }), json!({}), Role::Prefill, &[])]
#[case::vllm_aborts(json!({ "containers": [{ "command": ["vllm", "serve"], "args": ["m"] }] }), json!({}), Role::Decode, &[Trap::AbortsAtOnce])]
#[case::vllms_module(json!({ "containers": [{ "command": ["sh", "-c"], "args": ["python3 -m vllm.entrypoints.openai.api_server --port 1"] }] }), json!({}), Role::Decode, &[Trap::AbortsAtOnce])]
#[case::vllm_drains(json!({ "containers": [{ "command": ["vllm", "serve"], "args": ["m", "--shutdown-timeout=60"] }] }), json!({}), Role::Decode, &[])]
#[case::a_hook_waits(json!({ "containers": [{ "command": ["vllm", "serve"], "lifecycle": { "preStop": {} } }] }), json!({}), Role::Decode, &[])]
#[case::sglang_forced(json!({ "containers": [{ "env": [{ "name": "SGL_FORCE_SHUTDOWN", "value": "1" }] }] }), json!({}), Role::Decode, &[Trap::ForcedShutdown])]
#[case::sglang_drains(json!({ "containers": [{ "command": ["python3", "-m", "sglang.launch_server"] }] }), json!({}), Role::Decode, &[])]
#[case::llm_d_fits(json!({}), json!({ "llm-d.ai/role": "prefill" }), Role::Prefill, &[])]
#[case::llm_d_both_decode(json!({}), json!({ "llm-d.ai/role": "both" }), Role::Decode, &[])]
#[case::llm_d_crossed(json!({}), json!({ "llm-d.ai/role": "decode" }), Role::Prefill,
    &[Trap::LabelledOtherwise { side: Role::Prefill, label: "llm-d.ai/role", value: "decode".into() }])]
#[case::smg_without_a_port(json!({}), json!({ "smg.lightseek.org/worker-type": "prefill" }), Role::Prefill, &[Trap::NoBootstrapPort])]
fn what_loses_requests_is_warned_of(
    #[case] spec: Value,
    #[case] labels: Value,
    #[case] side: Role,
    #[case] want: &[Trap],
) {
    assert_eq!(traps(&template(spec, labels), side), want);
}

#[test]
fn victims_are_chosen_where_the_system_lets_them() {
    let work = [
        ("a".to_owned(), 5),
        ("b".to_owned(), 0),
        ("c".to_owned(), 5),
    ];
    let costs = marks(Victim::DeletionCost, &work, 1);
    assert_eq!(
        costs[0],
        Mark::PodAnnotation {
            pod: "a".into(),
            cost: 5
        }
    );
    assert_eq!(costs.len(), 3);
    let labels = marks(Victim::DeleteLabel, &work, 2);
    let of = |instance: &str| Mark::RoleInstanceLabel {
        instance: instance.into(),
    };
    assert_eq!(labels, [of("b"), of("a")]);
    assert_eq!(marks(Victim::HighestOrdinal, &work, 2), []);
    assert_eq!(marks(Victim::Own, &work, 2), []);
}
