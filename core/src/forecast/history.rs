//! Four hours of work, one value a minute, in a form that is small and exact.
//!
//! Values are kept as integers: the bits of a short float, a sign-less number with ten bits of
//! fraction, so within 0.05 % of what was seen. Every forecast starts from the integers, hence
//! memory that went through JSON gives the same forecasts to the bit. Zero is kept exactly.
//!
//! A short pause repeats the last value; a long one leaves a break, over which no error is measured
//! and no level carried. Breaks take one place however long they are, so a night's outage forgets
//! nothing.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Span of one value.
pub(super) const SLOT: Duration = Duration::from_mins(1);
const SLOT_MILLIS: i64 = 60_000;

/// Values kept at most.
pub(super) const SLOTS_MAX: usize = 240;

/// A pause of more slots than this is a break.
const PAUSE_SLOTS_MAX: i64 = 5;

/// Slots after the first of a run in which a rate over two minutes still shows a time before it. A
/// service that starts would else seem to grow many times over within its lead time, for hours.
const FILLING_SLOTS: i64 = 2;

/// Bits of a 32-bit float that are dropped.
const DROPPED_BITS: u32 = 13;

/// Larger values are kept as this one: no service does so much work, and sums stay finite.
const VALUE_MAX: f64 = 1e18;

/// Stands for a break; no value encodes to it.
const BREAK: u32 = 1 << 18;

/// The values, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct History {
    /// When the last value was seen. Meaningless while there is none.
    at: Timestamp,
    /// When the last value of the slot before was seen.
    before: Timestamp,
    /// When the present run of values began.
    #[serde(default)]
    began: Timestamp,
    /// Encoded values and breaks.
    values: VecDeque<u32>,
}

/// Values decoded, in runs without a break.
pub(super) struct Replay {
    pub(super) values: Vec<f64>,
    /// For each value, the index of the first one of its run.
    pub(super) run_start: Vec<usize>,
    /// How much of a slot lies between the last value and the one before, 0 to 1: the last slot may
    /// just have begun.
    pub(super) last_share: f64,
}

impl Replay {
    /// The largest value.
    pub(super) fn largest(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }
}

impl History {
    /// See [`Forecaster::observe`](super::Forecaster::observe).
    pub(super) fn observe(&mut self, value: f64, now: Timestamp) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        let code = encode(value);
        let Some(&last) = self.values.back() else {
            self.values.push_back(code);
            (self.before, self.at, self.began) = (now, now, now);
            return;
        };
        let passed = slot(now).saturating_sub(slot(self.at));
        let begins = decode(last) <= 0.0 && value > 0.0;
        if begins || !(-PAUSE_SLOTS_MAX..=PAUSE_SLOTS_MAX).contains(&passed) {
            self.values.push_back(BREAK);
            (self.before, self.began) = (self.at, now);
        } else if passed < 0 || now < self.at {
            return;
        } else if passed == 0 {
            self.values.pop_back();
        } else if slot(now).saturating_sub(slot(self.began)) <= FILLING_SLOTS {
            // The window of the rates still fills: what it showed before was a part of the work.
            self.values.pop_back();
            self.before = self.at;
        } else {
            for _ in 1..passed {
                self.values.push_back(last);
            }
            self.before = self.at;
        }
        self.values.push_back(code);
        self.at = now;
        let surplus = self.values.len().saturating_sub(SLOTS_MAX);
        self.values.drain(..surplus);
    }

    /// The last value and when it was seen.
    pub(super) fn latest(&self) -> Option<(f64, Timestamp)> {
        let code = self.values.back().copied()?;
        Some((decode(code), self.at))
    }

    /// All values, decoded. Memory that was tampered with is cut to size, its nonsense taken for
    /// breaks.
    pub(super) fn replay(&self) -> Replay {
        let mut replay = Replay {
            values: Vec::with_capacity(SLOTS_MAX),
            run_start: Vec::with_capacity(SLOTS_MAX),
            last_share: (self.at.since(self.before).as_secs_f64() / SLOT.as_secs_f64()).min(1.0),
        };
        let surplus = self.values.len().saturating_sub(SLOTS_MAX);
        let mut start = 0;
        for &code in self.values.iter().skip(surplus) {
            if code >= BREAK {
                start = replay.values.len();
            } else {
                replay.values.push(decode(code));
                replay.run_start.push(start);
            }
        }
        replay
    }
}

/// The slot of the clock that `now` is in.
fn slot(now: Timestamp) -> i64 {
    now.as_millis().div_euclid(SLOT_MILLIS)
}

/// The nearest short float, as an integer. `value` is finite and not negative.
fn encode(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to the nearest float is what is meant"
    )]
    let short = value.min(VALUE_MAX) as f32;
    // Negative zero would set the sign bit.
    let bits = short.abs().to_bits();
    (bits + (1 << (DROPPED_BITS - 1))) >> DROPPED_BITS
}

/// The value of an encoded one; whatever encodes none is zero.
fn decode(code: u32) -> f64 {
    let value = f64::from(f32::from_bits((code % BREAK) << DROPPED_BITS));
    if value.is_finite() {
        value.min(VALUE_MAX)
    } else {
        0.0
    }
}
