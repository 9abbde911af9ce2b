//! Five ways to guess the value some slots ahead, replayed over the history as if each had been
//! used at every moment, and their average.
//!
//! A predictor knows at each moment only the values before it. Its errors are measured in the root
//! of the predicted value, for the noise of arrivals grows with the root of the load. Weights fall
//! with the fourth power of the pinball loss at the given quantile: a predictor twice as bad as the
//! best hardly counts, one a little worse still takes its share, and none takes over at once.

use super::{
    history::{Replay, SLOTS_MAX},
    residual,
};

/// How many predictors there are: last, three EWMAs, autoregression.
pub(super) const PREDICTORS: usize = 5;

/// Weight of the newest value in each EWMA; the first is the last value itself.
const SMOOTHING: [f64; PREDICTORS - 1] = [1.0, 0.6, 0.3, 0.12];

/// The EWMA that the autoregression corrects.
const BASE: usize = 2;

/// Values that the autoregression looks at.
const LAGS: usize = 3;

/// The autoregression's forgetting per slot, and how far its coefficients may move at first:
/// little, so that without evidence it agrees with its base.
const FORGETTING: f64 = 0.995;
const FREEDOM: f64 = 0.1;

/// Bounds of a deviation from the base, as a share of it: a burst must not tear the coefficients.
const DEVIATION_MAX: f64 = 2.0;

/// Bounds of the correction, as a share of the base.
const CORRECTION: (f64, f64) = (-0.7, 1.5);

/// Slots over which growth is measured: a window of two minutes and one more.
const GROWTH_SLOTS: usize = 3;

/// Slots for which a surprise counts: a quarter of an hour, in which what was asked for against it
/// has come and the load has shown whether it stays.
const SURPRISE_SLOTS: usize = 15;

/// Errors from which on one event may be left out: an hour of them.
const SURPRISE_PAIRS_MIN: usize = 60;

/// An event is left out only while it is a smaller part of the history than one in so many slots.
/// It is in twice as many errors as the forecast reaches ahead, so this holds up to four minutes.
/// On days of three traces leaving it out makes the pinball loss at p99 smaller at horizons of one
/// and three minutes (by 2 to 6 %), no different at five, and a fifth larger at ten, where one in
/// twenty-five is missed instead of one in a hundred.
const SURPRISE_ONE_IN: usize = 25;

/// Fewest errors by which predictors are compared, and pairs of growth that stand for none going
/// on: of fewer, one value decides.
const PAIRS_MIN: usize = 8;

/// Least value an error is scaled by, as a share of the mean: near zero the root knows no bound.
const SCALE_FLOOR: f64 = 0.02;

/// The predictions of every predictor at every moment.
pub(super) struct Predictions {
    /// Per predictor, per slot: its prediction then of the value `ahead` slots later.
    said: [[f64; SLOTS_MAX]; PREDICTORS],
    /// Per predictor, per slot: one unit of error then.
    scales: [[f64; SLOTS_MAX]; PREDICTORS],
    values: Vec<f64>,
    /// Moments whose answer is known: the value `ahead` slots later is of the same run.
    answered: Vec<usize>,
    ahead: usize,
    floor: f64,
}

/// Errors of the weighted average, and its prediction now.
pub(super) struct Mixture {
    /// In units of `scale` then.
    pub(super) errors: Vec<f64>,
    /// The average now.
    pub(super) mean: f64,
    /// One unit of error now.
    pub(super) scale: f64,
}

impl Predictions {
    /// Replays all predictors for `ahead` slots, 1 or more.
    pub(super) fn replay(replay: &Replay, ahead: usize) -> Self {
        let values = &replay.values;
        let mut said = [[0.0; SLOTS_MAX]; PREDICTORS];
        for (said, keep) in said.iter_mut().zip(SMOOTHING) {
            let mut level = 0.0;
            for (now, &value) in values.iter().enumerate() {
                let first = replay.run_start[now] == now;
                level = if first {
                    value
                } else {
                    level + keep * (value - level)
                };
                said[now] = level;
            }
        }
        said[PREDICTORS - 1] = autoregression(replay, &said[BASE], ahead);
        if let Some(last) = values.len().checked_sub(1)
            && let Some(before) = last.checked_sub(1)
            && replay.run_start[last] < last
        {
            // A slot that has just begun shares most of its window with the one before: taken
            // whole, the newest noise would count twice. The last value itself is not an average.
            for said in said.iter_mut().skip(1) {
                said[last] = said[before] + replay.last_share * (said[last] - said[before]);
            }
        }
        let answered = (0..values.len().saturating_sub(ahead))
            .filter(|&then| replay.run_start[then + ahead] <= then)
            .collect();
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let floor = SCALE_FLOOR * mean;
        Self {
            said,
            scales: said.map(|said| said.map(|said| scale(said, floor))),
            values: values.clone(),
            answered,
            ahead,
            floor,
        }
    }

    /// Moments whose answer is known.
    pub(super) fn pairs(&self) -> usize {
        self.answered.len()
    }

    /// Weights of the predictors at a quantile, in sum 1.
    pub(super) fn weights(&self, quantile: f64) -> [f64; PREDICTORS] {
        if self.answered.len() < PAIRS_MIN {
            return [1.0 / PREDICTORS as f64; PREDICTORS];
        }
        let mut errors = Vec::with_capacity(SLOTS_MAX);
        let losses: [f64; PREDICTORS] = std::array::from_fn(|index| {
            let (said, scales) = (&self.said[index], &self.scales[index]);
            errors.clear();
            let answered = self.answered.iter();
            errors.extend(answered.map(|&then| self.error(then, said[then], scales[then])));
            let margin = residual::order_statistic(&mut errors, quantile);
            let loss = self.answered.iter().map(|&then| {
                let bound = said[then] + margin * scales[then];
                let above = self.values[then + self.ahead] - bound;
                (quantile * above).max((quantile - 1.0) * above)
            });
            loss.sum::<f64>()
        });
        // Predictors of equal loss, as on a constant load, get equal weights.
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let blur = self.floor * 1e-3 + f64::MIN_POSITIVE;
        let weights = losses.map(|loss| ((least + blur) / (loss + blur)).powi(4));
        let sum: f64 = weights.iter().sum();
        weights.map(|weight| weight / sum)
    }

    /// The average by `weights`: its errors, and its prediction now.
    pub(super) fn mixed(&self, weights: &[f64; PREDICTORS]) -> Mixture {
        let average = |then: usize| -> f64 {
            let said = self.said.iter().map(|said| said[then]);
            said.zip(weights).map(|(said, weight)| said * weight).sum()
        };
        let errors: Vec<f64> = self
            .answered
            .iter()
            .map(|&then| {
                let said = average(then);
                self.error(then, said, scale(said, self.floor))
            })
            .collect();
        let mean = self.values.len().checked_sub(1).map_or(0.0, average);
        Mixture {
            errors: self.without_surprise(errors),
            mean,
            scale: scale(mean, self.floor),
        }
    }

    /// `errors` without the largest and those of the same event. An event of once in four hours
    /// shows that it may happen and not how often; counted as a frequency it would be held against
    /// for four hours. While it is new it counts, since it may go on, and so does what comes twice.
    fn without_surprise(&self, mut errors: Vec<f64>) -> Vec<f64> {
        let worst = (0..errors.len()).max_by(|&a, &b| errors[a].total_cmp(&errors[b]));
        let (Some(worst), Some(&last)) = (worst, self.answered.last()) else {
            return errors;
        };
        let at = self.answered[worst];
        let is_new = last.saturating_sub(at) < SURPRISE_SLOTS;
        let is_large = (2 * self.ahead + 1) * SURPRISE_ONE_IN > SLOTS_MAX;
        if is_new || is_large || errors.len() <= SURPRISE_PAIRS_MIN {
            return errors;
        }
        let near = |then: usize| then.abs_diff(at) <= self.ahead;
        let mut answered = self.answered.iter();
        errors.retain(|_| answered.next().is_none_or(|&then| !near(then)));
        errors
    }

    /// The value `ahead` slots after `then`, less the prediction, in units of `scale`.
    fn error(&self, then: usize, said: f64, scale: f64) -> f64 {
        let missed = self.values[then + self.ahead] - said;
        if scale > 0.0 { missed / scale } else { 0.0 }
    }
}

/// One unit of error where `said` is predicted.
fn scale(said: f64, floor: f64) -> f64 {
    said.max(floor).sqrt()
}

/// The base, corrected by a regression of the value `ahead` slots later on the last values, all as
/// deviations from the base. Recursive least squares that forgets.
fn autoregression(replay: &Replay, base: &[f64; SLOTS_MAX], ahead: usize) -> [f64; SLOTS_MAX] {
    let values = &replay.values;
    let deviation = |value: f64, base: f64| {
        if base > 0.0 {
            (value / base - 1.0).clamp(-DEVIATION_MAX, DEVIATION_MAX)
        } else {
            0.0
        }
    };
    let lags = |then: usize| -> [f64; LAGS] {
        std::array::from_fn(|lag| {
            let seen = then.saturating_sub(lag).max(replay.run_start[then]);
            deviation(values[seen], base[then])
        })
    };
    let mut squares = LeastSquares::default();
    let mut said = [0.0; SLOTS_MAX];
    let mut seen = [[0.0; LAGS]; SLOTS_MAX];
    for now in 0..values.len() {
        if let Some(then) = now.checked_sub(ahead)
            && replay.run_start[now] <= then
        {
            squares.learn(seen[then], deviation(values[now], base[then]));
        }
        seen[now] = lags(now);
        let (low, high) = CORRECTION;
        said[now] = base[now] * (1.0 + squares.predict(seen[now]).clamp(low, high));
    }
    said
}

/// The value `ahead` slots later if the growth of the last slots goes on as far as growth has gone
/// on in this history.
///
/// In a large pool, where noise is small, growth goes on; in a small one it is noise, which comes
/// back, and nothing is continued.
pub(super) fn continued(replay: &Replay, ahead: usize) -> Option<f64> {
    let most = ahead as f64 / GROWTH_SLOTS as f64;
    let goes_on = goes_on(replay, ahead)?.clamp(0.0, most);
    let last = replay.values.len().checked_sub(1)?;
    let grown = growth(replay, last, last.checked_sub(GROWTH_SLOTS)?)?;
    Some(replay.values[last] * (1.0 + goes_on * grown.max(0.0)))
}

/// The part, 0 to 1, of the changes of the work that was noise and came back within `ahead` slots;
/// 0 when not known.
///
/// A change is the difference of two values. If both are off by noise alone, what follows takes
/// back the half of it that is the noise of the second.
pub(super) fn comes_back(replay: &Replay, ahead: usize) -> f64 {
    goes_on(replay, ahead).map_or(0.0, |goes_on| (-2.0 * goes_on).clamp(0.0, 1.0))
}

/// The part of a change over [`GROWTH_SLOTS`] by which the work changed again in the `ahead` slots
/// after it, below 0 where it came back: least squares over this history, drawn to nothing.
fn goes_on(replay: &Replay, ahead: usize) -> Option<f64> {
    let (mut squares, mut products, mut count) = (0.0, 0.0, 0.0);
    for now in GROWTH_SLOTS..replay.values.len().saturating_sub(ahead) {
        let before = growth(replay, now, now - GROWTH_SLOTS);
        if let (Some(before), Some(after)) = (before, growth(replay, now + ahead, now)) {
            squares += before * before;
            products += before * after;
            count += 1.0;
        }
    }
    let drawn = squares * (1.0 + PAIRS_MIN as f64 / count);
    (count > 0.0 && squares > 0.0).then(|| products / drawn)
}

/// Relative change from `then` to `now`, if both are of one run.
fn growth(replay: &Replay, now: usize, then: usize) -> Option<f64> {
    let values = &replay.values;
    let whole = replay.run_start[now] <= then && values[then] > 0.0;
    whole.then(|| (values[now] / values[then] - 1.0).clamp(-1.0, DEVIATION_MAX))
}

/// Recursive least squares with forgetting, from coefficients of zero.
struct LeastSquares {
    coefficients: [f64; LAGS],
    covariance: [[f64; LAGS]; LAGS],
}

impl Default for LeastSquares {
    fn default() -> Self {
        let mut covariance = [[0.0; LAGS]; LAGS];
        for (index, row) in covariance.iter_mut().enumerate() {
            row[index] = FREEDOM;
        }
        Self {
            coefficients: [0.0; LAGS],
            covariance,
        }
    }
}

impl LeastSquares {
    fn learn(&mut self, x: [f64; LAGS], y: f64) {
        let gain = self.covariance.map(|row| dot(row, x));
        // One division for all twelve cells.
        let share = 1.0 / (FORGETTING + dot(gain, x));
        let step = share * (y - self.predict(x));
        for (coefficient, gain) in self.coefficients.iter_mut().zip(gain) {
            *coefficient += gain * step;
        }
        for (row, left) in self.covariance.iter_mut().zip(gain) {
            for (cell, right) in row.iter_mut().zip(gain) {
                *cell = (*cell - left * right * share) * (1.0 / FORGETTING);
            }
        }
    }

    fn predict(&self, x: [f64; LAGS]) -> f64 {
        dot(self.coefficients, x)
    }
}

fn dot(a: [f64; LAGS], b: [f64; LAGS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
