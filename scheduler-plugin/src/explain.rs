//! `pd-scheduler-plugin explain`: whether a pod fits nodes by taints and tolerations, and why.
//! Offline.
//!
//! [`explain`] is pure: a pod and nodes in, an [`Explanation`] out, which is printed as JSON or as
//! text. The JSON keys are documented on the types here and stay. `fits` is what the scheduler's
//! filter decides; whether the API server would take the objects at all is reported beside it
//! (`valid`, `errors`), for the two are different questions: an invalid toleration in an old object
//! still takes part in matching.
//!
//! A pod that was rewritten for a cluster without the feature is judged by what its annotation says
//! it asked for.

mod files;
#[cfg(test)]
mod tests;
mod text;

use std::io;

use pd_tolerations::{
    Comparison, Effect, FieldError, Operator, Taint, Toleration,
    eviction::{TolerationPeriod, period_of},
    extension::{ParsedTaint, Rule},
    judge,
    rewrite::{ANNOTATION, Authored, restore},
    validation,
};
use serde::Serialize;

pub use files::{FileError, Node, Pod, nodes, pod};

use crate::args::{ExplainArgs, Gate, Output};

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// A file is missing or wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// The answer could not be written.
    #[error("the answer cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether at least one of the nodes fits.
    pub fits: bool,
    /// Whether `Gt` and `Lt` compare: `on` or `off`.
    pub gate: Gate,
    /// The pod.
    pub pod: PodPart,
    /// The nodes, in the order given.
    pub nodes: Vec<NodePart>,
}

/// The pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodPart {
    /// `Pod`, or the kind of the workload.
    pub kind: String,
    /// Its namespace, or null.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Whether the API server takes its tolerations, with the gate as given.
    pub valid: bool,
    /// Their faults, in the words of the API server.
    pub errors: Vec<Words>,
    /// Their faults for an API server whose gate is off, which is every one that nobody has
    /// switched on.
    pub errors_without_gate: Vec<Words>,
    /// Why the annotation of a rewritten pod cannot be used, or null. Such a pod fits no node.
    pub annotation_error: Option<String>,
    /// The tolerations of the pod, in list order, each as one line.
    pub tolerations: Vec<String>,
}

/// One complaint of the API server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Words {
    /// The field, such as `spec.tolerations[0].value`.
    pub field: String,
    /// The complete message, field included.
    pub message: String,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePart {
    /// Its name.
    pub name: String,
    /// Whether the scheduler's filter lets the pod on it.
    pub fits: bool,
    /// Whether the API server takes its taints.
    pub valid: bool,
    /// Their faults, in the words of the API server.
    pub errors: Vec<Words>,
    /// Its taints, in list order.
    pub taints: Vec<TaintPart>,
    /// Taints that the pod requires and the node lacks (an extension), each as a sentence.
    pub missing: Vec<String>,
    /// How many `PreferNoSchedule` taints are not tolerated: the scheduler's raw score, fewer is
    /// better.
    pub untolerated_preferences: usize,
    /// The end of a pod that runs there.
    pub eviction: EvictionPart,
}

/// One taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaintPart {
    /// `key=value:effect`.
    pub taint: String,
    /// Whether a toleration answers it.
    pub tolerated: bool,
    /// The place of the first toleration in list order that does, or null.
    pub toleration: Option<usize>,
    /// Why, in a few words.
    pub reason: String,
    /// How far the value may worsen before the toleration ends, if it is a numeric one; else null.
    pub margin: Option<u64>,
    /// The answer of each toleration with the taint's key and effect.
    pub answers: Vec<AnswerPart>,
}

/// The answer of one toleration to one taint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnswerPart {
    /// Its place in the list.
    pub toleration: usize,
    /// Whether it tolerates.
    pub tolerates: bool,
    /// Why, in a few words.
    pub reason: String,
}

/// When a running pod goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EvictionPart {
    /// `never`, `after` or `now`.
    pub when: When,
    /// With `after`: the seconds from the moment the taints are seen. With `now`: 0. With `never`:
    /// null.
    pub seconds: Option<u64>,
    /// Why, in a few words.
    pub reason: String,
}

/// When a pod is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// It stays.
    Never,
    /// It stays a while.
    After,
    /// It goes at once.
    Now,
}

/// Reads the files, explains, and writes the answer.
pub fn run(args: &ExplainArgs, out: &mut impl io::Write) -> Result<(), ExplainError> {
    let explanation = explain(&pod(&args.pod)?, &nodes(&args.node)?, args.gate);
    let answer = match args.output {
        Output::Text => explanation.to_string(),
        Output::Json => serde_json::to_string_pretty(&explanation).map_err(io::Error::from)? + "\n",
    };
    match out.write_all(answer.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Explains `pod` on `nodes`.
pub fn explain(pod: &Pod, nodes: &[Node], gate: Gate) -> Explanation {
    let originals = pod.annotation.as_deref().map(serde_json::from_str);
    let (originals, unreadable) = match originals {
        None => (Vec::new(), None),
        Some(Ok(originals)) => (originals, None),
        Some(Err(error)) => (Vec::new(), Some(format!("{ANNOTATION}: {error}"))),
    };
    let (asked, disagreement) = match restore(&pod.tolerations, &originals) {
        Ok(asked) => (asked, None),
        Err(error) => (
            pod.tolerations.iter().map(Authored::Plain).collect(),
            Some(format!("{ANNOTATION}: {error}")),
        ),
    };
    let annotation_error = unreadable.or(disagreement);
    let errors = |comparison| {
        words(&validation::tolerations(
            &pod.tolerations,
            &pod.path,
            comparison,
        ))
    };
    let given = errors(gate.into());
    let nodes: Vec<NodePart> = nodes
        .iter()
        .map(|node| {
            let mut part = explain_node(node, &asked, gate.into());
            part.fits &= annotation_error.is_none();
            part
        })
        .collect();
    Explanation {
        fits: nodes.iter().any(|node| node.fits),
        gate,
        pod: PodPart {
            kind: pod.kind.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            valid: given.is_empty(),
            errors: given,
            errors_without_gate: errors(Comparison::Off),
            annotation_error,
            tolerations: asked.iter().map(ToString::to_string).collect(),
        },
        nodes,
    }
}

fn words(errors: &[FieldError]) -> Vec<Words> {
    let words = errors.iter().map(|error| Words {
        field: error.field.clone(),
        message: error.to_string(),
    });
    words.collect()
}

fn explain_node(node: &Node, asked: &[Authored<'_>], comparison: Comparison) -> NodePart {
    let taints: Vec<TaintPart> = node
        .taints
        .iter()
        .map(|taint| explain_taint(taint, asked, comparison))
        .collect();
    let untolerated = |refuses: fn(&Effect) -> bool| {
        let pairs = node.taints.iter().zip(&taints);
        pairs
            .filter(|(taint, part)| refuses(&taint.effect) && !part.tolerated)
            .count()
    };
    let missing = missing(node, asked);
    let errors = words(&validation::taints(&node.taints, "spec.taints"));
    NodePart {
        name: node.name.clone(),
        fits: untolerated(Effect::forbids_scheduling) == 0 && missing.is_empty(),
        valid: errors.is_empty(),
        errors,
        untolerated_preferences: untolerated(|effect| *effect == Effect::PreferNoSchedule),
        eviction: explain_eviction(node, &taints, asked),
        taints,
        missing,
    }
}

fn explain_taint(taint: &Taint, asked: &[Authored<'_>], comparison: Comparison) -> TaintPart {
    let answers: Vec<AnswerPart> = asked
        .iter()
        .enumerate()
        .filter_map(|(index, asked)| answer(index, asked, taint, comparison))
        .collect();
    let first = answers.iter().find(|answer| answer.tolerates);
    let reason = match (first, &answers[..]) {
        (Some(answer), _) => answer.reason.clone(),
        (None, []) => "no toleration has this key and effect".to_owned(),
        (None, answers) => {
            let reasons: Vec<&str> = answers
                .iter()
                .map(|answer| answer.reason.as_str())
                .collect();
            reasons.join("; ")
        }
    };
    let toleration = first.map(|answer| answer.toleration);
    let parsed = ParsedTaint::from(taint.clone());
    let rule = toleration.and_then(|index| asked.get(index)?.rule().ok());
    TaintPart {
        taint: taint.to_string(),
        tolerated: toleration.is_some(),
        toleration,
        reason,
        margin: rule.and_then(|rule| rule.margin(&parsed)),
        answers,
    }
}

/// The answer of `asked` to `taint`; nothing if it is about another key or effect.
fn answer(
    index: usize,
    asked: &Authored<'_>,
    taint: &Taint,
    comparison: Comparison,
) -> Option<AnswerPart> {
    let (tolerates, reason) = match asked {
        Authored::Plain(toleration) => {
            let verdict = judge(toleration, taint, comparison);
            if !verdict.is_about_the_value() {
                return None;
            }
            (verdict.tolerates(), verdict.to_string())
        }
        Authored::Rewritten { original, .. } => {
            let rule = Rule::extended(original).ok()?;
            let parsed = ParsedTaint::from(taint.clone());
            if !rule.concerns(taint) {
                return None;
            }
            // Kubernetes' own operators have words of their own.
            let native = Toleration {
                operator: Operator::from(original.operator.as_str()),
                value: original.value.clone(),
                ..Toleration::default()
            };
            let tolerates = rule.tolerates(&parsed);
            let reason = match parsed.number {
                _ if native.operator.is_numeric() => {
                    judge(&native, taint, Comparison::On).to_string()
                }
                None => "the taint's value is no whole number in canonical form".to_owned(),
                Some(number) => {
                    let within = if tolerates { "is" } else { "is not" };
                    format!("{number} {within} {}", rule.numbers())
                }
            };
            (tolerates, reason)
        }
    };
    Some(AnswerPart {
        toleration: index,
        tolerates,
        reason,
    })
}

fn missing(node: &Node, asked: &[Authored<'_>]) -> Vec<String> {
    let parsed: Vec<ParsedTaint> = node.taints.iter().cloned().map(ParsedTaint::from).collect();
    let lacks = |asked: &Authored<'_>| {
        let rule = asked.rule().ok()?;
        let lacks = rule.must_be_present && !parsed.iter().any(|taint| rule.tolerates(taint));
        lacks.then(|| format!("no taint {} whose value is {}", rule.key, rule.numbers()))
    };
    asked.iter().filter_map(lacks).collect()
}

fn explain_eviction(node: &Node, parts: &[TaintPart], asked: &[Authored<'_>]) -> EvictionPart {
    let evicting: Vec<(&Taint, Option<&Authored<'_>>)> = node
        .taints
        .iter()
        .zip(parts)
        .filter(|(taint, _)| taint.effect == Effect::NoExecute)
        .map(|(taint, part)| (taint, part.toleration.and_then(|index| asked.get(index))))
        .collect();
    let seconds = evicting
        .iter()
        .map(|(_, answer)| answer.map(Authored::toleration_seconds));
    let untolerated = evicting.iter().find(|(_, answer)| answer.is_none());
    let (when, seconds, reason) = match period_of(seconds) {
        TolerationPeriod::Forever if evicting.is_empty() => {
            (When::Never, None, "no NoExecute taint".to_owned())
        }
        TolerationPeriod::Forever => (
            When::Never,
            None,
            "every NoExecute taint is tolerated without tolerationSeconds".to_owned(),
        ),
        TolerationPeriod::For(span) => (
            When::After,
            Some(span.as_secs()),
            "the least tolerationSeconds of the tolerations that answer".to_owned(),
        ),
        TolerationPeriod::Over => match untolerated {
            Some((taint, _)) => (When::Now, Some(0), format!("{taint} is not tolerated")),
            None => (
                When::Now,
                Some(0),
                "tolerationSeconds is zero or less".to_owned(),
            ),
        },
    };
    EvictionPart {
        when,
        seconds,
        reason,
    }
}
