//! A load with what was observed of it, and the same load played.
//!
//! The play is read through the same buckets as the observations, so that a quantile that falls
//! between two edges is wrong on both sides alike. Observations of single requests have no buckets.

use std::path::Path;
use std::sync::Arc;

use pd_core::PerRole;
use pd_core::histogram::Histogram;

use super::CalibrateError;
use super::report::{Errors, Fit};
use crate::engine::{self, Ending};
use crate::measured::{Interval, Measured};
use crate::scenario::Scenario;
use crate::simulate::{Quantiles, Run, Source};
use crate::time::{MINUTE, Nanos, from_seconds};
use crate::trace::Observations;

/// Fewest requests of a window whose mean counts.
const WINDOW_REQUESTS_MIN: f64 = 20.0;

/// One latency as it was observed.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub(super) mean: f64,
    /// p50, p90 and p99.
    quantiles: [Option<f64>; 3],
    /// Mean and requests by window.
    windows: Vec<(f64, f64)>,
    /// Upper edges that quantiles were read through, rising.
    edges: Option<Vec<f64>>,
}

/// The percentiles that are compared.
const PERCENTILES: [u8; 3] = [50, 90, 99];

/// A load and what was observed of it.
#[derive(Debug)]
pub struct Known {
    source: Source,
    seed: u64,
    serving: PerRole<Vec<u32>>,
    step: Nanos,
    pub(super) ttft: Observed,
    pub(super) tpot: Observed,
}

/// One latency as it was played.
#[derive(Debug)]
pub(super) struct Tally {
    sum: f64,
    count: f64,
    quantiles: Quantiles,
    /// Requests at or below each edge, not cumulative.
    counts: Vec<f64>,
    windows: Vec<(f64, f64)>,
}

impl Tally {
    fn new(observed: &Observed) -> Self {
        Self {
            sum: 0.0,
            count: 0.0,
            quantiles: Quantiles::default(),
            counts: vec![0.0; observed.edges.as_ref().map_or(0, Vec::len)],
            windows: vec![(0.0, 0.0); observed.windows.len()],
        }
    }

    fn add(&mut self, observed: &Observed, window: usize, value_seconds: f64) {
        self.sum += value_seconds;
        self.count += 1.0;
        self.quantiles.add(from_seconds(value_seconds));
        if let Some(edges) = &observed.edges {
            let place = edges.partition_point(|edge| *edge < value_seconds);
            if let Some(count) = self.counts.get_mut(place) {
                *count += 1.0;
            }
        }
        if let Some((sum, count)) = self.windows.get_mut(window) {
            *sum += value_seconds;
            *count += 1.0;
        }
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    fn quantile(&self, observed: &Observed, percentile: u8) -> Option<f64> {
        let Some(edges) = &observed.edges else {
            return self.quantiles.seconds(percentile.into());
        };
        let mut below = 0.0;
        let buckets = edges.iter().zip(&self.counts).map(|(edge, count)| {
            below += count;
            (*edge, below)
        });
        let all = Histogram::from_cumulative(buckets.collect(), self.count, self.sum)?;
        Some(all.quantile(f64::from(percentile) / 100.0)?.value)
    }

    fn errors(&self, observed: &Observed) -> Errors {
        let error = |simulated: f64, observed: f64| {
            (observed > 0.0).then(|| (simulated / observed - 1.0) * 100.0)
        };
        let of = |place: usize| {
            let (percentile, observed_at) =
                (PERCENTILES.get(place)?, observed.quantiles.get(place)?);
            error(self.quantile(observed, *percentile)?, (*observed_at)?)
        };
        let windows = observed.windows.iter().zip(&self.windows);
        let counted = windows.filter(|((_, seen), (_, played))| {
            *seen >= WINDOW_REQUESTS_MIN && *played >= WINDOW_REQUESTS_MIN
        });
        let absolute = counted.filter_map(|((mean, _), (sum, count))| error(sum / count, *mean));
        let absolute: Vec<f64> = absolute.map(f64::abs).collect();
        let mape = absolute.iter().sum::<f64>() / absolute.len() as f64;
        Errors {
            mape_percent: mape.is_finite().then_some(mape),
            mean_error_percent: error(self.mean(), observed.mean),
            p50_error_percent: of(0),
            p90_error_percent: of(1),
            p99_error_percent: of(2),
        }
    }
}

/// A load as it was played.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) ttft: Tally,
    pub(super) tpot: Tally,
}

impl Known {
    /// The measurements of Prometheus, with the workers that were there.
    pub fn of(measured: &Arc<Measured>, seed: u64, serving: PerRole<Vec<u32>>) -> Self {
        let prefill = measured.whole(|interval| interval.prefill_ttft.as_ref());
        let decode = measured.whole(|interval| interval.decode_ttft.as_ref());
        let added = |decode: Option<&Histogram>| decode.and_then(Histogram::mean).unwrap_or(0.0);
        let added_mean = added(decode.as_ref());
        let windows = |of: &dyn Fn(&Interval) -> Option<(f64, f64)>| {
            let intervals = measured.intervals.iter();
            intervals
                .map(|interval| of(interval).unwrap_or_default())
                .collect()
        };
        let mean = |all: &Histogram| Some((all.mean()?, all.count()));
        let ttft_windows = windows(&|interval| {
            let (ttft, count) = mean(interval.prefill_ttft.as_ref()?)?;
            Some((ttft + added(interval.decode_ttft.as_ref()), count))
        });
        let tpot_windows = windows(&|interval| mean(interval.tpot.as_ref()?));
        let tpot = measured.whole(|interval| interval.tpot.as_ref());
        Self {
            source: Source::of_measured(Arc::clone(measured), seed),
            seed,
            serving,
            step: measured.step_nanos(),
            ttft: Observed::of(prefill.as_ref(), added_mean, ttft_windows),
            tpot: Observed::of(tpot.as_ref(), 0.0, tpot_windows),
        }
    }

    /// Requests with what was observed of each, served by fixed replicas.
    pub fn read(path: &Path, replicas: PerRole<u32>, seed: u64) -> Result<Self, CalibrateError> {
        let mut known = Self {
            source: Source::of_trace(path.to_owned(), 1.0, 1.0, seed),
            seed,
            serving: replicas.map(|count| vec![count]),
            step: MINUTE,
            ttft: Observed::default(),
            tpot: Observed::default(),
        };
        let (mut ttft, mut tpot) = (Exact::default(), Exact::default());
        for observation in Observations::open(path)? {
            let observation = observation?;
            let window = usize::try_from(observation.at / MINUTE).unwrap_or(usize::MAX);
            ttft.add(window, observation.ttft_seconds);
            if let Some(seconds) = observation.tpot_seconds {
                tpot.add(window, seconds);
            }
        }
        (known.ttft, known.tpot) = (ttft.observed(), tpot.observed());
        Ok(known)
    }

    pub(super) fn run(&self, scenario: &Scenario) -> Result<Run, CalibrateError> {
        Ok(Run::over(scenario.clone(), self.source.clone(), self.seed)?)
    }

    pub(super) fn play(&self, run: &Run) -> Result<Played, CalibrateError> {
        for (name, observed) in [("TTFT", &self.ttft), ("TPOT", &self.tpot)] {
            if observed.mean <= 0.0 {
                return Err(CalibrateError::NothingObserved(name));
            }
        }
        let mut played = Played {
            ttft: Tally::new(&self.ttft),
            tpot: Tally::new(&self.tpot),
        };
        let told = |outcome: &engine::RequestOutcome| {
            if outcome.ending != Ending::Completed {
                return;
            }
            let window = usize::try_from(outcome.arrived_at / self.step).unwrap_or(usize::MAX);
            played.ttft.add(&self.ttft, window, outcome.ttft_seconds());
            if let Some(tpot) = outcome.tpot_seconds() {
                played.tpot.add(&self.tpot, window, tpot);
            }
        };
        run.play_given(self.serving.clone(), self.step, told)?;
        Ok(played)
    }

    pub(super) fn errors(&self, played: &Played) -> Fit {
        Fit {
            ttft: played.ttft.errors(&self.ttft),
            tpot: played.tpot.errors(&self.tpot),
        }
    }

    /// How far the fitted means are from the observed ones, the worse of both, as a share.
    pub(super) fn distance(&self, played: &Played) -> f64 {
        let far = |observed: &Observed, tally: &Tally| (tally.mean() / observed.mean).ln().abs();
        far(&self.tpot, &played.tpot).max(far(&self.ttft, &played.ttft))
    }
}

impl Observed {
    /// A histogram, all of it later by `added` seconds.
    fn of(all: Option<&Histogram>, added_seconds: f64, windows: Vec<(f64, f64)>) -> Self {
        let Some(all) = all else {
            return Self::default();
        };
        let at = |percentile: u8| {
            let quantile = all.quantile(f64::from(percentile) / 100.0)?;
            Some(quantile.value + added_seconds)
        };
        let edges = all
            .cumulative()
            .iter()
            .map(|(edge, _)| edge + added_seconds);
        Self {
            mean: all.mean().map_or(0.0, |mean| mean + added_seconds),
            quantiles: PERCENTILES.map(at),
            windows,
            edges: Some(edges.collect()),
        }
    }
}

/// Observations of single requests.
#[derive(Debug, Default)]
struct Exact {
    sum: f64,
    count: f64,
    quantiles: Quantiles,
    windows: Vec<(f64, f64)>,
}

impl Exact {
    /// Most windows: a year of minutes.
    const WINDOWS_MAX: usize = 366 * 1_440;

    fn add(&mut self, window: usize, value_seconds: f64) {
        self.sum += value_seconds;
        self.count += 1.0;
        self.quantiles.add(from_seconds(value_seconds));
        if window >= Self::WINDOWS_MAX {
            return;
        }
        if self.windows.len() <= window {
            self.windows.resize(window + 1, (0.0, 0.0));
        }
        if let Some((sum, count)) = self.windows.get_mut(window) {
            *sum += value_seconds;
            *count += 1.0;
        }
    }

    fn observed(self) -> Observed {
        let mean = |(sum, count): (f64, f64)| (sum / f64::max(count, 1.0), count);
        Observed {
            mean: self.sum / f64::max(self.count, 1.0),
            quantiles: PERCENTILES.map(|percentile| self.quantiles.seconds(percentile.into())),
            windows: self.windows.into_iter().map(mean).collect(),
            edges: None,
        }
    }
}

impl Fit {
    /// The fit of a scenario as it is.
    pub fn of(scenario: &Scenario, known: &Known) -> Result<Self, CalibrateError> {
        Ok(known.errors(&known.play(&known.run(scenario)?)?))
    }
}
