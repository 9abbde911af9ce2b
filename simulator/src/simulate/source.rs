//! Where requests come from: a trace, drawn traffic, or the embedded day. It can be opened again and again and
//! gives the same requests each time.

use std::path::PathBuf;

use super::SimulateError;
use super::options::Options;
use crate::engine::Arrival;
use crate::scenario::Scenario;
use crate::time::{DAY, Nanos};
use crate::trace::{Overlay, TraceError};
use crate::traffic::{Drawn, DrawnError, servegen_day};

/// Requests in order of arrival, which may turn out to be unreadable.
pub(super) type Requests = Box<dyn Iterator<Item = Result<Arrival, TraceError>> + Send>;

/// A source of requests.
#[derive(Clone, Debug)]
pub struct Source {
    kind: Kind,
    seed: u64,
    until: Option<Nanos>,
}

#[derive(Clone, Debug)]
enum Kind {
    Trace { path: PathBuf, copies: u32 },
    Drawn(Drawn),
}

impl Source {
    /// The source that the options name, or else the scenario, cut off at `until`.
    pub fn of(
        options: &Options,
        scenario: &Scenario,
        until: Option<Nanos>,
    ) -> Result<Self, SimulateError> {
        let copies = options.copies;
        let kind = if let Some(path) = options.trace.clone() {
            Kind::Trace { path, copies }
        } else {
            let drawn = match options.traffic.spec(scenario.traffic.as_ref()) {
                Some(spec) => spec.drawn()?,
                None => Drawn::poisson(servegen_day()?, DAY),
            };
            let scaled = drawn.scaled(f64::from(copies));
            Kind::Drawn(scaled.map_err(DrawnError::from)?)
        };
        Ok(Self {
            kind,
            seed: options.seed,
            until,
        })
    }

    /// The requests from the start.
    pub(super) fn open(&self) -> Result<Requests, TraceError> {
        let until = self.until.unwrap_or(Nanos::MAX);
        let in_time = move |arrival: &Result<Arrival, TraceError>| {
            arrival.as_ref().map_or(true, |arrival| arrival.at < until)
        };
        Ok(match &self.kind {
            Kind::Trace { path, copies } => {
                Box::new(Overlay::open(path, *copies, self.seed)?.take_while(in_time))
            }
            Kind::Drawn(drawn) => Box::new(drawn.arrivals(self.seed, until).map(Ok)),
        })
    }

    /// Length of a run whose last request comes at `last_at`: to the end of its interval.
    pub fn length(&self, last_at: Nanos, interval: Nanos) -> Nanos {
        let end = match &self.kind {
            Kind::Trace { .. } => last_at.saturating_add(1),
            Kind::Drawn(drawn) => drawn.length(),
        };
        let end = self.until.map_or(end, |until| until.min(end));
        end.div_ceil(interval.max(1)).max(1) * interval
    }
}
