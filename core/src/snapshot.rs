//! Everything known about a service at one moment: the argument of a decision.
//!
//! A snapshot serialises, so a decision made in production can be replayed from its record.

use serde::{Deserialize, Serialize};

use crate::{
    capacity::Profile, policy::Policy, role::PerRole, role_state::RoleState, signal::Signals,
};

/// Everything observed, and the user's policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The user's policy.
    pub policy: Policy,
    /// The workloads as they are.
    pub roles: PerRole<RoleState>,
    /// The measurements.
    pub signals: Signals,
    /// Directions that a person has paused.
    pub paused: Paused,
    /// The performance of one replica, if somebody measured it; without, it is learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
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
