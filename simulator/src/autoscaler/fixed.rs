//! Static provisioning: the same replicas all along.
//!
//! Fixed replicas, where nothing scales: enough for the busiest moment, held for ever. The search
//! for the fewest such replicas belongs to whoever plays the runs.

use pd_core::PerRole;

use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::Nanos;

/// Replicas that never change.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    replicas: PerRole<u32>,
}

impl Fixed {
    /// Holds `replicas`.
    pub fn new(replicas: PerRole<u32>) -> Self {
        Self { replicas }
    }
}

impl Autoscaler for Fixed {
    fn decide(&mut self, _: &Observation, _: Nanos) -> PolicyVerdict {
        PolicyVerdict::of(self.replicas)
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }
}
