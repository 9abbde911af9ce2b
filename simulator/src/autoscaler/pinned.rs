//! Somebody else's policy for one role, the other held: how one knob is searched at a time.

use pd_core::{PerRole, Role};

use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::Nanos;

/// A policy whose word on one role does not count.
#[derive(Debug)]
pub struct Pinned {
    inner: Box<dyn Autoscaler>,
    role: Role,
    replicas: u32,
}

impl Pinned {
    /// `inner` with `role` held at `replicas`.
    pub fn new(inner: Box<dyn Autoscaler>, role: Role, replicas: u32) -> Self {
        Self {
            inner,
            role,
            replicas,
        }
    }
}

impl Autoscaler for Pinned {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        let verdict = self.inner.decide(observation, now);
        let mut replicas: PerRole<u32> = verdict.replicas;
        replicas[self.role] = self.replicas;
        PolicyVerdict {
            replicas,
            ..verdict
        }
    }

    fn reads(&self) -> Reads {
        self.inner.reads()
    }
}
