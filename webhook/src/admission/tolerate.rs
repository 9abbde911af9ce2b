//! Tolerations, annotation and affinity after admission: the rules of the rewrite, without any
//! JSON.
//!
//! An annotation entry with an index was written here: it stands for the toleration at that place.
//! If the author has since written a number there again, or an update took the toleration away, the
//! entry is dropped. An entry without index was written by a user: the pod gets its `Exists` when
//! it is created, and so does the template of a `DaemonSet`, for its controller reads tolerations
//! there; other templates stay as written, so that `GitOps` tools see no drift. Whatever else
//! disagrees is refused.
//!
//! Nobody's template is changed by an update that leaves it alone: that would roll out pods that
//! nobody asked for. A `ReplicaSet` with a controller is never changed: its owner compares
//! templates, and would make another one for ever.

use pd_tolerations::{
    Comparison, ExtendedToleration, Operator, Rule, Toleration,
    extension::BoundError,
    mirror::{MirrorError, Term, constraints, lower},
    rewrite::{ANNOTATION, Authored, Disagreement, ORIGINALS_MAX, restore, rewrite},
    validation,
};

use super::{
    members::Members,
    subject::Subject,
    template::{Holder, Kind, Owner, PodTemplate},
    wire::{AdmissionChange, Refusal},
    write::{Decided, written},
};

/// Why the annotation cannot be used.
#[derive(Debug, thiserror::Error)]
enum AnnotationError {
    #[error("it is no JSON list of tolerations: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0} entries are more than {ORIGINALS_MAX}: merge or remove some")]
    TooManyEntries(usize),
    #[error("{0} numeric tolerations are more than {ORIGINALS_MAX}: merge or remove some")]
    TooMany(usize),
    #[error("entry {entry}: {source}")]
    Bound { entry: usize, source: BoundError },
    #[error(
        "entry {entry} `{original}` has no toleration with the same key and effect and operator Exists in spec.tolerations: add it, or remove the entry"
    )]
    NotInSpec { entry: usize, original: String },
}

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
    let is_changed = subject.gate == Comparison::Off && changes_what_it_has(list, &given, subject);
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
    let decided = combined(list, given, subject).map_err(|error| unusable(&error))?;
    let terms = affinity(new, subject, &decided)
        .map_err(|error| format!("numeric tolerations cannot be kept: {error}"))?;
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
    subject: &Subject<'_>,
) -> bool {
    let Some(old) = subject.old_pod().filter(|_| subject.is_pod()) else {
        return false;
    };
    // An annotation that cannot be read was not stored by us, and says nothing.
    let Ok(entries) = entries(old) else {
        return false;
    };
    let now = meant(list, given);
    let is_kept = |had: &Meaning<'_>| now.contains(had);
    !meant(old.spec.tolerations(), &entries).iter().all(is_kept)
}

/// Key, operator, value, effect, and whether the taint must be there: all that no update of a live
/// pod may change.
type Meaning<'a> = (&'a str, &'a str, &'a str, &'a str, bool);

/// The meaning of tolerations, with the entries that stand for some of them.
fn meant<'a>(list: &'a [Toleration], entries: &'a [ExtendedToleration]) -> Vec<Meaning<'a>> {
    let plain = list.iter().map(|one| {
        let (operator, effect) = (one.operator.as_str(), one.effect.as_str());
        (
            one.key.as_str(),
            operator,
            one.value.as_str(),
            effect,
            false,
        )
    });
    let mut meant: Vec<Meaning<'a>> = plain.collect();
    let mut taken = vec![false; list.len()];
    for entry in entries {
        let Some(place) = place_of(entry, list, &taken) else {
            continue;
        };
        if let (Some(taken), Some(meaning)) = (taken.get_mut(place), meant.get_mut(place)) {
            *taken = true;
            (meaning.1, meaning.2, meaning.4) =
                (entry.operator.as_str(), &entry.value, entry.must_be_present);
        }
    }
    meant
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

fn entries(pod: &PodTemplate) -> Result<Vec<ExtendedToleration>, AnnotationError> {
    let Some(text) = pod.annotation() else {
        return Ok(Vec::new());
    };
    let entries: Vec<Members<ExtendedToleration>> = serde_json::from_str(text)?;
    if entries.len() > ORIGINALS_MAX {
        return Err(AnnotationError::TooManyEntries(entries.len()));
    }
    Ok(entries.into_iter().map(|Members(entry)| entry).collect())
}

/// Brings tolerations and annotation together.
fn combined(
    list: &[Toleration],
    given: Vec<ExtendedToleration>,
    subject: &Subject<'_>,
) -> Result<Decided, AnnotationError> {
    let missing: Vec<&ExtendedToleration> = subject
        .defaults
        .map(|defaults| defaults.missing(list, &given))
        .unwrap_or_default();
    let mut decided = placed(list, given, subject)?;
    let mut spec = std::mem::take(&mut decided.spec);
    give(&missing, &mut spec, &mut decided, subject.gate);
    if subject.gate == Comparison::Off {
        rewrite_new(&mut spec, &mut decided, subject);
    }
    let total = decided.entries.len() + decided.waiting.len();
    if total > ORIGINALS_MAX {
        return Err(AnnotationError::TooMany(total));
    }
    decided.spec = spec;
    Ok(decided)
}

/// Finds the toleration that each entry of the annotation stands for, or adds it, or drops the
/// entry.
fn placed(
    list: &[Toleration],
    given: Vec<ExtendedToleration>,
    subject: &Subject<'_>,
) -> Result<Decided, AnnotationError> {
    let is_inherited = subject
        .old_pod()
        .is_some_and(|old| entries(old).is_ok_and(|old| !old.is_empty() && old == given));
    let mut decided = Decided {
        spec: list.to_vec(),
        entries: Vec::with_capacity(given.len()),
        ..Decided::default()
    };
    // An `Exists` stands for one entry: a second entry of the same key needs one of its own.
    let mut taken = vec![false; list.len()];
    for (entry, original) in given.into_iter().enumerate() {
        if let Err(source) = original.interval() {
            return Err(AnnotationError::Bound { entry, source });
        }
        if let Some(place) = place_of(&original, list, &taken) {
            if let Some(taken) = taken.get_mut(place) {
                *taken = true;
            }
            decided.entries.push(original);
        } else if original.index.is_none() {
            if subject.expands() {
                decided.expanded += 1;
                decided.spec.push(exists(&original));
                decided.entries.push(original);
            } else {
                decided.waiting.push(original);
            }
        } else if is_inherited || is_written_again(&original, list) {
            decided.dropped += 1;
        } else {
            let original = original.to_string();
            return Err(AnnotationError::NotInSpec { entry, original });
        }
    }
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
        decided.entries.push(ExtendedToleration {
            index: Some(spec.len()),
            ..(*default).clone()
        });
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
        decided.entries.push(original);
    }
    if decided.rewritten > 0 {
        decided.entries.sort_by_key(|entry| entry.index);
    }
}

/// The free `Exists` that an entry stands for: at its place, or the first. None if its number is in
/// the list again.
fn place_of(original: &ExtendedToleration, list: &[Toleration], taken: &[bool]) -> Option<usize> {
    let fits = |place: &usize| {
        let free = taken.get(*place) == Some(&false);
        free && list.get(*place).is_some_and(|one| {
            one.operator == Operator::Exists
                && one.key == original.key
                && one.effect == original.effect
        })
    };
    if let Some(place) = original.index.filter(fits) {
        return Some(place);
    }
    // A plain `Exists` beside it must not become what it stands for.
    let is_there_again = || {
        list.iter().any(|one| {
            one.operator.as_str() == original.operator.as_str()
                && (&one.key, &one.value, &one.effect)
                    == (&original.key, &original.value, &original.effect)
        })
    };
    if original.index.is_some() && is_there_again() {
        return None;
    }
    (0..list.len()).find(fits)
}

/// Whether the list has a number for the entry's key again, so that the entry is of an earlier
/// version.
fn is_written_again(original: &ExtendedToleration, list: &[Toleration]) -> bool {
    list.iter()
        .any(|one| one.operator.is_numeric() && one.key == original.key)
}

fn exists(original: &ExtendedToleration) -> Toleration {
    Toleration {
        key: original.key.clone(),
        operator: Operator::Exists,
        value: String::new(),
        effect: original.effect.clone(),
        toleration_seconds: original.toleration_seconds,
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
    let constraints = if decided.entries.is_empty() {
        Vec::new()
    } else {
        let authored = restore(&decided.spec, &decided.entries)?;
        let rules: Result<Vec<Rule>, _> = authored.iter().map(Authored::rule).collect();
        constraints(&rules?)?
    };
    Ok(lower(terms, &constraints)?)
}
