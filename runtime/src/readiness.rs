//! Readiness: a list of named conditions, each reported by the part that knows, all needed for the
//! process to be ready.
//!
//! Owns the list and nothing else: it probes nothing, so asking for readiness costs a lock and
//! never blocks on a slow dependency. A part registers its check when it starts and the check waits
//! until the part says otherwise; a check that nobody reports on keeps the process unready, which
//! is the safe mistake.
//!
//! A process that is shutting down is unready from the first moment, whatever its checks say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

const NOT_REPORTED: &str = "not reported yet";

/// The readiness checks of the process. Clones share the checks.
#[derive(Debug, Clone)]
pub struct Readiness {
    checks: Arc<Mutex<BTreeMap<String, Check>>>,
    stopping: CancellationToken,
}

/// The state of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Check {
    /// The part works.
    Ready,
    /// The part cannot work yet, or not any more.
    Waiting {
        /// The reason, for a person to read.
        reason: String,
    },
}

/// The states of all checks, and the verdict that follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether every check is ready and the process is not shutting down.
    pub ready: bool,
    /// The checks by name, including those that are ready.
    pub checks: BTreeMap<String, Check>,
}

/// The right to report on one check. Dropping it leaves the last report standing.
#[derive(Debug)]
pub struct ReadinessHandle {
    name: String,
    readiness: Readiness,
}

impl Readiness {
    /// An empty list: ready until a check is registered or `stopping` is cancelled.
    pub fn new(stopping: CancellationToken) -> Self {
        Self {
            checks: Arc::default(),
            stopping,
        }
    }

    /// Adds the check `name`, which waits until its handle reports.
    ///
    /// A name registered again starts over as waiting, and both handles report on it.
    pub fn register(&self, name: impl Into<String>) -> ReadinessHandle {
        let name = name.into();
        let reason = NOT_REPORTED.to_owned();
        self.lock().insert(name.clone(), Check::Waiting { reason });
        ReadinessHandle {
            name,
            readiness: self.clone(),
        }
    }

    /// The states of all checks now.
    pub fn report(&self) -> Report {
        let mut checks = self.lock().clone();
        if self.stopping.is_cancelled() {
            let reason = "the process is shutting down".to_owned();
            checks.insert("shutdown".to_owned(), Check::Waiting { reason });
        }
        Report {
            ready: checks.values().all(|check| *check == Check::Ready),
            checks,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Check>> {
        // The map is valid after every single operation, so a panic elsewhere does not spoil it.
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadinessHandle {
    /// Reports that the part works.
    pub fn set_ready(&self) {
        self.set(Check::Ready);
    }

    /// Reports that the part cannot work, because of `reason`.
    pub fn set_waiting(&self, reason: impl Into<String>) {
        self.set(Check::Waiting {
            reason: reason.into(),
        });
    }

    fn set(&self, check: Check) {
        let previous = self
            .readiness
            .lock()
            .insert(self.name.clone(), check.clone());
        if previous.as_ref() == Some(&check) {
            return;
        }
        match check {
            Check::Ready => tracing::info!(check = self.name, "ready"),
            Check::Waiting { reason } => tracing::info!(check = self.name, reason, "not ready"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn waiting(reason: &str) -> Check {
        Check::Waiting {
            reason: reason.into(),
        }
    }

    #[rstest]
    #[case::no_checks(&[], true)]
    #[case::all_ready(&[("a", Some("up")), ("b", Some("up"))], true)]
    #[case::one_unreported(&[("a", Some("up")), ("b", None)], false)]
    #[case::one_waiting(&[("a", Some("no route")), ("b", Some("up"))], false)]
    fn the_process_is_ready_when_every_check_is(
        #[case] reports: &[(&str, Option<&str>)],
        #[case] ready: bool,
    ) {
        let readiness = Readiness::new(CancellationToken::new());
        for (name, report) in reports {
            let handle = readiness.register(*name);
            match report {
                Some("up") => handle.set_ready(),
                Some(reason) => handle.set_waiting(*reason),
                None => {}
            }
        }
        let report = readiness.report();
        assert_eq!((report.ready, report.checks.len()), (ready, reports.len()));
    }

    #[test]
    fn a_check_can_go_back_to_waiting() {
        let readiness = Readiness::new(CancellationToken::new());
        let handle = readiness.register("caches-synced");
        assert_eq!(
            readiness.report().checks["caches-synced"],
            waiting(NOT_REPORTED)
        );
        handle.set_ready();
        assert!(readiness.report().ready);
        handle.set_waiting("watch of pods broke");
        assert_eq!(
            readiness.report().checks["caches-synced"],
            waiting("watch of pods broke")
        );
    }

    #[test]
    fn shutting_down_is_unready_at_once() {
        let stopping = CancellationToken::new();
        let readiness = Readiness::new(stopping.clone());
        readiness.register("caches-synced").set_ready();
        assert!(readiness.report().ready);
        stopping.cancel();
        assert!(!readiness.report().ready);
    }
}
