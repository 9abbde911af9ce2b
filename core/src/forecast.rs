//! Forecasts of work: the value that a role's load stays below, a lead time ahead, with a
//! probability that the caller names.
//!
//! A [`Forecaster`] keeps nothing but the last four hours of work, one value a minute. A forecast
//! replays them: five simple predictors (the last value, three EWMAs, an autoregression), each
//! scored on its past answers at the same horizon; their average, weighted by score; and
//! above it the quantile of the average's own past errors, as conformal prediction takes it. So a
//! changed lead time costs nothing, a restart changes nothing, and there is no state to go stale.
//!
//! Measured on production traces, it refuses methods that did not pay in pinball loss: one winner
//! in place of the average (1 % worse), errors relative to the level rather than to its root (3 %),
//! a damped trend (8 %), a quantile that adapts to misses (2 %), and the profile of the day before
//! (no better).

mod history;
mod predictor;
mod residual;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use self::{
    history::{History, SLOT},
    predictor::{Mixture, PREDICTORS, Predictions, comes_back, continued},
};
use crate::time::Timestamp;

/// Longest span a forecast looks ahead, in minutes; further ahead is answered as this far.
const HORIZON_SLOTS_MAX: usize = 30;

/// Quantiles outside are answered as the nearer end: below, nothing is a headroom; above, four
/// hours of errors say nothing.
const QUANTILE_MIN: f64 = 0.5;
const QUANTILE_MAX: f64 = 0.999;

/// Errors after which the prior error has no say any more. Fewer than a quarter have none yet.
const ERRORS_TRUSTED: usize = 32;

/// Relative error assumed before errors are known, of a forecast for the present moment. It grows
/// with the root of the horizon and doubles at nine minutes. On the traces the headroom at p95
/// that turned out right is a little smaller.
const PRIOR_ERROR: f64 = 0.12;
const PRIOR_ERROR_SLOTS: f64 = 3.0;

/// A forecast never exceeds this multiple of the most work that the history holds.
const BEYOND_SEEN: f64 = 3.0;

/// Errors that may come out above the quantile are counted as fewer than its share: by one, as four
/// hours are too short to show the worst, and by this much per slot of the horizon, as errors of
/// overlapping spans repeat each other. Set so that coverage on the traces is that of the quantile.
const OVERLAP_ERRORS: f64 = 0.25;

/// At most this share of them is taken away.
const CAUTION_MAX: f64 = 0.5;

/// Quantiles that stand for all work that may come, and the share of it that each stands for:
/// fifths, and the highest one in finer parts, because nearly all misses are made there.
const SCENARIOS: Scenarios = [
    (0.1, 0.2),
    (0.3, 0.2),
    (0.5, 0.2),
    (0.7, 0.2),
    (0.85, 0.1),
    (0.925, 0.05),
    (0.965, 0.03),
    (0.985, 0.01),
    (0.993_5, 0.007),
    (0.998_5, 0.003),
];

/// Work that may come, as `(work, probability)`; probabilities sum to 1.
pub type Scenarios = [(f64, f64); 10];

/// The past work of one role, from which forecasts are made. Plain data, at most 1.8 KiB of JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecaster {
    history: History,
    /// Worth of one unit of the history in the caller's unit, once that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<f64>,
}

/// A forecast of [`Forecaster::forecast`]. Work is in the unit that was observed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// Work that is not exceeded with the probability [`quantile`](Self::quantile), 0 or more.
    pub value: f64,
    /// The central forecast, without headroom, 0 or more.
    pub mean: f64,
    /// Work at the last observation.
    pub latest: f64,
    /// How far ahead, from the moment of the question, in seconds.
    pub horizon_seconds: f64,
    /// The quantile that was answered, 0.5 to 0.999.
    pub quantile: f64,
    /// The basis of the headroom, and the predictor with the largest weight.
    pub model: Model,
    /// Past errors at this horizon that were known.
    pub samples: u32,
}

/// The distribution of the work that comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForecastDistribution {
    /// The quantile that was requested.
    pub forecast: Forecast,
    /// All work that may come, in scenarios.
    pub scenarios: Scenarios,
}

impl ForecastDistribution {
    /// The same for what follows the work only by `part`, 0 to 1, of its change from now.
    #[must_use]
    pub fn damped(self, part: f64) -> Self {
        let Self {
            forecast,
            scenarios,
        } = self;
        let latest = forecast.latest;
        let damped = |work: f64| latest + (work - latest) * part;
        Self {
            forecast: Forecast {
                value: damped(forecast.value),
                mean: damped(forecast.mean),
                ..forecast
            },
            scenarios: scenarios.map(|(work, share)| (damped(work), share)),
        }
    }

    /// The same in another unit, of which there are `factor` in one of this.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        let Self {
            forecast,
            scenarios,
        } = self;
        Self {
            forecast: Forecast {
                value: forecast.value * factor,
                mean: forecast.mean * factor,
                latest: forecast.latest * factor,
                ..forecast
            },
            scenarios: scenarios.map(|(work, share)| (work * factor, share)),
        }
    }
}

/// Where a forecast comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Model {
    /// Too little history: the assumed error around the average of the predictors.
    Prior,
    /// Led by the last value.
    Last,
    /// Led by the fast average, which forgets six tenths a minute.
    EwmaFast,
    /// Led by the middle average, three tenths a minute.
    EwmaMiddle,
    /// Led by the slow average, 0.12 a minute.
    EwmaSlow,
    /// Led by the autoregression on the last three values.
    Autoregression,
}

impl Model {
    /// In the order of the predictors.
    const LED_BY: [Self; PREDICTORS] = [
        Self::Last,
        Self::EwmaFast,
        Self::EwmaMiddle,
        Self::EwmaSlow,
        Self::Autoregression,
    ];
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prior => "an assumed error",
            Self::Last => "last value",
            Self::EwmaFast => "EWMA(0.6)",
            Self::EwmaMiddle => "EWMA(0.3)",
            Self::EwmaSlow => "EWMA(0.12)",
            Self::Autoregression => "AR(3)",
        })
    }
}

impl Forecast {
    /// One clause for a report: model, value, horizon, quantile, and the work now.
    pub fn message(&self) -> String {
        let Self { value, latest, .. } = self;
        format!(
            "forecast by {}: {} in {:.0} s at p{}, from {} now",
            self.model,
            Figures(*value),
            self.horizon_seconds,
            // Quantiles are reported in percent, to a tenth.
            (self.quantile * 1_000.0).round() / 10.0,
            Figures(*latest),
        )
    }
}

/// A number as a person reads it: three figures when small, whole when large.
struct Figures(f64);

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = match self.0 {
            x if x >= 100.0 => 0,
            x if x >= 10.0 => 1,
            _ => 2,
        };
        write!(f, "{:.decimals$}", self.0)
    }
}

impl Forecaster {
    /// Takes in that the work was `value` at `now`: a mean over the minute or two before.
    ///
    /// Within a minute of the clock the last observation counts; the same one twice changes
    /// nothing. NaN, infinite and negative values are ignored. After a pause of more than five
    /// minutes, or when the clock jumped back, the level starts again and the errors stay known.
    pub fn observe(&mut self, value: f64, now: Timestamp) {
        self.history.observe(value, now);
    }

    /// From now on, one unit of the history is worth `unit`, above 0. A history from before that
    /// was known is of another unit, and is forgotten.
    pub fn measure_in(&mut self, unit: f64) {
        if self.unit.is_none() {
            self.history = History::default();
        }
        self.unit = Some(unit);
    }

    /// Worth of one unit of the history: as it was last known, and 1 while it never was.
    pub fn unit(&self) -> f64 {
        self.unit.unwrap_or(1.0)
    }

    /// The part, 0 to 1, of the changes of the work that was noise and came back by itself within
    /// `horizon`; 0 when not known.
    pub fn comes_back(&self, horizon: Duration) -> f64 {
        comes_back(&self.history.replay(), slots(horizon))
    }

    /// The work at the last observation.
    pub fn latest(&self) -> Option<f64> {
        self.history.latest().map(|(work, _)| work)
    }

    /// Work at `now + horizon` that is not exceeded with probability `quantile`. Nothing before the
    /// first observation.
    ///
    /// The age of the last observation lengthens the horizon. A horizon above half an hour counts
    /// as half an hour; a quantile outside 0.5..=0.999, as the nearer of both; one that is NaN, as
    /// 0.999.
    pub fn forecast(&self, horizon: Duration, quantile: f64, now: Timestamp) -> Option<Forecast> {
        let distribution = self.distribution(horizon, quantile, now)?;
        Some(distribution.forecast)
    }

    /// The same, and with it the work that may come as a whole.
    pub fn distribution(
        &self,
        horizon: Duration,
        quantile: f64,
        now: Timestamp,
    ) -> Option<ForecastDistribution> {
        let (latest, at) = self.history.latest()?;
        let quantile = if quantile.is_nan() {
            QUANTILE_MAX
        } else {
            quantile.clamp(QUANTILE_MIN, QUANTILE_MAX)
        };
        let slots = slots(horizon.saturating_add(now.since(at)));
        let replay = self.history.replay();
        let predictions = Predictions::replay(&replay, slots);
        let pairs = predictions.pairs();
        let weights = predictions.weights(1.0 - allowed(quantile, slots, pairs));
        let mut mixture = predictions.mixed(&weights);
        // Averages lag behind growth that goes on.
        let continued = continued(&replay, slots).unwrap_or(0.0);
        mixture.mean = mixture.mean.max(continued);
        let mut ahead = Ahead {
            slots,
            pairs,
            mixture,
            most: BEYOND_SEEN * replay.largest(),
        };
        let heaviest = (0..PREDICTORS).max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
        let forecast = Forecast {
            value: ahead.value(quantile),
            mean: ahead.mixture.mean,
            latest,
            horizon_seconds: horizon.as_secs_f64(),
            quantile,
            model: heaviest
                .filter(|_| ahead.is_known())
                .map_or(Model::Prior, |index| Model::LED_BY[index]),
            samples: u32::try_from(ahead.mixture.errors.len()).unwrap_or(u32::MAX),
        };
        let scenarios = SCENARIOS.map(|(quantile, share)| (ahead.value(quantile), share));
        Some(ForecastDistribution {
            forecast,
            scenarios,
        })
    }
}

/// The mixture of predictors at one horizon.
struct Ahead {
    slots: usize,
    pairs: usize,
    mixture: Mixture,
    /// The most work that is believed.
    most: f64,
}

impl Ahead {
    fn is_known(&self) -> bool {
        self.mixture.errors.len() * 4 >= ERRORS_TRUSTED
    }

    /// Work that is not exceeded with probability `quantile`. Below the median as far from the mean
    /// as the mirrored quantile is above it, because only the errors of rising work matter.
    fn value(&mut self, quantile: f64) -> f64 {
        let headroom = if quantile < QUANTILE_MIN {
            -self.headroom(1.0 - quantile)
        } else {
            self.headroom(quantile)
        };
        (self.mixture.mean + headroom).clamp(0.0, self.most)
    }

    fn headroom(&mut self, quantile: f64) -> f64 {
        let prior = self.mixture.mean * prior_error(self.slots) * normal_quantile_bound(quantile);
        if !self.is_known() {
            return prior;
        }
        let Mixture { errors, scale, .. } = &mut self.mixture;
        let trust = (errors.len() as f64 / ERRORS_TRUSTED as f64).min(1.0);
        let allowed = allowed(quantile, self.slots, self.pairs);
        let learnt = residual::quantile(errors, 1.0 - allowed) * *scale;
        trust * learnt + (1.0 - trust) * prior
    }
}

/// A span in slots, rounded up.
fn slots(span: Duration) -> usize {
    let slots = span.as_millis().div_ceil(SLOT.as_millis());
    usize::try_from(slots)
        .unwrap_or(usize::MAX)
        .clamp(1, HORIZON_SLOTS_MAX)
}

/// Share of errors that may lie above the quantile, smaller the fewer independent ones there are.
fn allowed(quantile: f64, ahead: usize, pairs: usize) -> f64 {
    let above = 1.0 - quantile;
    let caution = (1.0 + OVERLAP_ERRORS * ahead as f64) / pairs.max(1) as f64;
    above - caution.min(CAUTION_MAX * above)
}

/// Relative error assumed before errors are known.
fn prior_error(ahead: usize) -> f64 {
    PRIOR_ERROR * (1.0 + ahead as f64 / PRIOR_ERROR_SLOTS).sqrt()
}

/// Standard deviations that a normal variable exceeds with probability `1 - quantile` at most:
/// P(Z > x) <= exp(-x^2 / 2) / 2. Nothing at the median.
fn normal_quantile_bound(quantile: f64) -> f64 {
    (-2.0 * (2.0 * (1.0 - quantile)).ln()).max(0.0).sqrt()
}

#[cfg(test)]
mod tests;
