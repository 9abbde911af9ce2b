//! Measured times of a replica as tables, with interpolation.
//!
//! Mixtures of experts do not follow the coefficients: which experts a batch wakes bends the curve.
//! A table is exact where it was measured and linear between. Straight lines, because that is what
//! the coefficients say too (they are reproduced exactly where they hold), and because they
//! predict left-out points of real tables better than lines over logarithms.
//!
//! Measured tables are not quite monotone: engines change kernels with size. A value up to
//! [`DIP_TOLERATED`] below the largest before it is kept as it is; more is taken for a mistake.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::limits::{BATCH_LIMIT, PREFILL_TOKENS_MAX, SECONDS_MAX};

/// Share by which a value may lie below the largest one before it. Real tables dip by up to 0.36.
pub const DIP_TOLERATED: f64 = 0.4;

/// Points of one curve at most.
pub const CURVE_POINTS_MAX: usize = 256;

/// Curves of one decode table at most.
pub const CURVES_MAX: usize = 64;

/// A fault of a table, by its values; importers add where in the text they stand.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum TableError {
    /// Too few points to say anything between.
    #[error("{what} has {found} points: give at least 2")]
    TooFew {
        /// Which curve.
        what: String,
        /// Points given.
        found: usize,
    },
    /// More than is kept.
    #[error("{what} has {found} points: give at most {most}")]
    TooMany {
        /// Which curve.
        what: String,
        /// Points given.
        found: usize,
        /// Points allowed.
        most: usize,
    },
    /// Not a number that can be.
    #[error("{what} has `{value}`: give a finite number above 0 and up to {most}")]
    Value {
        /// Which curve and axis.
        what: String,
        /// The number.
        value: f64,
        /// The largest possible.
        most: f64,
    },
    /// Out of order or given twice.
    #[error("{what} has `{value}` after `{before}`: sort it in rising order, each value once")]
    Order {
        /// Which curve and axis.
        what: String,
        /// The number.
        value: f64,
        /// The one before.
        before: f64,
    },
    /// Falls where it can only rise.
    #[error(
        "{what} falls to `{value}` seconds at `{at}` after `{before}`, more than measuring explains: \
         measure that point again or leave it out"
    )]
    Falls {
        /// Which curve.
        what: String,
        /// Seconds at the point.
        value: f64,
        /// The point.
        at: f64,
        /// The largest seconds before it.
        before: f64,
    },
}

/// Rising points `(x, seconds)`, joined by straight lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Curve(Vec<(f64, f64)>);

impl Curve {
    fn new(points: Vec<(f64, f64)>, what: &str, x_max: f64) -> Result<Self, TableError> {
        let count = points.len();
        if count < 2 {
            return Err(TableError::TooFew {
                what: what.to_owned(),
                found: count,
            });
        }
        if count > CURVE_POINTS_MAX {
            return Err(TableError::TooMany {
                what: what.to_owned(),
                found: count,
                most: CURVE_POINTS_MAX,
            });
        }
        let (mut x_before, mut largest) = (0.0, 0.0_f64);
        for &(x, seconds) in &points {
            for (value, most) in [(x, x_max), (seconds, SECONDS_MAX)] {
                if !(value.is_finite() && value > 0.0 && value <= most) {
                    let what = what.to_owned();
                    return Err(TableError::Value { what, value, most });
                }
            }
            if x <= x_before {
                return Err(TableError::Order {
                    what: what.to_owned(),
                    value: x,
                    before: x_before,
                });
            }
            if seconds < largest * (1.0 - DIP_TOLERATED) {
                return Err(TableError::Falls {
                    what: what.to_owned(),
                    value: seconds,
                    at: x,
                    before: largest,
                });
            }
            x_before = x;
            largest = largest.max(seconds);
        }
        Ok(Self(points))
    }

    fn last_x(&self) -> f64 {
        self.0.last().map_or(0.0, |point| point.0)
    }

    /// Seconds at `x`: the first point's below it; beyond the last one along the line from the last
    /// point at no more than half its `x`, which one odd point cannot tilt, and which never falls.
    fn at(&self, x: f64) -> f64 {
        let points = &self.0;
        let above = points.partition_point(|point| point.0 < x);
        let line = |from: (f64, f64), to: (f64, f64)| {
            from.1 + (to.1 - from.1) * ((x - from.0) / (to.0 - from.0))
        };
        match (
            above.checked_sub(1).and_then(|i| points.get(i)),
            points.get(above),
        ) {
            (Some(&from), Some(&to)) if x < to.0 => line(from, to),
            (_, Some(&point)) => point.1,
            (Some(&last), None) => {
                let half = points.partition_point(|point| point.0 <= last.0 / 2.0);
                let from = points.get(half.saturating_sub(1)).copied().unwrap_or(last);
                if from.0 < last.0 {
                    line(from, last).max(last.1)
                } else {
                    last.1
                }
            }
            (None, None) => 0.0,
        }
    }
}

/// Prefill seconds by computed tokens of one prompt.
///
/// Exact at measured lengths without cached tokens. What cached tokens add grows with computed
/// times cached tokens, by one coefficient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "PrefillTableText")]
pub struct PrefillTable {
    /// `(computed tokens, seconds)`.
    points: Curve,
    seconds_per_cached_token_squared: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PrefillTableText {
    points: Vec<(f64, f64)>,
    #[serde(default)]
    seconds_per_cached_token_squared: f64,
}

impl TryFrom<PrefillTableText> for PrefillTable {
    type Error = TableError;

    fn try_from(text: PrefillTableText) -> Result<Self, TableError> {
        Self::new(text.points, text.seconds_per_cached_token_squared)
    }
}

impl PrefillTable {
    /// A table of `(computed tokens, seconds)` in rising order, and the seconds that each pair of a
    /// computed and a cached token adds (0 or more).
    pub fn new(points: Vec<(f64, f64)>, seconds_per_pair: f64) -> Result<Self, TableError> {
        if !(seconds_per_pair.is_finite() && (0.0..=1.0).contains(&seconds_per_pair)) {
            return Err(TableError::Value {
                what: "prefill `secondsPerCachedTokenSquared`".to_owned(),
                value: seconds_per_pair,
                most: 1.0,
            });
        }
        Ok(Self {
            points: Curve::new(points, "prefill over tokens", PREFILL_TOKENS_MAX)?,
            seconds_per_cached_token_squared: seconds_per_pair,
        })
    }

    /// Seconds to compute `new_tokens` after `cached_tokens`. Below the shortest length measured
    /// its time, beyond the longest along the last line.
    pub fn seconds(&self, new_tokens: f64, cached_tokens: f64) -> f64 {
        let pairs = new_tokens * cached_tokens;
        self.points.at(new_tokens) + self.seconds_per_cached_token_squared * pairs
    }

    pub(super) fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.points.0.iter().copied()
    }
}

/// Seconds of a decode step by batch, one curve for each length of context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DecodeTable(#[serde(deserialize_with = "curves")] Vec<DecodeCurve>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DecodeCurve {
    context_tokens: f64,
    /// `(batch, seconds)`.
    points: Curve,
}

fn curves<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Vec<DecodeCurve>, D::Error> {
    let curves = Vec::<DecodeCurve>::deserialize(text)?
        .into_iter()
        .map(|curve| (curve.context_tokens, curve.points.0));
    let table = DecodeTable::new(curves.collect()).map_err(serde::de::Error::custom)?;
    Ok(table.0)
}

impl DecodeTable {
    /// A table of curves `(context tokens of a request, points (batch, seconds))`, contexts and
    /// batches in rising order.
    ///
    /// A context at which the KV cache holds a single batch has one point: it is left out, unless
    /// no curve is left.
    pub fn new(curves: Vec<(f64, Vec<(f64, f64)>)>) -> Result<Self, TableError> {
        if curves.len() > CURVES_MAX {
            return Err(TableError::TooMany {
                what: "decode over context".to_owned(),
                found: curves.len(),
                most: CURVES_MAX,
            });
        }
        let mut table: Vec<DecodeCurve> = Vec::new();
        let mut before = 0.0;
        for (context_tokens, points) in curves {
            let what = || "decode contexts".to_owned();
            if !(context_tokens.is_finite()
                && context_tokens > 0.0
                && context_tokens <= PREFILL_TOKENS_MAX)
            {
                return Err(TableError::Value {
                    what: what(),
                    value: context_tokens,
                    most: PREFILL_TOKENS_MAX,
                });
            }
            if context_tokens <= before {
                return Err(TableError::Order {
                    what: what(),
                    value: context_tokens,
                    before,
                });
            }
            before = context_tokens;
            if points.len() == 1 {
                continue;
            }
            let name = format!("decode at {context_tokens} tokens of context");
            let points = Curve::new(points, &name, BATCH_LIMIT)?;
            table.push(DecodeCurve {
                context_tokens,
                points,
            });
        }
        if table.is_empty() {
            return Err(TableError::TooFew {
                what: "decode over batch".to_owned(),
                found: 0,
            });
        }
        Ok(Self(table))
    }

    /// Seconds of one step of `batch` requests with `context_tokens` each: linear between batches
    /// and between contexts. Below the first of either its time, beyond the last along the last
    /// line.
    pub fn itl_seconds(&self, batch: f64, context_tokens: f64) -> f64 {
        let above = self
            .0
            .partition_point(|c| c.context_tokens < context_tokens);
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else {
            return 0.0;
        };
        if above == 0 {
            return first.points.at(batch);
        }
        let beyond = above == self.0.len();
        let to = if beyond { last } else { &self.0[above] };
        let from = match above.checked_sub(if beyond { 2 } else { 1 }) {
            Some(index) => &self.0[index],
            None => return to.points.at(batch),
        };
        let (low, high) = (from.points.at(batch), to.points.at(batch));
        let way =
            (context_tokens - from.context_tokens) / (to.context_tokens - from.context_tokens);
        if beyond {
            return high + (high - low).max(0.0) * (way - 1.0);
        }
        low + (high - low) * way
    }

    /// The largest batch measured near `context_tokens`: what was never run is not promised.
    pub fn batch_measured(&self, context_tokens: f64) -> f64 {
        let above = self
            .0
            .partition_point(|c| c.context_tokens < context_tokens);
        let last = self.0.len().saturating_sub(1);
        let around = [above.saturating_sub(1).min(last), above.min(last)];
        let around = around.into_iter().filter_map(|index| self.0.get(index));
        around
            .map(|curve| curve.points.last_x())
            .fold(0.0, f64::max)
    }

    /// The largest batch up to `batch_max` for which every batch up to it takes at most
    /// `limit_seconds`; nothing when not even a batch of one does.
    pub fn batch_within(
        &self,
        limit_seconds: f64,
        context_tokens: f64,
        batch_max: f64,
    ) -> Option<f64> {
        let seconds = |batch: f64| self.itl_seconds(batch, context_tokens);
        if seconds(1.0) > limit_seconds {
            return None;
        }
        // Between two neighbouring batches of any curve the time is a straight line.
        let mut batches: Vec<f64> = self
            .0
            .iter()
            .flat_map(|curve| curve.points.0.iter().map(|point| point.0))
            .filter(|batch| *batch > 1.0 && *batch < batch_max)
            .collect();
        batches.push(batch_max);
        batches.sort_by(f64::total_cmp);
        batches.dedup_by(|one, other| one.total_cmp(other).is_eq());
        let (mut low, mut low_seconds) = (1.0, seconds(1.0));
        for high in batches {
            let high_seconds = seconds(high);
            if high_seconds > limit_seconds {
                let way = (limit_seconds - low_seconds) / (high_seconds - low_seconds);
                return Some(low + (high - low) * way.clamp(0.0, 1.0));
            }
            (low, low_seconds) = (high, high_seconds);
        }
        Some(batch_max.max(1.0))
    }

    pub(super) fn points(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        self.0.iter().flat_map(|curve| {
            let points = curve.points.0.iter();
            points.map(|&(batch, seconds)| (batch, curve.context_tokens, seconds))
        })
    }
}
