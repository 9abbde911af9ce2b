//! Operating points: configurations of so many prefill and so many decode workers, each found
//! offline for one kind of traffic (as `AIConfigurator` does), and which of them suits the traffic
//! now.
//!
//! The point whose prompt and output lengths are nearest counts, in logarithms: twice as long is as
//! far as half as long. A point is left only when the traffic is clearly elsewhere and has been for
//! a while, so a mixed minute moves nothing. While it is being left, its ratio no longer binds:
//! padding towards the old ratio would buy GPUs that the new one gives back.

use std::{cmp::Ordering, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    ratio::{Enforcement, Ratio, RatioBand, RatioPolicy},
    reason::Reason,
    step::{Stage, Step},
    time::Timestamp,
};

/// Another point must be nearer than the chosen one by this factor.
pub const NEARER_FACTOR: f64 = 1.5;

/// For so long without a break.
pub const NEARER_FOR: Duration = Duration::from_mins(5);

/// While the traffic is this near to the chosen point, no other is looked for: 15 % in one length.
pub const NEAR_ENOUGH: f64 = 0.14;

/// Longest name of a point, bytes. A point with a longer name is never chosen.
pub const POINT_NAME_MAX: usize = 63;

/// A configuration and the traffic it was found for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatingPoint {
    /// Unique among the points of a service; at most [`POINT_NAME_MAX`] bytes.
    pub name: String,
    /// Prefill replicas of one unit, 1 to 1000.
    pub prefill: u32,
    /// Decode replicas of one unit, 1 to 1000.
    pub decode: u32,
    /// Prompt tokens per request, mean, above zero.
    pub input_tokens: f64,
    /// Output tokens per request, mean, above zero.
    pub output_tokens: f64,
    /// Requests per second that one unit serves, where it is known. Shown, not used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_rate_rps: Option<f64>,
}

/// Configurations found offline, each for a kind of traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatingPoints {
    /// The configurations, 1 to 32, with names that differ.
    pub points: Vec<OperatingPoint>,
    /// How far the ratio may leave that of the point in force, percent, 0 to 99.
    pub tolerance_percent: u8,
    /// The winner when that band and the objective disagree.
    pub enforcement: Enforcement,
}

/// The point in force. At most 200 bytes of JSON with plain names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PointState {
    /// Name of the chosen point.
    chosen: Option<String>,
    /// Since when another point has been clearly nearer.
    leaving_since: Option<Timestamp>,
}

impl PointState {
    /// Whether the traffic has left the chosen point, and no other has been chosen yet.
    pub const fn leaving(&self) -> bool {
        self.leaving_since.is_some()
    }
}

impl OperatingPoint {
    /// Its ratio of prefill to decode; nothing if a side is outside 1 to 1000.
    pub fn ratio(&self) -> Option<Ratio> {
        Ratio::new(self.prefill, self.decode)
    }

    /// How far `traffic`, prompt and output tokens per request, is from this point: the length of
    /// both logarithms of the quotients. Nothing if either is no number above zero.
    pub fn distance(&self, traffic: (f64, f64)) -> Option<f64> {
        let log = |tokens: f64, of: f64| {
            let known = |x: f64| x.is_finite() && x > 0.0;
            (known(tokens) && known(of)).then(|| tokens.ln() - of.ln())
        };
        let input = log(traffic.0, self.input_tokens)?;
        Some(input.hypot(log(traffic.1, self.output_tokens)?))
    }

    fn usable(&self) -> bool {
        self.ratio().is_some()
            && self.name.len() <= POINT_NAME_MAX
            && self.distance((1.0, 1.0)).is_some()
    }

    /// The step that puts this point in force for `traffic`.
    pub fn step(&self, traffic: (f64, f64), state: &PointState) -> Step {
        let leaving = if state.leaving() {
            "; the traffic is leaving it, so its ratio does not bind now"
        } else {
            ""
        };
        let message = format!(
            "`{}` gives {}:{}, found for prompts of {:.0} and answers of {:.0} tokens; seen: {:.0} \
             and {:.0}{leaving}",
            self.name,
            self.prefill,
            self.decode,
            self.input_tokens,
            self.output_tokens,
            traffic.0,
            traffic.1
        );
        Step::of_both(Stage::Solve, Reason::OperatingPoint, message)
    }

    /// The ratio policy of this point; nothing while the traffic is leaving it.
    pub fn ratio_policy(
        &self,
        state: &PointState,
        tolerance_percent: u8,
        enforcement: Enforcement,
    ) -> Option<RatioPolicy> {
        let target = self.ratio().filter(|_| !state.leaving())?;
        Some(RatioPolicy {
            band: RatioBand::around(target, tolerance_percent),
            enforcement,
        })
    }
}

/// The point in force for `traffic`, prompt and output tokens per request.
///
/// The nearest at first, or when the chosen one is gone; then another only after it has been nearer
/// by [`NEARER_FACTOR`] for [`NEARER_FOR`]. Traffic that is not known keeps the chosen point. Of
/// points as near, the first by name counts, so their order does not matter. Points that cannot be
/// used are passed over.
pub fn choose<'a>(
    points: &'a [OperatingPoint],
    traffic: (f64, f64),
    state: &mut PointState,
    now: Timestamp,
) -> Option<&'a OperatingPoint> {
    let usable = || points.iter().filter(|point| point.usable());
    let nearest = usable()
        .filter_map(|point| Some((point.distance(traffic)?, point)))
        .min_by(by_distance_and_name);
    // Of points with one name the nearest stands for all, so that their order does not matter.
    let chosen = usable()
        .filter(|point| state.chosen.as_ref() == Some(&point.name))
        .min_by(|a, b| by_distance_and_name(&(from(a, traffic), *a), &(from(b, traffic), *b)));
    let Some(chosen) = chosen else {
        let nearest = nearest.map(|(_, point)| point);
        state.chosen = nearest.map(|point| point.name.clone());
        state.leaving_since = None;
        return nearest;
    };
    let Some((away, nearest)) = nearest else {
        return Some(chosen);
    };
    let own = from(chosen, traffic);
    let left = own > NEAR_ENOUGH && own > away * NEARER_FACTOR;
    if !left {
        state.leaving_since = None;
        return Some(chosen);
    }
    let since = state.leaving_since.map_or(now, |since| since.min(now));
    if now.since(since) < NEARER_FOR {
        state.leaving_since = Some(since);
        return Some(chosen);
    }
    state.chosen = Some(nearest.name.clone());
    state.leaving_since = None;
    Some(nearest)
}

fn from(point: &OperatingPoint, traffic: (f64, f64)) -> f64 {
    point.distance(traffic).unwrap_or(f64::INFINITY)
}

fn by_distance_and_name(one: &(f64, &OperatingPoint), other: &(f64, &OperatingPoint)) -> Ordering {
    let units = |point: &OperatingPoint| (point.prefill, point.decode);
    one.0
        .total_cmp(&other.0)
        .then_with(|| one.1.name.cmp(&other.1.name))
        .then_with(|| units(one.1).cmp(&units(other.1)))
}

#[cfg(test)]
mod tests;
