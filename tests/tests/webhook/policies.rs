//! The policies on a real control plane, where no webhook runs: the cases of the webhook's story,
//! and generated ones.

use kube::Client;
use pd_tests::{
    chart,
    control_plane::{ControlPlane, NodeSpec, Options, eventually},
};
use serde_json::{Value, json};

use super::{
    DEADLINE, SLA, generated,
    objects::{
        above, every_kind_is_accepted_and_placed, llama, node, pod, refusal, role_pod,
        roles_are_given_what_they_ask_for, runtime_classes_hold_no_numbers,
    },
};

/// A cluster with a good and a weak node, the chart's policies, and nothing else of the webhook.
async fn with_policies(values: &Value) -> (ControlPlane, Client) {
    let nodes: Vec<NodeSpec> = vec![node("good", "990"), node("weak", "900")];
    let plane = ControlPlane::start(Options {
        nodes,
        ..Options::default()
    })
    .await
    .unwrap();
    for (node, value) in [("good-0", "990"), ("weak-0", "900")] {
        let taint = format!("{SLA}={value}:NoExecute");
        plane
            .kubectl(&["taint", "node", node, &taint])
            .await
            .unwrap();
    }
    plane
        .kubectl(&["create", "namespace", "pd-system"])
        .await
        .unwrap();
    chart::install_as_is(&plane, "pd-system", values)
        .await
        .unwrap();
    let client = plane.client().await.unwrap();
    (plane, client)
}

/// The object that the API server would store.
async fn stored(plane: &ControlPlane, object: &Value) -> Result<Value, String> {
    let dry = [
        "create",
        "--dry-run=server",
        "--output=json",
        "--filename=-",
    ];
    let answer = plane.kubectl_with_input(&dry, &object.to_string()).await;
    let text = answer.map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

async fn until_stored(plane: &ControlPlane, object: &Value, says: &str) {
    eventually("a policy to be known", DEADLINE, async || {
        let stored = stored(plane, object).await?.to_string();
        if stored.contains(says) {
            Ok(())
        } else {
            Err(stored)
        }
    })
    .await
    .unwrap();
}

/// Cases that the policies cannot handle are refused with words, never handled by half.
async fn what_they_cannot_read_is_refused(plane: &ControlPlane) {
    let entries = json!([{ "key": SLA, "operator": "Ge", "value": "950", "effect": "NoExecute" }]);
    let mut annotated = pod("annotated", &json!([]));
    annotated["metadata"]["annotations"] =
        json!({ "pdautoscaler.io/numeric-tolerations": entries.to_string() });
    let reason = refusal(plane, &annotated).await;
    assert!(reason.contains("webhook.edition"), "{reason}");
    let many: Vec<Value> = ["a", "b", "c", "d", "e"]
        .map(|key| json!({ "key": key, "operator": "Gt", "value": "1", "effect": "NoExecute" }))
        .into();
    let reason = refusal(plane, &pod("many", &json!(many))).await;
    assert!(reason.contains("operator: Unsupported value"), "{reason}");
}

/// The annotation of a live pod says what it did, and its seconds may change, as those of a number
/// may.
async fn numbers_of_live_pods_stay(plane: &ControlPlane) {
    let annotation =
        "--output=jsonpath={.metadata.annotations.pdautoscaler\\.io/numeric-tolerations}";
    let text = plane
        .kubectl(&["get", "pod", "single", annotation])
        .await
        .unwrap();
    let changed = format!(
        "pdautoscaler.io/numeric-tolerations={}",
        text.replace("950", "1")
    );
    assert!(changed.contains("\"1\""), "{text}");
    let refused = plane
        .kubectl(&["annotate", "--overwrite", "pod", "single", &changed])
        .await;
    let reason = refused.unwrap_err().to_string();
    assert!(
        reason.contains("existing toleration can not be modified"),
        "{reason}"
    );
    let seconds = r#"[{"op":"add","path":"/spec/tolerations/0/tolerationSeconds","value":300}]"#;
    let patch = ["patch", "pod", "single", "--type=json", "--patch", seconds];
    plane.kubectl(&patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_do_what_the_webhook_does() {
    let values = json!({ "webhook": { "enabled": true, "edition": "auto" } });
    let (plane, client) = with_policies(&values).await;
    until_stored(&plane, &pod("first", &above("950")), "\"Exists\"").await;
    // The policies of other kinds may be known a moment later.
    generated::until_all_kinds_are_rewritten(&plane).await;
    every_kind_is_accepted_and_placed(&plane, &client).await;
    what_they_cannot_read_is_refused(&plane).await;
    numbers_of_live_pods_stay(&plane).await;
    runtime_classes_hold_no_numbers(&plane).await;
    plane.apply(&llama().to_string()).await.unwrap();
    until_stored(&plane, &role_pod(), "llama/prefill").await;
    roles_are_given_what_they_ask_for(&plane, &client).await;
    generated::policies_write_what_the_webhook_writes(&client).await;
}
