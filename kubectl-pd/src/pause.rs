//! `kubectl pd pause` and `kubectl pd resume`: from an object to the patch that stops or starts it.
//!
//! A pause is the API's own field: `spec.mode` becomes Recommend, so that decisions are still made,
//! shown and learnt from, and none is applied; or Off. The mode before is kept in an annotation, by
//! which resume knows where to go back to. One direction alone is paused by the API's own
//! annotation. A resume without a record goes nowhere by itself: who wrote Recommend by hand wants
//! to see decisions, and applying them is a decision of its own. Pure; the patch holds the version
//! that was read, so that nobody's change is lost.

use kube::ResourceExt as _;
use pd_api::{
    pause::{PAUSED, PAUSED_SCALE_DOWN, PAUSED_SCALE_UP},
    v1alpha1::{Mode, PDAutoscaler},
};
use serde_json::{Map, Value, json};

/// The mode that a pause took an object out of.
pub const MODE_BEFORE: &str = "pdautoscaler.io/mode-before-pause";

/// The pause that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Nothing is applied: the mode becomes this one.
    Mode(Mode),
    /// Replicas are not raised.
    ScaleUp,
    /// Replicas are not lowered.
    ScaleDown,
}

/// A change of an object, and what to say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The merge patch; nothing where the object is as wanted already.
    pub patch: Option<Value>,
    /// Sentences about what is changed, and what it goes back to.
    pub message: String,
}

/// Why an object is not resumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PauseError {
    /// Nothing says which mode to go back to.
    #[error(
        "spec.mode is `{mode}` and no pause by this plugin is on record: give the mode to go to, such as --to=Auto, which applies decisions"
    )]
    NoRecord {
        /// The mode.
        mode: &'static str,
    },
    /// The record holds no mode.
    #[error(
        "metadata.annotations[{MODE_BEFORE}] `{value}` is no mode: give the mode to go to, such as --to=Auto"
    )]
    Record {
        /// The value.
        value: String,
    },
}

/// The change that pauses `object`.
pub fn pause(object: &PDAutoscaler, wanted: Pause) -> Change {
    let name = object.name_any();
    let (annotation, direction) = match wanted {
        Pause::Mode(mode) => return into_mode(object, mode),
        Pause::ScaleUp => (PAUSED_SCALE_UP, "scaling up"),
        Pause::ScaleDown => (PAUSED_SCALE_DOWN, "scaling down"),
    };
    if object
        .annotations()
        .get(annotation)
        .is_some_and(|value| value == "true")
    {
        return unchanged(format!("{name}: {direction} is paused already"));
    }
    Change {
        patch: Some(patch(object, None, &[(annotation, Some("true"))])),
        message: format!("{name}: {direction} is paused; kubectl pd resume {name} lifts it"),
    }
}

fn into_mode(object: &PDAutoscaler, mode: Mode) -> Change {
    let (name, before) = (object.name_any(), object.spec.mode);
    // A pause of what is paused keeps the first record: it says what its owner wanted.
    let record = object.annotations().get(MODE_BEFORE);
    let back = record
        .cloned()
        .unwrap_or_else(|| before.as_str().to_owned());
    let effect = effect(mode);
    if before == mode {
        let text = format!("{name}: spec.mode is {} already: {effect}", mode.as_str());
        return unchanged(text);
    }
    if before == Mode::Off && mode == Mode::Recommend {
        let text = format!("{name}: spec.mode is Off already, which is more: nothing is decided");
        return unchanged(text);
    }
    Change {
        patch: Some(patch(object, Some(mode), &[(MODE_BEFORE, Some(&back))])),
        message: format!(
            "{name}: spec.mode {} -> {}: {effect}, and the replicas stay as they are; kubectl pd resume {name} goes back to {back}",
            before.as_str(),
            mode.as_str()
        ),
    }
}

/// The change that resumes `object`: the mode before its pause, or `to`, and no direction paused.
pub fn resume(object: &PDAutoscaler, to: Option<Mode>) -> Result<Change, PauseError> {
    let (name, before) = (object.name_any(), object.spec.mode);
    let annotations = object.annotations();
    let lifted: Vec<&str> = [PAUSED, PAUSED_SCALE_UP, PAUSED_SCALE_DOWN]
        .into_iter()
        .filter(|key| annotations.contains_key(*key))
        .collect();
    let record = annotations.get(MODE_BEFORE);
    let mode = match (to, record) {
        (Some(to), _) => to,
        // Who set Auto by hand since then has resumed already; the record is of the past.
        (None, Some(_)) if before == Mode::Auto => before,
        (None, Some(value)) => mode_named(value).ok_or_else(|| PauseError::Record {
            value: value.clone(),
        })?,
        (None, None) if before == Mode::Auto || !lifted.is_empty() => before,
        (None, None) => {
            let mode = before.as_str();
            return Err(PauseError::NoRecord { mode });
        }
    };
    let mut said = Vec::new();
    if mode != before {
        said.push(format!(
            "spec.mode {} -> {}",
            before.as_str(),
            mode.as_str()
        ));
    }
    said.extend(
        lifted
            .iter()
            .map(|key| format!("annotation {key} is removed")),
    );
    let mut removed: Vec<(&str, Option<&str>)> = lifted.iter().map(|key| (*key, None)).collect();
    removed.extend(record.map(|_| (MODE_BEFORE, None)));
    if mode == before && removed.is_empty() {
        return Ok(unchanged(format!("{name}: is not paused")));
    }
    said.push(effect(mode).to_owned());
    Ok(Change {
        patch: Some(patch(object, (mode != before).then_some(mode), &removed)),
        message: format!("{name}: {}", said.join("; ")),
    })
}

/// The use of decisions in a mode, as a sentence says it.
const fn effect(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "decisions are applied",
        Mode::Recommend => "decisions are shown and not applied",
        Mode::Off => "nothing is decided",
    }
}

fn unchanged(message: String) -> Change {
    Change {
        patch: None,
        message,
    }
}

/// The mode of that name.
pub fn mode_named(name: &str) -> Option<Mode> {
    let all = [Mode::Off, Mode::Recommend, Mode::Auto];
    all.into_iter().find(|mode| mode.as_str() == name)
}

/// A merge patch of the version that was read; an annotation without a value is removed.
fn patch(object: &PDAutoscaler, mode: Option<Mode>, annotations: &[(&str, Option<&str>)]) -> Value {
    let annotations: Map<String, Value> = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let mut patch = json!({ "metadata": { "annotations": annotations } });
    if let Some(version) = &object.metadata.resource_version {
        patch["metadata"]["resourceVersion"] = json!(version);
    }
    if let Some(mode) = mode {
        patch["spec"] = json!({ "mode": mode.as_str() });
    }
    patch
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};
    use rstest::rstest;

    use super::*;
    use crate::tests::samples::object;

    const MODES: [Mode; 3] = [Mode::Off, Mode::Recommend, Mode::Auto];

    /// `object` after `change`, as the API server would merge it.
    fn after(object: &PDAutoscaler, change: &Change) -> PDAutoscaler {
        let mut value = serde_json::to_value(object).unwrap();
        if let Some(patch) = &change.patch {
            merge(&mut value, patch);
        }
        serde_json::from_value(value).unwrap()
    }

    /// RFC 7386.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(fields) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, value) in fields {
            if value.is_null() {
                target.as_object_mut().unwrap().remove(key);
            } else {
                merge(&mut target[key], value);
            }
        }
    }

    fn in_mode(mode: Mode) -> PDAutoscaler {
        let mut one = object("steady");
        one.spec.mode = mode;
        one
    }

    #[test]
    fn a_pause_says_what_resume_goes_back_to() {
        let change = pause(&in_mode(Mode::Auto), Pause::Mode(Mode::Recommend));
        assert!(
            change.message.ends_with("goes back to Auto"),
            "{}",
            change.message
        );
        let patch = change.patch.unwrap();
        assert_eq!(patch["spec"]["mode"], "Recommend");
        assert_eq!(patch["metadata"]["annotations"][MODE_BEFORE], "Auto");
        assert_eq!(patch["metadata"]["resourceVersion"], "4711");
    }

    #[test]
    fn a_second_pause_keeps_the_first_record() {
        let first = in_mode(Mode::Auto);
        let second = after(&first, &pause(&first, Pause::Mode(Mode::Recommend)));
        let third = after(&second, &pause(&second, Pause::Mode(Mode::Off)));
        assert_eq!(third.spec.mode, Mode::Off);
        assert_eq!(third.annotations()[MODE_BEFORE], "Auto");
        let resumed = after(&third, &resume(&third, None).unwrap());
        assert_eq!(resumed, first);
    }

    #[rstest]
    #[case::recommended_by_hand(Mode::Recommend)]
    #[case::off_by_hand(Mode::Off)]
    fn a_mode_set_by_hand_is_left_only_when_the_next_is_named(#[case] mode: Mode) {
        let object = in_mode(mode);
        let error = resume(&object, None).unwrap_err().to_string();
        assert!(
            error.contains(mode.as_str()) && error.contains("--to=Auto"),
            "{error}"
        );
        let resumed = after(&object, &resume(&object, Some(Mode::Auto)).unwrap());
        assert_eq!(resumed.spec.mode, Mode::Auto);
    }

    #[test]
    fn a_direction_is_paused_by_its_annotation_and_the_mode_stays() {
        let object = in_mode(Mode::Auto);
        let paused = after(&object, &pause(&object, Pause::ScaleDown));
        assert_eq!(paused.annotations()[PAUSED_SCALE_DOWN], "true");
        assert_eq!(paused.spec.mode, Mode::Auto);
        assert_eq!(pause(&paused, Pause::ScaleDown).patch, None);
        assert_eq!(after(&paused, &resume(&paused, None).unwrap()), object);
    }

    #[test]
    fn a_record_that_is_no_mode_is_named() {
        let mut object = in_mode(Mode::Recommend);
        object
            .annotations_mut()
            .insert(MODE_BEFORE.to_owned(), "auto".to_owned());
        let error = resume(&object, None).unwrap_err().to_string();
        assert!(error.contains("`auto`"), "{error}");
    }

    #[test]
    fn nothing_is_patched_where_nothing_changes() {
        for mode in [Mode::Off, Mode::Recommend] {
            assert_eq!(pause(&in_mode(mode), Pause::Mode(mode)).patch, None);
        }
        assert_eq!(resume(&in_mode(Mode::Auto), None).unwrap().patch, None);
        assert_eq!(
            pause(&in_mode(Mode::Off), Pause::Mode(Mode::Recommend)).patch,
            None
        );
    }

    proptest! {
        // Each case writes and reads objects.
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Any pauses in any order are undone by one resume.
        #[test]
        fn resume_undoes_every_pause(
            start in select(&MODES[..]),
            pauses in prop::collection::vec(select(&[
                Pause::Mode(Mode::Recommend), Pause::Mode(Mode::Off), Pause::ScaleUp, Pause::ScaleDown,
            ][..]), 1..5),
        ) {
            let first = in_mode(start);
            let paused = pauses.iter().fold(first.clone(), |object, wanted| {
                let change = pause(&object, *wanted);
                after(&object, &change)
            });
            prop_assume!(paused != first);
            let resumed = after(&paused, &resume(&paused, None).unwrap());
            prop_assert_eq!(resumed, first);
        }
    }
}
