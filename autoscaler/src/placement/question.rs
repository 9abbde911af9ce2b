//! The question whether there is room, and its answer.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;

/// The question: would so many more replicas of a group have places?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The namespace of the group.
    pub namespace: String,
    /// The group.
    pub group: String,
    /// Further replicas, by role of the group.
    pub more: BTreeMap<String, u32>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Whether all of them would.
    pub fits: bool,
    /// Replicas that would, by role.
    #[serde(default)]
    pub granted: BTreeMap<String, u32>,
    /// Why not all of them would.
    #[serde(default)]
    pub message: String,
}

/// Why there is no answer, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Whoever answers.
pub type Ask =
    Arc<dyn Fn(Question) -> BoxFuture<'static, Result<Answer, NoAnswer>> + Send + Sync + 'static>;
