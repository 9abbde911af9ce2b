//! The record of the run in progress, shared between the player and the live page.
//!
//! The player adds to it; every open page reads what it has not seen yet, at its own pace. A page
//! that is slow or comes late misses nothing and holds nothing up.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use super::record::{Entry, Point, Record, Summary};
use super::world::StepOutcome;

/// How much of a record a page has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    points: usize,
    changes: usize,
}

/// The part that a page has not seen yet.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct News<'a> {
    points: &'a [Point],
    changes: &'a [Entry],
    latest: Option<&'a Entry>,
    summary: Option<&'a Summary>,
}

/// A record that can be watched.
#[derive(Debug)]
pub(super) struct Hub {
    record: Mutex<Record>,
    version: watch::Sender<u64>,
}

impl Hub {
    pub(super) fn new(record: Record) -> Self {
        Self {
            record: Mutex::new(record),
            version: watch::Sender::new(0),
        }
    }

    /// The record as it is. A panic elsewhere cannot leave it half-written in a way that matters.
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of every later change.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Adds a step; pages are told when it has a point, which is several times a second.
    pub(super) fn add(&self, step: StepOutcome) {
        let due = step.point.is_some();
        {
            let mut record = self.record();
            record.points.extend(step.point);
            if step.changed {
                record.changes.push(step.decision.clone());
            }
            record.latest = Some(step.decision);
        }
        if due {
            self.tell();
        }
    }

    /// Ends the run.
    pub(super) fn end(&self, summary: Summary) {
        self.record().summary = Some(summary);
        self.tell();
    }

    fn tell(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// The part that `seen` does not have yet, as JSON, and whether the run has ended with it.
    pub(super) fn news(&self, seen: &mut Seen) -> serde_json::Result<(String, bool)> {
        let record = self.record();
        let news = News {
            points: record.points.get(seen.points..).unwrap_or_default(),
            changes: record.changes.get(seen.changes..).unwrap_or_default(),
            latest: record.latest.as_ref(),
            summary: record.summary.as_ref(),
        };
        *seen = Seen {
            points: record.points.len(),
            changes: record.changes.len(),
        };
        Ok((serde_json::to_string(&news)?, record.summary.is_some()))
    }
}
