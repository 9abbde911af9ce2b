//! Who decides about replicas in a simulated world: the product, and what it is compared with.
//!
//! Each policy is a file of its own below this one and names the source of its rule. All of them
//! get a [`Observation`], which is what workers and gateway show; none sees the future except the
//! clairvoyant plan, which is a baseline and no product. A policy never touches the workers: the
//! world carries its verdict out, and for all policies alike: the same start-up times, the same
//! choice of who leaves, the same draining.

pub mod command;
pub mod dynamo;
pub mod observation;
pub mod peer;

pub mod aibrix_apa;
pub mod change_log;
pub mod engine_rates;
pub mod fixed;
pub mod heteroscale_fixed_ratio;
pub mod horizontal;
pub mod hpa_average_value;
pub mod hpa_value;
pub mod keda_default;
pub mod knative_kpa;
pub mod kthena_pd_ratio;
pub mod pdautoscaler;
pub mod pinned;
pub mod planned;
pub mod recorded;
pub mod tokenscale_velocity;
pub mod wva_saturation;

use std::fmt;

use pd_core::audit::Finding;
use pd_core::{PerRole, Report};

pub use self::aibrix_apa::AibrixApa;
pub use self::change_log::{Logged, LoggedChange};
pub use self::command::Process;
pub use self::dynamo::Dynamo;
pub use self::fixed::Fixed;
pub use self::heteroscale_fixed_ratio::HeteroscaleFixedRatio;
pub use self::hpa_average_value::HpaAverageValue;
pub use self::hpa_value::HpaValue;
pub use self::keda_default::KedaDefault;
pub use self::knative_kpa::KnativeKpa;
pub use self::kthena_pd_ratio::KthenaPdRatio;
pub use self::observation::{Gateway, Observation, Reads, WorkerObservation};
pub use self::pdautoscaler::PdAutoscaler;
pub use self::peer::{Peer, Variant};
pub use self::pinned::Pinned;
pub use self::planned::Planned;
pub use self::recorded::Recorded;
pub use self::tokenscale_velocity::TokenscaleVelocity;
pub use self::wva_saturation::WvaSaturation;
use crate::time::Nanos;

/// One decision.
#[derive(Clone, Debug)]
pub struct PolicyVerdict {
    /// Replicas to request from now on.
    pub replicas: PerRole<u32>,
    /// Invariants that the plan broke; a plan with any is not in `replicas`.
    pub findings: Vec<Finding>,
    /// Why, if the policy says so.
    pub report: Option<Report>,
    /// The policy cannot go on, and why; the run is worth nothing from here on.
    pub failure: Option<String>,
}

impl PolicyVerdict {
    /// A decision without a word.
    pub fn of(replicas: PerRole<u32>) -> Self {
        Self {
            replicas,
            findings: Vec::new(),
            report: None,
            failure: None,
        }
    }
}

/// A policy in the loop.
pub trait Autoscaler: fmt::Debug + Send {
    /// Decides at `now`, time of the run, on what is seen.
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict;

    /// How much of the service it reads.
    fn reads(&self) -> Reads;
}
