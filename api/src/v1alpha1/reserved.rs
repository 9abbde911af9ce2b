//! Fields that later versions will use: known to the schema, refused by it today.
//!
//! They are here so that a user who writes one gets our sentence rather than "unknown field", or,
//! worse, silence. The texts below say what to do instead; the CEL rules and the validation in Rust
//! share them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The value of a reserved object: anything, kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reserved(pub Value);

/// Remedy in place of `budget.ref`.
pub(crate) const BUDGET_REF: &str = "name the namespace in a GPUBudget instead";
/// Remedy in place of `budget.priority`.
pub(crate) const BUDGET_PRIORITY: &str = "a GPUBudget sets the priority of its members; remove it";
