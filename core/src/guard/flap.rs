//! The flap governor: replicas that go back and forth are lowered later and less readily.
//!
//! A reversal is a rise soon after a fall, or a fall soon after a rise, by anyone. Reversals of the
//! last hour, each counting less as it ages, give a factor of 1 to [`FACTOR_MAX`] for the
//! scale-down window and tolerance. Two are ordinary peaks and cost nothing. Raising replicas is
//! never slowed, and when it is calm the factor decays to 1 within the hour: nobody has to reset
//! anything.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    behavior::{Behavior, PPM_PER_PERCENT},
    reason::Reason,
    role::Role,
    step::{Stage, Step},
    time::Timestamp,
};

/// A change against the last one within this time is a reversal.
pub const REVERSAL_WITHIN: Duration = Duration::from_mins(30);

/// How long a reversal counts, in full at first and falling to nothing.
pub const REVERSAL_COUNTS: Duration = Duration::from_hours(1);

/// The largest factor. With it the worst alternation reverses twenty times an hour, where a service
/// without a scale-down window would 240 times.
pub const FACTOR_MAX: f64 = 4.0;

/// Reversals in the last hour that change nothing.
const REVERSALS_FREE: f64 = 2.0;

/// A window shorter than this is widened as if it were so long: four times nothing would be
/// nothing.
const WINDOW_BASE: Duration = Duration::from_mins(1);

/// A widened window is never longer than HPA allows a window to be.
const WINDOW_MAX: Duration = Duration::from_hours(1);

/// A widened tolerance is never above this, percent.
const TOLERANCE_MAX: f64 = 50.0;

/// Reversals kept: twice as many as make the largest factor.
const REVERSALS_MAX: usize = 8;

/// Memory of a role's changes of direction. Less than 250 bytes of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlapMemory {
    replicas: Option<u32>,
    moved: Option<Moved>,
    reversals: Vec<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Moved {
    at: Timestamp,
    up: bool,
}

impl FlapMemory {
    /// Takes in the target's replicas, which changed at `changed_at` if they changed.
    pub fn observe(&mut self, replicas: u32, changed_at: Timestamp, now: Timestamp) {
        self.moved = self.moved.filter(|moved| moved.at <= now);
        self.reversals
            .retain(|&at| at <= now && now.since(at) < REVERSAL_COUNTS);
        let Some(before) = self.replicas.replace(replicas) else {
            return;
        };
        if before == replicas {
            return;
        }
        let up = replicas > before;
        let reversed = self
            .moved
            .is_some_and(|moved| moved.up != up && changed_at.since(moved.at) <= REVERSAL_WITHIN);
        self.moved = Some(Moved { at: changed_at, up });
        if reversed {
            self.reversals.push(changed_at);
            let excess = self.reversals.len().saturating_sub(REVERSALS_MAX);
            self.reversals.drain(..excess);
        }
    }

    /// Factor of the scale-down window and tolerance, 1 to [`FACTOR_MAX`].
    pub fn factor(&self, now: Timestamp) -> f64 {
        let whole = REVERSAL_COUNTS.as_secs_f64();
        let weight = |at: &Timestamp| (1.0 - now.since(*at).as_secs_f64() / whole).max(0.0);
        let pressure: f64 = self.reversals.iter().map(weight).sum();
        (1.0 + pressure - REVERSALS_FREE).clamp(1.0, FACTOR_MAX)
    }

    /// Reversals in the last hour, as far as they are kept.
    pub fn reversals(&self) -> usize {
        self.reversals.len()
    }
}

/// `behavior` with the scale-down window and tolerance widened while replicas flap.
///
/// The step says so; it belongs in a report when the role holds because of it.
pub fn damp(
    role: Role,
    behavior: &Behavior,
    memory: &FlapMemory,
    now: Timestamp,
) -> (Behavior, Option<Step>) {
    let factor = memory.factor(now);
    let mut damped = behavior.clone();
    if factor <= 1.0 {
        return (damped, None);
    }
    let rules = &mut damped.scale_down;
    let (window, tolerance) = (rules.stabilization_window, rules.tolerance_ppm);
    let percent = |ppm: u32| f64::from(ppm) / f64::from(PPM_PER_PERCENT);
    let widening = window.max(WINDOW_BASE).mul_f64(factor - 1.0);
    rules.stabilization_window = window.saturating_add(widening).min(WINDOW_MAX.max(window));
    // A whole percentage, so that the message is short and the tolerance does not move in every
    // tick.
    let widened = (percent(tolerance) * factor).round().min(TOLERANCE_MAX);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 50"
    )]
    let widened = widened as u32 * PPM_PER_PERCENT;
    rules.tolerance_ppm = tolerance.max(widened);
    let message = format!(
        "{} reversals in the last hour: lowering waits {} s instead of {} s, within {} % instead of {} %",
        memory.reversals(),
        rules.stabilization_window.as_secs(),
        window.as_secs(),
        percent(rules.tolerance_ppm),
        percent(tolerance)
    );
    let step = Step::of_role(Stage::Stabilize, role, Reason::FlapDamped, message);
    (damped, Some(step))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::{
        guard::{StabilizationWindows, stabilize, tolerate},
        need::Need,
        testing,
    };

    const TICK: u64 = 15;
    const TICKS_AN_HOUR: u64 = 3_600 / TICK;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
    }

    /// Follows `need(second)` for `hours` with the guards alone; gives the times of reversals.
    fn reversals(
        down_seconds: u64,
        hours: u64,
        damping: bool,
        need: impl Fn(u64) -> f64,
    ) -> Vec<u64> {
        let behavior = Behavior {
            scale_up: testing::rules(0, 0),
            scale_down: testing::rules(down_seconds, 10),
            drain_timeout: None,
        };
        let (mut windows, mut flaps) = (StabilizationWindows::default(), FlapMemory::default());
        let (mut current, mut last, mut turns) = (10, None, Vec::new());
        for tick in 0..hours * TICKS_AN_HOUR {
            let second = tick * TICK;
            let now = at(second);
            flaps.observe(current, now, now);
            let damped = if damping {
                damp(Role::Decode, &behavior, &flaps, now).0
            } else {
                behavior.clone()
            };
            let need = Need::of(need(second), Reason::DecodeWork, String::new());
            let (wanted, _) = tolerate(&need, current, &damped);
            let (next, _) = stabilize(Role::Decode, wanted, current, &damped, &mut windows, now);
            if next != current {
                let up = next > current;
                if last.is_some_and(|last| last != up) {
                    turns.push(second);
                }
                last = Some(up);
            }
            current = next;
        }
        turns
    }

    fn busiest_hour(turns: &[u64]) -> usize {
        let in_hour = |from: u64| {
            turns
                .iter()
                .filter(|&&t| t >= from && t - from < 3_600)
                .count()
        };
        turns.iter().map(|&from| in_hour(from)).max().unwrap_or(0)
    }

    #[rstest]
    #[case::one_peak_is_forgiven(&[4, 8, 4], 1.0)]
    #[case::two_are_ordinary(&[4, 8, 4, 8], 1.0)]
    #[case::three_reversals(&[4, 8, 4, 8, 4], 2.0)]
    #[case::no_change(&[4, 4, 4, 4, 4], 1.0)]
    #[case::a_climb_in_steps(&[4, 5, 6, 9, 12], 1.0)]
    #[case::bounded(&[1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2], 4.0)]
    fn reversals_raise_the_factor(#[case] path: &[u32], #[case] want: f64) {
        let mut memory = FlapMemory::default();
        for &replicas in path {
            memory.observe(replicas, at(0), at(0));
        }
        assert!((memory.factor(at(0)) - want).abs() < 1e-9);
    }

    #[test]
    fn a_daily_rise_and_fall_is_no_reversal() {
        let mut memory = FlapMemory::default();
        for (hour, replicas) in [(0, 4), (6, 8), (12, 16), (18, 8), (24, 4), (30, 8)] {
            memory.observe(replicas, at(hour * 3_600), at(hour * 3_600));
        }
        assert_eq!(memory.reversals(), 0);
    }

    #[test]
    fn the_factor_decays_when_it_is_calm() {
        let mut memory = FlapMemory::default();
        for replicas in [1, 2, 1, 2, 1, 2, 1, 2] {
            memory.observe(replicas, at(0), at(0));
        }
        let factors: Vec<f64> = [0, 1_200, 2_400, 3_600]
            .map(|second| memory.factor(at(second)))
            .to_vec();
        assert!(
            factors.is_sorted_by(|before, after| before >= after) && factors[1] < factors[0],
            "{factors:?}"
        );
        assert!((factors[3] - 1.0).abs() < 1e-9);
    }

    #[rstest]
    #[case::default(300, 10, 600, 20)]
    #[case::no_window(0, 0, 60, 0)]
    #[case::the_longest_window(3_600, 40, 3_600, 50)]
    #[case::a_wide_tolerance_is_not_narrowed(300, 80, 600, 80)]
    fn window_and_tolerance_are_widened_within_limits(
        #[case] window: u64,
        #[case] tolerance: u32,
        #[case] want_window: u64,
        #[case] want_tolerance: u32,
    ) {
        let mut memory = FlapMemory::default();
        for replicas in [4, 8, 4, 8, 4] {
            memory.observe(replicas, at(0), at(0));
        }
        let behavior = Behavior {
            scale_up: testing::rules(0, 0),
            scale_down: testing::rules(window, tolerance),
            drain_timeout: None,
        };
        let (damped, step) = damp(Role::Decode, &behavior, &memory, at(0));
        assert_eq!(
            damped.scale_down,
            testing::rules(want_window, want_tolerance)
        );
        assert_eq!(damped.scale_up, behavior.scale_up);
        assert_eq!(step.map(|step| step.reason), Some(Reason::FlapDamped));
    }

    #[test]
    fn without_the_governor_a_slow_alternation_flaps_and_with_it_less() {
        // Seven minutes high, seven low: just longer than the window of five.
        let alternating = |second| if second / 420 % 2 == 0 { 20.0 } else { 8.0 };
        let free = busiest_hour(&reversals(300, 12, false, alternating));
        let damped = busiest_hour(&reversals(300, 12, true, alternating));
        assert!(free >= 10 && damped <= 8, "{free} {damped}");
    }

    #[rstest]
    #[case::no_window(0, 240, 20)]
    #[case::two_and_a_half_minutes(150, 24, 10)]
    #[case::default(300, 12, 8)]
    #[case::ten_minutes(600, 6, 6)]
    fn the_worst_alternation_reverses_a_few_times_an_hour(
        #[case] window: u64,
        #[case] want_free: usize,
        #[case] want_damped: usize,
    ) {
        let worst = |damping| {
            let of_half = |half: u64| {
                let need = move |second: u64| {
                    if (second / half).is_multiple_of(2) {
                        30.0
                    } else {
                        5.0
                    }
                };
                busiest_hour(&reversals(window, 12, damping, need))
            };
            (15..1_800).step_by(15).map(of_half).max()
        };
        assert_eq!(
            (worst(false), worst(true)),
            (Some(want_free), Some(want_damped))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_constant_load_never_flaps(need in 0.5f64..60.0, window in 0u64..900) {
            let turns = reversals(window, 6, true, |_| need);
            prop_assert!(turns.is_empty(), "{turns:?}");
        }

        #[test]
        fn an_alternating_load_reverses_a_bounded_number_of_times_an_hour(
            half_seconds in 15u64..1_800, window in 0u64..600, low in 1.0f64..10.0, high in 12.0f64..60.0,
        ) {
            let turns = reversals(window, 12, true, |second| {
                if second / half_seconds % 2 == 0 { high } else { low }
            });
            prop_assert!(busiest_hour(&turns) <= 20, "{turns:?}");
            if half_seconds + 2 * TICK <= window {
                // The window alone already holds what alternates faster than it.
                prop_assert!(turns.len() <= 1, "{turns:?}");
            }
        }

        #[test]
        fn memory_stays_small(path in prop::collection::vec((0u32..9, 0u64..2_000), 0..100)) {
            let mut memory = FlapMemory::default();
            let mut now = 0;
            for (replicas, step) in path {
                now += step;
                memory.observe(replicas, at(now), at(now));
                let factor = memory.factor(at(now));
                prop_assert!((1.0..=FACTOR_MAX).contains(&factor));
            }
            let text = serde_json::to_string(&memory).unwrap();
            prop_assert!(text.len() <= 250, "{} bytes", text.len());
            prop_assert_eq!(serde_json::from_str::<FlapMemory>(&text).unwrap(), memory);
        }
    }
}
