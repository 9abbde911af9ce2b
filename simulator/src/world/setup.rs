//! The setup of a world, besides its requests and its autoscaler.

use pd_core::PerRole;
use pd_core::policy::Policy;

use crate::engine::{Dispatch, Profile};
use crate::fault::Fault;
use crate::lifecycle::Lifecycle;
use crate::observe::Windows;
use crate::time::{MINUTE, Nanos, SECOND};

/// The setup of a world, besides its requests and its autoscaler.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The owner's policy.
    pub policy: Policy,
    /// How fast a worker is, and how long it takes to start.
    pub profile: Profile,
    /// How requests find their workers, and KV caches their way.
    pub dispatch: Dispatch,
    /// GPUs of one replica of each role.
    pub gpus_per_replica: PerRole<u32>,
    /// Replicas that are ready when the run starts.
    pub replicas_at_start: PerRole<u32>,
    /// Time between two decisions; above 0.
    pub interval: Nanos,
    /// Time between two scrapes; above 0, and `interval` a multiple of it.
    pub scrape_interval: Nanos,
    /// Windows that signals are taken over.
    pub windows: Windows,
    /// How long the service has served before the autoscaler comes to it, as it would to a service
    /// that exists.
    pub warm_up: Nanos,
    /// Length of the run.
    pub length: Nanos,
    /// The profile that the policy gets of a replica; without, it learns.
    pub stated_profile: Option<pd_core::capacity::Profile>,
    /// How replicas start, serve and leave.
    pub lifecycle: Lifecycle,
    /// The faults.
    pub faults: Vec<Fault>,
    /// Seed of starts and of faults' victims.
    pub seed: u64,
}

impl Setup {
    /// A setup with the controller's usual intervals and windows, a warm-up of ten minutes, and one
    /// replica of four GPUs of each role.
    pub fn new(policy: Policy, profile: Profile, length: Nanos) -> Self {
        Self {
            policy,
            profile,
            dispatch: Dispatch::default(),
            gpus_per_replica: PerRole::from_fn(|_| 4),
            replicas_at_start: PerRole::from_fn(|_| 1),
            interval: 15 * SECOND,
            scrape_interval: 15 * SECOND,
            windows: Windows::default(),
            warm_up: 10 * MINUTE,
            length,
            stated_profile: None,
            lifecycle: Lifecycle::default(),
            faults: Vec::new(),
            seed: 0,
        }
    }
}
