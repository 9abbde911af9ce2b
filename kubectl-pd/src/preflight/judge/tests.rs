//! Clusters as they are seen, and the checks that follow.

use proptest::{prelude::*, sample::select};
use rstest::rstest;

use super::*;
use crate::{
    preflight::{Verdict, fails, text},
    tests::samples::{NOW, controller, facts, object},
};

fn verdicts(facts: &Facts) -> Vec<(Topic, Verdict, String)> {
    let bad = judge(facts, NOW)
        .into_iter()
        .filter(|check| check.verdict != Verdict::Ok);
    bad.map(|check| (check.topic, check.verdict, check.message))
        .collect()
}

/// The only thing that is not as it should be.
fn only(facts: &Facts) -> Check {
    let bad: Vec<Check> = judge(facts, NOW)
        .into_iter()
        .filter(|check| check.verdict != Verdict::Ok)
        .collect();
    assert_eq!(bad.len(), 1, "{bad:#?}");
    bad[0].clone()
}

#[test]
fn a_cluster_with_everything_has_no_remedies() {
    assert_eq!(verdicts(&facts()), []);
    assert!(!fails(&judge(&facts(), NOW)));
}

#[test]
fn every_crd_that_is_not_served_is_a_failure() {
    let mut facts = facts();
    facts
        .served
        .as_mut()
        .unwrap()
        .as_mut()
        .unwrap()
        .remove("pdautoscalercheckpoints");
    let check = only(&facts);
    assert_eq!((check.topic, check.verdict), (Topic::Crd, Verdict::Failure));
    assert_eq!(check.subject, "pdautoscalercheckpoints");
    facts.served = Ok(None);
    assert!(
        only(&facts)
            .message
            .contains("does not serve pdautoscaler.io/v1alpha1")
    );
}

#[test]
fn nobody_who_leads_is_a_failure() {
    let mut facts = facts();
    facts.controllers.as_mut().unwrap()[0].1 = Ok(None);
    let check = only(&facts);
    assert_eq!(
        (check.topic, check.verdict),
        (Topic::Lease, Verdict::Failure)
    );
    assert!(
        check
            .remedy
            .unwrap()
            .contains("logs deployment/pd-autoscaler")
    );
}

#[test]
fn a_controller_without_pods_is_a_failure_and_with_fewer_a_warning() {
    let with = |ready| {
        let mut facts = facts();
        facts.controllers.as_mut().unwrap()[0].0.ready = ready;
        only(&facts).verdict
    };
    assert_eq!((with(0), with(1)), (Verdict::Failure, Verdict::Warning));
}

#[test]
fn an_object_that_no_controller_handles_is_named() {
    let mut facts = facts();
    facts.controllers.as_mut().unwrap()[0].0 = Controller {
        class: Some("blue".to_owned()),
        ..controller()
    };
    let check = only(&facts);
    assert_eq!(
        (check.topic, check.subject.as_str()),
        (Topic::Controller, "inference/llama-70b")
    );
}

#[test]
fn a_right_that_a_switch_grants_names_the_switch() {
    let mut facts = facts();
    let kinds = BTreeSet::from([(
        "nvidia.com/v1beta1".to_owned(),
        "DynamoGraphDeployment".to_owned(),
    )]);
    let rights = super::super::rights::of_controller("inference", &kinds);
    let missing = |right: Right| {
        let there = right.group != "nvidia.com" || right.verb != "patch";
        (right, Ok(there))
    };
    facts.controller_rights = vec![("pd".to_owned(), rights.into_iter().map(missing).collect())];
    let check = only(&facts);
    assert_eq!(check.verdict, Verdict::Failure);
    assert_eq!(
        check.remedy.as_deref(),
        Some("helm upgrade with targets.dynamo.enabled=true")
    );
}

#[test]
fn a_right_of_the_user_is_only_a_warning() {
    let mut facts = facts();
    facts.own_rights[2].1 = Ok(false);
    let check = only(&facts);
    assert_eq!(
        (check.topic, check.verdict),
        (Topic::YourRights, Verdict::Warning)
    );
    assert!(
        check
            .message
            .contains("patch pdautoscalers.pdautoscaler.io"),
        "{}",
        check.message
    );
}

#[rstest]
#[case::unreachable(Err("connection refused".to_owned()), Verdict::Warning, "connection refused")]
#[case::nothing(Ok(Series::default()), Verdict::Failure, "no series of any engine")]
#[case::no_labels(Ok(Series { unlabelled: true, ..Series::default() }), Verdict::Failure, "no labels of namespace and pod")]
fn prometheus_is_judged_by_its_series(
    #[case] seen: Seen<Series>,
    #[case] verdict: Verdict,
    #[case] message: &str,
) {
    let mut facts = facts();
    facts.prometheus[0].1 = seen;
    let check = only(&facts);
    assert_eq!((check.topic, check.verdict), (Topic::Prometheus, verdict));
    assert!(check.message.contains(message), "{}", check.message);
}

#[test]
fn the_controllers_word_about_metrics_counts_before_the_servers() {
    let mut facts = facts();
    facts.objects = Ok(vec![object("unmeasured")]);
    let check = only(&facts);
    assert_eq!(check.verdict, Verdict::Failure);
    assert!(
        check.message.starts_with("PrometheusUnreachable: "),
        "{}",
        check.message
    );
    // Before its first decision the servers say.
    let mut fresh = object("steady");
    fresh.status = None;
    facts.objects = Ok(vec![fresh]);
    assert_eq!(verdicts(&facts), []);
    facts.prometheus[0].1.as_mut().unwrap().pods.clear();
    facts.prometheus[0]
        .1
        .as_mut()
        .unwrap()
        .pods
        .insert("other".to_owned(), BTreeSet::new());
    assert!(
        only(&facts)
            .message
            .contains("no engine's series in its namespace")
    );
}

#[test]
fn another_autoscaler_fails_an_object_that_acts_and_warns_one_that_recommends() {
    let owner = "HorizontalPodAutoscaler `h` sets the replicas of Deployment `llama-prefill` too";
    let mut facts = facts();
    let found = facts.workloads[0]
        .2
        .prefill
        .found
        .as_mut()
        .unwrap()
        .as_mut()
        .unwrap();
    found
        .owners
        .push((owner.to_owned(), "delete it".to_owned()));
    let check = only(&facts);
    assert_eq!(
        (check.verdict, check.remedy.as_deref()),
        (Verdict::Failure, Some("delete it"))
    );
    facts.objects.as_mut().unwrap()[0].spec.mode = Mode::Recommend;
    let check = only(&facts);
    assert_eq!(
        (check.verdict, check.remedy.as_deref()),
        (Verdict::Warning, Some("before mode Auto: delete it"))
    );
}

#[test]
fn a_target_that_cannot_be_scaled_says_why() {
    let mut facts = facts();
    facts.workloads[0].2.decode.found =
        Some(Err("Deployment `d` does not exist: create it".to_owned()));
    let check = only(&facts);
    assert_eq!(check.subject, "inference/llama-70b decode");
    assert_eq!(
        (check.topic, check.verdict),
        (Topic::Target, Verdict::Failure)
    );
}

proptest! {
    /// Whatever cannot be seen, it is never fine and never a failure, and every line that is not
    /// fine has a remedy.
    #[test]
    fn the_unseen_is_a_warning(unseen in prop::collection::vec(select(&[0, 1, 2, 3, 4, 5][..]), 0..6)) {
        let why = || "forbidden".to_owned();
        let mut facts = facts();
        for part in &unseen {
            match part {
                0 => facts.served = Err(why()),
                1 => facts.controllers = Err(why()),
                2 => facts.own_rights.iter_mut().for_each(|(_, answer)| *answer = Err(why())),
                3 => facts.controller_rights.iter_mut().for_each(|(_, all)| all.iter_mut().for_each(|(_, answer)| *answer = Err(why()))),
                4 => facts.prometheus.iter_mut().for_each(|(_, seen)| *seen = Err(why())),
                _ => facts.objects = Err(why()),
            }
        }
        let checks = judge(&facts, NOW);
        prop_assert!(!fails(&checks), "{}", text(&checks));
        for check in &checks {
            prop_assert_eq!(check.verdict == Verdict::Ok, check.remedy.is_none(), "{:?}", check);
        }
        prop_assert!(checks.is_sorted_by_key(|check| check.topic) , "{}", text(&checks));
    }
}
