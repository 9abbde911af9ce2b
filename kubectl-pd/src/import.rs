//! `kubectl pd import`: from another autoscaler's settings to a PDAutoscaler in mode Recommend.
//!
//! A setting with a counterpart is carried over, one without is named in a remark, with its value:
//! no setting disappears in silence. The mode is always Recommend, so that the new object stands
//! beside the old autoscaler and writes nothing. Each source is a pure function of parsed texts in
//! a file below; [`pair`] makes one object of two roles, [`manifest`] writes it as people read it.

pub mod aiconfigurator;
pub mod behavior;
pub mod dynamo;
pub mod horizontal;
pub mod manifest;
pub mod pair;
pub mod planner;
pub mod role;
pub mod scaled_object;
pub mod select;

use std::fmt::Display;

use pd_api::{FieldError, v1alpha1::PDAutoscaler};
use pd_core::Role;
use serde::Serialize;

/// The fate of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Fate {
    /// It means something else here, or was completed.
    Changed,
    /// It has no counterpart.
    Dropped,
    /// The source does not say it, and something had to be taken.
    Assumed,
}

impl Fate {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "Changed",
            Self::Dropped => "Dropped",
            Self::Assumed => "Assumed",
        }
    }
}

/// A setting that was not carried over as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    /// Its fate.
    pub fate: Fate,
    /// The field of the source.
    pub field: String,
    /// Its value.
    pub value: String,
    /// The difference, and what to do about it.
    pub remark: String,
}

impl Remark {
    /// A remark about `field`, which holds `value`.
    pub fn new(
        fate: Fate,
        field: impl Into<String>,
        value: impl Display,
        remark: impl Into<String>,
    ) -> Self {
        Self {
            fate,
            field: field.into(),
            value: value.to_string(),
            remark: remark.into(),
        }
    }
}

/// A PDAutoscaler, and what is to be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The sources, as a sentence names them.
    pub from: String,
    /// The object, in mode Recommend.
    pub object: PDAutoscaler,
    /// Settings that were not carried over as they are.
    pub remarks: Vec<Remark>,
}

/// Why there is no PDAutoscaler.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ImportError {
    /// A source has no such field, or not of the right form.
    #[error("{source_name}: {field} `{value}`: {remedy}")]
    Field {
        /// The source.
        source_name: String,
        /// The field.
        field: String,
        /// Its value; `unset` where there is none.
        value: String,
        /// The remedy.
        remedy: String,
    },
    /// A source is not of the wanted kind.
    #[error("{found} is no {wanted}: {remedy}")]
    Kind {
        /// The kind that was found.
        found: String,
        /// The kind that was wanted.
        wanted: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
    /// The source has no latency objective, and none was given.
    #[error(
        "{flag} is not given, and {source_name} has no latency limit: give {flag}, such as {flag}={example}"
    )]
    Objective {
        /// The flag.
        flag: &'static str,
        /// The source.
        source_name: String,
        /// A value that would do.
        example: &'static str,
    },
    /// A role has no source.
    #[error("nothing says which workload is {role}: {remedy}")]
    Role {
        /// The role.
        role: Role,
        /// The remedy.
        remedy: String,
    },
    /// A text is neither YAML nor JSON.
    #[error("{what} cannot be read: {cause}")]
    Text {
        /// The text.
        what: String,
        /// Where and why.
        cause: String,
    },
    /// A performance table cannot be read.
    #[error("{what}: {cause}")]
    Table {
        /// The table.
        what: String,
        /// Where and why.
        cause: pd_signals::import::ImportError,
    },
    /// The result would be refused by the API server.
    #[error("the PDAutoscaler would be refused: {}", listed(.0))]
    Refused(Vec<FieldError>),
}

fn listed(errors: &[FieldError]) -> String {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("; ")
}

/// A field of the source `of`, with its value and the remedy.
pub(crate) fn field_error(of: &str, field: &str, value: impl Display, remedy: &str) -> ImportError {
    ImportError::Field {
        source_name: of.to_owned(),
        field: field.to_owned(),
        value: value.to_string(),
        remedy: remedy.to_owned(),
    }
}

/// The text `what` cannot be read. The first line of `cause` says where; a picture of the place
/// follows.
pub(crate) fn text_error(what: &str, cause: impl Display) -> ImportError {
    let cause = cause.to_string();
    ImportError::Text {
        what: what.to_owned(),
        cause: cause.lines().next().unwrap_or_default().to_owned(),
    }
}

/// Names the source `from` in the field of each remark.
pub(crate) fn name_source(remarks: &mut [Remark], from: &str) {
    for remark in remarks {
        remark.field = format!("{} of {from}", remark.field);
    }
}
