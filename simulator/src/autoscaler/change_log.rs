//! Any policy, with a log of each change of replicas.
//!
//! A run owns its policy, so the log is a list that the run's owner shares. Decisions that change
//! nothing are not logged: there are thousands of them in a day.

use std::sync::{Arc, Mutex, PoisonError};

use pd_core::PerRole;

use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::Nanos;

/// A change of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedChange {
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

/// The log, shared with the policy that writes it.
#[derive(Clone, Debug, Default)]
pub struct Changes(Arc<Mutex<Vec<LoggedChange>>>);

impl Changes {
    /// All that was logged so far; the list is empty afterwards.
    pub fn take(&self) -> Vec<LoggedChange> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A policy whose changes are logged.
#[derive(Debug)]
pub struct Logged {
    inner: Box<dyn Autoscaler>,
    changes: Changes,
}

impl Logged {
    /// Logs the changes of `inner`.
    pub fn new(inner: Box<dyn Autoscaler>) -> (Self, Changes) {
        let changes = Changes::default();
        let logged = Self {
            inner,
            changes: changes.clone(),
        };
        (logged, changes)
    }
}

impl Autoscaler for Logged {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        let verdict = self.inner.decide(observation, now);
        let from = observation.snapshot.roles.map(|role| role.current);
        if verdict.replicas != from {
            let report = verdict.report.as_ref();
            let step = report.and_then(|report| report.step(report.reason));
            let change = LoggedChange {
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
                .push(change);
        }
        verdict
    }

    fn reads(&self) -> Reads {
        self.inner.reads()
    }
}
