//! Traps of a scale-down, each with relatives that are none, and what is kept of a container.

use proptest::prelude::*;
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

fn too_short(by: EndedBy, seconds: u64, work: Work, needed: u64) -> Trap {
    let limit = Limit { seconds, by };
    Trap::TooShort {
        limit,
        work,
        needed,
    }
}

fn pull(by: EndedBy, seconds: u64, needed: u64) -> Trap {
    too_short(by, seconds, Work::KvPull, needed)
}

#[rstest]
#[case::nothing(json!({}), json!({}), Role::Prefill, &[])]
#[case::short_grace(json!({ "terminationGracePeriodSeconds": 10 }), json!({}), Role::Prefill, &[pull(EndedBy::Grace, 10, 30)])]
#[case::no_grace(json!({ "terminationGracePeriodSeconds": 0 }), json!({}), Role::Prefill, &[pull(EndedBy::Grace, 0, 30)])]
#[case::grace_of_decode(json!({ "terminationGracePeriodSeconds": 10 }), json!({}), Role::Decode, &[])]
#[case::as_long_as_the_lease(json!({ "terminationGracePeriodSeconds": 30 }), json!({}), Role::Prefill, &[])]
#[case::vllm_aborts(json!({ "containers": [{ "command": ["vllm", "serve"], "args": ["m"] }] }), json!({}), Role::Decode, &[Trap::AbortsAtOnce])]
#[case::vllms_module(json!({ "containers": [{ "command": ["sh", "-c"], "args": ["python3 -m vllm.entrypoints.openai.api_server --port 1"] }] }), json!({}), Role::Decode, &[Trap::AbortsAtOnce])]
#[case::its_default_written_out(json!({ "containers": [{ "command": ["vllm", "serve", "m", "--shutdown-timeout", "0"] }] }), json!({}), Role::Decode, &[Trap::AbortsAtOnce])]
#[case::a_hook_that_waits_for_nothing(json!({ "containers": [{ "command": ["vllm", "serve"], "lifecycle": { "preStop": { "sleep": { "seconds": 0 } } } }] }), json!({}), Role::Decode, &[Trap::AbortsAtOnce])]
#[case::vllm_drains(json!({ "containers": [{ "command": ["vllm", "serve"], "args": ["m", "--shutdown-timeout=25"] }] }), json!({}), Role::Decode, &[])]
#[case::by_a_variable(json!({ "containers": [{ "command": ["sh", "-c", "vllm serve m --shutdown_timeout ${WAIT}"] }] }), json!({}), Role::Decode, &[])]
#[case::a_hook_waits(json!({ "containers": [{ "command": ["vllm", "serve"], "lifecycle": { "preStop": { "httpGet": { "port": 1 } } } }] }), json!({}), Role::Decode, &[])]
#[case::a_router_in_vllms_image(json!({ "containers": [{ "image": "vllm/vllm-openai", "command": ["router"] }] }), json!({}), Role::Decode, &[])]
#[case::killed_while_it_drains(json!({ "terminationGracePeriodSeconds": 60, "containers": [{ "command": ["vllm serve m --shutdown-timeout 50"], "lifecycle": { "preStop": { "sleep": { "seconds": 15 } } } }] }), json!({}), Role::Decode, &[Trap::GraceBelowWait { grace: 60, wait: 65 }])]
#[case::killed_in_its_hook(json!({ "containers": [{ "lifecycle": { "preStop": { "exec": { "command": ["/bin/sh", "-c", "sleep 45"] } } } }] }), json!({}), Role::Decode, &[Trap::GraceBelowWait { grace: 30, wait: 45 }])]
#[case::just_enough(json!({ "terminationGracePeriodSeconds": 65, "containers": [{ "command": ["vllm serve m --shutdown-timeout 50"], "lifecycle": { "preStop": { "sleep": { "seconds": 15 } } } }] }), json!({}), Role::Decode, &[])]
#[case::hook_below_the_lease(json!({ "terminationGracePeriodSeconds": 60, "containers": [{ "command": ["vllm", "serve"], "lifecycle": { "preStop": { "sleep": { "seconds": 15 } } } }] }), json!({}), Role::Prefill, &[pull(EndedBy::Hook, 15, 30)])]
#[case::timeout_below_the_lease(json!({ "terminationGracePeriodSeconds": 60, "containers": [{ "command": ["vllm", "serve", "--shutdown-timeout=20"] }] }), json!({}), Role::Prefill, &[pull(EndedBy::ShutdownTimeout, 20, 30)])]
#[case::a_longer_lease(json!({ "terminationGracePeriodSeconds": 60, "containers": [{ "command": ["vllm", "serve", "--shutdown-timeout=60", "--kv-transfer-config", "{\"kv_connector_extra_config\": {\"kv_lease_duration\": 90}}"] }] }), json!({}), Role::Prefill, &[pull(EndedBy::Grace, 60, 90)])]
#[case::before_there_were_leases(json!({ "terminationGracePeriodSeconds": 60, "containers": [{ "command": ["vllm serve"], "lifecycle": { "preStop": { "exec": {} } }, "env": [{ "name": "VLLM_NIXL_ABORT_REQUEST_TIMEOUT", "value": "120" }] }] }), json!({}), Role::Prefill, &[pull(EndedBy::Grace, 60, 120)])]
#[case::a_shorter_lease(json!({ "terminationGracePeriodSeconds": 10, "containers": [{ "command": ["vllm serve --shutdown-timeout 10 kv_lease_duration: 5"] }] }), json!({}), Role::Prefill, &[])]
#[case::sglang_forced(json!({ "containers": [{ "env": [{ "name": "SGL_FORCE_SHUTDOWN", "value": "1" }] }] }), json!({}), Role::Decode, &[Trap::ForcedShutdown])]
#[case::sglang_not_forced(json!({ "containers": [{ "env": [{ "name": "SGL_FORCE_SHUTDOWN", "value": "0" }] }] }), json!({}), Role::Decode, &[])]
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
    assert_eq!(Leaving::of(&template(spec, labels), side).traps, want);
}

/// An answer of a minute and a half, against what ends it.
#[rstest]
#[case::default_grace(json!({}), &[too_short(EndedBy::Grace, 30, Work::Answer, 91)])]
#[case::long_grace(json!({ "terminationGracePeriodSeconds": 91 }), &[])]
#[case::a_second_less(json!({ "terminationGracePeriodSeconds": 90 }), &[too_short(EndedBy::Grace, 90, Work::Answer, 91)])]
#[case::timeout(json!({ "terminationGracePeriodSeconds": 300, "containers": [{ "command": ["vllm serve --shutdown-timeout 60"] }] }), &[too_short(EndedBy::ShutdownTimeout, 60, Work::Answer, 91)])]
#[case::timeout_after_a_hook(json!({ "terminationGracePeriodSeconds": 300, "containers": [{ "command": ["vllm serve --shutdown-timeout 60"], "lifecycle": { "preStop": { "sleep": { "seconds": 31 } } } }] }), &[])]
#[case::hook_alone(json!({ "terminationGracePeriodSeconds": 300, "containers": [{ "command": ["vllm serve"], "lifecycle": { "preStop": { "sleep": { "seconds": 15 } } } }] }), &[too_short(EndedBy::Hook, 15, Work::Answer, 91)])]
#[case::a_hook_that_may_wait(json!({ "terminationGracePeriodSeconds": 300, "containers": [{ "command": ["vllm serve"], "lifecycle": { "preStop": { "exec": { "command": ["drain"] } } } }] }), &[])]
#[case::said_already(json!({ "containers": [{ "command": ["vllm serve"] }] }), &[Trap::AbortsAtOnce])]
fn answers_that_do_not_end_in_time_are_warned_of(#[case] spec: Value, #[case] want: &[Trap]) {
    let leaving = Leaving::of(&template(spec, json!({})), Role::Decode);
    let longest = Duration::from_millis(90_001);
    assert_eq!(leaving.traps_for(Some(longest)), want);
    let unmeasured = leaving.traps_for(None);
    assert!(unmeasured.iter().all(|trap| *trap == Trap::AbortsAtOnce));
}

#[test]
fn of_a_template_that_is_not_known_nothing_is_claimed() {
    let longest = Some(Duration::from_hours(1));
    let unknown = Leaving::of(&Value::Null, Role::Decode);
    assert_eq!(unknown.traps_for(longest), []);
    // An operator gives a grace of its own.
    let part = Leaving::of_part(&template(json!({}), json!({})), Role::Decode);
    assert_eq!(part.traps_for(longest), []);
    let stated = template(json!({ "terminationGracePeriodSeconds": 60 }), json!({}));
    let stated = Leaving::of_part(&stated, Role::Decode);
    assert_eq!(stated.traps_for(longest).len(), 1);
}

#[test]
fn a_trap_names_the_setting_its_value_and_the_remedy() {
    let trap = too_short(EndedBy::Grace, 30, Work::Answer, 91);
    assert_eq!(
        trap.to_string(),
        "terminationGracePeriodSeconds `30` ends a pod's requests, and an answer may take 91 s: raise it"
    );
}

fn containers() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "vllm serve",
        "vllm.entrypoints.openai.api_server",
        "--shutdown-timeout=60",
        "--shutdown-timeout 0",
        "--shutdown_timeout=$(WAIT)",
        "{\"kv_lease_duration\": 45}",
        "--api-key=secret",
        "serve",
    ]);
    let hook = prop::sample::select(vec![
        Value::Null,
        json!({ "sleep": { "seconds": 20 } }),
        json!({ "exec": { "command": ["sleep", "90"] } }),
        json!({ "exec": { "command": ["sh", "-c", "curl -H secret"] } }),
    ]);
    let variable = prop::sample::select(vec![
        json!({ "name": "SGL_FORCE_SHUTDOWN", "value": "true" }),
        json!({ "name": "VLLM_NIXL_ABORT_REQUEST_TIMEOUT", "value": "120" }),
        json!({ "name": "TOKEN", "value": "secret" }),
    ]);
    let words = prop::collection::vec(word, 0..5);
    (words, hook, prop::collection::vec(variable, 0..3)).prop_map(|(words, hook, env)| {
        let (command, args) = words.split_at(words.len() / 2);
        json!({ "command": command, "args": args, "lifecycle": { "preStop": hook }, "env": env })
    })
}

proptest! {
    /// The part that is kept of a container shows the same traps, and no secret.
    #[test]
    fn kept_is_enough_and_no_more(
        containers in prop::collection::vec(containers(), 0..3),
        grace in prop::option::of(0_u64..200),
        longest in 0_u64..300,
        side in prop::sample::select(vec![Role::Prefill, Role::Decode]),
    ) {
        let of = |containers: Value| {
            let mut spec = json!({ "containers": containers });
            if let Some(grace) = grace {
                spec["terminationGracePeriodSeconds"] = json!(grace);
            }
            Leaving::of(&template(spec, json!({})), side)
        };
        let kept: Vec<_> = containers.iter().map(|container| json!(kept(container))).collect();
        prop_assert!(!json!(kept).to_string().contains("secret"));
        let (whole, kept) = (of(json!(containers)), of(json!(kept)));
        let longest = Some(Duration::from_secs(longest));
        prop_assert_eq!(whole.traps_for(longest), kept.traps_for(longest));
    }
}
