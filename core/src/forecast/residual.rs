//! Quantiles of past errors, as conformal prediction takes them: of n errors, the one at rank
//! (n + 1) q, so that the next one lies below with probability q if it is like the others.
//!
//! Above the ninth decile too few errors are left to read a quantile off; there the mean excess of
//! those few is continued as an exponential tail, which on the traces both covers more and costs less
//! than the largest error seen. A fitted normal costs still less and covers too little.

/// Errors that the tail is fitted to at least.
const TAIL_ERRORS_MIN: usize = 4;

/// One in so many errors belongs to the tail.
const TAIL_SHARE: usize = 10;

/// The `quantile` (0..1) of `errors`, reordering them; zero if there are none.
pub(super) fn quantile(errors: &mut [f64], quantile: f64) -> f64 {
    errors.sort_unstable_by(f64::total_cmp);
    let count = errors.len();
    let tail = (count / TAIL_SHARE).max(TAIL_ERRORS_MIN).min(count);
    let outside = tail as f64 / (count as f64 + 1.0);
    if 1.0 - quantile >= outside || tail == 0 {
        return interpolated(errors, rank(count, quantile));
    }
    let (_, largest) = errors.split_at(count - tail);
    let threshold = interpolated(errors, rank(count, 1.0 - outside));
    let excess = largest.iter().map(|error| (error - threshold).max(0.0));
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

/// Between the errors around `rank`, held at the ends.
fn interpolated(sorted: &[f64], rank: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let below = floor_index(rank, last);
    let above = (below + 1).min(last);
    let part = (rank - below as f64).clamp(0.0, 1.0);
    sorted[below] + (sorted[above] - sorted[below]) * part
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "held to the slice on the line itself"
)]
fn floor_index(rank: f64, last: usize) -> usize {
    rank.clamp(0.0, last as f64) as usize
}
