//! GPUs that PDAutoscalers of several namespaces share.
//!
//! The object is the platform team's, and it alone says who shares: namespaces by name or by their
//! labels, which tenants cannot set. No field of a PDAutoscaler lets it in or out, nor gives it
//! more: floor, priority and most are those of the namespace, whatever number of PDAutoscalers it
//! holds. Its status is the ledger by which replicas are requested.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::core::Rule;
use serde::{Deserialize, Serialize};

use super::{
    budget::BUDGET_GPUS_MAX,
    rules::{rule, rule_naming_value},
    status::conditions_schema,
};
use crate::derives::{CustomResource, JsonSchema, KubeSchema};

/// Most entries of `members`.
pub const MEMBERS_MAX: usize = 64;
/// Most namespaces of one entry.
pub const NAMESPACES_MAX: usize = 128;
/// Most names of PDAutoscalers in one entry.
pub const NAMES_MAX: usize = 128;
/// Most labels that a namespace must carry.
pub const LABELS_MAX: usize = 8;
/// Largest priority.
pub const PRIORITY_MAX: i32 = 1_000;
/// Most PDAutoscalers that share a budget: the ledger of so many is far below what etcd takes.
pub const ACCOUNTS_MAX: usize = 1_000;

/// A number of GPUs that PDAutoscalers of several namespaces share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "pdautoscaler.io",
    version = "v1alpha1",
    kind = "GPUBudget",
    plural = "gpubudgets",
    singular = "gpubudget",
    category = "pdautoscaler",
    status = "GPUBudgetStatus",
    derive = "PartialEq",
    doc = "GPUBudget is a number of GPUs that PDAutoscalers of several namespaces share: floors first, the rest by priority. Replicas are requested only on GPUs that its ledger grants.",
    printcolumn(
        name = "GPUs",
        type_ = "integer",
        json_path = ".spec.gpus",
        description = "GPUs that are shared"
    ),
    printcolumn(
        name = "Granted",
        type_ = "integer",
        json_path = ".status.grantedGpus",
        description = "GPUs that are granted"
    ),
    printcolumn(
        name = "Held",
        type_ = "integer",
        json_path = ".status.heldGpus",
        description = "GPUs that exist or are requested"
    ),
    printcolumn(
        name = "Wanted",
        type_ = "integer",
        json_path = ".status.wantedGpus",
        description = "GPUs that the objectives need"
    ),
    printcolumn(
        name = "Within",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="WithinBudget")].status"#,
        description = "Whether no more GPUs are held than there are"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="WithinBudget")].reason"#,
        description = "Why it is so",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct GPUBudgetSpec {
    /// GPUs that may exist or be requested at any instant, 0 to 1000000. Where more are held, such
    /// as after it was lowered, replicas go, those of the lowest priority first, each by its own
    /// scale-down policies.
    #[schemars(range(min = 0, max = BUDGET_GPUS_MAX))]
    pub gpus: i32,
    /// Who shares. Each namespace of an entry has a floor, a priority and a most of its own. Of
    /// several entries that hold a PDAutoscaler the first counts. At most 64.
    #[schemars(length(min = 1, max = MEMBERS_MAX))]
    pub members: Vec<BudgetMemberSpec>,
    /// Whether GPUs of a floor that its namespace does not want are lent to others. Default
    /// Allowed.
    #[serde(default)]
    pub borrowing: BorrowingKind,
    /// Who gives GPUs back when somebody is short of its share. Default FairShare.
    #[serde(default)]
    pub preemption: PreemptionKind,
    /// Whether GPUs are kept free for the surge of rollouts. Default Reserved.
    #[serde(default)]
    pub surge: SurgeKind,
}

/// Namespaces whose PDAutoscalers share a budget, and the part that each of them gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "(has(self.namespaces) && size(self.namespaces) > 0) != has(self.namespaceLabels)",
        "a member needs either namespaces or namespaceLabels",
    ),
    validation = most_above_floor(),
)]
pub struct BudgetMemberSpec {
    /// Names of namespaces. At most 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = NAMESPACES_MAX), inner(length(max = 63)))]
    pub namespaces: Vec<String>,
    /// Labels that a namespace must carry, all of them, instead of names. At most 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_labels: Option<NamespaceLabels>,
    /// Names of PDAutoscalers. Default: all of the namespace. At most 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = NAMES_MAX), inner(length(max = 253)))]
    pub names: Vec<String>,
    /// How large the part of each namespace is beyond the floors: one of priority 2 gets twice as
    /// much as one of priority 1. 1 to 1000. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = PRIORITY_MAX))]
    pub priority: i32,
    /// GPUs that each namespace gets before anybody gets more than its floor, as far as it wants
    /// them. 0 to 1000000. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = BUDGET_GPUS_MAX))]
    pub floor_gpus: i32,
    /// Most GPUs of each namespace, 0 to 1000000. Default: no limit but the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = BUDGET_GPUS_MAX))]
    pub most_gpus: Option<i32>,
}

/// Labels by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamespaceLabels(pub BTreeMap<String, String>);

const fn one() -> i32 {
    1
}

/// A rule that keeps `mostGpus` at or above `floorGpus`.
fn most_above_floor() -> Rule {
    rule_naming_value(
        "!has(self.mostGpus) || self.mostGpus >= self.floorGpus",
        "'mostGpus `%d` must be at least floorGpus (%d)'.format([self.mostGpus, self.floorGpus])",
    )
}

/// Whether unused GPUs of a floor are lent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BorrowingKind {
    /// They are lent, and come back by the rules of preemption.
    #[default]
    Allowed,
    /// They stay free.
    Never,
}

/// Who gives GPUs back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PreemptionKind {
    /// Nobody: who is short waits until others want less.
    Never,
    /// Namespaces of lower priority; and, for one below its floor, every other above its share.
    LowerPriority,
    /// Every namespace above its share, those of the lowest priority first.
    #[default]
    FairShare,
}

/// Whether the surge of rollouts is kept free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SurgeKind {
    /// The pods that a Deployment's maxSurge allows count always, so that a rollout never exceeds
    /// the budget. With maxSurge 0 they are none.
    #[default]
    Reserved,
    /// They count only while they exist: a rollout may exceed the budget, and nothing is granted
    /// meanwhile.
    Counted,
}

/// The ledger of a budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GPUBudgetStatus {
    /// Generation of the spec that this answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When a controller last took the ledger over, so that no earlier write can follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<MicroTime>,
    /// Whether the budget is kept: WithinBudget.
    #[schemars(schema_with = "conditions_schema")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// GPUs that are granted: the most that can exist or be requested at any instant.
    pub granted_gpus: i32,
    /// GPUs that exist or are requested, as last read.
    pub held_gpus: i32,
    /// GPUs that the objectives of all members need.
    pub wanted_gpus: i32,
    /// The PDAutoscalers that share, and those that left and still hold GPUs. At most 1000.
    #[schemars(length(max = ACCOUNTS_MAX))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<BudgetAccountStatus>,
}

/// One PDAutoscaler in the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetAccountStatus {
    /// Its namespace. At most 63 characters.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name. At most 253 characters.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its prefill workload: kind and name, and for kinds other than Kubernetes' own the
    /// `apiVersion` and the role inside the object. At most 768 characters.
    #[schemars(length(max = 768))]
    pub prefill: String,
    /// Its decode workload: kind and name, and for kinds other than Kubernetes' own the
    /// `apiVersion` and the role inside the object. At most 768 characters.
    #[schemars(length(max = 768))]
    pub decode: String,
    /// GPUs that it may hold: granted before replicas are requested, and until they are gone.
    pub granted_gpus: i32,
    /// GPUs that exist or are requested for it, as last read.
    pub held_gpus: i32,
    /// GPUs that its objective needs.
    pub wanted_gpus: i32,
    /// GPUs that are its due.
    pub share_gpus: i32,
    /// GPUs of its fewest replicas.
    pub least_gpus: i32,
    /// GPUs that it grows by.
    pub unit_gpus: i32,
    /// How it stands. At most 64 characters.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The same with the numbers. At most 512 characters.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Since when others hold GPUs of its share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_since: Option<Time>,
}
