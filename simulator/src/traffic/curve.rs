//! The stated load as a function of time.
//!
//! A curve is a list of points; between two of them the rate is linear and lengths keep the earlier
//! point's values mixed linearly as well. Before the first and after the last point the load is
//! that point's. The curve refuses rates and lengths that cannot be drawn from.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::time::Nanos;

/// The load at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// Arrivals per second; 0 or more.
    pub requests_per_second: f64,
    /// Mean prompt tokens per request; 1 or more.
    pub input_tokens_mean: f64,
    /// Mean output tokens per request; 1 or more.
    pub output_tokens_mean: f64,
    /// Coefficient of variation of prompt tokens; 0 makes all prompts equal.
    #[serde(default)]
    pub input_tokens_cv: f64,
    /// Coefficient of variation of output tokens; 0 makes all answers equal.
    #[serde(default)]
    pub output_tokens_cv: f64,
}

/// A load that cannot be drawn from.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum CurveError {
    /// A number is out of its range.
    #[error("load field `{field}` is `{value}`: {remedy}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// The remedy.
        remedy: &'static str,
    },
    /// There are no points.
    #[error("load curve has no points: give at least one")]
    Empty,
    /// Points are not in order of time.
    #[error("load curve point `{0}` is not later than the one before: order the points by time")]
    Unordered(usize),
}

impl Load {
    /// Refuses a load that cannot be drawn from.
    pub fn validate(&self) -> Result<(), CurveError> {
        let bounds = [
            ("requestsPerSecond", self.requests_per_second, 0.0, 1e6),
            ("inputTokensMean", self.input_tokens_mean, 1.0, 1e7),
            ("outputTokensMean", self.output_tokens_mean, 1.0, 1e7),
            ("inputTokensCv", self.input_tokens_cv, 0.0, 100.0),
            ("outputTokensCv", self.output_tokens_cv, 0.0, 100.0),
        ];
        for (field, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                let remedy = match least {
                    0.0 => "give a finite number of 0 or more",
                    _ => "give a finite number of 1 or more",
                };
                return Err(CurveError::OutOfRange {
                    field,
                    value,
                    remedy,
                });
            }
        }
        Ok(())
    }

    fn mix(&self, other: &Self, share: f64) -> Self {
        let mix = |from: f64, to: f64| from + (to - from) * share;
        Self {
            requests_per_second: mix(self.requests_per_second, other.requests_per_second),
            input_tokens_mean: mix(self.input_tokens_mean, other.input_tokens_mean),
            output_tokens_mean: mix(self.output_tokens_mean, other.output_tokens_mean),
            input_tokens_cv: mix(self.input_tokens_cv, other.input_tokens_cv),
            output_tokens_cv: mix(self.output_tokens_cv, other.output_tokens_cv),
        }
    }
}

/// The load as a piecewise linear function of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    points: Vec<(Nanos, Load)>,
}

impl Curve {
    /// A curve through `points`, which must be in order of time.
    pub fn new(points: Vec<(Nanos, Load)>) -> Result<Self, CurveError> {
        if points.is_empty() {
            return Err(CurveError::Empty);
        }
        for (_, load) in &points {
            load.validate()?;
        }
        if let Some(place) = points.windows(2).position(|pair| pair[0].0 >= pair[1].0) {
            return Err(CurveError::Unordered(place + 1));
        }
        Ok(Self { points })
    }

    /// The same load for ever.
    pub fn constant(load: Load) -> Result<Self, CurveError> {
        Self::new(vec![(0, load)])
    }

    /// The same curve with every rate multiplied by `factor`, which must be 0 or more.
    pub fn scaled(mut self, factor: f64) -> Result<Self, CurveError> {
        for (_, load) in &mut self.points {
            load.requests_per_second *= factor;
        }
        Self::new(self.points)
    }

    /// The load at a moment.
    pub fn at(&self, now: Nanos) -> Load {
        self.segment(now).load_at(now)
    }

    /// The largest rate of the whole curve, per second.
    pub fn peak_requests_per_second(&self) -> f64 {
        self.points
            .iter()
            .map(|(_, load)| load.requests_per_second)
            .fold(0.0, f64::max)
    }

    /// The linear piece that holds a moment.
    pub(super) fn segment(&self, now: Nanos) -> Segment<'_> {
        let next = self.points.partition_point(|(at, _)| *at <= now);
        let last = self.points.len() - 1;
        let from = if next == 0 {
            (0, &self.points[0].1)
        } else {
            view(&self.points[next - 1])
        };
        let to = if next > last {
            None
        } else {
            Some(view(&self.points[next]))
        };
        Segment { from, to }
    }
}

fn view(point: &(Nanos, Load)) -> (Nanos, &Load) {
    (point.0, &point.1)
}

/// One linear piece of a curve; without an end if the load stays the same for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    from: (Nanos, &'a Load),
    pub(super) to: Option<(Nanos, &'a Load)>,
}

impl Segment<'_> {
    pub(super) fn load_at(&self, now: Nanos) -> Load {
        match self.to {
            Some((until, to)) if until > self.from.0 => {
                let share = (now.saturating_sub(self.from.0)) as f64 / (until - self.from.0) as f64;
                self.from.1.mix(to, share.min(1.0))
            }
            _ => *self.from.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    fn load(requests_per_second: f64) -> Load {
        Load {
            requests_per_second,
            input_tokens_mean: 100.0,
            output_tokens_mean: 10.0,
            input_tokens_cv: 0.0,
            output_tokens_cv: 0.0,
        }
    }

    #[test]
    fn load_is_linear_between_points_and_constant_outside() {
        let curve = Curve::new(vec![(10 * SECOND, load(2.0)), (20 * SECOND, load(4.0))]).unwrap();
        let rate = |at_seconds: u64| curve.at(at_seconds * SECOND).requests_per_second;
        assert!((rate(0) - 2.0).abs() < 1e-12);
        assert!((rate(15) - 3.0).abs() < 1e-12);
        assert!((rate(99) - 4.0).abs() < 1e-12);
        assert!((curve.peak_requests_per_second() - 4.0).abs() < 1e-12);
    }

    #[test]
    fn unusable_curves_are_refused() {
        assert_eq!(Curve::new(vec![]), Err(CurveError::Empty));
        let same_time = vec![(5, load(1.0)), (5, load(1.0))];
        assert_eq!(Curve::new(same_time), Err(CurveError::Unordered(1)));
        let message = Curve::constant(load(-1.0)).unwrap_err().to_string();
        assert_eq!(
            message,
            "load field `requestsPerSecond` is `-1`: give a finite number of 0 or more"
        );
        assert!(Curve::constant(load(f64::NAN)).is_err());
    }
}
