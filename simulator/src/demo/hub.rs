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
    rival_points: usize,
    changes: usize,
}

/// The part that a page has not seen yet.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct News<'a> {
    points: &'a [Point],
    rival_points: &'a [Point],
    changes: &'a [Entry],
    latest: Option<&'a Entry>,
    summary: Option<&'a Summary>,
    rival_summary: Option<&'a Summary>,
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

    /// Adds a step and the rival's points of the same time; pages are told when there are points,
    /// which is several times a second.
    pub(super) fn add(&self, step: StepOutcome, rival_points: Vec<Point>) {
        let due = !step.points.is_empty();
        {
            let mut record = self.record();
            record.points.extend(step.points);
            if step.changed {
                record.changes.extend(step.decision.clone());
            }
            // The product always says why.
            record.latest = step.decision;
            if let Some(rival) = &mut record.rival {
                rival.points.extend(rival_points);
            }
        }
        if due {
            self.tell();
        }
    }

    /// Ends the run.
    pub(super) fn end(&self, summary: Summary, of_rival: Option<Summary>) {
        {
            let mut record = self.record();
            record.summary = Some(summary);
            if let Some(rival) = &mut record.rival {
                rival.summary = of_rival;
            }
        }
        self.tell();
    }

    fn tell(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// The part that `seen` does not have yet, as JSON, and whether the run has ended with it.
    pub(super) fn news(&self, seen: &mut Seen) -> serde_json::Result<(String, bool)> {
        let record = self.record();
        let rival = record.rival.as_ref();
        let rival_points = rival.map_or(&[][..], |rival| &rival.points);
        let news = News {
            points: record.points.get(seen.points..).unwrap_or_default(),
            rival_points: rival_points.get(seen.rival_points..).unwrap_or_default(),
            changes: record.changes.get(seen.changes..).unwrap_or_default(),
            latest: record.latest.as_ref(),
            summary: record.summary.as_ref(),
            rival_summary: rival.and_then(|rival| rival.summary.as_ref()),
        };
        *seen = Seen {
            points: record.points.len(),
            rival_points: rival_points.len(),
            changes: record.changes.len(),
        };
        Ok((serde_json::to_string(&news)?, record.summary.is_some()))
    }
}
