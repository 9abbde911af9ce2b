//! The PDAutoscaler of a scenario: its spec as a cluster would get it, and the policy that it
//! means.
//!
//! Types, defaults and checks are the product's own, so what works in a scenario works on a
//! cluster. Besides, fields that a simulated service gives nothing to act on are refused: a run
//! would answer another question than the one that was asked.

use pd_api::FieldError;
use pd_api::v1alpha1::{
    AttainmentSpec, BehaviorSpec, DurationText, LatencyTargetSpec, MetricsSpec, MissingMetricsSpec,
    Mode, ObjectiveSpec, PDAutoscalerSpec, RatioSpec, RoleSpec, TargetReference,
};
use pd_core::policy::Policy;
use pd_core::{PerRole, Role};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// GPUs of one replica of a role that does not say; a cluster would ask the pod template.
const GPUS_PER_REPLICA_DEFAULT: u32 = 4;

/// Most replicas of either role where nobody says.
const MAX_REPLICAS_DEFAULT: i32 = 64;

/// The remedy for a field that a scenario cannot act on.
const NOT_SIMULATED: &str = "has no effect in a scenario; remove it";

/// A spec that cannot be used, with every reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct SpecError(String);

impl SpecError {
    fn of(errors: &[FieldError]) -> Self {
        let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Self(reasons.join("; "))
    }
}

/// A spec that was checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PDAutoscalerSpec", into = "PDAutoscalerSpec")]
pub struct CheckedSpec {
    written: PDAutoscalerSpec,
    policy: Policy,
}

impl CheckedSpec {
    /// A spec and the policy that was read from it, of a service that exists.
    pub fn of_service(written: PDAutoscalerSpec, policy: Policy) -> Self {
        Self { written, policy }
    }

    /// The owner's policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// GPUs of one replica of each role.
    pub fn gpus_per_replica(&self) -> PerRole<u32> {
        PerRole::from_fn(|role| {
            let stated = self.written.role(role).gpus_per_replica;
            let stated = stated.and_then(|gpus| u32::try_from(gpus).ok());
            stated.unwrap_or(GPUS_PER_REPLICA_DEFAULT)
        })
    }

    /// The same spec with so many GPUs per replica, which is not part of the policy.
    pub fn set_gpus_per_replica(&mut self, gpus: PerRole<u32>) {
        let stated = gpus.map(|gpus| i32::try_from(gpus).ok());
        self.written.prefill.gpus_per_replica = stated.prefill;
        self.written.decode.gpus_per_replica = stated.decode;
    }

    /// The same spec with a change, checked as a whole.
    pub fn with(&self, change: impl FnOnce(&mut PDAutoscalerSpec)) -> Result<Self, SpecError> {
        let mut written = self.written.clone();
        change(&mut written);
        Self::try_from(written)
    }
}

impl TryFrom<PDAutoscalerSpec> for CheckedSpec {
    type Error = SpecError;

    fn try_from(written: PDAutoscalerSpec) -> Result<Self, SpecError> {
        let (policy, mut errors) = written.policy_and_errors();
        errors.extend(not_simulated(&written));
        match errors.as_slice() {
            [] => Ok(Self { written, policy }),
            errors => Err(SpecError::of(errors)),
        }
    }
}

impl From<CheckedSpec> for PDAutoscalerSpec {
    fn from(checked: CheckedSpec) -> Self {
        checked.written
    }
}

impl Default for CheckedSpec {
    /// A chat service: 500 ms to the first token, 25 ms per token, both for 99 % of requests.
    fn default() -> Self {
        let role = |role: Role| RoleSpec {
            target: TargetReference {
                api_version: "apps/v1".to_owned(),
                kind: "Deployment".to_owned(),
                name: role.to_string(),
                role: None,
            },
            min_replicas: 1,
            max_replicas: MAX_REPLICAS_DEFAULT,
            gpus_per_replica: None,
            numeric_tolerations: Vec::new(),
        };
        let limit = |text: &str| LatencyTargetSpec {
            target: DurationText(text.to_owned()),
            percentile: 99,
        };
        let written = PDAutoscalerSpec {
            mode: Mode::Auto,
            controller_class: None,
            prefill: role(Role::Prefill),
            decode: role(Role::Decode),
            objective: ObjectiveSpec {
                ttft: limit("500ms"),
                tpot: limit("25ms"),
                attainment: AttainmentSpec::default(),
            },
            ratio: RatioSpec::default(),
            metrics: MetricsSpec::default(),
            capacity: None,
            budget: None,
            behavior: BehaviorSpec::default(),
            schedules: Vec::new(),
            scale_to_zero: None,
            placement: None,
            on_missing_metrics: MissingMetricsSpec::default(),
        };
        let (policy, _) = written.policy_and_errors();
        Self { written, policy }
    }
}

/// Fields that a simulated service gives nothing to act on.
fn not_simulated(spec: &PDAutoscalerSpec) -> Vec<FieldError> {
    let capacity = spec.capacity.as_ref();
    let prefill = capacity.and_then(|capacity| capacity.prefill.as_ref());
    let decode = capacity.and_then(|capacity| capacity.decode.as_ref());
    let stated = [
        // Every run is about decisions that are applied.
        (spec.mode != Mode::Auto, "spec.mode"),
        // Nothing waits at a gateway that could wake the service.
        (spec.scale_to_zero.is_some(), "spec.scaleToZero"),
        // There is no ConfigMap; `profileSkew` states what the policy knows.
        (
            prefill.is_some_and(|prefill| prefill.profile_ref.is_some()),
            "spec.capacity.prefill.profileRef",
        ),
        (
            decode.is_some_and(|decode| decode.profile_ref.is_some()),
            "spec.capacity.decode.profileRef",
        ),
        (spec.metrics != MetricsSpec::default(), "spec.metrics"),
    ];
    let stated = stated.into_iter().filter(|(is_stated, _)| *is_stated);
    stated
        .map(|(_, path)| FieldError {
            path: path.to_owned(),
            value: "set".to_owned(),
            remedy: NOT_SIMULATED.to_owned(),
        })
        .collect()
}
