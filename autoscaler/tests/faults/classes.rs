//! Several controllers on one cluster: each handles its own objects, and no workload has two.

use serde_json::json;

use crate::stage::{Stage, Start};

/// A stage with `llama` of the class blue and `other` of none, and the start of a second process.
fn two_classes() -> (Stage, Start, Start) {
    let (stage, first) = Stage::new();
    stage.server.edit("llama", |object| {
        object["spec"]["controllerClass"] = json!("blue");
    });
    let second = stage.another_process();
    (stage, first, second)
}

#[tokio::test(start_paused = true)]
async fn controllers_of_two_classes_scale_their_own_objects_alone() {
    let (stage, plain, blue) = two_classes();
    plain.controller();
    stage.wait(40).await;
    // Nobody handles the class blue yet.
    stage.assert_the_other_is_served();
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    assert_eq!(stage.server.condition("llama", "Ready").0, "");
    let writes = stage.server.scale_writes();
    blue.controller_with(&["--controller-class=blue"]);
    stage.wait(40).await;
    stage.assert_all_is_applied();
    // The second controller wrote nothing of the first one's.
    let later = stage.server.scale_writes().split_off(writes.len());
    assert!(
        later.iter().all(|(name, _, _)| name.starts_with("llama")),
        "{later:?}"
    );
    let events = stage.server.events("other");
    let once = events
        .iter()
        .filter(|event| *event == "PrometheusUnreachable");
    assert!(once.count() <= 1, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_selector_of_labels_parts_objects_too() {
    let (stage, first) = Stage::new();
    stage.server.edit("llama", |object| {
        object["metadata"]["labels"] = json!({ "team": "a" });
    });
    let second = stage.another_process();
    first.controller_with(&["--object-selector=team notin (a)"]);
    stage.wait(40).await;
    stage.assert_the_other_is_served();
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    second.controller_with(&["--object-selector=team in (a, b)"]);
    stage.wait(40).await;
    stage.assert_all_is_applied();
}

#[tokio::test(start_paused = true)]
async fn objects_of_two_classes_do_not_both_scale_one_workload() {
    let (stage, plain, blue) = two_classes();
    // Younger, of another class, and for the same workloads.
    let mut rival = stage.server.autoscaler("llama");
    rival["metadata"]["name"] = json!("rival");
    rival["metadata"]["uid"] = json!("rival");
    rival["metadata"]["creationTimestamp"] = json!("2026-02-01T00:00:00Z");
    rival["spec"]["prefill"]["minReplicas"] = json!(5);
    rival["spec"]["controllerClass"] = json!("");
    stage.server.add(rival);
    plain.controller();
    blue.controller_with(&["--controller-class=blue"]);
    stage.wait(60).await;
    stage.assert_all_is_applied();
    let (holds, _, message) = stage.server.condition("rival", "TargetContended");
    assert_eq!(holds, "True");
    assert!(message.contains("`llama` is older"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_changes_its_class_changes_hands_with_its_memory() {
    let (stage, plain, blue) = two_classes();
    plain.controller();
    blue.controller_with(&["--controller-class=blue"]);
    stage.wait(70).await;
    let gauge = "pd_autoscaler_current_replicas{namespace=\"ns\",name=\"other\",role=\"decode\"}";
    assert!(stage.metric(gauge) > 0);
    let reads = || {
        stage.server.requests(
            "GET /apis/pdautoscaler.io/v1alpha1/namespaces/ns/pdautoscalercheckpoints/other",
        )
    };
    let before = reads();
    stage.server.edit("other", |object| {
        object["spec"]["controllerClass"] = json!("blue");
        object["metadata"]["generation"] = json!(2);
    });
    stage.wait(40).await;
    // The first controller shows nothing of it any more, and the second goes on from its memory.
    assert_eq!(stage.metric(gauge), 0);
    assert_eq!(reads(), before + 1);
    stage.assert_the_other_is_served();
}

#[tokio::test(start_paused = true)]
async fn shards_part_the_namespaces() {
    let (stage, first) = Stage::new();
    let second = stage.another_process();
    // The namespace of the stage is in shard 0 of 2.
    first.controller_with(&["--shard-count=2", "--shard-index=1"]);
    stage.wait(40).await;
    assert_eq!(stage.server.scale_writes(), []);
    assert_eq!(stage.server.condition("llama", "Ready").0, "");
    second.controller_with(&["--shard-count=2", "--shard-index=0"]);
    stage.wait(40).await;
    stage.assert_all_is_applied();
}
