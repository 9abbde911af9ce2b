//! Everything known about a service at one moment: the argument of a decision.
//!
//! A snapshot serialises, so a decision made in production can be replayed from its record.

use serde::{Deserialize, Serialize};

use crate::{capacity::Profile, guard::StuckCause, policy::Policy, role::PerRole, signal::Signals};

/// What was observed, and what the user wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// What the user wants.
    pub policy: Policy,
    /// The workloads as they are.
    pub roles: PerRole<RoleState>,
    /// What was measured.
    pub signals: Signals,
    /// Directions that a person has paused.
    pub paused: Paused,
    /// What one replica can do, if somebody measured it; without, it is learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// One role's workload as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleState {
    /// Replicas asked for: the target's `spec.replicas`.
    pub current: u32,
    /// Replicas that serve.
    pub ready: u32,
    /// Replicas that exist and do not serve yet.
    pub starting: u32,
    /// Replicas that are on their way out and still hold their GPUs.
    pub terminating: u32,
    /// GPUs one replica holds; 0 when it needs none.
    pub gpus_per_replica: u32,
    /// Replicas that exist, do not serve and will not without help, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<(u32, StuckCause)>,
    /// A change of the pods themselves is under way, so that old and new ones exist side by side.
    #[serde(default)]
    pub rolling_out: bool,
}

impl RoleState {
    /// Replicas whose GPUs are or will be held: those that exist, or those asked for if more, and
    /// those on their way out, which have left neither.
    pub fn holding(&self) -> u32 {
        let existing = self.ready.saturating_add(self.starting);
        existing.max(self.current).saturating_add(self.terminating)
    }
}

/// Directions that a person has paused by annotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Paused {
    /// Replicas are not raised.
    pub scale_up: bool,
    /// Replicas are not lowered.
    pub scale_down: bool,
}
