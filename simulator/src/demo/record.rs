//! The record of a run: the numbers of the charts, the decisions, and the summary.
//!
//! Plain data that serialises to what the page reads, live and in the report alike. Latencies and
//! attainment are what the users of the service saw, taken from the requests themselves; the
//! controller never sees these numbers. GPUs are counted as long as a worker holds them: while it
//! starts, serves and drains.

use pd_core::{PerRole, Report};
use serde::Serialize;

use super::rival::RivalAbout;
use super::scenario::About;
pub use crate::world::Replicas;

/// One point of every chart: what happened since the point before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// End of the span, seconds of virtual time.
    pub at_seconds: f64,
    /// Requests that arrived since the start of the run.
    pub requests: u64,
    /// Requests per second that arrived.
    pub rps: f64,
    /// Prompt tokens per request, mean; nothing when none arrived.
    pub isl: Option<f64>,
    /// Output tokens per request, mean; nothing when none arrived.
    pub osl: Option<f64>,
    /// TTFT at the objective's percentile of the requests that ended, milliseconds.
    pub ttft_ms: Option<f64>,
    /// TPOT at the objective's percentile of the requests that ended, milliseconds.
    pub tpot_ms: Option<f64>,
    /// Share of the requests that ended within both limits, 0 to 1.
    pub attained: Option<f64>,
    /// The same since the start of the run.
    pub attained_so_far: Option<f64>,
    /// Replicas at the end of the span.
    pub replicas: PerRole<Replicas>,
    /// GPUs held at the end of the span.
    pub gpus: u32,
    /// GPU-hours since the start of the run.
    pub gpu_hours: f64,
    /// The most replicas asked for so far, each role by itself.
    pub replicas_max: PerRole<u32>,
    /// GPU-hours that so many replicas, held from the start, would have taken.
    pub static_gpu_hours: f64,
}

/// One decision as shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When, seconds of virtual time.
    pub at_seconds: f64,
    /// Replicas before.
    pub from: PerRole<u32>,
    /// Replicas after.
    pub to: PerRole<u32>,
    /// Why, in one word.
    pub reason: &'static str,
    /// The meaning of that word.
    pub meaning: &'static str,
    /// The deciding step, with its numbers.
    pub message: String,
    /// The whole report.
    pub paragraph: String,
}

impl Entry {
    /// The decision that `report` is about.
    pub fn of(at_seconds: f64, report: &Report) -> Self {
        let message = report
            .step(report.reason)
            .map_or_else(|| report.headline(), |step| step.message.clone());
        Self {
            at_seconds,
            from: report.from,
            to: report.to,
            reason: report.reason.as_str(),
            meaning: report.reason.doc().trim(),
            message,
            paragraph: report.paragraph(),
        }
    }
}

/// How a run ended and what it came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Whether the whole day was played.
    pub complete: bool,
    /// Virtual time played, seconds.
    pub played_seconds: f64,
    /// Requests sent.
    pub requests: u64,
    /// Requests that got their whole answer.
    pub completed: u64,
    /// Requests no worker could ever hold.
    pub refused: u64,
    /// Requests that neither completed nor were refused, or that had to start over.
    pub dropped: u64,
    /// Share of requests within both limits, 0 to 1.
    pub attained: Option<f64>,
    /// GPU-hours held.
    pub gpu_hours: f64,
    /// GPU-hours of the most replicas asked for, held for the whole run.
    pub static_gpu_hours: f64,
    /// The most replicas asked for, each role by itself.
    pub replicas_max: PerRole<u32>,
    /// The fewest replicas asked for, each role by itself.
    pub replicas_min: PerRole<u32>,
    /// Changes of a role's replicas.
    pub scale_events: PerRole<u32>,
    /// Decisions made.
    pub decisions: u64,
    /// Plans that broke an invariant and were not applied; anything but 0 is a bug.
    pub audit_findings: u64,
}

impl Summary {
    /// Share of the static GPU-hours that were not needed, 0 to 1.
    pub fn saved(&self) -> f64 {
        if self.static_gpu_hours > 0.0 {
            1.0 - self.gpu_hours / self.static_gpu_hours
        } else {
            0.0
        }
    }
}

/// The rival's run beside the product's, at the same times.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RivalRecord {
    /// The rival as shown.
    pub about: RivalAbout,
    /// Points of the charts, oldest first.
    pub points: Vec<Point>,
    /// The summary, once the run has ended whole.
    pub summary: Option<Summary>,
}

/// Everything the page shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The scenario.
    pub about: About,
    /// Points of the charts, oldest first.
    pub points: Vec<Point>,
    /// Decisions that changed replicas, oldest first.
    pub changes: Vec<Entry>,
    /// The latest decision, whether it changed anything or not.
    pub latest: Option<Entry>,
    /// The summary, once the run has ended.
    pub summary: Option<Summary>,
    /// The rival, if one plays.
    pub rival: Option<RivalRecord>,
}

impl Record {
    /// The same run before anything has happened.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let rival = self.rival.as_ref().map(|rival| rival.about.clone());
        Self::new(self.about.clone(), rival)
    }

    /// A run of which nothing has happened yet.
    pub fn new(about: About, rival: Option<RivalAbout>) -> Self {
        Self {
            about,
            points: Vec::new(),
            changes: Vec::new(),
            latest: None,
            summary: None,
            rival: rival.map(|about| RivalRecord {
                about,
                points: Vec::new(),
                summary: None,
            }),
        }
    }
}
