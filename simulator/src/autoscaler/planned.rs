//! The clairvoyant plan, carried out: replicas requested so early that they serve when needed.
//!
//! It shows what the clairvoyant bound is worth in the world it bounds: how many requests attain
//! the objective when exactly those replicas serve. The plan is made beforehand from the whole
//! trace, by [`crate::clairvoyant`]; nothing is read from the service.

use pd_core::PerRole;

use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::Nanos;

/// A plan known before the run.
#[derive(Clone, Debug)]
pub struct Planned {
    window: Nanos,
    lead: PerRole<Nanos>,
    interval: Nanos,
    serving: PerRole<Vec<u32>>,
}

impl Planned {
    /// `serving` has the replicas to serve in each `window` of the run. A replica takes its role's
    /// `lead` to start, and decisions are `interval` apart.
    pub fn new(
        serving: PerRole<Vec<u32>>,
        window: Nanos,
        lead: PerRole<Nanos>,
        interval: Nanos,
    ) -> Self {
        Self {
            window: window.max(1),
            lead,
            interval,
            serving,
        }
    }

    /// The most replicas of `plan` from `from` to `until`.
    fn most(&self, plan: &[u32], from: Nanos, until: Nanos) -> u32 {
        let index = |at: Nanos| usize::try_from(at / self.window).unwrap_or(usize::MAX);
        let last = plan.len().saturating_sub(1);
        let (first, end) = (index(from).min(last), index(until).min(last));
        plan.get(first..=end)
            .and_then(|windows| windows.iter().max().copied())
            .unwrap_or(1)
    }
}

impl Autoscaler for Planned {
    fn decide(&mut self, _: &Observation, now: Nanos) -> PolicyVerdict {
        PolicyVerdict::of(PerRole {
            prefill: self.most(
                &self.serving.prefill,
                now,
                now + self.lead.prefill + self.interval,
            ),
            decode: self.most(
                &self.serving.decode,
                now,
                now + self.lead.decode + self.interval,
            ),
        })
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }
}
