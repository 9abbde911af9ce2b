//! Preflight and its condition, while the gate is off, on in the API server alone, on everywhere,
//! and out of sight.

use std::collections::BTreeMap;

use pd_tests::{
    add_ons::start_webhook,
    binaries::workspace_binary,
    control_plane::{Component, ControlPlane, Options, eventually},
};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{DEADLINE, control, nodes};

const GATE: &str = "TaintTolerationComparisonOperators";

/// Where preflight finds the metrics of components that are no pods.
fn metrics_flags(plane: &ControlPlane) -> [String; 2] {
    [Component::Scheduler, Component::ControllerManager]
        .map(|one| format!("--metrics-url={}={}", one.name(), plane.metrics_url(one)))
}

/// Runs preflight; gives its exit code and answer.
async fn preflight(
    plane: &ControlPlane,
    output: &str,
    kubeconfig: &std::path::Path,
) -> (i32, String) {
    let program = tokio::task::spawn_blocking(|| workspace_binary("pd-scheduler-plugin"))
        .await
        .unwrap()
        .unwrap();
    let done = Command::new(program)
        .args(["preflight", "--output", output, "--kubeconfig"])
        .arg(kubeconfig)
        .args(metrics_flags(plane))
        .output()
        .await
        .unwrap();
    let text = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    (done.status.code().unwrap(), text)
}

/// The verdict, and each component's gate.
async fn verdict(plane: &ControlPlane) -> (i32, String, BTreeMap<String, String>) {
    let (code, text) = preflight(plane, "json", plane.kubeconfig()).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let lines = answer["components"].as_array().unwrap();
    let gates = lines
        .iter()
        .map(|line| (word(&line["component"]), word(&line["gate"])));
    (code, word(&answer["verdict"]), gates.collect())
}

/// Asks until preflight says what is expected, of these components among others: one that was just
/// started may not show its metrics yet.
async fn until_verdict(
    plane: &ControlPlane,
    expected: (i32, &str),
    expected_gates: &[(&str, &str)],
) {
    eventually(
        &format!("preflight to say {expected:?}, {expected_gates:?}"),
        DEADLINE,
        async || {
            let (code, said, gates) = verdict(plane).await;
            let holds = |(component, gate): &(&str, &str)| gates[*component] == *gate;
            if (code, said.as_str()) == expected && expected_gates.iter().all(holds) {
                Ok(())
            } else {
                Err(format!("{code}, {said}: {gates:?}"))
            }
        },
    )
    .await
    .unwrap();
}

async fn condition(plane: &ControlPlane) -> Value {
    let path = "--output=jsonpath={.status.conditions[?(@.type==\"NumericTolerations\")]}";
    let text = plane
        .kubectl(&["get", "pdautoscaler", "service", path])
        .await
        .unwrap();
    serde_json::from_str(&text).unwrap_or_default()
}

async fn until_condition(plane: &ControlPlane, status: &str, reason: &str) -> Value {
    eventually(
        &format!("the condition to be {status}, {reason}"),
        DEADLINE,
        async || {
            let condition = condition(plane).await;
            if condition["status"] == status && condition["reason"] == reason {
                Ok(condition)
            } else {
                Err(condition.to_string())
            }
        },
    )
    .await
    .unwrap()
}

/// A control plane with the CRD and a PDAutoscaler.
async fn cluster() -> ControlPlane {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let crd = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(pd_api::Resource::Autoscaler.chart_path());
    plane
        .apply(&std::fs::read_to_string(crd).unwrap())
        .await
        .unwrap();
    let role = |name: &str| json!({ "maxReplicas": 4, "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name } });
    let service = json!({ "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
        "metadata": { "name": "service", "namespace": "default" },
        "spec": { "prefill": role("p"), "decode": role("d"),
            "objective": { "ttft": { "target": "500ms" }, "tpot": { "target": "50ms" } } } });
    eventually("the CRD to be served", DEADLINE, async || {
        plane
            .apply(&service.to_string())
            .await
            .map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    plane
}

/// Off everywhere, and nobody who rewrites; gives the condition.
async fn off_everywhere(plane: &ControlPlane) -> Value {
    let gates = [
        ("kube-apiserver", "off"),
        ("kube-scheduler", "off"),
        ("kube-controller-manager", "off"),
        ("pd-webhook", "off"),
        ("kubelet", "absent"),
        ("cluster-autoscaler", "absent"),
    ];
    until_verdict(plane, (1, "broken"), &gates).await;
    let first = until_condition(plane, "False", "GateMissing").await;
    assert!(
        first["message"]
            .as_str()
            .unwrap()
            .contains("kube-apiserver is off"),
        "{first}"
    );
    first
}

/// On in the API server alone: the most dangerous state.
async fn on_in_the_api_server_alone(plane: &mut ControlPlane, first: &Value) {
    plane.set_feature_gate(GATE, true);
    plane.restart(Component::ApiServer).await.unwrap();
    let gates = [
        ("kube-apiserver", "on"),
        ("kube-scheduler", "off"),
        ("kube-controller-manager", "off"),
    ];
    until_verdict(plane, (1, "broken"), &gates).await;
    eventually(
        "the condition to name the scheduler",
        DEADLINE,
        async || {
            let condition = condition(plane).await;
            let names = |text: &str| {
                text.contains("kube-scheduler is off") && text.contains("deleted at once")
            };
            if condition["message"].as_str().is_some_and(names) {
                assert_eq!(condition["lastTransitionTime"], first["lastTransitionTime"]);
                return Ok(());
            }
            Err(condition.to_string())
        },
    )
    .await
    .unwrap();
}

/// With nodes whose kubelets cannot be asked, and as somebody who may do nothing: unknown, never
/// fine.
async fn unseen_is_unknown(plane: &ControlPlane) {
    plane.add_nodes(&nodes("n", 2)).await.unwrap();
    until_verdict(plane, (0, "unknown"), &[("kubelet", "unknown")]).await;
    let nobody = plane.kubeconfig_for_user("nobody").unwrap();
    let (code, text) = preflight(plane, "text", &nobody).await;
    assert!(code == 0 && text.contains("Status is ‼"), "{text}");
    eprintln!("{text}");
    plane.kill(Component::ApiServer).await.unwrap();
    let (code, text) = preflight(plane, "text", plane.kubeconfig()).await;
    assert!(code == 2 && text.starts_with("error: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn preflight_says_who_compares_numbers_and_so_does_the_condition() {
    let mut plane = cluster().await;
    let flags = metrics_flags(&plane);
    let flags = ["--preflight-interval=500ms", &flags[0], &flags[1]];
    let process = control(&plane, "preflight-a", &flags).await;

    let first = off_everywhere(&plane).await;
    on_in_the_api_server_alone(&mut plane, &first).await;

    // On everywhere.
    for component in [Component::ControllerManager, Component::Scheduler] {
        plane.restart(component).await.unwrap();
    }
    until_verdict(&plane, (0, "native"), &[]).await;
    until_condition(&plane, "True", "Native").await;
    assert!(
        !process.log().contains("\"level\":\"ERROR\""),
        "{}",
        process.log()
    );
    unseen_is_unknown(&plane).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_is_rewritten_while_the_webhook_stands_in() {
    let plane = cluster().await;
    let flags = metrics_flags(&plane);
    let flags = ["--preflight-interval=500ms", &flags[0], &flags[1]];
    let _control = control(&plane, "preflight-b", &flags).await;
    until_verdict(&plane, (1, "broken"), &[("pd-webhook", "off")]).await;
    let no_crds = json!({ "crds": { "enabled": false } });
    let webhook = start_webhook(&plane, &no_crds).await.unwrap();
    let gates = [
        ("kube-apiserver", "off"),
        ("kube-scheduler", "off"),
        ("kube-controller-manager", "off"),
        ("pd-webhook", "on"),
    ];
    until_verdict(&plane, (0, "rewritten"), &gates).await;
    until_condition(&plane, "True", "Rewritten").await;
    // It is away: numbers are refused until it is back, and nobody can say what it would do.
    webhook.process.kill().await.unwrap();
    until_verdict(&plane, (0, "unknown"), &[("pd-webhook", "unknown")]).await;
    until_condition(&plane, "Unknown", "GateUnknown").await;
}
