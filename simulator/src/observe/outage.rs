//! Outages: workers that Prometheus does not see, and a Prometheus that is down.
//!
//! A scrape that is lost leaves a gap in ranges and ends the series for instant queries, as a
//! staleness marker does. A worker that is gone while its pod still counts as ready is one that is
//! not scraped. While Prometheus is down nothing is scraped, and every query fails.

use std::time::Duration;

use pd_core::signal::HistogramReading;
use pd_core::signal::name::{SignalName, SlotMut};
use pd_core::{Gap, Reading, Signals};

/// Where the workers and what the API server and Prometheus know of them differ.
#[derive(Clone, Debug, Default)]
pub struct Blur {
    /// Workers that are gone and still count as ready.
    pub ghosts: Vec<String>,
    /// Workers that take requests and count as leaving.
    pub deleted: Vec<String>,
    /// Workers whose scrape is lost.
    pub unanswered: Vec<String>,
}

impl Blur {
    pub(super) fn leaves(&self, name: &str) -> bool {
        self.deleted.iter().any(|other| other == name)
    }

    pub(super) fn answers(&self, name: &str) -> bool {
        !self.unanswered.iter().any(|other| other == name)
    }
}

/// The signals when every query fails. The user's own queries are not asked here.
pub(super) fn failed(rate_window: Duration) -> Signals {
    let mut signals = Signals {
        rate_window,
        ..Signals::default()
    };
    let lost = HistogramReading::Unknown(Gap::QueryFailed);
    for &name in SignalName::ALL.iter().filter(|name| name.role().is_some()) {
        match signals.slot_mut(name) {
            SlotMut::Number(reading) => *reading = Reading::Unknown(Gap::QueryFailed),
            SlotMut::Attainment(reading) => *reading = lost.clone(),
            SlotMut::Distribution(recent, wide) => (*recent, *wide) = (lost.clone(), lost.clone()),
        }
    }
    signals
}
