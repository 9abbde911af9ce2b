//! Blockers of objects as the controller leaves them, and laws of their order.

use pd_api::{
    condition::{ConditionState, Finding, set},
    v1alpha1::StepStatus,
};
use proptest::{prelude::*, sample::select};
use rstest::rstest;

use super::*;
use crate::tests::samples::{NOW, object};

fn reasons(object: &PDAutoscaler) -> Vec<String> {
    let blockers = answer(object, None).blockers;
    let name = |blocker: Blocker| blocker.reason.unwrap_or_else(|| "NotObserved".to_owned());
    blockers.into_iter().map(name).collect()
}

fn with_condition(
    object: &mut PDAutoscaler,
    condition: ConditionType,
    state: ConditionState,
    reason: Reason,
    message: &str,
) {
    let status = object.status.get_or_insert_default();
    let finding = Finding {
        condition,
        state,
        reason,
        message: message.to_owned(),
    };
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW);
    set(&mut status.conditions, &finding, 3, &now);
}

#[rstest]
#[case::nothing("steady", &[])]
#[case::limits_before_delays("limited", &["Paused", "AtMaximum", "StabilizingDown"])]
#[case::a_target_before_everything("untargeted", &["TargetNotFound"])]
#[case::recommended("recommended", &["Recommended"])]
#[case::prometheus_is_down("unmeasured", &["PrometheusUnreachable", "ProfileNotFound"])]
fn blockers_come_by_importance(#[case] sample: &str, #[case] want: &[&str]) {
    assert_eq!(reasons(&object(sample)), want);
}

#[test]
fn a_limit_of_the_last_decision_that_is_over_is_left_out() {
    let mut object = object("limited");
    with_condition(
        &mut object,
        ConditionType::ScalingLimited,
        ConditionState::False,
        Reason::NotLimited,
        "replicas are what the objective needs",
    );
    assert_eq!(reasons(&object), ["Paused", "StabilizingDown"]);
}

#[test]
fn the_same_limit_of_another_role_counts_too() {
    let mut object = object("limited");
    let last = object
        .status
        .as_mut()
        .unwrap()
        .last_decision
        .as_mut()
        .unwrap();
    last.steps.push(StepStatus {
        stage: "solve".to_owned(),
        role: Some("decode".to_owned()),
        reason: "AtMaximum".to_owned(),
        message: "needs 40 and may have 32".to_owned(),
    });
    let roles: Vec<Option<Role>> = answer(&object, None)
        .blockers
        .into_iter()
        .filter(|blocker| blocker.reason.as_deref() == Some("AtMaximum"))
        .map(|blocker| blocker.role)
        .collect();
    assert_eq!(roles, [Some(Role::Prefill), Some(Role::Decode)]);
}

#[test]
fn what_the_owner_wrote_counts_before_the_controller_has_seen_it() {
    let mut object = object("steady");
    object.metadata.generation = Some(9);
    object.spec.mode = Mode::Off;
    let annotations = object.annotations_mut();
    annotations.insert(pd_api::pause::PAUSED_SCALE_UP.to_owned(), "true".to_owned());
    assert_eq!(reasons(&object), ["NotObserved", "ModeOff", "Paused"]);
    let blockers = answer(&object, None).blockers;
    assert_eq!(blockers[2].direction, Direction::Up);
    assert!(
        blockers[0].message.contains("generation 9"),
        "{}",
        blockers[0].message
    );
}

#[test]
fn what_the_owner_has_lifted_counts_no_longer() {
    let mut object = object("limited");
    assert_eq!(answer(&object, None).blockers[0].direction, Direction::Down);
    object
        .annotations_mut()
        .remove(pd_api::pause::PAUSED_SCALE_DOWN);
    assert_eq!(reasons(&object), ["AtMaximum", "StabilizingDown"]);
    let mut resumed = self::object("recommended");
    resumed.spec.mode = Mode::Auto;
    assert_eq!(reasons(&resumed), Vec::<String>::new());
}

#[test]
fn without_a_leader_nothing_else_matters() {
    let found = answer(&object("limited"), Some("nobody holds the Lease")).blockers;
    assert_eq!(found[0].message, "nobody holds the Lease");
    assert_eq!(found.len(), 4);
}

#[test]
fn a_reason_of_a_newer_controller_is_shown_with_its_message() {
    let mut object = object("steady");
    let status = object.status.as_mut().unwrap();
    let ready = status
        .conditions
        .iter_mut()
        .find(|one| one.type_ == "Ready")
        .unwrap();
    ready.status = "False".to_owned();
    ready.reason = "OfANewerVersion".to_owned();
    assert_eq!(reasons(&object), ["OfANewerVersion"]);
}

#[test]
fn metrics_that_are_partly_there_keep_replicas_from_falling() {
    let mut object = object("steady");
    with_condition(
        &mut object,
        ConditionType::MetricsAvailable,
        ConditionState::True,
        Reason::MetricsPartial,
        "prefill: 1 of 4 workers is not scraped",
    );
    let blockers = answer(&object, None).blockers;
    assert_eq!(blockers[0].direction, Direction::Down);
    assert_eq!(blockers[0].role, Some(Role::Prefill));
    assert_eq!(blockers[0].message, "1 of 4 workers is not scraped");
}

fn steps() -> impl Strategy<Value = Vec<StepStatus>> {
    let step = (
        select(Reason::ALL),
        prop::option::of(select(&["prefill", "decode"][..])),
    );
    let step = step.prop_map(|(reason, role)| StepStatus {
        stage: "guard".to_owned(),
        role: role.map(str::to_owned),
        reason: reason.as_str().to_owned(),
        message: reason.doc().to_owned(),
    });
    prop::collection::vec(step, 0..12)
}

proptest! {
    /// Whatever was decided, blockers come by importance, each once, each with a remedy, and in an
    /// order that does not hang on that of the steps.
    #[test]
    fn the_order_is_that_of_importance(steps in steps()) {
        let mut object = object("steady");
        let status = object.status.as_mut().unwrap();
        status.conditions.clear();
        let last = status.last_decision.as_mut().unwrap();
        last.steps = steps;
        let forwards = answer(&object, None).blockers;
        let last = object.status.as_mut().unwrap().last_decision.as_mut().unwrap();
        last.steps.reverse();
        let backwards = answer(&object, None).blockers;
        let places = |blockers: &[Blocker]| -> Vec<(Importance, Option<String>, Option<Role>)> {
            let key = |one: &Blocker| (one.importance, one.reason.clone(), one.role);
            blockers.iter().map(key).collect()
        };
        prop_assert_eq!(places(&forwards), places(&backwards));
        prop_assert!(forwards.is_sorted_by_key(|one| one.importance));
        for (index, one) in forwards.iter().enumerate() {
            let is_filled = !one.remedy.is_empty() && !one.remedy.contains('{');
            prop_assert!(is_filled, "{}", one.remedy);
            let again = forwards[..index].iter().any(|other| (&other.reason, other.role) == (&one.reason, one.role));
            prop_assert!(!again, "{:?} twice", one.reason);
        }
    }
}
