//! Where requests come from: a trace, or the embedded day. It can be opened again and again and
//! gives the same requests each time.

use std::path::PathBuf;

use super::SimulateError;
use super::options::Options;
use crate::engine::Arrival;
use crate::time::{DAY, Nanos};
use crate::trace::{Overlay, TraceError};
use crate::traffic::{Arrivals, Curve, DayError, servegen_day};

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
    Day(Curve),
}

impl Source {
    /// The source that the options name, cut off at `until`.
    pub fn of(options: &Options, until: Option<Nanos>) -> Result<Self, SimulateError> {
        let copies = options.copies;
        let kind = if let Some(path) = options.trace.clone() {
            Kind::Trace { path, copies }
        } else {
            let day = servegen_day()?.scaled(f64::from(copies));
            Kind::Day(day.map_err(DayError::from)?)
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
            Kind::Day(curve) => {
                let arrivals = Arrivals::new(curve.clone(), self.seed, 0, DAY.min(until));
                Box::new(arrivals.map(Ok))
            }
        })
    }

    /// Length of a run whose last request comes at `last_at`: to the end of its interval.
    pub fn length(&self, last_at: Nanos, interval: Nanos) -> Nanos {
        let end = match self.kind {
            Kind::Trace { .. } => last_at.saturating_add(1),
            Kind::Day(_) => DAY,
        };
        let end = self.until.map_or(end, |until| until.min(end));
        end.div_ceil(interval.max(1)).max(1) * interval
    }
}
