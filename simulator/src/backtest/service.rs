//! A service that exists: its object, and its past as Prometheus remembers it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pd_api::Manifest;
use pd_api::v1alpha1::RoleSpec;
use pd_core::capacity::Profile;
use pd_core::policy::Policy;
use pd_core::{PerRole, Role};
use pd_signals::engine::VLLM;
use pd_signals::pods::{KindUnsupported, TargetKind, past_pod_pattern};
use pd_signals::queries::Scope;
use thiserror::Error;

use super::options::{BacktestOptions, Moment};
use super::stated::{StatedError, profile};
use crate::measured::{Asked, Measured, MeasuredError, read};
use crate::policy::{PolicyError, read_object};
use crate::scenario::{CheckedSpec, Scenario, ScenarioError};

/// How far back is read when nobody says.
const FROM: Moment = Moment::Ago(Duration::from_hours(7 * 24));

/// A service that cannot be read.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The PDAutoscaler cannot be used.
    #[error(transparent)]
    Config(#[from] PolicyError),
    /// A target is of no kind that can be scaled.
    #[error(transparent)]
    Target(#[from] KindUnsupported),
    /// The past cannot be read.
    #[error(transparent)]
    Measured(#[from] MeasuredError),
    /// The scenario cannot be read.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The stated profile of replicas cannot be read.
    #[error(transparent)]
    Stated(#[from] StatedError),
    /// The range is too short.
    #[error(
        "from --from to --to there are {span_seconds} s, less than two steps of {step_seconds} s: give a longer range"
    )]
    ShortRange {
        /// Length of the range.
        span_seconds: u64,
        /// Length of a step.
        step_seconds: u64,
    },
}

/// A service and its past.
#[derive(Debug)]
pub struct Service {
    /// The owner's spec.
    pub policy: Policy,
    /// GPUs of one replica of each role.
    pub gpus_per_replica: PerRole<u32>,
    /// The object.
    pub object: Manifest,
    /// The past in Prometheus.
    pub measured: Arc<Measured>,
}

impl Service {
    /// Reads the object and its past.
    pub fn read(options: &BacktestOptions) -> Result<Self, ServiceError> {
        let (object, policy) = read_object(&options.config)?;
        let asked = asked(options, &object, &policy)?;
        let spec = &object.spec;
        let gpus = |role: &RoleSpec| {
            role.gpus_per_replica
                .and_then(|gpus| u32::try_from(gpus).ok())
        };
        let gpus_per_replica =
            PerRole::from_fn(|role| gpus(spec.role(role)).unwrap_or(options.gpus_per_replica));
        let measured = read(&asked)?;
        Ok(Self {
            policy,
            gpus_per_replica,
            object,
            measured: Arc::new(measured),
        })
    }

    /// The owner's profile of replicas; without, the decision code learns.
    pub(super) fn stated(&self, manifests: &[PathBuf]) -> Result<Option<Profile>, ServiceError> {
        let (object, policy) = (&self.object, &self.policy);
        Ok(profile(object, policy, self.gpus_per_replica, manifests)?)
    }

    /// The service as the simulator knows it.
    pub(super) fn scenario(&self, options: &BacktestOptions) -> Result<Scenario, ServiceError> {
        let mut scenario = match &options.profile {
            Some(path) => Scenario::read(path)?,
            None => Scenario::default(),
        };
        scenario.profile.prefix_hit_ratio = self.measured.prefix_hit_ratio();
        if let Some(lead) = options.lead {
            scenario.set_lead(lead);
        }
        scenario.spec = CheckedSpec::of_service(self.object.spec.clone(), self.policy.clone());
        scenario.spec.set_gpus_per_replica(self.gpus_per_replica);
        let workers = self.measured.workers();
        scenario.replicas_at_start = PerRole::from_fn(|role| workers[role].first().copied());
        Ok(scenario)
    }
}

/// The queries to Prometheus.
fn asked(
    options: &BacktestOptions,
    object: &Manifest,
    policy: &Policy,
) -> Result<Asked, ServiceError> {
    let metadata = object.metadata.namespace.clone();
    let namespace = options.range.namespace.clone().or(metadata);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let range = &options.range;
    let from = unix(range.from.unwrap_or(FROM), now);
    let to = unix(range.to, now);
    let span = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
    let step = range.step.unwrap_or_else(|| step_of(span));
    if span < 2 * step.as_secs() {
        return Err(ServiceError::ShortRange {
            span_seconds: span,
            step_seconds: step.as_secs(),
        });
    }
    let pattern = |role: Role| {
        let target = &object.spec.role(role).target;
        TargetKind::of(&target.api_version, &target.kind)
            .map(|kind| past_pod_pattern(kind, &target.name))
    };
    Ok(Asked {
        server: options.prometheus.clone(),
        scope: Scope {
            engine: &VLLM,
            prefix: None,
            namespace_label: range.namespace_label.clone(),
            pod_label: range.pod_label.clone(),
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            prefill_pods: pattern(Role::Prefill)?,
            decode_pods: pattern(Role::Decode)?,
            selectors: object
                .spec
                .metrics
                .selectors
                .0
                .clone()
                .into_iter()
                .collect(),
            window: step,
            attainment_window: policy.objective.attainment.window,
        },
        from_unix: from,
        to_unix: to,
        step,
        timeout: range.timeout,
    })
}

fn unix(moment: Moment, now: i64) -> i64 {
    match moment {
        Moment::At(unix) => unix,
        Moment::Ago(span) => now.saturating_sub(i64::try_from(span.as_secs()).unwrap_or(i64::MAX)),
    }
}

/// A minute for a day, five minutes for two weeks, a quarter of an hour beyond.
fn step_of(span_seconds: u64) -> Duration {
    Duration::from_mins(match span_seconds / 86_400 {
        0..=1 => 1,
        2..=14 => 5,
        _ => 15,
    })
}
