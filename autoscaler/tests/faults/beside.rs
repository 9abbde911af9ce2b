//! Beside others: an autoscaler that is to be replaced, a process that led before.

use serde_json::{Value, json};

use crate::stage::Stage;

#[tokio::test(start_paused = true)]
async fn recommendations_work_beside_another_autoscaler() {
    let (stage, start) = Stage::new();
    stage.server.add_horizontal("llama-prefill");
    stage.server.edit("llama", |object| {
        object["spec"]["mode"] = json!("Recommend");
    });
    start.controller();
    stage.wait(2).await;
    let (holds, reason, _) = stage.server.condition("llama", "Ready");
    assert_eq!(
        (holds.as_str(), reason.as_str()),
        ("False", "PrometheusUnreachable")
    );
    let (holds, reason, message) = stage.server.condition("llama", "TargetContended");
    assert_eq!((holds.as_str(), reason.as_str()), ("False", "NotContended"));
    assert!(message.contains("`hpa` scales"), "{message}");
    let desired = &stage.server.autoscaler("llama")["status"]["prefill"]["desiredReplicas"];
    assert_eq!(*desired, 2);
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_only_recommends_takes_no_workload_from_another() {
    let (stage, start) = Stage::new();
    let mut shadow = stage.server.autoscaler("llama");
    shadow["metadata"]["name"] = json!("shadow");
    shadow["metadata"]["uid"] = json!("shadow");
    shadow["metadata"]["creationTimestamp"] = json!("2025-01-01T00:00:00Z");
    shadow["spec"]["mode"] = json!("Recommend");
    stage.server.add(shadow);
    start.controller();
    stage.wait(2).await;
    assert_eq!(stage.server.replicas("llama-prefill"), 2);
    assert_eq!(
        stage.server.condition("llama", "TargetContended").0,
        "False"
    );
    assert_eq!(
        stage.server.condition("shadow", "TargetContended").0,
        "False"
    );
}

#[tokio::test(start_paused = true)]
async fn a_status_that_another_process_wrote_is_not_written_over() {
    let stage = Stage::after(2, |_| {}).await;
    let newer = json!({ "engine": "of the new leader" });
    stage
        .server
        .write_unseen("llama", |object| object["status"] = newer.clone());
    stage.wait(120).await;
    assert_eq!(stage.server.autoscaler("llama")["status"], newer);
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"status\"}") >= 1);
    stage.assert_the_other_is_served();
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_turned_off_shows_nothing_of_the_past() {
    let stage = Stage::after(2, |_| {}).await;
    assert_eq!(stage.server.condition("llama", "TargetResolved").0, "True");
    let gauge = "pd_autoscaler_current_replicas{namespace=\"ns\",name=\"llama\",role=\"decode\"}";
    assert!(stage.metric(gauge) > 0);
    let before = stage.server.autoscaler("llama")["status"].clone();
    stage.server.edit("llama", |object| {
        object["spec"]["mode"] = json!("Off");
        object["metadata"]["generation"] = json!(2);
    });
    stage.wait(20).await;
    for kind in ["TargetResolved", "MetricsAvailable", "ScalingLimited"] {
        let (holds, reason, _) = stage.server.condition("llama", kind);
        assert_eq!(
            (holds.as_str(), reason.as_str()),
            ("Unknown", "ModeOff"),
            "{kind}"
        );
    }
    let after = stage.server.autoscaler("llama")["status"].clone();
    assert_eq!(
        (&after["prefill"], &after["gpus"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(after["lastDecision"], before["lastDecision"]);
    assert!(after["lastDecision"].is_object());
    assert_eq!(stage.metric(gauge), 0);
}
