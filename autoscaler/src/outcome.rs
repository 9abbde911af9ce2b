//! How a reconcile ended, as status, events and metrics report it.
//!
//! A reconcile stops before its decision, or gives an [`Applied`] plan. Only the apply step makes
//! an [`Applied`], so that nothing is reported that was not at least tried.

use std::time::Duration;

use pd_api::FieldError;
use pd_core::{Decision, Finding, PerRole, Role, Snapshot};
use pd_signals::stated::Stated;

use crate::{
    apply::scale::ScaleError,
    cluster::Unseen,
    observe::{drain::Drain, target::TargetError},
    prometheus::QueryError,
};

/// How a reconcile ended.
pub type ReconcileOutcome = Result<Box<Applied>, Stopped>;

/// Why a pass over an object ends before its decision.
#[derive(Debug)]
pub enum Unobserved {
    /// It is stopped.
    Stopped(Box<Stopped>),
    /// Its metrics come with those of others: it is to be passed again after this time.
    Soon(Duration),
}

impl From<Stopped> for Unobserved {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(Box::new(stopped))
    }
}

/// Why nothing was decided.
#[derive(Debug)]
pub enum Stopped {
    /// The mode is Off.
    Off,
    /// The object could not be read at all.
    Undecodable(String),
    /// The spec holds values that cannot be used.
    Invalid(Vec<FieldError>),
    /// A target cannot be read.
    Untargeted {
        /// The role whose target it is.
        role: Role,
        /// Why.
        error: TargetError,
    },
    /// It cannot be read what the process before remembered.
    MemoryUnreadable(kube::Error),
    /// Not everything could be read in time.
    TooSlow(Duration),
    /// A bug ended the reconcile. Holds its words.
    Panicked(String),
}

impl Stopped {
    /// Whether it stays so until somebody changes the object: whatever the status says of an
    /// earlier decision is of the past.
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::Off | Self::Undecodable(_) | Self::Invalid(_) => true,
            Self::Untargeted { .. }
            | Self::MemoryUnreadable(_)
            | Self::TooSlow(_)
            | Self::Panicked(_) => false,
        }
    }
}

/// The metrics that were found. A sentence has no full stop.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The engine whose metrics were found.
    pub engine: Option<&'static str>,
    /// A sentence on the names of metrics that were looked for, if none of any engine was found.
    pub engine_missing: Option<String>,
    /// The gateway whose metrics were found.
    pub gateway: Option<&'static str>,
    /// A sentence on what is not read of a gateway, if there is anything.
    pub gateway_note: Option<String>,
    /// A sentence on engines that are scraped at several addresses, if any are.
    pub scraped_twice: Option<String>,
}

/// A decision after its apply step.
#[derive(Debug)]
pub struct Applied {
    /// Everything that was known.
    pub snapshot: Snapshot,
    /// The decision.
    pub decision: Decision,
    /// Performance profiles as the user states them.
    pub stated: Stated,
    /// The metrics that were found.
    pub sources: Sources,
    /// Why metrics are missing, if a query failed or its answer is not whole.
    pub metrics_error: Option<QueryError>,
    /// Annotations that hold values that cannot be used.
    pub annotation_errors: Vec<FieldError>,
    /// The price of lowering replicas, in requests.
    pub drain: Drain,
    /// Why the pods that go first could not be marked, where that is wanted and failed last.
    pub unmarked: Option<String>,
    /// Whether the plan was written.
    pub outcome: ApplyOutcome,
}

/// Whether a plan was written.
#[derive(Debug)]
pub enum ApplyOutcome {
    /// It was written, or there was nothing to change. Holds the roles that were written.
    Applied(Vec<Role>),
    /// Some of it was written, and then a write failed.
    Failed(Vec<Role>, ScaleError),
    /// The mode is Recommend. Somebody else may scale a target meanwhile, and is named.
    Recommended(Option<String>),
    /// Somebody else scales a target.
    Contended(String),
    /// It is not known whether somebody else scales a target.
    ContentionUnknown(Unseen),
    /// The plan breaks an invariant.
    AuditFailed(Vec<Finding>),
}

impl Applied {
    /// Replicas each role had.
    pub fn current(&self) -> PerRole<u32> {
        self.snapshot.roles.map(|state| state.current)
    }

    /// Roles that were written.
    pub fn written(&self) -> &[Role] {
        match &self.outcome {
            ApplyOutcome::Applied(roles) | ApplyOutcome::Failed(roles, _) => roles,
            ApplyOutcome::Recommended(_)
            | ApplyOutcome::Contended(_)
            | ApplyOutcome::ContentionUnknown(_)
            | ApplyOutcome::AuditFailed(_) => &[],
        }
    }

    /// Share of the error budget that is left, 0 when it is overspent: the smaller of both roles'
    /// parts.
    pub fn error_budget_left(&self) -> Option<f64> {
        let risk = &self.decision.report.risk_target;
        Role::ALL
            .into_iter()
            .filter_map(|role| risk[role].budget_left)
            .min_by(f64::total_cmp)
            .map(|left| left.clamp(0.0, 1.0))
    }
}
