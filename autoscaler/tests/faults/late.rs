//! Lateness: reconciles that begin long after their time are said on the object, and when it is
//! over, too.

use axum::http::Method;
use serde_json::json;

use crate::{api_server::Fault, stage::Stage};

/// Objects whose memory is never answered for: each holds the only slot of the namespace for 30 s.
const BLACK_HOLES: [&str; 5] = ["hole-a", "hole-b", "hole-c", "hole-d", "hole-e"];

#[tokio::test(start_paused = true)]
async fn an_object_whose_reconciles_come_late_says_so_and_says_when_it_is_over() {
    let (stage, start) = Stage::new();
    for name in BLACK_HOLES {
        let mut object = stage.server.autoscaler("llama");
        object["metadata"]["name"] = json!(name);
        object["metadata"]["uid"] = json!(name);
        stage.server.add(object);
    }
    let memory = "pdautoscalercheckpoints/hole-";
    stage.server.break_at(Method::GET, memory, Fault::Silence);
    start.controller_with(&["--namespace-concurrency=1"]);
    stage.wait(20).await;
    let late = |stage: &Stage| stage.server.condition("other", "OnTime");
    let mut waited = 0;
    while late(&stage).0 != "False" && waited < 1_800 {
        stage.wait(10).await;
        waited += 10;
    }
    let (holds, reason, message) = late(&stage);
    assert_eq!(
        (holds.as_str(), reason.as_str()),
        ("False", "ReconciledLate")
    );
    assert!(message.contains("after its time"), "{message}");
    let events = stage.server.events("other");
    assert!(
        events.iter().any(|event| event == "ReconciledLate"),
        "{events:?}"
    );

    // The black holes go, and ten minutes later everything is as it should be.
    stage.server.repair();
    stage.wait(900).await;
    let (holds, reason, _) = late(&stage);
    assert_eq!(
        (holds.as_str(), reason.as_str()),
        ("True", "ReconciledOnTime")
    );
    let events = stage.server.events("other");
    assert!(
        events.iter().any(|event| event == "ReconciledOnTime"),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn steady_reconciles_are_on_time() {
    let stage = Stage::after(120, |_| {}).await;
    for name in ["llama", "other"] {
        let (holds, reason, _) = stage.server.condition(name, "OnTime");
        assert_eq!(
            (holds.as_str(), reason.as_str()),
            ("True", "ReconciledOnTime"),
            "{name}"
        );
        let events = stage.server.events(name);
        assert!(
            !events.iter().any(|event| event.starts_with("Reconciled")),
            "{events:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_after_a_failure_is_not_lateness() {
    let stage = Stage::after(600, |server| {
        server.break_at(
            Method::PATCH,
            "pdautoscalers/llama/status",
            Fault::Code(500),
        );
    })
    .await;
    stage.server.repair();
    stage.wait(90).await;
    assert_eq!(
        stage.server.condition("llama", "OnTime").1,
        "ReconciledOnTime"
    );
}
