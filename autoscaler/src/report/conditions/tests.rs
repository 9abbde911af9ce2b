//! Every reason that a condition can have, with an outcome that gives it.
//!
//! The table is a match without a rest: a new reason does not build until it is in it.

use std::time::Duration;

use kube::core::Status;
use pd_api::FieldError;
use pd_core::{
    Finding as AuditFinding, Memory, Ratio, Role, Stage, Step, Timestamp, plan,
    ratio::{Breach, BreachCause, Enforcement, RatioBand, RatioPolicy},
};
use pd_signals::{pods::KindUnsupported, stated::Stated};
use pd_systems::{drain::Trap, gpus::GpusUnknown};
use rstest::rstest;
use tokio::time::Instant;

use super::{
    lateness::{is_late, on_time},
    *,
};
use crate::{
    context::Lateness,
    observe::drain::Drain,
    outcome::Sources,
    prometheus::QueryError,
    report::{status::status, testing::snapshot},
};
use pd_runtime::prometheus::Owner;

/// The words of every cause in this file.
const CAUSE: &str = "broken on purpose";

/// A decision that nothing is to be said about.
fn quiet() -> Applied {
    let snapshot = snapshot(1);
    let now = Timestamp::from_millis(1_700_000_000_000);
    let mut decision = plan(&snapshot, &Memory::default(), now);
    decision.report.steps.clear();
    Applied {
        snapshot,
        decision,
        stated: Stated::default(),
        sources: Sources::default(),
        metrics_error: None,
        annotation_errors: Vec::new(),
        drain: Drain::default(),
        unmarked: None,
        outcome: ApplyOutcome::Applied(Vec::new()),
    }
}

/// [`quiet`], after `change`.
#[expect(clippy::unnecessary_wraps, reason = "the table holds failures too")]
fn after(change: impl FnOnce(&mut Applied)) -> ReconcileOutcome {
    let mut applied = quiet();
    change(&mut applied);
    Ok(Box::new(applied))
}

fn with_step(reason: Reason) -> ReconcileOutcome {
    after(|applied| {
        let step = Step::of_both(Stage::Guard, reason, CAUSE.to_owned());
        applied.decision.report.steps.push(step);
    })
}

fn applied(outcome: ApplyOutcome) -> ReconcileOutcome {
    after(|applied| applied.outcome = outcome)
}

fn without_metrics(error: QueryError) -> ReconcileOutcome {
    after(|applied| applied.metrics_error = Some(error))
}

fn untargeted(error: TargetError) -> ReconcileOutcome {
    let role = Role::Decode;
    Err(Stopped::Untargeted { role, error })
}

fn profile(error: ProfileError) -> ReconcileOutcome {
    after(|applied| applied.stated.errors.push((Role::Decode, error)))
}

fn attained(share: f64) -> ReconcileOutcome {
    after(|applied| {
        let observed = &mut applied.decision.report.observed;
        (observed.ttft_attainment, observed.tpot_attainment) = (Some(share), Some(share));
    })
}

fn banded(breach: Option<BreachCause>) -> ReconcileOutcome {
    after(|applied| {
        let ratio = &mut applied.decision.report.ratio;
        ratio.policy = Some(RatioPolicy {
            band: RatioBand::around(Ratio::new(1, 1).unwrap(), 10),
            enforcement: Enforcement::Soft,
        });
        let since = Timestamp::from_millis(0);
        ratio.breach = breach.map(|cause| Breach { since, cause });
    })
}

fn budgeted(reason: Option<Reason>) -> ReconcileOutcome {
    after(|applied| {
        applied.snapshot.policy.budget_gpus = Some(64);
        let step = |reason| Step::of_both(Stage::Solve, reason, CAUSE.to_owned());
        applied.decision.report.steps.extend(reason.map(step));
    })
}

fn refusal() -> kube::Error {
    kube::Error::Api(
        Status::failure(CAUSE, "InternalError")
            .with_code(500)
            .boxed(),
    )
}

fn unseen() -> Unseen {
    let kind = "horizontalpodautoscalers".to_owned();
    let cause = cause();
    Unseen::Unlisted { kind, cause }
}

fn cause() -> String {
    CAUSE.to_owned()
}

fn bad_field() -> FieldError {
    FieldError {
        path: "spec.x".to_owned(),
        value: "y".to_owned(),
        remedy: cause(),
    }
}

/// An outcome that gives `reason` to a condition; nothing for those that conditions never have.
#[expect(clippy::too_many_lines, reason = "one table of every reason")]
fn shown(reason: Reason) -> Option<(ConditionType, ConditionState, ReconcileOutcome)> {
    use ConditionType as C;
    let (kind, name, field) = (cause(), cause(), "spec.metrics");
    let owner = Owner::Operator;
    let query_refused = QueryError::Invalid {
        field,
        query: "up(".to_owned(),
        cause: cause(),
    };
    Some(match reason {
        Reason::ModeOff => (C::Ready, False, Err(Stopped::Off)),
        Reason::SpecInvalid => {
            let stopped = Stopped::Invalid(vec![bad_field()]);
            (C::Ready, False, Err(stopped))
        }
        Reason::MemoryUnreadable => {
            let stopped = Stopped::MemoryUnreadable(refusal());
            (C::Ready, False, Err(stopped))
        }
        Reason::ObserveTooSlow => {
            let stopped = Stopped::TooSlow(Duration::from_secs(45));
            (C::Ready, False, Err(stopped))
        }
        Reason::Panicked => (C::Ready, False, Err(Stopped::Panicked(cause()))),
        Reason::Recommended => (C::Ready, True, applied(ApplyOutcome::Recommended(None))),
        Reason::Ready => (C::Ready, True, after(|_| {})),
        Reason::ApplyFailed => {
            let error = ScaleError::Refused {
                role: Role::Decode,
                target: name,
                source: refusal(),
            };
            (
                C::Ready,
                False,
                applied(ApplyOutcome::Failed(vec![], error)),
            )
        }
        Reason::ApplyConflict => {
            let error = ScaleError::VersionConflict {
                role: Role::Decode,
                target: name,
            };
            (
                C::Ready,
                False,
                applied(ApplyOutcome::Failed(vec![], error)),
            )
        }
        Reason::AuditFailed => {
            let findings = vec![AuditFinding::StrangeRatio];
            (
                C::Ready,
                False,
                applied(ApplyOutcome::AuditFailed(findings)),
            )
        }
        Reason::TargetsFound => (C::TargetResolved, True, after(|_| {})),
        Reason::TargetNotFound => {
            let namespace = "ns".to_owned();
            let error = TargetError::NotFound {
                kind,
                name,
                namespace,
            };
            (C::TargetResolved, False, untargeted(error))
        }
        Reason::TargetKindUnsupported => {
            let api_version = "v1".to_owned();
            let error = KindUnsupported { api_version, kind };
            (C::TargetResolved, False, untargeted(error.into()))
        }
        Reason::TargetUnreadable => {
            let cause = cause();
            let error = TargetError::Selector { kind, name, cause };
            (C::TargetResolved, False, untargeted(error))
        }
        Reason::TargetKindAbsent => {
            let api_version = "v1".to_owned();
            let error = WorkloadError::KindAbsent { kind, api_version };
            (C::TargetResolved, False, untargeted(error.into()))
        }
        Reason::TargetRefused => {
            let refusal = Refusal::NoScale { kind, name };
            let error = WorkloadError::Refused(refusal);
            (C::TargetResolved, False, untargeted(error.into()))
        }
        Reason::GpusUnknown => {
            let (role, cause) = (Role::Decode, GpusUnknown::NoneAsked);
            let error = TargetError::GpusUnknown {
                role,
                kind,
                name,
                cause,
            };
            (C::TargetResolved, False, untargeted(error))
        }
        Reason::CapacityLearnt => (C::CapacityResolved, True, after(|_| {})),
        Reason::CapacityStated => {
            let stated = after(|applied| {
                applied.stated.profile = Some(pd_core::capacity::Profile::default());
            });
            (C::CapacityResolved, True, stated)
        }
        Reason::ProfileNotFound => {
            let namespace = "ns".to_owned();
            let error = ProfileError::NotFound { name, namespace };
            (C::CapacityResolved, False, profile(error))
        }
        Reason::ProfileUnreadable => {
            let cause = cause();
            let error = ProfileError::Unreadable { name, cause };
            (C::CapacityResolved, False, profile(error))
        }
        Reason::ProfileInvalid => {
            let (key, found) = (cause(), cause());
            let error = ProfileError::KeyMissing { name, key, found };
            (C::CapacityResolved, False, profile(error))
        }
        Reason::AllMetricsAvailable => (C::MetricsAvailable, True, after(|_| {})),
        Reason::MetricsMissing | Reason::WakeSignalMissing => {
            (C::MetricsAvailable, False, with_step(reason))
        }
        Reason::MetricsPartial => (C::MetricsAvailable, True, with_step(reason)),
        Reason::PrometheusUnreachable => {
            let (server, cause) = ("http://p".to_owned(), cause());
            let error = QueryError::Unreachable {
                server,
                owner,
                cause,
            };
            (C::MetricsAvailable, False, without_metrics(error))
        }
        Reason::QueryInvalid => (C::MetricsAvailable, False, without_metrics(query_refused)),
        Reason::SourceNotAllowed => {
            let (value, remedy) = ("http://p".to_owned(), cause());
            let error = QueryError::NotAllowed {
                field,
                value,
                remedy,
            };
            (C::MetricsAvailable, False, without_metrics(error))
        }
        Reason::LoginInvalid => {
            let (secret, remedy) = ("login".to_owned(), cause());
            let error = QueryError::LoginInvalid {
                field,
                secret,
                remedy,
            };
            (C::MetricsAvailable, False, without_metrics(error))
        }
        Reason::LoginUnreadable => {
            let (secret, cause) = ("login".to_owned(), cause());
            let error = QueryError::LoginUnreadable {
                field,
                secret,
                cause,
            };
            (C::MetricsAvailable, False, without_metrics(error))
        }
        Reason::TooFewRequests => (C::ObjectiveMet, Unknown, after(|_| {})),
        Reason::ObjectiveMet => (C::ObjectiveMet, True, attained(1.0)),
        Reason::ObjectiveMissed => (C::ObjectiveMet, False, attained(0.5)),
        Reason::ObjectiveUnreachable => (C::ObjectiveMet, False, with_step(reason)),
        Reason::NotLimited => (C::ScalingLimited, False, after(|_| {})),
        Reason::BudgetUnsettled
        | Reason::QuotaLimited
        | Reason::PlacementLimited
        | Reason::BudgetReclaimed
        | Reason::BudgetWaitsForOthers
        | Reason::BudgetShared
        | Reason::BudgetLimited
        | Reason::BudgetWaitsForRelease
        | Reason::ScaleUpCancelled
        | Reason::ScaleUpBackedOff
        | Reason::ScheduleConflict
        | Reason::AtMaximum
        | Reason::RatioUnreachable
        | Reason::BoundsStepDown
        | Reason::RateLimitedUp
        | Reason::RateLimitedDown
        | Reason::WaitsForDrain
        | Reason::FlapDamped
        | Reason::ZeroNotSafe => (C::ScalingLimited, True, with_step(reason)),
        Reason::InBand => (C::RatioInBand, True, banded(None)),
        Reason::RatioBreach => (C::RatioInBand, False, banded(Some(BreachCause::Need))),
        Reason::FollowsTraffic => (C::RatioInBand, True, after(|_| {})),
        Reason::ScaledToZero => {
            let at_zero = after(|applied| applied.decision.plan.replicas = PerRole::default());
            (C::RatioInBand, True, at_zero)
        }
        Reason::NoBudget => (C::BudgetFeasible, True, after(|_| {})),
        Reason::WithinBudget => (C::BudgetFeasible, True, budgeted(None)),
        Reason::BudgetInfeasible => (C::BudgetFeasible, False, budgeted(Some(reason))),
        Reason::NotContended => (C::TargetContended, False, after(|_| {})),
        Reason::TargetContended => {
            let contended = applied(ApplyOutcome::Contended(cause()));
            (C::TargetContended, True, contended)
        }
        Reason::ContentionUnknown => {
            let unknown = applied(ApplyOutcome::ContentionUnknown(unseen()));
            (C::TargetContended, Unknown, unknown)
        }
        Reason::NotPaused => (C::Paused, False, after(|_| {})),
        Reason::Paused => {
            let paused = after(|applied| applied.snapshot.paused.scale_up = true);
            (C::Paused, True, paused)
        }
        Reason::AnnotationInvalid => {
            let invalid = after(|applied| applied.annotation_errors.push(bad_field()));
            (C::Paused, True, invalid)
        }
        Reason::DrainSafe => (C::DrainSafe, True, after(|_| {})),
        Reason::DrainUnsafe => {
            let trapped = after(|applied| applied.drain.traps.decode = vec![Trap::AbortsAtOnce]);
            (C::DrainSafe, False, trapped)
        }
        Reason::VictimsUnmarked => {
            let unmarked = after(|applied| applied.unmarked = Some(cause()));
            (C::DrainSafe, False, unmarked)
        }
        // Of the condition OnTime, which is about more than one reconcile: below.
        Reason::ReconciledOnTime
        | Reason::ReconciledLate
        // Of a GPUBudget.
        | Reason::BudgetLeft
        | Reason::BudgetExceeded
        // Of an event of the controller's own pod, before there is any object.
        | Reason::CrdMissing
        // Of steps alone: they explain a number, and are nothing to act on.
        | Reason::Steady
        | Reason::Idle
        | Reason::Workload
        | Reason::Capacity
        | Reason::Forecast
        | Reason::PrefillWork
        | Reason::PrefillForecast
        | Reason::PrefillQueue
        | Reason::PrefillLatency
        | Reason::DecodeWork
        | Reason::DecodeForecast
        | Reason::DecodeQueue
        | Reason::DecodeKvCache
        | Reason::DecodeLatency
        | Reason::StillBusy
        | Reason::Saturated
        | Reason::SignalsContradict
        | Reason::FallbackReplicas
        | Reason::WithinTolerance
        | Reason::StabilizingUp
        | Reason::StabilizingDown
        | Reason::RatioBand
        | Reason::OperatingPoint
        | Reason::AtMinReplicas
        | Reason::BrokenReplaced
        | Reason::LoadHeldUp
        | Reason::ScheduleActive
        | Reason::ScheduleAhead
        | Reason::Waking
        | Reason::ScaleDownCancelled
        | Reason::RoleAloneAtZero => return None,
    })
}

#[test]
fn every_reason_that_a_condition_can_have_is_shown_by_it() {
    for &reason in Reason::ALL {
        let Some((condition, state, outcome)) = shown(reason) else {
            continue;
        };
        let findings = findings(&outcome);
        let found = findings.iter().find(|found| found.condition == condition);
        let found = found.map(|found| (found.state, found.reason));
        assert_eq!(found, Some((state, reason)), "{condition:?}");
        // People read it, so that it says something, and no condition is there twice.
        for finding in &findings {
            assert!(!finding.message.is_empty(), "{reason}: {finding:?}");
            let same = findings
                .iter()
                .filter(|other| other.condition == finding.condition);
            assert_eq!(same.count(), 1, "{reason}: {finding:?}");
        }
    }
}

#[test]
fn what_keeps_decisions_from_being_made_or_applied_is_in_ready_too() {
    for &reason in Reason::ALL {
        let Some((condition, state, outcome)) = shown(reason) else {
            continue;
        };
        let blocks = matches!(
            (condition, state),
            (
                ConditionType::TargetResolved | ConditionType::MetricsAvailable,
                False
            ) | (ConditionType::TargetContended, True | Unknown)
        );
        if blocks {
            let ready = ready(&outcome);
            assert_eq!((ready.state, ready.reason), (False, reason));
        }
    }
}

#[test]
fn no_step_alone_turns_a_condition() {
    let quiet = findings(&after(|_| {}));
    for &reason in Reason::ALL {
        if shown(reason).is_none() {
            assert_eq!(findings(&with_step(reason)), quiet, "{reason}");
        }
    }
}

#[rstest]
#[case::never_late(None, True, Reason::ReconciledOnTime)]
#[case::a_moment_ago(Some(1), False, Reason::ReconciledLate)]
#[case::nine_minutes_ago(Some(540), False, Reason::ReconciledLate)]
#[case::ten_minutes_ago(Some(600), True, Reason::ReconciledOnTime)]
#[tokio::test(start_paused = true)]
async fn lateness_is_shown_for_ten_minutes(
    #[case] seconds_ago: Option<u64>,
    #[case] state: ConditionState,
    #[case] reason: Reason,
) {
    let at = Instant::now();
    let late = seconds_ago.map(|_| Lateness {
        at,
        by: Duration::from_secs(132),
    });
    let now = at + Duration::from_secs(seconds_ago.unwrap_or(0));
    let found = on_time(late, now);
    assert_eq!((found.state, found.reason), (state, reason));
    assert_eq!(
        found.message.contains("132 s after its time"),
        state == False
    );
}

#[rstest]
#[case::on_time(0, 15, false)]
#[case::decisions_90_s_apart(75, 15, false)]
#[case::more(76, 15, true)]
#[case::a_minute_after_a_minute(60, 60, false)]
#[case::longer_than_the_interval(61, 60, true)]
#[case::long_interval(299, 300, false)]
#[case::two_long_intervals(301, 300, true)]
fn a_decision_is_late_when_the_time_before_it_counts_as_unwatched_or_doubles(
    #[case] by: u64,
    #[case] interval: u64,
    #[case] late: bool,
) {
    let [by, interval] = [by, interval].map(Duration::from_secs);
    assert_eq!(is_late(by, interval), late);
}

#[test]
fn an_object_that_is_not_decided_about_says_nothing_of_time() {
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
    let kinds = |outcome: &ReconcileOutcome| -> Vec<String> {
        let finding = Finding {
            condition: ConditionType::OnTime,
            state: True,
            reason: Reason::ReconciledOnTime,
            message: cause(),
        };
        let status = status(None, outcome, finding, 1, &now);
        status.conditions.into_iter().map(|one| one.type_).collect()
    };
    assert_eq!(kinds(&Err(Stopped::Off)), ["Ready"]);
    assert!(kinds(&after(|_| {})).contains(&"OnTime".to_owned()));
}

#[test]
fn a_trap_that_loses_no_requests_of_leaving_pods_stands_beside_the_targets() {
    let outcome = after(|applied| applied.drain.traps.prefill = vec![Trap::NoBootstrapPort]);
    let findings = findings(&outcome);
    let message = |kind| {
        let found = findings.iter().find(|found| found.condition == kind);
        found
            .map(|found| (found.state, found.message.clone()))
            .unwrap()
    };
    let (state, text) = message(ConditionType::TargetResolved);
    assert_eq!(state, True);
    assert!(
        text.contains("prefill: prefill pods that SMG discovers lack"),
        "{text}"
    );
    assert_eq!(message(ConditionType::DrainSafe).0, True);
}
