//! From what was decided to the operations that write it, and the warnings that tell it.
//!
//! Only what differs is written, so that deciding the same twice writes nothing the second time.

use std::collections::BTreeMap;

use pd_tolerations::{ExtendedToleration, Toleration, mirror::Term, rewrite::ANNOTATION};
use serde_json::json;

use super::{
    defaults::SOURCE,
    patch::{Operation, below},
    template::{Holder, Kind, PodTemplate},
    tolerate::Subject,
    wire::Change,
};

/// Tolerations and annotation as they are to be.
pub(super) struct Decided {
    pub(super) spec: Vec<Toleration>,
    /// Every entry of the annotation.
    pub(super) entries: Vec<ExtendedToleration>,
    /// How many entries wait until a pod is made of the template.
    pub(super) waiting: Vec<ExtendedToleration>,
    pub(super) rewritten: usize,
    pub(super) dropped: usize,
    pub(super) expanded: usize,
    /// How many the pod got from its role, and how many of these need the annotation.
    pub(super) given: usize,
    pub(super) given_annotated: usize,
}

/// The change that makes an object what was decided, with these terms of its required node affinity.
pub(super) fn written(
    new: &Holder<'_>,
    subject: &Subject<'_>,
    decided: &Decided,
    terms: Option<Vec<Term>>,
) -> Change {
    let base = subject.kind.path();
    let mut change = Change::default();
    patch_tolerations(&base, &new.pod, decided, &mut change.patch);
    patch_annotations(
        &base,
        &new.pod,
        &annotations(subject, decided),
        &mut change.patch,
    );
    if terms.as_deref() != new.pod.spec.terms() {
        patch_affinity(&base, &new.pod, terms, &mut change.patch);
    }
    warn(subject, decided, &mut change.warnings);
    change
}

fn patch_tolerations(base: &str, pod: &PodTemplate, decided: &Decided, patch: &mut Vec<Operation>) {
    let list = pod.spec.tolerations();
    for (index, (was, is)) in list.iter().zip(&decided.spec).enumerate() {
        if was != is {
            let index = index.to_string();
            let field = |name: &str| below(base, &["spec", "tolerations", &index, name]);
            patch.push(Operation::Replace {
                path: field("operator"),
                value: json!(is.operator),
            });
            patch.push(Operation::Remove {
                path: field("value"),
            });
        }
    }
    let added = decided.spec.get(list.len()..).unwrap_or_default();
    if added.is_empty() {
        return;
    }
    if pod.spec.tolerations.is_none() {
        patch.push(Operation::Add {
            path: below(base, &["spec", "tolerations"]),
            value: json!(added),
        });
        return;
    }
    for toleration in added {
        patch.push(Operation::Add {
            path: below(base, &["spec", "tolerations", "-"]),
            value: json!(toleration),
        });
    }
}

/// The annotations that change; nothing in place of a value removes one.
fn annotations(subject: &Subject<'_>, decided: &Decided) -> Vec<(&'static str, Option<String>)> {
    let mut changed = Vec::new();
    if decided.rewritten + decided.dropped + decided.given_annotated > 0 {
        let all: Vec<&ExtendedToleration> =
            decided.waiting.iter().chain(&decided.entries).collect();
        // Plain data: it cannot fail.
        let text = serde_json::to_string(&all).unwrap_or_default();
        changed.push((ANNOTATION, (!all.is_empty()).then_some(text)));
    }
    if let Some(defaults) = subject.defaults.filter(|_| decided.given > 0) {
        let source = format!("{}/{}", defaults.autoscaler, defaults.role);
        changed.push((SOURCE, Some(source)));
    }
    changed
}

fn patch_annotations(
    base: &str,
    pod: &PodTemplate,
    changed: &[(&str, Option<String>)],
    patch: &mut Vec<Operation>,
) {
    let place = |parts: &[&str]| below(base, &[&["metadata"], parts].concat());
    let are_there = pod
        .metadata
        .as_ref()
        .map(|metadata| metadata.annotations.is_some());
    if are_there == Some(true) {
        for (name, value) in changed {
            let at = place(&["annotations", name]);
            patch.push(match value {
                Some(value) => Operation::Add {
                    path: at,
                    value: json!(value),
                },
                None => Operation::Remove { path: at },
            });
        }
        return;
    }
    let added: BTreeMap<&str, &String> = changed
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_ref()?)))
        .collect();
    if added.is_empty() {
        return;
    }
    patch.push(match are_there {
        Some(_) => Operation::Add {
            path: place(&["annotations"]),
            value: json!(added),
        },
        None => Operation::Add {
            path: place(&[]),
            value: json!({ "annotations": added }),
        },
    });
}

fn patch_affinity(
    base: &str,
    pod: &PodTemplate,
    terms: Option<Vec<Term>>,
    patch: &mut Vec<Operation>,
) {
    let place = [
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ];
    let Some(terms) = terms else {
        patch.push(Operation::Remove {
            path: below(base, &place),
        });
        return;
    };
    let selector = json!({ "nodeSelectorTerms": terms });
    let [.., node_affinity, required] = place;
    let (depth, value) = match &pod.spec.affinity {
        None => (2, json!({ node_affinity: { required: selector } })),
        Some(affinity) if affinity.node_affinity.is_none() => (3, json!({ required: selector })),
        Some(_) => (4, selector),
    };
    patch.push(Operation::Add {
        path: below(base, place.get(..depth).unwrap_or(&place)),
        value,
    });
}

fn warn(subject: &Subject<'_>, decided: &Decided, warnings: &mut Vec<String>) {
    let count = |count: usize| match count {
        1 => "1 numeric toleration".to_owned(),
        more => format!("{more} numeric tolerations"),
    };
    if decided.rewritten > 0 {
        warnings.push(format!(
            "{} became Exists, for this cluster compares no numbers; annotation {ANNOTATION} and node affinity keep them",
            count(decided.rewritten)
        ));
    }
    if let Some(defaults) = subject.defaults.filter(|_| decided.given > 0) {
        warnings.push(format!(
            "{} of PDAutoscaler `{}`, role {}, added",
            count(decided.given),
            defaults.autoscaler,
            defaults.role
        ));
    }
    if decided.dropped > 0 {
        warnings.push(format!(
            "{} of annotation {ANNOTATION} dropped: their tolerations are gone",
            count(decided.dropped)
        ));
    }
    if decided.expanded > 0 && subject.kind == Kind::DaemonSet {
        warnings.push(format!(
            "{} of annotation {ANNOTATION} added to the template, where the DaemonSet controller reads them",
            count(decided.expanded)
        ));
    }
    if subject.is_pod() && subject.is_update && decided.rewritten + decided.expanded > 0 {
        warnings.push("node affinity of a live pod cannot change: the scheduler extender and eviction keep the new numbers".to_owned());
    }
}
