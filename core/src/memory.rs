//! Memory: the part of one decision that the next one needs, plain data that lives in the object's
//! status.
//!
//! A restart or a new leader is just another call with the memory it finds. Each stage of a
//! decision has a part of its own here, and sees no other. Everything is bounded.

use serde::{Deserialize, Serialize};

use crate::{
    capacity::{Ceiling, Estimator},
    forecast::Forecaster,
    guard::{FlapMemory, StabilizationWindows, StuckMemory},
    lead::LeadTimes,
    operating_point::PointState,
    ratio::RatioState,
    reach::UnreachableShare,
    readiness::SmoothedReadiness,
    replicas::ReplicaChanges,
    role::PerRole,
    time::Timestamp,
    zero::ZeroMemory,
};

/// Version of the format.
///
/// Memory of any other version is forgotten, which only costs one window.
pub const MEMORY_VERSION: u32 = 3;

/// Most bytes of JSON that the memory of one service takes.
pub const MEMORY_BYTES_MAX: usize = 16 * 1_024;

/// Memory of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Format version.
    pub version: u32,
    /// When the last decision was made.
    pub decided_at: Option<Timestamp>,
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
            decided_at: None,
            replicas: PerRole::default(),
            missing_since: PerRole::default(),
            standing_since: None,
            zero: ZeroMemory::default(),
            capacity: CapacityMemory::default(),
            forecast: PerRole::default(),
            stabilization: PerRole::default(),
            operating_point: PointState::default(),
            ratio: RatioState::default(),
        }
    }
}

impl Memory {
    /// This memory if it is of the present version, or a fresh one.
    #[must_use]
    pub fn usable(self) -> Self {
        if self.version == MEMORY_VERSION {
            self
        } else {
            Self::default()
        }
    }
}

/// How the replicas of one role have changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaMemory {
    /// Changes of the target's replicas.
    pub changes: ReplicaChanges,
    /// Ready replicas, smoothed.
    pub readiness: SmoothedReadiness,
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
}
