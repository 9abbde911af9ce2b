//! The annotation that is given with a list: what it says, whether its entries can mean anything,
//! and which toleration each of them stands for.
//!
//! An entry with an index was written here, and stays with its toleration through every edit
//! ([`carrier`]); if its number is in the list again, or an update took the toleration away, the
//! entry is dropped. An entry without index was written by a user: the pod gets its `Exists` when
//! it is created, and so does the template of a `DaemonSet`, for its controller reads tolerations
//! there; other templates stay as written, so that `GitOps` tools see no drift. All that the API
//! server would refuse in the pod is refused in the template.

use pd_tolerations::{
    Comparison, ExtendedToleration, FieldError, Toleration,
    carrier::{self, Ambiguity, Carrier},
    extension::BoundError,
    rewrite::ORIGINALS_MAX,
    validation,
};

use super::{
    members::Members,
    subject::Subject,
    template::PodTemplate,
    write::{Decided, Kept, exists},
};

/// Why the annotation cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnnotationError {
    #[error("it is no JSON list of tolerations: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0} entries are more than {ORIGINALS_MAX}: merge or remove some")]
    TooManyEntries(usize),
    #[error("{0} numeric tolerations are more than {ORIGINALS_MAX}: merge or remove some")]
    TooMany(usize),
    #[error("entry {entry}: {source}")]
    Bound { entry: usize, source: BoundError },
    #[error("entry {entry}: {source}")]
    Field { entry: usize, source: FieldError },
    #[error(
        "entry {entry} `{original}` has no toleration with the same key and effect and operator Exists in spec.tolerations: add it, or remove the entry"
    )]
    NotInSpec { entry: usize, original: String },
    #[error(transparent)]
    Ambiguous(#[from] Ambiguity),
}

/// The entries of the annotation.
pub(super) fn entries(pod: &PodTemplate) -> Result<Vec<ExtendedToleration>, AnnotationError> {
    let Some(text) = pod.annotation() else {
        return Ok(Vec::new());
    };
    let entries: Vec<Members<ExtendedToleration>> = serde_json::from_str(text)?;
    if entries.len() > ORIGINALS_MAX {
        return Err(AnnotationError::TooManyEntries(entries.len()));
    }
    Ok(entries.into_iter().map(|Members(entry)| entry).collect())
}

/// The toleration that each entry stands for, if it has one. The entries are `inherited` from a
/// stored pod or template, or new.
pub(super) fn carriers(
    list: &[Toleration],
    given: &[ExtendedToleration],
    inherited: Option<&PodTemplate>,
    subject: &Subject<'_>,
) -> Result<Vec<Option<Carrier>>, Ambiguity> {
    let Some(old) = inherited else {
        return Ok(carrier::read(list, given));
    };
    let followed = carrier::follow(list, old.spec.tolerations(), given);
    if !subject.is_pod() {
        return followed;
    }
    // A live pod loses nothing, and the API server may have merged its tolerations.
    let whole = followed
        .ok()
        .filter(|found| found.iter().all(Option::is_some));
    Ok(whole.unwrap_or_else(|| carrier::read(list, given)))
}

/// The stored pod or template, if the annotation is the one that was stored with it.
pub(super) fn inherited_from<'a>(
    given: &[ExtendedToleration],
    subject: &'a Subject<'_>,
) -> Option<&'a PodTemplate> {
    let old = subject.old_pod()?;
    entries(old)
        .is_ok_and(|old| !old.is_empty() && old == given)
        .then_some(old)
}

/// Brings each entry to its toleration, or adds that, or drops the entry.
pub(super) fn placed(
    list: &[Toleration],
    given: Vec<ExtendedToleration>,
    carriers: Vec<Option<Carrier>>,
    is_inherited: bool,
    subject: &Subject<'_>,
) -> Result<Decided, AnnotationError> {
    let mut decided = Decided {
        spec: list.to_vec(),
        ..Decided::default()
    };
    for (entry, (original, carrier)) in given.into_iter().zip(carriers).enumerate() {
        check(entry, &original)?;
        if let Some(carrier) = carrier {
            let now = brought(&original, carrier, list);
            decided.moved += usize::from(now != original);
            decided.kept.push(Kept::here(now));
        } else if original.index.is_none() {
            if subject.expands() {
                decided.expanded += 1;
                decided.spec.push(exists(&original));
                decided.kept.push(Kept::here(original));
            } else {
                decided.kept.push(Kept::waiting(original));
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

/// Whether the entry can be part of a pod, in the API server's words where it has some.
fn check(entry: usize, original: &ExtendedToleration) -> Result<(), AnnotationError> {
    if let Err(source) = original.interval() {
        return Err(AnnotationError::Bound { entry, source });
    }
    let faults = validation::tolerations(&[exists(original)], "", Comparison::On);
    let Some(mut source) = faults.into_iter().next() else {
        return Ok(());
    };
    source.field = source.field.trim_start_matches("[0].").to_owned();
    Err(AnnotationError::Field { entry, source })
}

/// An entry as it is with its toleration at a new place, and with other seconds.
fn brought(
    original: &ExtendedToleration,
    carrier: Carrier,
    list: &[Toleration],
) -> ExtendedToleration {
    let mut now = original.clone();
    if now.index.is_some() {
        now.index = Some(carrier.place);
        if let Some(one) = list.get(carrier.place).filter(|_| carrier.has_its_seconds) {
            now.toleration_seconds = one.toleration_seconds;
        }
    }
    now
}

/// Whether the list has a number for the entry's key again, so that the entry is of an earlier
/// version.
fn is_written_again(original: &ExtendedToleration, list: &[Toleration]) -> bool {
    list.iter()
        .any(|one| one.operator.is_numeric() && one.key == original.key)
}
