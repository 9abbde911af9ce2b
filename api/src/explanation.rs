//! The record of the last decision about an object, as people and programs read it.
//!
//! The controller leaves a record of every decision in status: a sentence, and a step for each
//! stage. Here they stand in the order in which they were made, with the sentence that documents
//! the deciding reason. It adds no judgement. How it looks on a terminal or in a browser is up to
//! those who show it. Pure.

use kube::ResourceExt as _;
use serde::Serialize;

use crate::{
    condition::{self, ConditionType},
    v1alpha1::{LastDecision, Mode, PDAutoscaler, StepStatus},
    wording::{known, sentence},
};

/// The parts of a decision record that programs read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Off, Recommend or Auto.
    pub mode: &'static str,
    /// The decision; absent before the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<LastDecision>,
    /// The sentence that documents the deciding reason; absent when this version does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_means: Option<&'static str>,
}

/// The steps of one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage<'a> {
    /// The stage as a heading.
    pub title: &'a str,
    /// Its steps, in order.
    pub steps: Vec<Step<'a>>,
}

/// One step in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The step as a sentence, with its role in front.
    pub sentence: String,
    /// Its reason, one word.
    pub reason: &'a str,
}

/// The titles of the stages, by their words in status. Stages that are not listed keep their word.
const STAGES: [(&str, &str); 9] = [
    ("signals", "Measurements"),
    ("workload", "Arriving work"),
    ("capacity", "Capacity of one replica"),
    ("forecast", "Expected work"),
    ("need", "Replicas that the objective needs"),
    ("bounds", "Bounds in force"),
    ("stabilize", "Large and lasting enough to act on"),
    ("solve", "Both roles in ratio, bounds and budget"),
    ("guard", "Speed of change"),
];

/// The record of the last decision about `object`.
pub fn explanation(object: &PDAutoscaler) -> Explanation {
    let last_decision = object
        .status
        .as_ref()
        .and_then(|status| status.last_decision.clone());
    let reason = last_decision.as_ref().and_then(|last| known(&last.reason));
    Explanation {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        mode: object.spec.mode.as_str(),
        last_decision,
        reason_means: reason.map(|reason| reason.doc().trim()),
    }
}

/// The steps of `decision` under the titles of their stages, in order.
pub fn stages(decision: &LastDecision) -> Vec<Stage<'_>> {
    let same = |one: &StepStatus, other: &StepStatus| one.stage == other.stage;
    let stages = decision.steps.chunk_by(same);
    stages
        .filter_map(|steps| {
            Some(Stage {
                title: title(&steps.first()?.stage),
                steps: steps.iter().map(step).collect(),
            })
        })
        .collect()
}

fn title(stage: &str) -> &str {
    let known = STAGES.iter().find(|(word, _)| *word == stage);
    known.map_or(stage, |(_, title)| title)
}

fn step(step: &StepStatus) -> Step<'_> {
    let role = step.role.as_ref();
    let role = role.map_or_else(String::new, |role| format!("{role}: "));
    Step {
        sentence: sentence(&format!("{role}{}", step.message)),
        reason: &step.reason,
    }
}

/// Whether decisions are applied, where they are not.
pub fn unapplied(mode: Mode) -> Option<&'static str> {
    match mode {
        Mode::Auto => None,
        Mode::Recommend => Some("The mode is Recommend: decisions are shown and not applied."),
        Mode::Off => Some("The mode is Off: nothing is decided any more."),
    }
}

/// A remark where the decision is not about the spec as it is now.
pub fn outdated(object: &PDAutoscaler) -> Option<&'static str> {
    let status = object.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation);
    match (observed, object.metadata.generation) {
        (Some(observed), Some(generation)) if observed < generation => Some(
            "The spec was changed after this decision, and the controller has not seen it yet.",
        ),
        _ => None,
    }
}

/// Why nothing has been decided yet.
pub fn undecided(object: &PDAutoscaler) -> String {
    let status = object.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    condition::get(conditions, ConditionType::Ready).map_or_else(
        || "No controller has looked at it yet.".to_owned(),
        |ready| format!("{} ({})", sentence(&ready.message), ready.reason),
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
    use pd_core::Stage as Word;

    use super::*;

    #[test]
    fn every_stage_has_a_title_in_the_order_of_the_decision() {
        let all = [
            Word::Signals,
            Word::Workload,
            Word::Capacity,
            Word::Forecast,
            Word::Need,
            Word::Bounds,
            Word::Stabilize,
            Word::Solve,
            Word::Guard,
        ];
        assert_eq!(STAGES.map(|(word, _)| word), all.map(Word::as_str));
        assert!(all.is_sorted());
    }

    #[test]
    fn steps_keep_their_order_under_the_titles_of_their_stages() {
        let step = |stage: &str, role: Option<&str>| StepStatus {
            stage: stage.to_owned(),
            role: role.map(str::to_owned),
            reason: "R".to_owned(),
            message: "needs 3".to_owned(),
        };
        let decision = LastDecision {
            time: Time(Timestamp::UNIX_EPOCH),
            reason: "R".to_owned(),
            message: String::new(),
            steps: vec![
                step("need", Some("prefill")),
                step("need", Some("decode")),
                step("of a newer version", None),
            ],
        };
        let stages = stages(&decision);
        let titles: Vec<(&str, usize)> = stages
            .iter()
            .map(|stage| (stage.title, stage.steps.len()))
            .collect();
        let want = [
            ("Replicas that the objective needs", 2),
            ("of a newer version", 1),
        ];
        assert_eq!(titles, want);
        assert_eq!(stages[0].steps[1].sentence, "Decode: needs 3.");
    }
}
