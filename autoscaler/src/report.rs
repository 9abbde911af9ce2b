//! Telling people: status, conditions, events.
//!
//! A pass ends in one [`Outcome`]; [`conditions`] turns it into findings, [`status`] into the status
//! object, [`events`] into events for what changed, [`sentence`] a decision into what a person reads. Status is written when something a person would
//! act on changed, and otherwise only now and then to keep memory for the next leader.

pub mod conditions;
pub mod events;
pub mod sentence;
pub mod status;

use pd_api::FieldError;
use pd_core::{Decision, Finding, PerRole, Reason, Role, Snapshot};
use pd_signals::stated::Stated;

use crate::{apply::ApplyError, observe::target::TargetError, prometheus::QueryError};

/// How a pass ended.
#[derive(Debug)]
pub enum Outcome {
    /// The mode is Off.
    Off,
    /// The object could not be read at all.
    Undecodable(String),
    /// The spec or an annotation holds what cannot be used.
    Invalid(Vec<FieldError>),
    /// A target cannot be read.
    Untargeted {
        /// The role whose target it is.
        role: Role,
        /// Why.
        error: TargetError,
    },
    /// A decision was made.
    Decided(Box<Decided>),
}

/// A decision, and what became of it.
#[derive(Debug)]
pub struct Decided {
    /// What was known.
    pub snapshot: Snapshot,
    /// The decision.
    pub decision: Decision,
    /// What is stated about replicas.
    pub stated: Stated,
    /// The engine whose metrics were found.
    pub engine: Option<&'static str>,
    /// Why metrics are missing, if a query failed.
    pub metrics_error: Option<QueryError>,
    /// What happened to it.
    pub fate: Fate,
    /// Bad annotations.
    pub annotation_errors: Vec<FieldError>,
}

/// What happened to a decision.
#[derive(Debug)]
pub enum Fate {
    /// It was applied, or there was nothing to change. Holds the roles that were written.
    Applied(Vec<Role>),
    /// Some of it was applied, and then a write failed.
    Failed(Vec<Role>, ApplyError),
    /// The mode is Recommend.
    Recommended,
    /// Somebody else scales a target.
    Contended(String),
    /// It breaks an invariant.
    Refused(Vec<Finding>),
}

impl Decided {
    /// Replicas each role had.
    pub fn current(&self) -> PerRole<u32> {
        self.snapshot.roles.map(|state| state.current)
    }

    /// Roles that were written.
    pub fn written(&self) -> &[Role] {
        match &self.fate {
            Fate::Applied(roles) | Fate::Failed(roles, _) => roles,
            Fate::Recommended | Fate::Contended(_) | Fate::Refused(_) => &[],
        }
    }
}

impl Outcome {
    /// The reason that the Ready condition carries.
    pub fn reason(&self) -> Reason {
        conditions::ready(self).reason
    }
}
