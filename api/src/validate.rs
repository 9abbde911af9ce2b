//! From a spec as written to the core's policy, or everything that is wrong with it.
//!
//! The API server refuses the same values through the schema and its CEL rules; this is for objects
//! that came another way: stored before a rule existed, or through a CRD of another version. It is
//! total: it never stops at the first error, and an object that passes is one the core can decide
//! for. Messages share their wording with the CEL rules, so a user sees one sentence wherever the
//! value is refused.

mod capacity;
mod ratio;
mod refused;
mod schedule;
mod toleration;

use std::{fmt::Display, time::Duration};

use pd_core::{
    PerRole, Policy, Ratio, Role,
    policy::{
        AttainmentTarget, Behavior, Bounds, ChangeLimit, LatencyTarget, LeadPolicy, Objective,
        OnMissingMetrics, RatePolicy, ScalingRules, SelectPolicy,
    },
    zero::ScaleToZero,
};

use crate::v1alpha1::{
    self as api, PDAutoscalerSpec,
    behavior::{
        FALLBACK_NEEDED, FALLBACK_UNUSED, LEAD_REMEDY, PERIOD_SECONDS_MAX, POLICIES_MAX,
        STABILIZATION_WINDOW_SECONDS_MAX,
    },
    budget::BUDGET_GPUS_MAX,
    duration::{
        ATTAINMENT_WINDOW, DRAIN_TIMEOUT, DurationRange, FALLBACK_AFTER, IDLE_AFTER,
        LATENCY_TARGET, LEAD_ASSUMED, STUCK_AFTER,
    },
    metrics::QUERY_LENGTH_MAX,
    objective::{PERCENTILE_MAX, PERCENTILE_MIN},
    quantity::QUANTITY_REMEDY,
    ratio::RATIO_REMEDY,
    target::{BOUNDS_REMEDY, GPUS_PER_REPLICA_MAX, REPLICAS_MAX},
    zero::WAKE_SIGNAL_REMEDY,
};

/// A field that holds what cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} `{value}` {remedy}")]
pub struct FieldError {
    /// Where the field is, such as `spec.prefill.minReplicas`.
    pub path: String,
    /// Its value; a word such as `unset` or `set` where the value says nothing.
    pub value: String,
    /// The fault and what to write instead; reads on after path and value.
    pub remedy: String,
}

/// Errors found so far.
#[derive(Debug, Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn push(&mut self, path: &str, value: impl Display, remedy: impl Into<String>) {
        let (path, value) = (format!("spec.{path}"), value.to_string());
        self.0.push(FieldError {
            path,
            value,
            remedy: remedy.into(),
        });
    }

    /// A whole number that must lie in `least..=most`; the nearest good one after an error.
    fn whole(&mut self, path: &str, value: i32, least: i32, most: i32) -> u32 {
        if !(least..=most).contains(&value) {
            self.push(
                path,
                value,
                format!("must be a whole number from {least} to {most}"),
            );
        }
        u32::try_from(value.clamp(least, most)).unwrap_or_default()
    }

    /// As [`Self::whole`], for percentages and percentiles up to 100.
    fn percent(&mut self, path: &str, value: i32, least: i32, most: i32) -> u8 {
        u8::try_from(self.whole(path, value, least, most)).unwrap_or(u8::MAX)
    }

    /// A duration that must lie in `range`; the range's least after an error.
    fn duration(
        &mut self,
        path: &str,
        text: &api::DurationText,
        range: &DurationRange,
    ) -> Duration {
        match text.parse() {
            Ok(span) if (range.least..=range.most).contains(&span) => span,
            _ => {
                self.push(path, text, range.remedy());
                range.least
            }
        }
    }

    /// A ratio such as `1:2`.
    fn ratio(&mut self, path: &str, text: &str) -> Option<Ratio> {
        // Leading zeros parse and are refused, so that one ratio has one text.
        let ratio = text
            .parse::<Ratio>()
            .ok()
            .filter(|ratio| ratio.to_string() == text);
        if ratio.is_none() {
            self.push(path, text, RATIO_REMEDY);
        }
        ratio
    }
}

impl PDAutoscalerSpec {
    /// The policy that the core decides by, or every field that is wrong.
    ///
    /// Fields that are not part of the policy (mode, targets, metrics) are checked too, so that a
    /// spec with a policy is a good spec.
    pub fn policy(&self) -> Result<Policy, Vec<FieldError>> {
        match self.policy_and_errors() {
            (policy, errors) if errors.is_empty() => Ok(policy),
            (_, errors) => Err(errors),
        }
    }

    /// The policy with the nearest good value in the place of each wrong one, and every field that
    /// is wrong.
    pub fn policy_and_errors(&self) -> (Policy, Vec<FieldError>) {
        let mut errors = Errors::default();
        refused::check(self, &mut errors);
        let policy = Policy {
            bounds: PerRole::from_fn(|role| bounds(self.role(role), role, &mut errors)),
            objective: objective(&self.objective, &mut errors),
            ratio: ratio::band(&self.ratio, &mut errors),
            budget_gpus: self
                .budget
                .as_ref()
                .and_then(|budget| budget.gpus)
                .map(|gpus| errors.whole("budget.gpus", gpus, 1, BUDGET_GPUS_MAX)),
            behavior: behavior(&self.behavior, &mut errors),
            on_missing_metrics: on_missing_metrics(self, &mut errors),
            schedules: schedule::schedules(self, &mut errors),
            scale_to_zero: self
                .scale_to_zero
                .as_ref()
                .map(|spec| scale_to_zero(spec, &mut errors)),
            lead: lead(&self.behavior.lead, &mut errors),
            operating_points: ratio::operating_points(&self.ratio, &mut errors),
            coefficients: capacity::coefficients(self.capacity.as_ref(), &mut errors),
        };
        (policy, errors.0)
    }
}

fn bounds(spec: &api::RoleSpec, role: Role, errors: &mut Errors) -> Bounds {
    let min_path = format!("{role}.minReplicas");
    let bounds = Bounds {
        min_replicas: errors.whole(&min_path, spec.min_replicas, 1, REPLICAS_MAX),
        max_replicas: errors.whole(
            &format!("{role}.maxReplicas"),
            spec.max_replicas,
            1,
            REPLICAS_MAX,
        ),
    };
    if spec.min_replicas > spec.max_replicas {
        let remedy = format!(
            "is above maxReplicas `{}`; {BOUNDS_REMEDY}",
            spec.max_replicas
        );
        errors.push(&min_path, spec.min_replicas, remedy);
    }
    toleration::check(spec, role, errors);
    if let Some(gpus) = spec.gpus_per_replica {
        errors.whole(
            &format!("{role}.gpusPerReplica"),
            gpus,
            1,
            GPUS_PER_REPLICA_MAX,
        );
    }
    bounds
}

fn objective(spec: &api::ObjectiveSpec, errors: &mut Errors) -> Objective {
    let mut latency = |name: &str, target: &api::LatencyTargetSpec| LatencyTarget {
        limit: errors.duration(
            &format!("objective.{name}.target"),
            &target.target,
            &LATENCY_TARGET,
        ),
        percentile: errors.percent(
            &format!("objective.{name}.percentile"),
            target.percentile,
            PERCENTILE_MIN,
            PERCENTILE_MAX,
        ),
    };
    let (ttft, tpot) = (latency("ttft", &spec.ttft), latency("tpot", &spec.tpot));
    let attainment = AttainmentTarget {
        percent: errors.percent(
            "objective.attainment.percent",
            spec.attainment.percent,
            1,
            100,
        ),
        window: errors.duration(
            "objective.attainment.window",
            &spec.attainment.window,
            &ATTAINMENT_WINDOW,
        ),
    };
    Objective {
        ttft,
        tpot,
        attainment,
    }
}

fn behavior(spec: &api::BehaviorSpec, errors: &mut Errors) -> Behavior {
    let (up, down) = (&spec.scale_up, &spec.scale_down);
    let mut rules = |direction: &str, window, quantity, kind, policies: &[_]| ScalingRules {
        stabilization_window: stabilization_window(direction, window, errors),
        tolerance_ppm: tolerance(direction, quantity, errors),
        select: select(kind),
        policies: scaling_policies(direction, policies, errors),
    };
    Behavior {
        scale_up: rules(
            "scaleUp",
            up.stabilization_window_seconds,
            &up.tolerance,
            up.select_policy,
            &up.policies,
        ),
        scale_down: rules(
            "scaleDown",
            down.stabilization_window_seconds,
            &down.tolerance,
            down.select_policy,
            &down.policies,
        ),
        drain_timeout: down.drain.as_ref().map(|drain| {
            let path = "behavior.scaleDown.drain.timeout";
            errors.duration(path, &drain.timeout, &DRAIN_TIMEOUT)
        }),
    }
}

fn stabilization_window(direction: &str, seconds: i32, errors: &mut Errors) -> Duration {
    let path = format!("behavior.{direction}.stabilizationWindowSeconds");
    let seconds = errors.whole(&path, seconds, 0, STABILIZATION_WINDOW_SECONDS_MAX);
    Duration::from_secs(seconds.into())
}

fn tolerance(direction: &str, quantity: &api::QuantityText, errors: &mut Errors) -> u32 {
    quantity.millionths().unwrap_or_else(|| {
        let path = format!("behavior.{direction}.tolerance");
        errors.push(&path, quantity, QUANTITY_REMEDY);
        0
    })
}

const fn select(kind: api::SelectPolicyKind) -> SelectPolicy {
    match kind {
        api::SelectPolicyKind::Max => SelectPolicy::Max,
        api::SelectPolicyKind::Min => SelectPolicy::Min,
        api::SelectPolicyKind::Disabled => SelectPolicy::Disabled,
    }
}

fn scaling_policies(
    direction: &str,
    specs: &[api::ScalingPolicySpec],
    errors: &mut Errors,
) -> Vec<RatePolicy> {
    let path = format!("behavior.{direction}.policies");
    if specs.len() > POLICIES_MAX {
        let count = format!("{} policies", specs.len());
        errors.push(&path, count, format!("must be at most {POLICIES_MAX}"));
    }
    let mut policies = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let mut whole = |field: &str, value, most| {
            errors.whole(&format!("{path}[{index}].{field}"), value, 1, most)
        };
        let value = whole("value", spec.value, i32::MAX);
        let seconds = whole("periodSeconds", spec.period_seconds, PERIOD_SECONDS_MAX);
        policies.push(RatePolicy {
            change: match spec.kind {
                api::ScalingPolicyKind::Pods => ChangeLimit::Replicas(value),
                api::ScalingPolicyKind::Percent => ChangeLimit::Percent(value),
            },
            period: Duration::from_secs(seconds.into()),
        });
    }
    policies
}

fn on_missing_metrics(spec: &PDAutoscalerSpec, errors: &mut Errors) -> OnMissingMetrics {
    use api::MissingMetricsBehavior::{Fallback, Hold};

    let missing = &spec.on_missing_metrics;
    match (missing.behavior, &missing.fallback) {
        (Fallback, None) => errors.push(
            "onMissingMetrics.fallback",
            "unset",
            format!("is missing: {FALLBACK_NEEDED}"),
        ),
        (Hold, Some(_)) => errors.push(
            "onMissingMetrics.fallback",
            "set",
            format!("has no effect: {FALLBACK_UNUSED}"),
        ),
        _ => {}
    }
    let Some(fallback) = &missing.fallback else {
        return OnMissingMetrics::Hold;
    };
    let wanted = PerRole {
        prefill: fallback.prefill,
        decode: fallback.decode,
    };
    let replicas = PerRole::from_fn(|role| {
        let (value, bounds) = (wanted[role], spec.role(role));
        let crossed = bounds.min_replicas > bounds.max_replicas;
        if !crossed && !(bounds.min_replicas..=bounds.max_replicas).contains(&value) {
            let remedy = format!(
                "{} ({} to {})",
                api::FALLBACK_BOUNDS_REMEDY,
                bounds.min_replicas,
                bounds.max_replicas
            );
            errors.push(&format!("onMissingMetrics.fallback.{role}"), value, remedy);
        }
        u32::try_from(value).unwrap_or_default()
    });
    let after = errors.duration(
        "onMissingMetrics.fallback.after",
        &fallback.after,
        &FALLBACK_AFTER,
    );
    match missing.behavior {
        Hold => OnMissingMetrics::Hold,
        Fallback => OnMissingMetrics::Fallback { replicas, after },
    }
}

fn scale_to_zero(spec: &api::ScaleToZeroSpec, errors: &mut Errors) -> ScaleToZero {
    let query = &spec.wake_signal;
    if query.trim().is_empty() || query.chars().count() > QUERY_LENGTH_MAX {
        let remedy = format!("{WAKE_SIGNAL_REMEDY}, 1 to {QUERY_LENGTH_MAX} characters");
        errors.push("scaleToZero.wakeSignal", query, remedy);
    }
    ScaleToZero {
        idle_after: errors.duration("scaleToZero.idleAfter", &spec.idle_after, &IDLE_AFTER),
    }
}

fn lead(spec: &api::LeadSpec, errors: &mut Errors) -> LeadPolicy {
    if let (Ok(assumed), Ok(stuck_after)) = (spec.assumed.parse(), spec.stuck_after.parse())
        && assumed >= stuck_after
    {
        let remedy = format!(
            "is not below stuckAfter `{}`; {LEAD_REMEDY}",
            spec.stuck_after
        );
        errors.push("behavior.lead.assumed", &spec.assumed, remedy);
    }
    LeadPolicy {
        assumed: errors.duration("behavior.lead.assumed", &spec.assumed, &LEAD_ASSUMED),
        stuck_after: errors.duration("behavior.lead.stuckAfter", &spec.stuck_after, &STUCK_AFTER),
    }
}
