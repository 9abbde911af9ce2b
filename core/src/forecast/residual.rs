//! Quantiles of past errors, as conformal prediction takes them: of n errors, the one at rank
//! (n + 1) q, so that the next one lies below with probability q if it is like the others.
//!
//! Above the ninth decile too few errors are left to read a quantile off; there the mean excess of
//! those few is continued as an exponential tail, which on the traces both covers more and costs
//! less than the largest error seen. A fitted normal costs still less and covers too little.

/// Errors that the tail is fitted to at least.
const TAIL_ERRORS_MIN: usize = 4;

/// One in so many errors belongs to the tail.
const TAIL_SHARE: usize = 10;

/// The `quantile` (0..1) of `errors`, reordering them; zero if there are none.
pub(super) fn quantile(errors: &mut [f64], quantile: f64) -> f64 {
    let count = errors.len();
    let tail = (count / TAIL_SHARE).max(TAIL_ERRORS_MIN).min(count);
    let outside = tail as f64 / (count as f64 + 1.0);
    if tail == 0 {
        return 0.0;
    }
    if 1.0 - quantile >= outside {
        return at_rank(errors, rank(count, quantile));
    }
    let threshold = at_rank(errors, rank(count, 1.0 - outside));
    let excess = errors.iter().map(|error| (error - threshold).max(0.0));
    let mean_excess = excess.sum::<f64>() / tail as f64;
    threshold + mean_excess * (outside / (1.0 - quantile).max(f64::EPSILON)).ln()
}

/// The error at the rank of `quantile`, without interpolation or tail; zero if there are none. Good
/// enough, and fast enough, to compare predictors.
pub(super) fn order_statistic(errors: &mut [f64], quantile: f64) -> f64 {
    let Some(last) = errors.len().checked_sub(1) else {
        return 0.0;
    };
    let index = floor_index(rank(errors.len(), quantile), last);
    *errors.select_nth_unstable_by(index, f64::total_cmp).1
}

/// Position, from zero, of a quantile among `count` sorted errors. It may lie outside of them.
fn rank(count: usize, quantile: f64) -> f64 {
    (count as f64 + 1.0) * quantile - 1.0
}

/// Between the errors around `rank`, held at the ends. Selects, for a sort would cost as much as
/// all else in a forecast.
fn at_rank(errors: &mut [f64], rank: f64) -> f64 {
    let Some(last) = errors.len().checked_sub(1) else {
        return 0.0;
    };
    let index = floor_index(rank, last);
    let (_, &mut below, larger) = errors.select_nth_unstable_by(index, f64::total_cmp);
    let above = larger.iter().copied().fold(f64::INFINITY, f64::min);
    let part = (rank - index as f64).clamp(0.0, 1.0);
    if above.is_finite() {
        below + (above - below) * part
    } else {
        below
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "held to the slice on the line itself"
)]
fn floor_index(rank: f64, last: usize) -> usize {
    rank.clamp(0.0, last as f64) as usize
}
