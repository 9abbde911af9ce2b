//! The two roles of a disaggregated service, and pairs of anything by role.
//!
//! [`PerRole`] keeps code that treats both roles alike free of copies (`needs[role]`), and code
//! that treats them differently explicit (`needs.prefill`).

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

/// The part of a request that a worker does.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Display,
    IntoStaticStr,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Role {
    /// Computes the prompt's KV cache and the first token: compute-bound, decides TTFT.
    Prefill,
    /// Generates the other tokens: memory-bound, decides TPOT.
    Decode,
}

impl Role {
    /// Both roles, prefill first.
    pub const ALL: [Self; 2] = [Self::Prefill, Self::Decode];

    /// `prefill` or `decode`: the word used in the API, metric labels and texts.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The role that this one hands requests to, or gets them from.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Prefill => Self::Decode,
            Self::Decode => Self::Prefill,
        }
    }
}

/// One value for prefill and one for decode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PerRole<T> {
    /// The prefill role's value.
    pub prefill: T,
    /// The decode role's value.
    pub decode: T,
}

impl<T> PerRole<T> {
    /// Builds both values with `make`.
    pub fn from_fn(mut make: impl FnMut(Role) -> T) -> Self {
        Self {
            prefill: make(Role::Prefill),
            decode: make(Role::Decode),
        }
    }

    /// Both values turned into others.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> PerRole<U> {
        PerRole {
            prefill: change(self.prefill),
            decode: change(self.decode),
        }
    }

    /// Both values with their roles, prefill first.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &T)> {
        [(Role::Prefill, &self.prefill), (Role::Decode, &self.decode)].into_iter()
    }
}

impl<T> Index<Role> for PerRole<T> {
    type Output = T;

    fn index(&self, role: Role) -> &T {
        match role {
            Role::Prefill => &self.prefill,
            Role::Decode => &self.decode,
        }
    }
}

impl<T> IndexMut<Role> for PerRole<T> {
    fn index_mut(&mut self, role: Role) -> &mut T {
        match role {
            Role::Prefill => &mut self.prefill,
            Role::Decode => &mut self.decode,
        }
    }
}
