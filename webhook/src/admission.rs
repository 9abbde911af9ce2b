//! Admission as pure functions: the bytes of an `AdmissionReview` in, the bytes of its answer out.
//!
//! [`mutate`] handles pods and every built-in kind with a pod template, [`hold`] pods of placement
//! groups; [`validate`] handles PDAutoscalers. All are total: what is no review is a
//! [`ReviewError`] with a status, what is a review is answered, and an object of a kind that nobody
//! asked us about is allowed, for a configuration may send more than we need. Only the parts of an
//! object that matter are read, so that an object without numeric tolerations costs a scan of its
//! bytes.
//!
//! Answers are JSON patches of single fields. Nothing depends on `dryRun`, for nothing is written
//! anywhere.

mod annotation;
mod defaults;
mod members;
mod patch;
mod placement;
mod subject;
mod template;
#[cfg(test)]
mod tests;
mod tolerate;
mod wire;
mod write;

use std::sync::Arc;

use pd_api::v1alpha1::PDAutoscaler;
use pd_tolerations::{Comparison, mirror::Margin};
use serde_json::value::RawValue;

pub use self::{
    defaults::{Defaults, Workload},
    placement::{Membership, Placing, hold},
};
use strum::IntoStaticStr;

use self::{
    subject::{Hold, Subject},
    template::{Holder, Kind},
    wire::{AdmissionVerdict, Request, Review},
};

/// The outcome of a review, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ReviewOutcome {
    /// Nothing in it is ours, or nothing has to change.
    Passed,
    /// It was changed.
    Patched,
    /// It was refused.
    Refused,
}

impl ReviewOutcome {
    /// Its word in metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// An answer's body, and what it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// An `AdmissionReview` as JSON.
    pub body: Vec<u8>,
    /// The outcome.
    pub outcome: ReviewOutcome,
}

/// Why a body gets no answer but a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// The body is no JSON, or has other types than a review.
    #[error("body is no AdmissionReview: {0}")]
    Body(String),
    /// Another version of the API.
    #[error(
        "apiVersion `{0}` is not admission.k8s.io/v1: set admissionReviewVersions: [v1] in the webhook configuration"
    )]
    Version(String),
    /// The review asks nothing.
    #[error("`request` is missing: send an AdmissionReview as the API server does")]
    NoRequest,
}

/// How pods and templates are rewritten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rewriting {
    /// Whether the API server compares numbers by itself.
    pub gate: Comparison,
    /// The nodes that new pods prefer by margin; nothing if no preference is written.
    pub preferred: Option<Margin>,
}

/// Answers a review of a pod or of something with a pod template. `claimed` says what tolerations
/// the pods of which workloads are to get.
pub fn mutate(
    body: &[u8],
    rewriting: Rewriting,
    claimed: &impl Claimed,
) -> Result<Answered, ReviewError> {
    let request = Review::read(body)?;
    let verdict = match Kind::of(&request.kind.group, &request.kind.kind) {
        Some(kind) if request.changes_an_object() => mutated(&request, kind, rewriting, claimed),
        _ => AdmissionVerdict::allow(),
    };
    Ok(verdict.answer(&request))
}

fn mutated(
    request: &Request<'_>,
    kind: Kind,
    rewriting: Rewriting,
    claimed: &impl Claimed,
) -> AdmissionVerdict {
    let Some(object) = request.object else {
        return AdmissionVerdict::refuse(
            "`request.object` is missing: send the object that is admitted".to_owned(),
        );
    };
    let new = match Holder::read(object, kind) {
        Ok(Some(new)) => new,
        // Without a template it is the API server's to refuse.
        Ok(None) => return AdmissionVerdict::allow(),
        Err(error) => {
            return AdmissionVerdict::refuse(format!("{} cannot be read: {error}", kind.name()));
        }
    };
    let is_update = request.operation == "UPDATE";
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let defaults = match kind {
        Kind::Pod if !is_update => {
            defaults::workload(&new, namespace).and_then(|workload| claimed.defaults(&workload))
        }
        _ => None,
    };
    if defaults.is_none() && !new.is_ours() {
        return AdmissionVerdict::allow();
    }
    let old = request
        .old_object
        .filter(|_| is_update)
        .and_then(|old| Holder::read(old, kind).ok().flatten());
    let unchanged = old.as_ref().is_some_and(|old| {
        old.template.get() == new.template.get() || same(old.template, new.template)
    });
    let subject = Subject {
        kind,
        is_update,
        old: old.as_ref(),
        gate: rewriting.gate,
        defaults: defaults.as_deref(),
        hold: Hold::of(kind, request, &new.pod),
        preferred: rewriting.preferred,
    };
    match tolerate::decide(&new, &subject, unchanged) {
        Ok(change) => AdmissionVerdict::change(change),
        Err(reason) => AdmissionVerdict::refuse(reason),
    }
}

/// Whether two JSON texts say the same.
fn same(one: &RawValue, other: &RawValue) -> bool {
    let value = |raw: &RawValue| serde_json::from_str::<serde_json::Value>(raw.get()).ok();
    value(one)
        .zip(value(other))
        .is_some_and(|(one, other)| one == other)
}

/// The PDAutoscalers of the cluster.
pub trait Claimed {
    /// A PDAutoscaler, other than `except`, that scales the workload, if there is one.
    fn claimant(&self, workload: &Workload, except: &str) -> Option<String>;
    /// The tolerations that the pods of a workload get, if some role of a PDAutoscaler says so.
    fn defaults(&self, workload: &Workload) -> Option<Arc<Defaults>>;
    /// Whether all PDAutoscalers are known.
    fn is_complete(&self) -> bool;
}

/// Answers a review of a PDAutoscaler: its own fields in the words of the CRD's rules, and what
/// others scale.
pub fn validate(body: &[u8], claimed: &impl Claimed) -> Result<Answered, ReviewError> {
    let request = Review::read(body)?;
    let is_ours = request.kind.group == "pdautoscaler.io" && request.kind.kind == "PDAutoscaler";
    let verdict = match request.object {
        Some(object) if is_ours && request.changes_an_object() => {
            validated(&request, object, claimed)
        }
        _ => AdmissionVerdict::allow(),
    };
    Ok(verdict.answer(&request))
}

fn validated(request: &Request<'_>, object: &RawValue, claimed: &impl Claimed) -> AdmissionVerdict {
    let read = |raw: &RawValue| serde_json::from_str::<PDAutoscaler>(raw.get());
    let new = match read(object) {
        Ok(new) => new,
        Err(error) => {
            return AdmissionVerdict::refuse(format!("PDAutoscaler cannot be read: {error}"));
        }
    };
    let old = request.old_object.and_then(|old| read(old).ok());
    if old.as_ref().is_some_and(|old| same_spec(old, &new))
        || new.metadata.deletion_timestamp.is_some()
    {
        // An object that is stored already may always be labelled, finalized and so on.
        return AdmissionVerdict::allow();
    }
    if let Err(errors) = new.spec.policy() {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return AdmissionVerdict::refuse(texts.join("; "));
    }
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let name = new.metadata.name.as_deref().unwrap_or_default();
    for role in pd_core::Role::ALL {
        let target = &new.spec.role(role).target;
        let (kind, replicas) = target.replicas(role);
        let was_there = old.as_ref().is_some_and(|old| {
            pd_core::Role::ALL.iter().any(|role| {
                old.spec.role(*role).target.replicas(*role) == (kind.clone(), replicas.clone())
            })
        });
        let workload = Workload {
            namespace: namespace.to_owned(),
            kind,
            name: replicas,
        };
        if let Some(other) = claimed.claimant(&workload, name).filter(|_| !was_there) {
            return AdmissionVerdict::refuse(format!(
                "spec.{role}.target.name `{}` is scaled by PDAutoscaler `{other}` too: give each its own workload",
                target.name
            ));
        }
    }
    let mut verdict = AdmissionVerdict::allow();
    if !claimed.is_complete() {
        verdict
            .warn("other PDAutoscalers are not known yet, so that nothing was compared with them");
    }
    verdict
}

fn same_spec(old: &PDAutoscaler, new: &PDAutoscaler) -> bool {
    let spec = |object: &PDAutoscaler| serde_json::to_value(&object.spec).ok();
    spec(old) == spec(new)
}
