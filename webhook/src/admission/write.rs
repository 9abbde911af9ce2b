//! From what was decided to the operations that write it, and the warnings about it.
//!
//! Only what differs is written, so that deciding the same twice writes nothing the second time.

use std::collections::BTreeMap;

use json_patch::{PatchOperation, jsonptr::Pointer};
use pd_tolerations::{
    ExtendedToleration, Operator, Toleration,
    mirror::{HOLD, PreferredTerm, Term},
    rewrite::ANNOTATION,
};
use serde_json::{Map, Value, json};

use super::{
    defaults::SOURCE,
    patch::{add, below, remove, replace},
    subject::Subject,
    template::{Holder, Kind, PodTemplate},
    wire::AdmissionChange,
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// An entry that the annotation is to have.
pub(super) struct Kept {
    pub(super) entry: ExtendedToleration,
    /// Whether its toleration is added when a pod is made of the template.
    pub(super) is_waiting: bool,
}

/// Tolerations and annotation as they are to be.
#[derive(Default)]
pub(super) struct Decided {
    pub(super) spec: Vec<Toleration>,
    /// Every entry of the annotation.
    pub(super) kept: Vec<Kept>,
    pub(super) rewritten: usize,
    /// How many entries got another place or other seconds.
    pub(super) moved: usize,
    pub(super) dropped: usize,
    pub(super) expanded: usize,
    /// How many the pod got from its role, and how many of these need the annotation.
    pub(super) given: usize,
    pub(super) given_annotated: usize,
}

impl Kept {
    pub(super) fn here(entry: ExtendedToleration) -> Self {
        Self {
            entry,
            is_waiting: false,
        }
    }

    pub(super) fn waiting(entry: ExtendedToleration) -> Self {
        Self {
            entry,
            is_waiting: true,
        }
    }
}

impl Decided {
    /// The entries whose tolerations are there.
    pub(super) fn entries(&self) -> Vec<ExtendedToleration> {
        let here = self.kept.iter().filter(|kept| !kept.is_waiting);
        here.map(|kept| kept.entry.clone()).collect()
    }

    /// Tolerations and entries of the pods that are made of a template.
    pub(super) fn of_pods(&self) -> (Vec<Toleration>, Vec<ExtendedToleration>) {
        let waiting = self.kept.iter().filter(|kept| kept.is_waiting);
        let added = waiting.map(|kept| exists(&kept.entry));
        let spec = self.spec.iter().cloned().chain(added).collect();
        (
            spec,
            self.kept.iter().map(|kept| kept.entry.clone()).collect(),
        )
    }
}

/// The toleration that stands for an entry.
pub(super) fn exists(original: &ExtendedToleration) -> Toleration {
    Toleration {
        key: original.key.clone(),
        operator: Operator::Exists,
        value: String::new(),
        effect: original.effect.clone(),
        toleration_seconds: original.toleration_seconds,
    }
}

/// The terms of an object's node affinity as they are to be; nothing for none.
pub(super) struct NodeTerms {
    pub(super) required: Option<Vec<Term>>,
    pub(super) preferred: Option<Vec<PreferredTerm>>,
}

/// The change that makes an object what was decided, with these terms of its node affinity.
pub(super) fn written(
    new: &Holder<'_>,
    subject: &Subject<'_>,
    decided: &Decided,
    terms: NodeTerms,
) -> AdmissionChange {
    let base = subject.kind.path();
    let mut change = AdmissionChange::default();
    patch_tolerations(&base, &new.pod, decided, &mut change.patch);
    let mut changed = annotations(subject, decided);
    changed.extend(hold(new, subject, terms.required.as_deref()));
    patch_annotations(&base, &new.pod, &changed, &mut change.patch);
    patch_affinity(&base, &new.pod, terms, &mut change.patch);
    warn(subject, decided, &mut change.warnings);
    change
}

fn patch_tolerations(
    base: &Pointer,
    pod: &PodTemplate,
    decided: &Decided,
    patch: &mut Vec<PatchOperation>,
) {
    let list = pod.spec.tolerations();
    for (index, (was, is)) in list.iter().zip(&decided.spec).enumerate() {
        if was != is {
            let index = index.to_string();
            let field = |name: &str| below(base, &["spec", "tolerations", &index, name]);
            patch.push(replace(field("operator"), json!(is.operator)));
            patch.push(remove(field("value")));
        }
    }
    let added = decided.spec.get(list.len()..).unwrap_or_default();
    if added.is_empty() {
        return;
    }
    if pod.spec.tolerations.is_none() {
        patch.push(add(below(base, &["spec", "tolerations"]), json!(added)));
        return;
    }
    for toleration in added {
        patch.push(add(
            below(base, &["spec", "tolerations", "-"]),
            json!(toleration),
        ));
    }
}

/// The annotations that change; nothing in place of a value removes one.
fn annotations(subject: &Subject<'_>, decided: &Decided) -> Vec<(&'static str, Option<String>)> {
    let mut changed = Vec::new();
    let edits = decided.rewritten + decided.moved + decided.dropped + decided.given_annotated;
    if edits > 0 {
        let all: Vec<&ExtendedToleration> = decided.kept.iter().map(|kept| &kept.entry).collect();
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

/// The annotation of a new pod's hold, if its affinity names that.
fn hold(
    new: &Holder<'_>,
    subject: &Subject<'_>,
    terms: Option<&[Term]>,
) -> Option<(&'static str, Option<String>)> {
    let (label, token) = (subject.hold.label.as_ref()?, subject.hold.token.as_ref()?);
    let names = |term: &Term| term.match_expressions.iter().any(|one| one.key == *label);
    let is_new = new.pod.hold() != Some(token) && terms?.iter().any(names);
    is_new.then(|| (HOLD, Some(token.clone())))
}

fn patch_annotations(
    base: &Pointer,
    pod: &PodTemplate,
    changed: &[(&str, Option<String>)],
    patch: &mut Vec<PatchOperation>,
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
                Some(value) => add(at, json!(value)),
                None => remove(at),
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
        Some(_) => add(place(&["annotations"]), json!(added)),
        None => add(place(&[]), json!({ "annotations": added })),
    });
}

fn patch_affinity(
    base: &Pointer,
    pod: &PodTemplate,
    terms: NodeTerms,
    patch: &mut Vec<PatchOperation>,
) {
    let place = |parts: &[&str]| below(base, &[&["spec", "affinity"], parts].concat());
    let mut added = Map::new();
    if terms.required.as_deref() != pod.spec.terms() {
        match terms.required {
            None => patch.push(remove(place(&["nodeAffinity", REQUIRED]))),
            // Nothing else that it may hold is touched.
            Some(terms) if pod.spec.terms().is_some() => patch.push(add(
                place(&["nodeAffinity", REQUIRED, "nodeSelectorTerms"]),
                json!(terms),
            )),
            Some(terms) => {
                added.insert(REQUIRED.to_owned(), json!({ "nodeSelectorTerms": terms }));
            }
        }
    }
    if terms.preferred.as_deref() != pod.spec.preferred_terms() {
        match terms.preferred {
            None => patch.push(remove(place(&["nodeAffinity", PREFERRED]))),
            Some(terms) => {
                added.insert(PREFERRED.to_owned(), json!(terms));
            }
        }
    }
    if added.is_empty() {
        return;
    }
    match &pod.spec.affinity {
        None => patch.push(add(place(&[]), json!({ "nodeAffinity": added }))),
        Some(affinity) if affinity.node_affinity.is_none() => {
            patch.push(add(place(&["nodeAffinity"]), Value::Object(added)));
        }
        Some(_) => patch.extend(
            added
                .into_iter()
                .map(|(name, value)| add(place(&["nodeAffinity", &name]), value)),
        ),
    }
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
