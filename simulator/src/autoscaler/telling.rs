//! Any policy, with each change of replicas told to whoever wants to know.
//!
//! A run owns its policy, so what is told is kept in a list that both share. Decisions that change
//! nothing are not told: there are thousands of them in a day.

use std::sync::{Arc, Mutex, PoisonError};

use pd_core::PerRole;

use super::{Autoscaler, Reads, Sight, Verdict};
use crate::time::Nanos;

/// A change of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When, time of the run.
    pub at: Nanos,
    /// Replicas before.
    pub from: PerRole<u32>,
    /// Replicas after.
    pub to: PerRole<u32>,
    /// Why, in one word; empty if the policy does not say.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// What is told, shared with the policy that tells it.
#[derive(Clone, Debug, Default)]
pub struct Changes(Arc<Mutex<Vec<Told>>>);

impl Changes {
    /// All that was told so far; the list is empty afterwards.
    pub fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A policy that tells.
#[derive(Debug)]
pub struct Telling {
    inner: Box<dyn Autoscaler>,
    changes: Changes,
}

impl Telling {
    /// Lets `inner` tell, and where.
    pub fn new(inner: Box<dyn Autoscaler>) -> (Self, Changes) {
        let changes = Changes::default();
        let telling = Self {
            inner,
            changes: changes.clone(),
        };
        (telling, changes)
    }
}

impl Autoscaler for Telling {
    fn decide(&mut self, sight: &Sight, now: Nanos) -> Verdict {
        let verdict = self.inner.decide(sight, now);
        let from = sight.snapshot.roles.map(|role| role.current);
        if verdict.replicas != from {
            let report = verdict.report.as_ref();
            let step = report.and_then(|report| report.step(report.reason));
            let told = Told {
                at: now,
                from,
                to: verdict.replicas,
                reason: report.map_or(String::new(), |report| report.reason.as_str().to_owned()),
                message: step.map_or(String::new(), |step| step.message.clone()),
            };
            self.changes
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(told);
        }
        verdict
    }

    fn reads(&self) -> Reads {
        self.inner.reads()
    }
}
