//! Marks on pods: those of ours that mislead are taken away, and one that cannot be written holds
//! nothing back.

use axum::http::Method;
use pd_autoscaler::NAME;
use pd_systems::victims::MANAGER;
use rstest::rstest;
use serde_json::json;

use crate::{
    api_server::{ApiServer, Fault},
    stage::Stage,
};

/// `llama` has the pods with the least work go first.
fn choose_victims(server: &ApiServer) {
    server.edit("llama", |object| {
        object["spec"]["behavior"] = json!({ "scaleDown": { "drain": {} } });
    });
}

#[test]
fn marks_are_ours_by_the_name_of_the_program() {
    assert_eq!(MANAGER, NAME);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn an_old_mark_is_taken_away_and_anothers_is_not(#[values(true, false)] chooses: bool) {
    let (stage, start) = Stage::new();
    let ours = stage.server.mark_first_pod("llama-decode", "-1", NAME);
    let theirs = stage.server.mark_first_pod("llama-prefill", "5", "kubectl");
    if chooses {
        choose_victims(&stage.server);
    }
    start.controller();
    stage.wait(2).await;
    assert_eq!(stage.server.cost(&ours), None);
    assert_eq!(stage.server.cost(&theirs).as_deref(), Some("5"));
    // Nothing is known of any pod's work, so that none is chosen, and none is looked at again.
    stage.wait(60).await;
    assert_eq!(stage.server.requests("PATCH /api/v1/namespaces/ns/pods"), 1);
    assert!(stage.server.replicas("llama-decode") < 6);
}

#[rstest]
#[case::forbidden(Fault::Code(403))]
#[case::refused_by_a_webhook(Fault::Code(500))]
#[case::too_many_requests(Fault::TooManyRequests(60))]
#[tokio::test(start_paused = true)]
async fn a_mark_that_is_refused_holds_no_scale_down(#[case] fault: Fault) {
    let (stage, start) = Stage::new();
    let server = &stage.server;
    let ours = server.mark_first_pod("llama-decode", "-1", NAME);
    choose_victims(server);
    server.break_at(Method::PATCH, "/pods/", fault);
    start.controller();
    stage.wait(2).await;
    assert!(server.replicas("llama-decode") < 6);
    let (state, reason, message) = server.condition("llama", "DrainSafe");
    assert_eq!(
        (state.as_str(), reason.as_str()),
        ("False", "VictimsUnmarked")
    );
    assert!(message.contains("drain.enabled"), "{message}");
    let events = server.events("llama");
    assert!(
        events.iter().any(|event| event == "VictimsUnmarked"),
        "{events:?}"
    );
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"pod\"}") >= 1);
    stage.assert_the_other_is_served();
    stage.assert_it_recovers_within(20).await;
    assert_eq!(server.cost(&ours), None);
    assert_eq!(server.condition("llama", "DrainSafe").0, "True");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_no_longer_leads_marks_nothing() {
    let (stage, start) = Stage::new();
    let ours = stage.server.mark_first_pod("llama-decode", "-1", NAME);
    let lost = Fault::LeadershipLost;
    stage
        .server
        .break_once(Method::PATCH, "llama-prefill/scale", lost);
    start.controller();
    stage.wait(20).await;
    assert_eq!(stage.server.cost(&ours).as_deref(), Some("-1"));
    assert_eq!(stage.server.requests("PATCH /api/v1/namespaces/ns/pods"), 0);
}
