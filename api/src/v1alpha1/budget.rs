//! How many GPUs both roles may hold together.

use serde::{Deserialize, Serialize};

use super::reserved::{self, Reserved};
#[cfg(feature = "kube")]
use super::rules::{refused, rule};
use crate::derives::KubeSchema;

/// Most GPUs of a budget.
pub const BUDGET_GPUS_MAX: i32 = 1_000_000;
/// Remedy when a budget has no number.
pub(crate) const BUDGET_EMPTY_REMEDY: &str = "budget needs gpus, such as 64; or remove budget";

/// A limit on the GPUs of both roles together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule("has(self.gpus) || has(self.ref)", BUDGET_EMPTY_REMEDY))]
pub struct BudgetSpec {
    /// Most GPUs that both roles may hold or be asked to hold at any instant, 1 to 1000000. Where
    /// more are held, replicas that are needed go by the scale-down policies, else a tenth of them
    /// a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = BUDGET_GPUS_MAX))]
    pub gpus: Option<i32>,
    /// Not supported by this version. Will name a budget that several PDAutoscalers share.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = refused("ref", reserved::BUDGET_REF))]
    pub reference: Option<Reserved>,
    /// Not supported by this version. Will order the PDAutoscalers that share a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = refused("priority", reserved::BUDGET_PRIORITY))]
    pub priority: Option<i32>,
}
