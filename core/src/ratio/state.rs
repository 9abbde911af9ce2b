//! The P:D ratio of a service over time: since when and why it is outside its band, and the ratio
//! that the traffic needs.
//!
//! Both move slowly on purpose. A breach ends only well inside the band or after a while inside it,
//! so that a pair at the edge does not open and close it in turns. The ratio of the traffic is
//! smoothed over minutes and reported in small numbers that stay until it has really moved. Under
//! policy Auto it is reported and limits nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::{RATIO_PART_MAX, Ratio, RatioBand};
use crate::{role::PerRole, time::Timestamp};

/// Time constant of the traffic's ratio: after so long, 63 % of a jump are in it.
pub const SMOOTHING: Duration = Duration::from_mins(10);

/// A pair that has been inside the band for so long is in it, however close to the edge.
pub const IN_BAND_AFTER: Duration = Duration::from_mins(5);

/// The reported ratio stays until the traffic's ratio differs by more than this share.
const REPORTED_WITHIN: f64 = 0.05;

/// Steps of the smoothed logarithm; keeps its text short.
const LOG_STEPS: f64 = 1e6;

/// Why a pair is outside its band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
pub enum BreachCause {
    /// The objective: inside the band fewer requests would be served in time.
    Need,
    /// The replica bounds.
    Bounds,
    /// The GPU budget.
    Budget,
    /// The replicas are on their way to the plan.
    Transition,
}

impl BreachCause {
    /// The name as shown.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// A clause for texts.
    pub const fn as_text(self) -> &'static str {
        match self {
            Self::Need => "inside it fewer requests would be served in time",
            Self::Bounds => "the replica bounds do not allow to keep it",
            Self::Budget => "the GPU budget does not allow to keep it",
            Self::Transition => "the replicas are on their way",
        }
    }
}

/// A pair is outside its band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Breach {
    /// Since when.
    pub since: Timestamp,
    /// Why, now.
    pub cause: BreachCause,
}

/// The smoothed ratio of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Smoothed {
    /// Natural logarithm of prefill per decode.
    log: f64,
    at: Timestamp,
    /// The ratio as it is reported.
    reported: Ratio,
}

/// Memory of the ratio of one service. At most 300 bytes of JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RatioState {
    band: Option<RatioBand>,
    breach: Option<Breach>,
    inside_since: Option<Timestamp>,
    traffic: Option<Smoothed>,
}

impl RatioState {
    /// Judges `replicas` by `band`: the breach, if there is one.
    ///
    /// `cause` is the solution's; without one the pair is on its way. Another band than last time
    /// is judged afresh. Calling twice at the same moment changes nothing.
    pub fn judge(
        &mut self,
        band: Option<RatioBand>,
        replicas: PerRole<u32>,
        cause: Option<BreachCause>,
        now: Timestamp,
    ) -> Option<Breach> {
        if self.band != band {
            self.band = band;
            self.breach = None;
            self.inside_since = None;
        }
        let band = band?;
        let PerRole { prefill, decode } = replicas;
        if !band.contains(prefill, decode) {
            self.inside_since = None;
            let since = self.breach.map_or(now, |breach| breach.since.min(now));
            let cause = cause.unwrap_or(BreachCause::Transition);
            self.breach = Some(Breach { since, cause });
        } else if self.breach.is_some() {
            let since = self.inside_since.map_or(now, |since| since.min(now));
            let lasting = now.since(since) >= IN_BAND_AFTER;
            let over = lasting || band.narrowed().contains(prefill, decode);
            self.inside_since = (!over).then_some(since);
            if over {
                self.breach = None;
            }
        }
        self.breach
    }

    /// Takes in the replicas that each role needs now, before rounding, and returns the ratio that
    /// the traffic needs: smoothed over [`SMOOTHING`], in small numbers. Needs that are not known
    /// or not above zero change nothing.
    pub fn follow(&mut self, need: PerRole<Option<f64>>, now: Timestamp) -> Option<Ratio> {
        if let Some(seen) = log_ratio(need) {
            self.traffic = Some(smoothed(self.traffic, seen, now)?);
        }
        self.target()
    }

    /// The ratio that the traffic needed when last seen.
    pub fn target(&self) -> Option<Ratio> {
        self.traffic.map(|traffic| traffic.reported)
    }
}

fn log_most() -> f64 {
    f64::from(RATIO_PART_MAX).ln()
}

/// The logarithm of prefill per decode.
fn log_ratio(need: PerRole<Option<f64>>) -> Option<f64> {
    let ratio = need.prefill? / need.decode?;
    let known = ratio.is_finite() && ratio > 0.0 && need.decode? > 0.0;
    known.then(|| ratio.ln().clamp(-log_most(), log_most()))
}

fn smoothed(before: Option<Smoothed>, seen: f64, now: Timestamp) -> Option<Smoothed> {
    let before = before.filter(|before| before.log.is_finite());
    let log = before.map_or(seen, |before| {
        let spans = now.since(before.at).as_secs_f64() / SMOOTHING.as_secs_f64();
        before.log + (seen - before.log) * -(-spans).exp_m1()
    });
    let log = (log.clamp(-log_most(), log_most()) * LOG_STEPS).round() / LOG_STEPS;
    let near = |reported: &Ratio| (reported.as_f64().ln() - log).abs() <= REPORTED_WITHIN;
    let reported = before.map(|before| before.reported).filter(near);
    Some(Smoothed {
        log,
        at: now,
        reported: reported.or_else(|| Ratio::nearest(log.exp()))?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn pair(prefill: u32, decode: u32) -> PerRole<u32> {
        PerRole { prefill, decode }
    }

    fn needs(prefill: f64, decode: f64) -> PerRole<Option<f64>> {
        PerRole {
            prefill: Some(prefill),
            decode: Some(decode),
        }
    }

    /// 1:2 with 20 %.
    fn band() -> Option<RatioBand> {
        Ratio::new(1, 2).map(|target| RatioBand::around(target, 20))
    }

    #[test]
    fn a_breach_remembers_when_it_began_and_states_its_cause_now() {
        let mut state = RatioState::default();
        assert_eq!(state.judge(band(), pair(5, 10), None, at(0)), None);
        let breach = state.judge(band(), pair(7, 10), Some(BreachCause::Budget), at(10));
        assert_eq!(
            breach,
            Some(Breach {
                since: at(10),
                cause: BreachCause::Budget
            })
        );
        let breach = state.judge(band(), pair(8, 10), None, at(20)).unwrap();
        assert_eq!(
            (breach.since, breach.cause),
            (at(10), BreachCause::Transition)
        );
    }

    #[test]
    fn a_breach_ends_well_inside_the_band_or_after_a_while_inside() {
        let mut state = RatioState::default();
        state.judge(band(), pair(7, 10), None, at(0));
        // 6:10 lies on the edge of the band.
        assert!(state.judge(band(), pair(6, 10), None, at(10)).is_some());
        assert!(state.judge(band(), pair(6, 10), None, at(300)).is_some());
        assert!(state.judge(band(), pair(6, 10), None, at(310)).is_none());
        state.judge(band(), pair(7, 10), None, at(320));
        assert!(state.judge(band(), pair(11, 20), None, at(330)).is_none());
    }

    #[test]
    fn another_band_is_judged_afresh() {
        let mut state = RatioState::default();
        state.judge(band(), pair(6, 9), None, at(0));
        let other = Some(RatioBand::around(Ratio::new(2, 3).unwrap(), 0));
        assert_eq!(state.judge(other, pair(6, 9), None, at(10)), None);
        assert_eq!(state.judge(None, pair(60, 1), None, at(20)), None);
    }

    #[test]
    fn f19_a_jump_of_the_prefix_cache_moves_the_target_slowly() {
        let mut state = RatioState::default();
        let first = state.follow(needs(10.0, 4.0), at(0));
        assert_eq!(first, Ratio::new(5, 2));
        let mut reported = vec![];
        for tick in 1..=240 {
            reported.push(
                state
                    .follow(needs(2.0, 4.0), at(tick * 15))
                    .unwrap()
                    .as_f64(),
            );
        }
        assert!(reported[3] > 2.1, "after a minute: {}", reported[3]);
        assert!(
            (0.8..1.1).contains(&reported[39]),
            "after ten: {}",
            reported[39]
        );
        assert!(
            (0.48..0.53).contains(&reported[239]),
            "after an hour: {}",
            reported[239]
        );
        assert!(
            reported.windows(2).all(|w| w[1] <= w[0]),
            "no overshoot: {reported:?}"
        );
    }

    #[test]
    fn noise_does_not_change_the_target() {
        let mut state = RatioState::default();
        let first = state.follow(needs(6.0, 4.0), at(0));
        for tick in 1..500 {
            let noise = if tick % 2 == 0 { 1.2 } else { 1.0 / 1.2 };
            let reported = state.follow(needs(6.0 * noise, 4.0), at(tick * 15));
            assert_eq!(reported, first);
        }
    }

    #[test]
    fn nothing_known_and_a_clock_that_jumped_back_change_nothing() {
        let mut state = RatioState::default();
        assert_eq!(state.follow(PerRole::default(), at(0)), None);
        state.follow(needs(3.0, 1.0), at(100));
        let before = state.target();
        for (prefill, decode) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (-1.0, -2.0)] {
            assert_eq!(state.follow(needs(prefill, decode), at(200)), before);
        }
        assert_eq!(state.follow(needs(900.0, 1.0), at(50)), before);
    }

    proptest! {
        #[test]
        fn any_history_stays_small_and_survives_json(
            steps in prop::collection::vec((any::<i64>(), any::<f64>(), any::<f64>(), any::<u32>(), any::<u32>()), 1..20),
        ) {
            let mut state = RatioState::default();
            let band = Some(RatioBand { lowest: Ratio::new(999, 1000).unwrap(), highest: Ratio::new(1000, 999).unwrap(), tolerance_percent: 99 });
            for (millis, p, d, prefill, decode) in steps {
                let now = Timestamp::from_millis(millis);
                state.follow(needs(p, d), now);
                state.judge(band, pair(prefill, decode), Some(BreachCause::Bounds), now);
                let json = serde_json::to_string(&state).unwrap();
                prop_assert!(json.len() <= 300, "{} bytes: {json}", json.len());
                let mut read: RatioState = serde_json::from_str(&json).unwrap();
                prop_assert_eq!(&read, &state);
                // The same moment again changes nothing.
                read.follow(needs(p, d), now);
                read.judge(band, pair(prefill, decode), Some(BreachCause::Bounds), now);
                prop_assert_eq!(&read, &state);
            }
        }
    }
}
