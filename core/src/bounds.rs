//! Replica bounds of a role: the user's, or those that a schedule puts in force.

use serde::{Deserialize, Serialize};

/// Replica bounds of a role, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// Fewest replicas, at least 1.
    pub min_replicas: u32,
    /// Most replicas, at least `min_replicas`.
    pub max_replicas: u32,
}

impl Bounds {
    /// `replicas` moved into the bounds.
    pub fn clamp(&self, replicas: u32) -> u32 {
        replicas.clamp(self.min_replicas, self.max_replicas.max(self.min_replicas))
    }
}
