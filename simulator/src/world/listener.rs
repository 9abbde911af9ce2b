//! Reports of a world while it is played: every request, every decision, the replicas.

use pd_core::PerRole;
use serde::Serialize;

use crate::autoscaler::PolicyVerdict;
use crate::engine::{Arrival, RequestOutcome};
use crate::lifecycle::Loss;
use crate::time::Nanos;

/// Replicas of a role at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replicas {
    /// Asked for.
    pub desired: u32,
    /// Taking requests.
    pub ready: u32,
    /// Not ready yet, and holding GPUs.
    pub starting: u32,
    /// Waiting for GPUs.
    pub pending: u32,
    /// Finishing what they have before they leave.
    pub draining: u32,
}

impl Replicas {
    /// Workers that hold their GPUs.
    pub fn provisioned(&self) -> u32 {
        self.ready + self.starting + self.draining
    }
}

/// Receives every event in order. Times are those of the run: the warm-up, before 0, is left out.
pub trait Listener {
    /// A request was sent.
    fn arrived(&mut self, arrival: &Arrival);
    /// A request ended.
    fn ended(&mut self, outcome: &RequestOutcome);
    /// Workers are so from `now` on; called after every scrape and every decision.
    fn hold(&mut self, now: Nanos, replicas: PerRole<Replicas>);
    /// A decision was made, which is about to be carried out.
    fn decided(&mut self, verdict: &PolicyVerdict);
    /// Requests lost their worker and start over.
    fn lost(&mut self, _loss: Loss) {}
}
