//! `AdmissionReview` as the API server writes and reads it, `admission.k8s.io/v1`.
//!
//! Objects stay raw text until somebody knows what to read of them. An answer repeats the uid, and
//! carries a patch only if something changes, a status only if it refuses. Warnings are cut to what
//! the API server shows. Faults that an API server with the feature would find are worded as it
//! words them: field by field.

use std::borrow::Cow;

use json_patch::PatchOperation;
use k8s_openapi::ByteString;
use pd_tolerations::{FieldError, validation::Fault};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Answered, ReviewError, ReviewOutcome,
    members::{Members, object, object_or_default},
};

const VERSION: &str = "admission.k8s.io/v1";
/// Longest warning, bytes: the API server cuts longer ones.
const WARNING_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review<'a> {
    #[serde(default, borrow)]
    api_version: Cow<'a, str>,
    #[serde(default, borrow, deserialize_with = "object")]
    request: Option<Request<'a>>,
}

/// The request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request<'a> {
    pub(super) uid: String,
    #[serde(default, deserialize_with = "object_or_default")]
    pub(super) kind: GroupKind,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    /// Empty while the API server has not made one up.
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) operation: String,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default, borrow)]
    pub(super) object: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) old_object: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct GroupKind {
    pub(super) group: String,
    pub(super) kind: String,
}

impl<'a> Review<'a> {
    /// Reads the request of a review.
    pub(super) fn read(body: &'a [u8]) -> Result<Request<'a>, ReviewError> {
        let Members(review): Members<Self> =
            serde_json::from_slice(body).map_err(|error| ReviewError::Body(error.to_string()))?;
        if review.api_version != VERSION {
            return Err(ReviewError::Version(review.api_version.into_owned()));
        }
        review.request.ok_or(ReviewError::NoRequest)
    }
}

impl Request<'_> {
    /// Whether it creates or updates the object itself.
    pub(super) fn changes_an_object(&self) -> bool {
        let whole = self.sub_resource.as_deref().is_none_or(str::is_empty);
        whole && matches!(self.operation.as_str(), "CREATE" | "UPDATE")
    }
}

/// The patch, and the warnings for the user.
#[derive(Debug, Default)]
pub(super) struct AdmissionChange {
    pub(super) patch: Vec<PatchOperation>,
    pub(super) warnings: Vec<String>,
}

/// Why an object is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// In our words.
    Said(String),
    /// For faults that an API server with the feature finds, in its words.
    Faults(Vec<FieldError>),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Said(reason)
    }
}

impl Refusal {
    fn message(&self, kind: &str, name: &str) -> String {
        let faults = match self {
            Self::Said(reason) => return reason.clone(),
            Self::Faults(faults) => faults.iter().map(ToString::to_string),
        };
        let faults: Vec<String> = faults.collect();
        let listed = faults.join(", ");
        match faults.len() {
            1 => format!("{kind} \"{name}\" is invalid: {listed}"),
            _ => format!("{kind} \"{name}\" is invalid: [{listed}]"),
        }
    }

    fn causes(&self) -> Vec<Cause<'_>> {
        let faults = match self {
            Self::Said(_) => &[],
            Self::Faults(faults) => faults.as_slice(),
        };
        faults.iter().map(Cause::of).collect()
    }
}

/// An answer in the making.
pub(super) struct AdmissionVerdict {
    change: AdmissionChange,
    refusal: Option<Refusal>,
}

impl AdmissionVerdict {
    pub(super) fn allow() -> Self {
        Self::change(AdmissionChange::default())
    }

    pub(super) fn change(change: AdmissionChange) -> Self {
        Self {
            change,
            refusal: None,
        }
    }

    pub(super) fn refuse(reason: impl Into<Refusal>) -> Self {
        Self {
            change: AdmissionChange::default(),
            refusal: Some(reason.into()),
        }
    }

    pub(super) fn warn(&mut self, warning: &str) {
        self.change.warnings.push(warning.to_owned());
    }

    /// The whole answer.
    pub(super) fn answer(self, request: &Request<'_>) -> Answered {
        let GroupKind { group, kind } = &request.kind;
        let Self { change, refusal } = self;
        let outcome = match (&refusal, change.patch.is_empty()) {
            (Some(_), _) => ReviewOutcome::Refused,
            (None, false) => ReviewOutcome::Patched,
            (None, true) => ReviewOutcome::Passed,
        };
        let patch = (outcome == ReviewOutcome::Patched)
            .then(|| serde_json::to_vec(&change.patch).ok())
            .flatten()
            .map(ByteString);
        let mut warnings = change.warnings;
        for warning in &mut warnings {
            let end = warning.floor_char_boundary(WARNING_MAX);
            warning.truncate(end);
        }
        let answer = Answer {
            api_version: VERSION,
            kind: "AdmissionReview",
            response: Response {
                uid: &request.uid,
                allowed: refusal.is_none(),
                patch_type: patch.is_some().then_some("JSONPatch"),
                patch,
                warnings,
                status: refusal.as_ref().map(|refusal| Status {
                    code: 422,
                    reason: "Invalid",
                    message: refusal.message(kind, &request.name),
                    details: Some(refusal.causes())
                        .filter(|causes| !causes.is_empty())
                        .map(|causes| Details {
                            group,
                            kind,
                            name: &request.name,
                            causes,
                        }),
                }),
            },
        };
        Answered {
            // Texts and numbers alone: it cannot fail, and an empty body would be an error to the
            // API server.
            body: serde_json::to_vec(&answer).unwrap_or_default(),
            outcome,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
}

/// The details that kubectl and other clients show field by field.
#[derive(Serialize)]
struct Details<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'a str,
    kind: &'a str,
    causes: Vec<Cause<'a>>,
}

#[derive(Serialize)]
struct Cause<'a> {
    reason: &'a str,
    message: String,
    field: &'a str,
}

impl<'a> Cause<'a> {
    fn of(fault: &'a FieldError) -> Self {
        let whole = fault.to_string();
        let words = whole.strip_prefix(fault.field.as_str());
        let words = words.and_then(|words| words.strip_prefix(": "));
        Self {
            reason: match fault.fault {
                Fault::Invalid => "FieldValueInvalid",
                Fault::NotSupported => "FieldValueNotSupported",
                Fault::Required => "FieldValueRequired",
                Fault::Duplicate => "FieldValueDuplicate",
                Fault::Forbidden => "FieldValueForbidden",
            },
            message: words.unwrap_or(&whole).to_owned(),
            field: &fault.field,
        }
    }
}
