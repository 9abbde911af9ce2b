//! Memory: the part of one decision that the next one needs, plain data that lives in the object's
//! status.
//!
//! A restart or a new leader is just another call with the memory it finds. Each stage of a
//! decision has a part of its own here, and sees no other. Everything is bounded.

mod stored;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    capacity::{Ceiling, Estimator, Proven},
    forecast::Forecaster,
    guard::{BrokenMemory, FlapMemory, Gap, GapMemory, StabilizationWindows, StuckMemory},
    in_flight::InFlightMemory,
    lead::LeadTimes,
    operating_point::PointState,
    ratio::RatioState,
    reach::UnreachableShare,
    readiness::SmoothedReadiness,
    replicas::{ReplicaChanges, Served},
    role::PerRole,
    role_state::{RoleState, StuckCause},
    time::{Timestamp, UNWATCHED_MAX},
    window_mean::WindowMean,
    zero::ZeroMemory,
};

pub use self::stored::Stored;

/// Version of the format: one more when a field gets another meaning. New fields need none.
pub const MEMORY_VERSION: u32 = 5;

/// The oldest version whose memory is read, and the oldest program that may go on with what this
/// one writes. Memory from further away is forgotten, which only costs one window.
const OLDEST_COMPATIBLE: u32 = 5;

/// Most bytes of JSON that the memory of one service takes.
pub const MEMORY_BYTES_MAX: usize = 16 * 1_024;

/// The moment of a decision, in the time of its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    /// Time since the decision before, if there was one.
    pub(crate) since_last: Option<Duration>,
    /// Whether that time was watched.
    pub(crate) gap: Gap,
}

/// Memory of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Format version.
    pub version: u32,
    /// The oldest version whose program may go on with it; 0 where that was not written, and is
    /// the version itself.
    #[serde(default)]
    pub readable_from: u32,
    /// When the last decision was made, in the time of this memory.
    pub decided_at: Option<Timestamp>,
    /// How far the time of this memory is ahead of the clock, because the clock was set back,
    /// milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ahead_millis: u64,
    /// Times between decisions that were long, of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gaps: Option<GapMemory>,
    /// How replicas have changed.
    pub replicas: PerRole<ReplicaMemory>,
    /// Since when the role's metrics have not been complete.
    pub missing_since: PerRole<Option<Timestamp>>,
    /// Since when gauges have stood still while no counter moved.
    #[serde(default)]
    pub standing_since: Option<Timestamp>,
    /// Idleness, and the wake signal at zero.
    pub zero: ZeroMemory,
    /// Performance of one replica.
    pub capacity: CapacityMemory,
    /// Each role's work over time, and how wrong forecasts of it were.
    pub forecast: PerRole<Forecaster>,
    /// Requests in flight on decode, of late.
    #[serde(default)]
    pub decode_in_flight: InFlightMemory,
    /// Needs of late, replicas that went back and forth, and scale-up requests that are stuck.
    pub stabilization: PerRole<StabilizationMemory>,
    /// The operating point in force.
    pub operating_point: PointState,
    /// The ratio over time.
    pub ratio: RatioState,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            version: MEMORY_VERSION,
            readable_from: OLDEST_COMPATIBLE,
            decided_at: None,
            ahead_millis: 0,
            gaps: None,
            replicas: PerRole::default(),
            missing_since: PerRole::default(),
            standing_since: None,
            zero: ZeroMemory::default(),
            capacity: CapacityMemory::default(),
            forecast: PerRole::default(),
            decode_in_flight: InFlightMemory::default(),
            stabilization: PerRole::default(),
            operating_point: PointState::default(),
            ratio: RatioState::default(),
        }
    }
}

impl Memory {
    /// Whether this version may go on with it.
    pub const fn is_usable(&self) -> bool {
        if self.version <= MEMORY_VERSION {
            self.version >= OLDEST_COMPATIBLE
        } else {
            self.readable_from > 0 && self.readable_from <= MEMORY_VERSION
        }
    }

    /// This memory in the present version if it may go on with it, or a fresh one.
    #[must_use]
    pub fn usable(self) -> Self {
        if self.is_usable() {
            Self {
                version: MEMORY_VERSION,
                readable_from: OLDEST_COMPATIBLE,
                ..self
            }
        } else {
            Self::default()
        }
    }

    /// How far the time of this memory is ahead at `clock`, and that time, after a decision at
    /// `decided_at`.
    fn time(&self, decided_at: Timestamp, clock: Timestamp) -> (Duration, Timestamp) {
        let ahead = Duration::from_millis(self.ahead_millis);
        let clock_then = decided_at.minus(ahead);
        let ahead = if clock < clock_then {
            ahead.saturating_add(clock_then.since(clock))
        } else {
            let elapsed = clock.since(clock_then);
            let set_ahead = if elapsed > UNWATCHED_MAX {
                elapsed
            } else {
                Duration::ZERO
            };
            ahead.saturating_sub(set_ahead)
        };
        (ahead, clock.plus(ahead).max(decided_at))
    }

    /// `clock` in the time of this memory, and the time since the decision before as
    /// [`Memory::moment`] will judge it.
    pub(crate) fn now(&self, clock: Timestamp, window: Duration) -> (Timestamp, Gap) {
        let Some(decided_at) = self.decided_at else {
            return (clock, Gap::Sudden);
        };
        let now = self.time(decided_at, clock).1;
        (now, GapMemory::judge(self.gaps, decided_at, now, window).0)
    }

    /// The moment `clock` in the time of this memory, for a policy whose scale-down `window` is
    /// given.
    ///
    /// A clock that is set back would make the recent past a future, of which nothing may be
    /// believed. The time of a memory therefore never goes back: it stands still for the one
    /// decision, and is ahead of the clock from then on, so that everything known keeps its age.
    /// It falls back to the clock when the clock is set ahead again, as far as that goes.
    pub(crate) fn moment(&mut self, clock: Timestamp, window: Duration) -> Moment {
        let Some(decided_at) = self.decided_at else {
            self.ahead_millis = 0;
            self.gaps = None;
            self.decided_at = Some(clock);
            return Moment {
                now: clock,
                since_last: None,
                gap: Gap::Sudden,
            };
        };
        let (ahead, now) = self.time(decided_at, clock);
        self.ahead_millis = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
        self.decided_at = Some(now);
        let since_last = now.since(decided_at);
        let gap;
        (gap, self.gaps) = GapMemory::judge(self.gaps, decided_at, now, window);
        Moment {
            now,
            since_last: Some(since_last),
            gap,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(millis: &u64) -> bool {
    *millis == 0
}

/// How the replicas of one role have changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaMemory {
    /// Changes of the target's replicas.
    pub changes: ReplicaChanges,
    /// Ready replicas, smoothed.
    pub readiness: SmoothedReadiness,
    /// Replicas that have served.
    pub served: Served,
    /// How long replicas take to serve.
    pub lead: LeadTimes,
}

/// Performance of one replica, as learnt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacityMemory {
    /// Times of both roles, corrected by measurements.
    pub estimator: Estimator,
    /// Output tokens per second that a decode replica failed at.
    pub decode_ceiling: Ceiling,
    /// Share of each role's requests that no number of replicas served in time, of late.
    #[serde(default)]
    pub unreachable: PerRole<UnreachableShare>,
    /// The batch that decode replicas kept the TPOT limit with.
    #[serde(default)]
    pub decode_proven: Proven,
    /// Decode workers, as the rate window shows them.
    #[serde(default)]
    pub decode_workers: WindowMean,
}

impl StabilizationMemory {
    /// Whether replicas that do not come wait for somebody to put something right.
    pub(crate) fn blocked(&self, state: &RoleState) -> bool {
        state.stuck.is_some_and(|(_, cause)| match cause {
            StuckCause::Unschedulable => self.stuck.backs_off(),
            _ => true,
        })
    }
}

/// Memory of the rules that let only lasting needs of one role through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StabilizationMemory {
    /// Needs of the stabilization windows.
    pub windows: StabilizationWindows,
    /// Replicas that went back and forth.
    pub flaps: FlapMemory,
    /// Scale-up requests that are stuck.
    pub stuck: StuckMemory,
    /// Replicas that are broken.
    pub broken: BrokenMemory,
}
