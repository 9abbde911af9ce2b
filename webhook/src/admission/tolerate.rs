//! Tolerations, annotation and affinity after admission: the rules of the rewrite, without any
//! JSON.
//!
//! Nobody's template is changed by an update that leaves it alone: that would roll out pods that
//! nobody asked for. A `ReplicaSet` with a controller is never changed: its owner compares
//! templates, and would make another one for ever. The preference by margin is written into new
//! pods and into no template, so that another setting or version of it rolls nothing out.

use pd_tolerations::{
    Comparison, ExtendedToleration, Operator, Rule, Toleration,
    carrier::{self, Ambiguity, Carrier},
    extension::BoundError,
    mirror::{Constraints, MirrorError, PreferredTerm, Term, constraints, lower, prefer},
    rewrite::{ANNOTATION, Authored, Disagreement, ORIGINALS_MAX, restore, rewrite},
    validation,
};

use super::{
    annotation::{AnnotationError, carriers, entries, inherited_from, placed},
    subject::Subject,
    template::{Holder, Kind, Owner, PodTemplate},
    wire::{AdmissionChange, Refusal},
    write::{Decided, Kept, NodeTerms, exists, written},
};

/// Why numbers cannot be kept in node affinity.
#[derive(Debug, thiserror::Error)]
enum AffinityError {
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    #[error(transparent)]
    Bound(#[from] BoundError),
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

/// The change to make, or why the object is refused.
pub(super) fn decide(
    new: &Holder<'_>,
    subject: &Subject<'_>,
    unchanged: bool,
) -> Result<AdmissionChange, Refusal> {
    if unchanged && subject.kind != Kind::DaemonSet || is_untouched_pod(new, subject) {
        return Ok(AdmissionChange::default());
    }
    if let Some(owner) = new.controller.as_ref().filter(|_| !subject.is_pod()) {
        return owned(new, subject, owner);
    }
    match rewritten(new, subject) {
        // An object that is stored already may always be labelled, finalized and so on.
        Err(_) if unchanged => Ok(AdmissionChange::default()),
        decided => decided,
    }
}

fn rewritten(new: &Holder<'_>, subject: &Subject<'_>) -> Result<AdmissionChange, Refusal> {
    let list = new.pod.spec.tolerations();
    let given = entries(&new.pod).map_err(|error| unusable(&error))?;
    if given.is_empty()
        && new.pod.annotation().is_none()
        && subject.gate == Comparison::On
        && subject.defaults.is_none()
    {
        return Ok(AdmissionChange::default());
    }
    let is_numeric = |one: &Toleration| one.operator.is_numeric();
    let inherited = inherited_from(&given, subject);
    let carriers = carriers(list, &given, inherited, subject);
    let is_changed =
        subject.gate == Comparison::Off && changes_what_it_has(list, &given, &carriers, subject);
    if is_changed || subject.gate == Comparison::Off && list.iter().any(is_numeric) {
        // Left to it, the API server would blame the operator of every number, good or bad, and see
        // nothing of a number that another one replaces.
        let field = subject.kind.tolerations_field();
        let mut faults = validation::tolerations(list, &field, Comparison::On);
        faults.extend(is_changed.then(|| validation::changed_toleration(&field)));
        if !faults.is_empty() {
            return Err(Refusal::Faults(faults));
        }
    }
    let carriers = carriers.map_err(|error| unusable(&error.into()))?;
    let decided = combined(list, given, carriers, inherited.is_some(), subject);
    let decided = decided.map_err(|error| unusable(&error))?;
    let cannot = |error: AffinityError| format!("numeric tolerations cannot be kept: {error}");
    let terms = NodeTerms {
        required: affinity(new, subject, &decided).map_err(cannot)?,
        preferred: preference(new, subject, &decided).map_err(cannot)?,
    };
    Ok(written(new, subject, &decided, terms))
}

fn unusable(error: &AnnotationError) -> String {
    format!("annotation {ANNOTATION} cannot be used: {error}")
}

/// A live pod whose annotation and tolerations stay what they are.
fn is_untouched_pod(new: &Holder<'_>, subject: &Subject<'_>) -> bool {
    let stays = |old: &PodTemplate| {
        old.annotation() == new.pod.annotation()
            && old.spec.tolerations() == new.pod.spec.tolerations()
    };
    subject.is_pod() && subject.old_pod().is_some_and(stays)
}

/// Whether a live pod would lose a toleration that it has, or have another number in it: no API
/// server allows that.
fn changes_what_it_has(
    list: &[Toleration],
    given: &[ExtendedToleration],
    carriers: &Result<Vec<Option<Carrier>>, Ambiguity>,
    subject: &Subject<'_>,
) -> bool {
    let Some(old) = subject.old_pod().filter(|_| subject.is_pod()) else {
        return false;
    };
    // An annotation that cannot be read was not stored by us, and says nothing.
    let Ok(entries) = entries(old) else {
        return false;
    };
    let Ok(carriers) = carriers else {
        return false;
    };
    let now = meant(list, given, carriers);
    let is_kept = |had: &Meaning<'_>| now.contains(had);
    let before = carrier::find(old.spec.tolerations(), &entries);
    let had = meant(old.spec.tolerations(), &entries, &before);
    !had.iter().all(is_kept)
}

/// Key, operator, value, effect, and whether the taint must be there: all that no update of a live
/// pod may change.
type Meaning<'a> = (&'a str, &'a str, &'a str, &'a str, bool);

/// The meaning of tolerations, with the entries that some of them carry.
fn meant<'a>(
    list: &'a [Toleration],
    entries: &'a [ExtendedToleration],
    carriers: &[Option<Carrier>],
) -> Vec<Meaning<'a>> {
    let is_carrier = |place: usize| carriers.iter().flatten().any(|own| own.place == place);
    let plain = list
        .iter()
        .enumerate()
        .filter(|(place, _)| !is_carrier(*place));
    let plain = plain.map(|(_, one)| {
        let (operator, effect) = (one.operator.as_str(), one.effect.as_str());
        (
            one.key.as_str(),
            operator,
            one.value.as_str(),
            effect,
            false,
        )
    });
    let carried = entries
        .iter()
        .zip(carriers)
        .filter(|(_, own)| own.is_some());
    let carried = carried.map(|(entry, _)| {
        (
            entry.key.as_str(),
            entry.operator.as_str(),
            entry.value.as_str(),
            entry.effect.as_str(),
            entry.must_be_present,
        )
    });
    plain.chain(carried).collect()
}

fn owned(
    new: &Holder<'_>,
    subject: &Subject<'_>,
    Owner { kind, name, .. }: &Owner,
) -> Result<AdmissionChange, Refusal> {
    let (rewritten, _) = rewrite(new.pod.spec.tolerations());
    let would_change = rewritten != new.pod.spec.tolerations();
    if !would_change || subject.is_update || subject.gate == Comparison::On {
        return Ok(AdmissionChange::default());
    }
    Err(format!(
        "the template of {kind} `{name}` has numeric tolerations, which this cluster refuses, and its ReplicaSet must not differ from it: update the {kind}, so that it is rewritten, or use the annotation {ANNOTATION}"
    ).into())
}

/// Brings tolerations and annotation together.
fn combined(
    list: &[Toleration],
    given: Vec<ExtendedToleration>,
    carriers: Vec<Option<Carrier>>,
    is_inherited: bool,
    subject: &Subject<'_>,
) -> Result<Decided, AnnotationError> {
    let missing: Vec<&ExtendedToleration> = subject
        .defaults
        .map(|defaults| defaults.missing(list, &given))
        .unwrap_or_default();
    let mut decided = placed(list, given, carriers, is_inherited, subject)?;
    let mut spec = std::mem::take(&mut decided.spec);
    give(&missing, &mut spec, &mut decided, subject.gate);
    if subject.gate == Comparison::Off {
        rewrite_new(&mut spec, &mut decided, subject);
    }
    if decided.rewritten + decided.moved > 0 {
        decided.kept.sort_by_key(|kept| kept.entry.index);
    }
    let total = decided.kept.len();
    if total > ORIGINALS_MAX {
        return Err(AnnotationError::TooMany(total));
    }
    decided.spec = spec;
    Ok(decided)
}

/// Adds what a role gives: as numbers where the API server compares them, else as `Exists` with an
/// entry.
fn give(
    missing: &[&ExtendedToleration],
    spec: &mut Vec<Toleration>,
    decided: &mut Decided,
    gate: Comparison,
) {
    for default in missing {
        decided.given += 1;
        let is_native = !default.operator.is_extension() && !default.must_be_present;
        if is_native && gate == Comparison::On {
            spec.push(Toleration {
                operator: Operator::from(default.operator.as_str()),
                value: default.value.clone(),
                ..exists(default)
            });
            continue;
        }
        decided.given_annotated += 1;
        decided.kept.push(Kept::here(ExtendedToleration {
            index: Some(spec.len()),
            ..(*default).clone()
        }));
        spec.push(exists(default));
    }
}

/// Turns numbers into `Exists`, but for those that a live pod had already, which may not be
/// changed.
fn rewrite_new(spec: &mut [Toleration], decided: &mut Decided, subject: &Subject<'_>) {
    let old = subject.old_pod().filter(|_| subject.is_pod());
    let kept = |one: &Toleration| {
        old.is_some_and(|old| {
            old.spec.tolerations().iter().any(|old| {
                (&old.key, &old.operator, &old.value, &old.effect)
                    == (&one.key, &one.operator, &one.value, &one.effect)
            })
        })
    };
    let (rewritten, originals) = rewrite(spec);
    for original in originals {
        let Some(place) = original.index else {
            continue;
        };
        let (Some(slot), Some(new)) = (spec.get_mut(place), rewritten.get(place)) else {
            continue;
        };
        if kept(slot) {
            continue;
        }
        slot.clone_from(new);
        decided.rewritten += 1;
        decided.kept.push(Kept::here(original));
    }
}

/// The terms of the required node affinity that the numbers need. A live pod's stays as it is.
fn affinity(
    new: &Holder<'_>,
    subject: &Subject<'_>,
    decided: &Decided,
) -> Result<Option<Vec<Term>>, AffinityError> {
    let terms = new.pod.spec.terms();
    if subject.is_pod() && subject.is_update {
        return Ok(terms.map(<[Term]>::to_vec));
    }
    let waits = decided.kept.iter().any(|kept| kept.is_waiting);
    if waits {
        // The pods that are made of it must be ones that can be placed.
        let (spec, entries) = decided.of_pods();
        lower(terms, &conditions(&spec, &entries)?)?;
    }
    let constraints = conditions(&decided.spec, &decided.entries())?;
    Ok(lower(
        terms,
        &constraints.unless(subject.hold.label.clone()),
    )?)
}

/// The conditions on a node for a pod with these tolerations and entries.
fn conditions(
    spec: &[Toleration],
    entries: &[ExtendedToleration],
) -> Result<Constraints, AffinityError> {
    if entries.is_empty() {
        return Ok(Constraints::default());
    }
    Ok(constraints(&rules(spec, entries)?)?)
}

fn rules(spec: &[Toleration], entries: &[ExtendedToleration]) -> Result<Vec<Rule>, AffinityError> {
    let authored = restore(spec, entries)?;
    let rules: Result<Vec<Rule>, _> = authored.iter().map(Authored::rule).collect();
    Ok(rules?)
}

/// The terms of the preferred node affinity by margin. Everything but a new pod that a scheduler
/// has to choose a node for keeps what it has: a daemon pod has its node by name.
fn preference(
    new: &Holder<'_>,
    subject: &Subject<'_>,
    decided: &Decided,
) -> Result<Option<Vec<PreferredTerm>>, AffinityError> {
    let terms = new.pod.spec.preferred_terms();
    let is_daemon = |owner: &Owner| owner.kind == "DaemonSet";
    let is_placed = new.pod.spec.is_bound() || new.controller.as_ref().is_some_and(is_daemon);
    let is_new_pod = subject.is_pod() && !subject.is_update;
    let entries = decided.entries();
    match subject.preferred {
        Some(margin) if is_new_pod && !is_placed && !entries.is_empty() => {
            Ok(prefer(terms, &rules(&decided.spec, &entries)?, margin))
        }
        _ => Ok(terms.map(<[PreferredTerm]>::to_vec)),
    }
}
