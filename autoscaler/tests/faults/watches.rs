//! Watches: what they save, and what is not believed once they break.

use axum::http::Method;
use rstest::rstest;
use serde_json::json;

use crate::{api_server::Fault, stage::Stage};

/// A stage whose `llama` shall have one decode replica from now on, while `place` fails.
async fn shrinking_while_broken(place: &str, fault: Fault) -> Stage {
    let stage = Stage::after(2, |_| {}).await;
    stage.wait(10).await;
    stage.server.break_at(Method::GET, place, fault);
    stage.server.end_watches();
    stage.wait(10).await;
    stage.server.edit("llama", |object| {
        object["spec"]["decode"]["maxReplicas"] = json!(1);
        object["metadata"]["generation"] = json!(2);
    });
    stage
}

#[tokio::test(start_paused = true)]
async fn a_steady_pass_sends_the_api_server_no_get_and_no_list() {
    // Replicas are where they belong by then.
    let stage = Stage::after(120, |_| {}).await;
    let reads = |stage: &Stage| {
        let mut reads = stage.server.lines("GET");
        // Whether KEDA or GPUBudgets were installed meanwhile is looked for now and then.
        let is_absent = |line: &str| line.contains("scaledobjects") || line.contains("gpubudgets");
        let looked = reads.iter().filter(|line| is_absent(line)).count();
        reads.retain(|line| !line.contains("watch=true") && !is_absent(line));
        (reads, looked)
    };
    let (before, looked) = reads(&stage);
    stage.wait(300).await;
    let (after, looked_after) = reads(&stage);
    assert_eq!(after, before);
    // Each of the two every 30 s.
    assert!(looked_after - looked <= 22, "{looked} and {looked_after}");
    stage.assert_all_is_applied();
}

#[rstest]
#[case::workloads("v1/deployments?", Fault::Code(500), "Deployments")]
#[case::pods("v1/pods?", Fault::Code(503), "pods")]
#[case::pods_without_an_answer("v1/pods?", Fault::Silence, "pods")]
#[case::no_changes("v1/deployments?", Fault::Garbage, "Deployments")]
#[tokio::test(start_paused = true)]
async fn nothing_is_scaled_down_on_what_was_seen_a_while_ago(
    #[case] place: &str,
    #[case] fault: Fault,
    #[case] kind: &str,
) {
    let stage = shrinking_while_broken(place, fault).await;
    let before = stage.server.replicas("llama-decode");
    stage.wait(60).await;
    assert_eq!(stage.server.replicas("llama-decode"), before);
    stage.assert_reported("TargetUnreadable");
    let (_, _, message) = stage.server.condition("llama", "Ready");
    assert!(
        message.contains(&format!("{kind} were last seen")),
        "{message}"
    );
    stage.server.repair();
    stage.wait(90).await;
    assert!(stage.server.replicas("llama-decode") < before);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_scaled_down_while_other_autoscalers_are_not_seen() {
    let stage = shrinking_while_broken("horizontalpodautoscalers", Fault::Code(500)).await;
    let before = stage.server.replicas("llama-decode");
    stage.wait(60).await;
    assert_eq!(stage.server.replicas("llama-decode"), before);
    stage.assert_reported("ContentionUnknown");
    stage.server.repair();
    stage.wait(60).await;
    assert!(stage.server.replicas("llama-decode") < before);
}

#[rstest]
#[case::ends(None)]
#[case::expires(Some(Fault::Code(410)))]
#[case::fails_once(Some(Fault::Code(500)))]
#[tokio::test(start_paused = true)]
async fn a_watch_that_comes_back_at_once_is_not_noticed(#[case] fault: Option<Fault>) {
    let stage = Stage::after(2, |_| {}).await;
    let unreadable = "pd_autoscaler_reconciles_total{reason=\"TargetUnreadable\"}";
    for _ in 0..5 {
        if let Some(fault) = fault {
            stage.server.break_once(Method::GET, "v1/pods?", fault);
        }
        stage.server.end_watches();
        stage.wait(15).await;
    }
    assert_eq!(stage.metric(unreadable), 0);
    stage.assert_all_is_applied();
}

#[tokio::test(start_paused = true)]
async fn keda_may_be_installed_later_and_is_named_from_then_on() {
    let stage = Stage::after(20, |_| {}).await;
    assert_eq!(
        stage.server.condition("llama", "TargetContended").0,
        "False"
    );
    stage.server.add_scaled_object("llama-prefill");
    stage.server.add_horizontal("llama-prefill");
    stage.wait(60).await;
    let (holds, _, message) = stage.server.condition("llama", "TargetContended");
    assert_eq!(holds, "True");
    assert!(
        message.contains("ScaledObject `scaled` scales"),
        "{message}"
    );
    assert_eq!(
        stage.server.condition("other", "TargetContended").0,
        "False"
    );
}

#[rstest]
#[case::no_right(Fault::Code(403), true)]
#[case::not_installed(Fault::Code(404), true)]
#[case::broken(Fault::Code(500), false)]
#[tokio::test(start_paused = true)]
async fn without_keda_or_the_right_to_see_it_scaling_goes_on(
    #[case] fault: Fault,
    #[case] goes_on: bool,
) {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::GET, "scaledobjects", fault);
    })
    .await;
    if goes_on {
        stage.assert_all_is_applied();
    } else {
        stage.assert_reported("ContentionUnknown");
        assert_eq!(stage.server.scale_writes(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_watched_from_the_first_object_that_names_it() {
    let stage = Stage::after(20, |_| {}).await;
    assert_eq!(stage.server.requests("statefulsets?"), 0);
    stage.server.edit("llama", |object| {
        object["spec"]["decode"]["target"]["kind"] = json!("StatefulSet");
        object["metadata"]["generation"] = json!(2);
    });
    stage.wait(5).await;
    assert_eq!(stage.server.requests("statefulsets?&limit"), 1);
    stage.assert_reported("TargetNotFound");
    stage.server.edit("llama", |object| {
        object["spec"]["decode"]["target"]["kind"] = json!("Deployment");
        object["metadata"]["generation"] = json!(3);
    });
    // Nobody names it any more, and after a while nobody watches it.
    stage.wait(720).await;
    let watched = stage.server.requests("statefulsets?");
    stage.wait(300).await;
    assert_eq!(stage.server.requests("statefulsets?"), watched);
    assert_eq!(stage.server.condition("llama", "TargetResolved").0, "True");
}
