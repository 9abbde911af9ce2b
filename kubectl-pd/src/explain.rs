//! `kubectl pd explain`: the last decision about an object, as prose.
//!
//! [`pd_api::explanation`] has the record in words; here it is laid out for a terminal. Why it
//! does not scale is `why-not`. Pure.

use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;
use pd_api::{
    age::age,
    explanation::{Explanation, explanation, outdated, stages, unapplied, undecided},
    v1alpha1::{LastDecision, PDAutoscaler},
    wording::sentence,
};

use crate::table::table;

/// The record as prose.
pub fn prose(object: &PDAutoscaler, now: Timestamp) -> String {
    let explanation = explanation(object);
    let Explanation {
        namespace, name, ..
    } = &explanation;
    let Some(decision) = &explanation.last_decision else {
        return format!(
            "{name} in namespace {namespace}: nothing has been decided yet.\n\n  {}\n\n\
             What to do: kubectl pd why-not {name}\n",
            undecided(object)
        );
    };
    let mut text = format!(
        "{name} in namespace {namespace}, {} ago ({}):\n\n  {}\n\n",
        age(&decision.time, now),
        decision.time.0,
        sentence(&decision.message)
    );
    text.push_str(&why(object, decision, explanation.reason_means));
    for stage in stages(decision) {
        text.extend(["\n", stage.title, "\n"]);
        for step in stage.steps {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {} ({})", step.sentence, step.reason);
        }
    }
    if let Some(remark) = outdated(object) {
        text.extend(["\n", remark, "\n"]);
    }
    text
}

/// The deciding reason with its meaning, and whether the decision was applied.
fn why(object: &PDAutoscaler, decision: &LastDecision, means: Option<&str>) -> String {
    let means = means.map_or_else(String::new, |means| format!(" {means}"));
    let mode = unapplied(object.spec.mode);
    let mode = mode.map_or_else(String::new, |remark| format!("\n{remark}"));
    format!("The reason is {}.{means}{mode}\n", decision.reason)
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
    use pd_api::wording::known;

    use super::*;
    use crate::tests::samples::{NOW, object};

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
