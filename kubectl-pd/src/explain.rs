//! `kubectl pd explain`: the last decision about an object, as prose.
//!
//! The controller leaves a record of every decision in status: a sentence, and a step for each
//! stage. Here they stand in the order in which they were made, with the sentence that documents
//! the deciding reason. It adds no judgement: what blocks scaling is `why-not`. Pure.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use pd_api::{
    ConditionType, condition,
    v1alpha1::{LastDecision, Mode, PDAutoscaler, StepStatus},
};
use serde::Serialize;

use crate::{
    age::age,
    reason::{known, sentence},
    table::table,
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
    let last_decision = object.status.clone().unwrap_or_default().last_decision;
    let reason = last_decision.as_ref().and_then(|last| known(&last.reason));
    Explanation {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        mode: object.spec.mode.as_str(),
        last_decision,
        reason_means: reason.map(|reason| reason.doc().trim()),
    }
}

/// The record as prose.
pub fn prose(object: &PDAutoscaler, now: Timestamp) -> String {
    let explanation = explanation(object);
    let Explanation {
        namespace, name, ..
    } = &explanation;
    let Some(decision) = &explanation.last_decision else {
        return undecided(object, namespace, name);
    };
    let mut text = format!(
        "{name} in namespace {namespace}, {} ago ({}):\n\n  {}\n\n",
        age(&decision.time, now),
        decision.time.0,
        sentence(&decision.message)
    );
    text.push_str(&why(object, decision, explanation.reason_means));
    let mut stage = "";
    for step in &decision.steps {
        if step.stage != stage {
            stage = &step.stage;
            text.extend(["\n", title(stage), "\n"]);
        }
        text.push_str(&line(step));
    }
    text.push_str(&since(object));
    text
}

/// The deciding reason with its meaning, and whether the decision was applied.
fn why(object: &PDAutoscaler, decision: &LastDecision, means: Option<&str>) -> String {
    let means = means.map_or_else(String::new, |means| format!(" {means}"));
    let mode = match object.spec.mode {
        Mode::Auto => "",
        Mode::Recommend => "\nThe mode is Recommend: decisions are shown and not applied.",
        Mode::Off => "\nThe mode is Off: nothing is decided any more.",
    };
    format!("The reason is {}.{means}{mode}\n", decision.reason)
}

fn title(stage: &str) -> &str {
    let known = STAGES.iter().find(|(word, _)| *word == stage);
    known.map_or(stage, |(_, title)| title)
}

/// A step as a sentence with its role in front and its reason behind.
fn line(step: &StepStatus) -> String {
    let role = step.role.as_ref();
    let role = role.map_or_else(String::new, |role| format!("{role}: "));
    format!(
        "  {} ({})\n",
        sentence(&format!("{role}{}", step.message)),
        step.reason
    )
}

/// A remark where the decision is not about the spec as it is now.
fn since(object: &PDAutoscaler) -> String {
    let observed = object
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    match (observed, object.metadata.generation) {
        (Some(observed), Some(generation)) if observed < generation => {
            "\nThe spec was changed after this decision, and the controller has not seen it yet.\n"
                .to_owned()
        }
        _ => String::new(),
    }
}

fn undecided(object: &PDAutoscaler, namespace: &str, name: &str) -> String {
    let status = object.status.clone().unwrap_or_default();
    let why = condition::get(&status.conditions, ConditionType::Ready).map_or_else(
        || "No controller has looked at it yet.".to_owned(),
        |ready| format!("{} ({})", sentence(&ready.message), ready.reason),
    );
    format!(
        "{name} in namespace {namespace}: nothing has been decided yet.\n\n  {why}\n\n\
         What to do: kubectl pd why-not {name}\n"
    )
}

/// The steps as a table.
pub fn steps(object: &PDAutoscaler) -> String {
    let decision = explanation(object).last_decision;
    let steps = decision.map(|decision| decision.steps).unwrap_or_default();
    let rows: Vec<Vec<String>> = steps
        .into_iter()
        .map(|step| {
            vec![
                step.stage,
                step.role.unwrap_or_default(),
                step.reason,
                step.message,
            ]
        })
        .collect();
    table(&["Stage", "Role", "Reason", "Message"], &rows)
}

#[cfg(test)]
mod tests {
    use pd_core::Stage;

    use super::*;
    use crate::tests::samples::{NOW, object};

    const ALL: [Stage; 9] = [
        Stage::Signals,
        Stage::Workload,
        Stage::Capacity,
        Stage::Forecast,
        Stage::Need,
        Stage::Bounds,
        Stage::Stabilize,
        Stage::Solve,
        Stage::Guard,
    ];

    #[test]
    fn every_stage_has_a_title_in_the_order_of_the_decision() {
        let want = ALL.map(Stage::as_str);
        assert_eq!(STAGES.map(|(word, _)| word), want);
        assert!(ALL.is_sorted());
    }

    #[test]
    fn the_prose_holds_every_step_once_and_in_order() {
        let object = object("limited");
        let text = prose(&object, NOW);
        // The sentence of the decision repeats the deciding ones.
        let (_, text) = text.split_once("The reason is").unwrap();
        let mut from = 0;
        for step in explanation(&object).last_decision.unwrap().steps {
            assert!(known(&step.reason).is_some(), "{}", step.reason);
            // The first letter may have become a capital.
            let message = &step.message[1..];
            assert_eq!(text.matches(message).count(), 1, "{message}");
            from += text[from..].find(message).unwrap();
        }
    }

    #[test]
    fn a_spec_that_changed_since_is_said() {
        let mut object = object("steady");
        assert!(!prose(&object, NOW).contains("has not seen it yet"));
        object.metadata.generation = Some(9);
        assert!(prose(&object, NOW).contains("has not seen it yet"));
    }

    #[test]
    fn without_a_decision_the_condition_says_why() {
        let text = prose(&object("untargeted"), NOW);
        assert!(text.contains("nothing has been decided yet"), "{text}");
        assert!(text.contains("(TargetNotFound)"), "{text}");
        let mut fresh = object("steady");
        fresh.status = None;
        assert!(prose(&fresh, NOW).contains("No controller has looked at it yet."));
    }
}
