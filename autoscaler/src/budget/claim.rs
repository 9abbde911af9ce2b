//! A claim on a budget, its answer, and why there is none.

use std::time::Duration;

use pd_api::v1alpha1::gpu_budget::ACCOUNTS_MAX;
use pd_core::{PerRole, Role, budget::ledger::Standing};

use super::{holding::Holding, members::Service};

/// How often a ledger that somebody else wrote meanwhile is read again.
pub const CONFLICTS_MAX: usize = 3;

/// Why nothing was granted.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// The ledger, or what a service holds, could not be read or written.
    #[error("GPUBudget `{budget}` could not be read or written: {source}")]
    Api {
        /// The budget.
        budget: String,
        /// The cause.
        source: kube::Error,
    },
    /// Somebody else kept writing it.
    #[error("GPUBudget `{budget}` was written by others {CONFLICTS_MAX} times meanwhile")]
    Conflict {
        /// The budget.
        budget: String,
    },
    /// GPUs of a replica are not known.
    #[error(
        "GPUBudget `{budget}` counts GPUs, and those of a {role} replica are not known: state `{role}.gpusPerReplica`"
    )]
    GpusUnknown {
        /// The budget.
        budget: String,
        /// The role.
        role: Role,
    },
    /// The ledger has no room.
    #[error("GPUBudget `{budget}` has {ACCOUNTS_MAX} PDAutoscalers and takes no more")]
    Full {
        /// The budget.
        budget: String,
    },
    /// It is not known which budgets there are.
    #[error("GPUBudgets cannot be listed: {0}")]
    Unlisted(String),
    /// It is not known whether the service shares it.
    #[error(
        "GPUBudget `{budget}` has members by the labels of namespaces, which are not known yet"
    )]
    Unlabelled {
        /// The budget.
        budget: String,
    },
    /// Another process leads now.
    #[error("another process leads now")]
    NotLeading,
}

/// A service that is about to be decided on.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The service.
    pub service: &'a Service,
    /// Replicas requested, existing and leaving, as observed.
    pub observed: PerRole<[u32; 3]>,
    /// Replicas that it would have without the budget.
    pub wanted: PerRole<u32>,
    /// Its fewest replicas.
    pub least: PerRole<u32>,
    /// How long its replicas take to serve.
    pub lead: Duration,
    /// Whether no write of its replicas can be under way.
    pub is_quiet: bool,
}

/// An answer to a claim.
#[derive(Clone, Debug)]
pub struct Granted {
    /// Most GPUs that may be held.
    pub cap_gpus: u32,
    /// Whether replicas may be added at all.
    pub may_grow: bool,
    /// How the account stands.
    pub standing: Standing,
    /// The same in words.
    pub message: String,
    /// All that is held.
    pub holding: Holding,
}
