//! Where requests come from: a trace, drawn traffic, what Prometheus measured, or the embedded day.
//! It can be opened again and again and gives the same requests each time. Played faster, all times
//! shrink alike, those between bursts and those within.

use std::path::PathBuf;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::SimulateError;
use super::kept::{Kept, Requests};
use super::options::SimulateOptions;
use crate::engine::Arrival;
use crate::measured::Measured;
use crate::scenario::Scenario;
use crate::time::{DAY, Nanos, from_seconds, seconds};
use crate::trace::{Overlay, TraceError};
use crate::traffic::{Drawn, DrawnError, servegen_day};

/// Most copies that are laid over each other.
const COPIES_MAX: u32 = 1_000;

/// Purpose of the random stream, beside those of the generator and of copies.
const THINNING_STREAM: u64 = 5;

/// A source of requests.
#[derive(Clone, Debug)]
pub struct Source {
    kind: Kind,
    seed: u64,
    time_scale: f64,
    /// Requests before are left out.
    from: Nanos,
    until: Option<Nanos>,
    /// The requests themselves, once they were read and if they are few enough.
    kept: Option<Kept>,
}

#[derive(Clone, Debug)]
enum Kind {
    Trace {
        path: PathBuf,
        copies: u32,
        /// Share of the requests that are played.
        kept: f64,
    },
    Drawn(Drawn),
    /// Requests drawn from what Prometheus measured.
    Measured(Arc<Measured>),
}

impl Kind {
    /// As many copies as `rate_scale` takes, and a share of their requests where that is no whole
    /// number.
    fn of_trace(path: PathBuf, rate_scale: f64) -> Self {
        let copies = (1..COPIES_MAX).find(|copies| f64::from(*copies) >= rate_scale);
        let copies = copies.unwrap_or(COPIES_MAX);
        let kept = rate_scale / f64::from(copies);
        Self::Trace { path, copies, kept }
    }
}

impl Source {
    /// The source that the options name, or else the scenario, cut off at `until`.
    pub fn of(
        options: &SimulateOptions,
        scenario: &Scenario,
        until: Option<Nanos>,
    ) -> Result<Self, SimulateError> {
        let wanted = f64::from(options.play.copies) * options.play.rate_scale;
        let kind = if let Some(path) = options.trace.clone() {
            Kind::of_trace(path, wanted)
        } else {
            let drawn = match options.traffic.spec(scenario.traffic.as_ref()) {
                Some(spec) => spec.drawn()?,
                None => Drawn::poisson(servegen_day()?, DAY),
            };
            let scaled = drawn.scaled(wanted);
            Kind::Drawn(scaled.map_err(DrawnError::from)?)
        };
        Ok(Self {
            kind,
            seed: options.play.seed,
            time_scale: options.play.time_scale,
            from: from_seconds(options.play.from * 3_600.0),
            until,
            kept: None,
        })
    }

    /// The trace at `path` with `rate_scale` times its requests, played `time_scale` times as fast.
    pub fn of_trace(path: PathBuf, rate_scale: f64, time_scale: f64, seed: u64) -> Self {
        Self {
            kind: Kind::of_trace(path, rate_scale),
            seed,
            time_scale,
            from: 0,
            until: None,
            kept: None,
        }
    }

    /// Requests drawn again from a measured past.
    pub fn of_measured(measured: Arc<Measured>, seed: u64) -> Self {
        Self {
            kind: Kind::Measured(measured),
            seed,
            time_scale: 1.0,
            from: 0,
            until: None,
            kept: None,
        }
    }

    /// Gives these requests, which it gave before, from now on.
    pub(super) fn keep(&mut self, kept: Option<Kept>) {
        self.kept = kept;
    }

    /// The requests from the start.
    pub(crate) fn open(&self) -> Result<Requests, TraceError> {
        if let Some(kept) = &self.kept {
            return Ok(kept.open());
        }
        let until = self.until.unwrap_or(Nanos::MAX);
        let in_time = move |arrival: &Result<Arrival, TraceError>| {
            arrival.as_ref().map_or(true, |arrival| arrival.at < until)
        };
        let (scale, from) = (self.time_scale, self.from);
        let early = move |arrival: &Result<Arrival, TraceError>| {
            let at = arrival.as_ref().ok().map(|arrival| arrival.at);
            at.is_some_and(|at| sooner(at, scale) < from)
        };
        let scaled = move |arrival: Result<Arrival, TraceError>| {
            arrival.map(|arrival| Arrival {
                at: sooner(arrival.at, scale).saturating_sub(from),
                ..arrival
            })
        };
        Ok(match &self.kind {
            Kind::Measured(measured) => {
                Box::new(measured.rebuild(self.seed).map(Ok).take_while(in_time))
            }
            Kind::Trace { path, copies, kept } => {
                let overlay = Overlay::open(path, *copies, self.seed)?;
                let (kept, mut dice) = (*kept, ChaCha8Rng::seed_from_u64(self.seed));
                dice.set_stream(THINNING_STREAM);
                let is_kept = move |arrival: &Result<Arrival, TraceError>| {
                    arrival.is_err() || kept >= 1.0 || dice.random_bool(kept.max(0.0))
                };
                let played = overlay.filter(is_kept).skip_while(early);
                Box::new(played.map(scaled).take_while(in_time))
            }
            Kind::Drawn(drawn) => {
                let arrivals = drawn.arrivals(self.seed, Nanos::MAX).map(Ok);
                let played = arrivals.skip_while(early).map(scaled);
                Box::new(played.take_while(in_time))
            }
        })
    }

    /// Length of a run whose last request comes at `last_at`: to the end of its interval.
    pub fn length(&self, last_at: Nanos, interval: Nanos) -> Nanos {
        let end = match &self.kind {
            Kind::Trace { .. } => last_at.saturating_add(1),
            Kind::Drawn(drawn) => sooner(drawn.length(), self.time_scale).saturating_sub(self.from),
            Kind::Measured(measured) => measured.length(),
        };
        let end = self.until.map_or(end, |until| until.min(end));
        end.div_ceil(interval.max(1)).max(1) * interval
    }
}

/// A time when everything goes `scale` times as fast.
fn sooner(at: Nanos, scale: f64) -> Nanos {
    if scale.total_cmp(&1.0).is_eq() {
        return at;
    }
    from_seconds(seconds(at) / scale)
}
