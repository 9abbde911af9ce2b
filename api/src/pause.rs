//! Pause annotations: how a person stops scaling without touching the spec.
//!
//! `pdautoscaler.io/paused` stops both directions, `pdautoscaler.io/paused-scale-up` and
//! `pdautoscaler.io/paused-scale-down` one. Values are `true` and `false`. Any other value pauses,
//! because somebody wanted something, and is reported, because nobody knows what.

use std::collections::BTreeMap;

use pd_core::snapshot::Paused;

use crate::validate::FieldError;

/// Pauses both directions.
pub const PAUSED: &str = "pdautoscaler.io/paused";
/// Pauses raising replicas.
pub const PAUSED_SCALE_UP: &str = "pdautoscaler.io/paused-scale-up";
/// Pauses lowering replicas.
pub const PAUSED_SCALE_DOWN: &str = "pdautoscaler.io/paused-scale-down";

/// The pause annotations of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PauseReading {
    /// Directions that are paused, those with a bad value included.
    pub paused: Paused,
    /// Annotations with a bad value.
    pub errors: Vec<FieldError>,
}

impl PauseReading {
    /// Reads the annotations of an object.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Self {
        let mut errors = Vec::new();
        let mut is_paused = |key: &str| match annotations.get(key).map(String::as_str) {
            None | Some("false") => false,
            Some("true") => true,
            Some(value) => {
                errors.push(FieldError {
                    path: format!("metadata.annotations[{key}]"),
                    value: value.to_owned(),
                    remedy: "must be true or false; it is paused until then".to_owned(),
                });
                true
            }
        };
        let both = is_paused(PAUSED);
        let paused = Paused {
            scale_up: is_paused(PAUSED_SCALE_UP) || both,
            scale_down: is_paused(PAUSED_SCALE_DOWN) || both,
        };
        Self { paused, errors }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(&[], (false, false), 0)]
    #[case::both(&[(PAUSED, "true")], (true, true), 0)]
    #[case::up(&[(PAUSED_SCALE_UP, "true")], (true, false), 0)]
    #[case::down(&[(PAUSED_SCALE_DOWN, "true")], (false, true), 0)]
    #[case::off(&[(PAUSED, "false"), (PAUSED_SCALE_UP, "false")], (false, false), 0)]
    #[case::one_of_both(&[(PAUSED, "true"), (PAUSED_SCALE_UP, "false")], (true, true), 0)]
    #[case::unclear(&[(PAUSED_SCALE_DOWN, "yes")], (false, true), 1)]
    #[case::capital(&[(PAUSED, "True")], (true, true), 1)]
    fn annotations_pause_per_direction(
        #[case] annotations: &[(&str, &str)],
        #[case] (scale_up, scale_down): (bool, bool),
        #[case] errors: usize,
    ) {
        let annotations = annotations
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let got = PauseReading::from_annotations(&annotations);
        assert_eq!(
            got.paused,
            Paused {
                scale_up,
                scale_down
            }
        );
        assert_eq!(got.errors.len(), errors);
    }
}
