//! Parts of an object in words for people: the kubectl plugin and the console say them alike.
//!
//! Owns no judgement: it repeats what spec and status hold. A reason in an object may be of a newer
//! controller than this program: it is then shown as it is and explained by its own message alone.
//! Pure.

use pd_core::Reason;

use crate::{
    condition::{self, ConditionState, ConditionType},
    v1alpha1::{LatencyTargetSpec, PDAutoscalerStatus, TargetReference},
};

/// The reason of that name, if this version knows it.
pub fn known(name: &str) -> Option<Reason> {
    let mut all = Reason::ALL.iter();
    all.find(|reason| reason.as_str() == name).copied()
}

/// `text` as a sentence: with a capital in front and a full stop behind.
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    let end = if text.ends_with(['.', '!', '?', '…']) || text.is_empty() {
        ""
    } else {
        "."
    };
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}{end}", first.unwrap_or_default(), letters.as_str())
}

/// The target as kubectl names objects, with the role inside it.
pub fn target(target: &TargetReference) -> String {
    let role = target.role.as_ref();
    let role = role.map_or_else(String::new, |role| format!(", role {role}"));
    format!("{}/{}{role}", target.kind, target.name)
}

/// A latency limit with its measured value, milliseconds.
pub fn limit(target: &LatencyTargetSpec, measured: Option<i64>) -> String {
    let measured = measured.map_or_else(
        || "not measured".to_owned(),
        |milliseconds| format!("{milliseconds} ms"),
    );
    format!(
        "{measured} at p{}, limit {}",
        target.percentile, target.target
    )
}

/// The share of requests that kept the limit which fewer kept: percent, as status has it.
pub fn least_attainment(status: &PDAutoscalerStatus) -> Option<&str> {
    let attainment = status.attainment.as_ref()?;
    let percent = [&attainment.ttft_percent, &attainment.tpot_percent];
    let number = |text: &&String| text.parse::<f64>().unwrap_or(f64::INFINITY);
    let least = percent
        .into_iter()
        .flatten()
        .min_by(|one, other| number(one).total_cmp(&number(other)))?;
    Some(least)
}

/// The reason that keeps replicas from what the objective needs, while one does.
pub fn limited_by(status: &PDAutoscalerStatus) -> Option<&str> {
    let limited = condition::get(&status.conditions, ConditionType::ScalingLimited)?;
    let holds = limited.status == ConditionState::True.as_str();
    holds.then_some(limited.reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_name() {
        for reason in Reason::ALL {
            assert_eq!(known(reason.as_str()), Some(*reason));
        }
        assert_eq!(known("OfANewerVersion"), None);
    }

    #[test]
    fn sentences_begin_with_a_capital_and_end_once() {
        assert_eq!(sentence("prefill: 3 wait"), "Prefill: 3 wait.");
        assert_eq!(sentence(" Done. "), "Done.");
        assert_eq!(sentence("cut…"), "Cut…");
        assert_eq!(sentence(""), "");
    }
}
