//! The demands of a pod: nothing of ours, numeric tolerations made ready for many nodes, or
//! something that cannot be.
//!
//! Reads only what it needs of the pod: tolerations and one annotation. Rules and the texts of
//! refusals are made once per call, so that judging a node compares and allocates nothing.

use std::fmt;

use pd_tolerations::{
    Effect, ExtendedToleration, Rule, Toleration,
    extension::ParsedTaint,
    rewrite::{ANNOTATION, Authored, restore},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{CallError, score::Preferences};

/// The demands of a pod.
#[derive(Debug)]
pub(super) enum PodDemand {
    /// Nothing that the scheduler does not know itself.
    Unmanaged,
    /// Numbers.
    Managed(TolerationRules),
    /// Something that cannot be read, with the reason for the pod's event.
    Broken(String),
}

/// A pod's numeric tolerations, ready to judge nodes.
#[derive(Debug)]
pub(super) struct TolerationRules {
    /// All tolerations of the pod as meant, in list order.
    pub(super) rules: Vec<Rule>,
    /// Texts of refusals; a numeric rule's place in `rules` gives its text's place.
    reasons: Vec<String>,
}

/// Which reason a node is refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReasonIndex(usize);

/// Texts per rule: the number does not fit, it is none, the taint is missing.
const TEXTS: usize = 3;

/// Reads a pod.
pub(super) fn demand(raw: &RawValue) -> Result<PodDemand, CallError> {
    let pod: WirePod = serde_json::from_str(raw.get())
        .map_err(|error| CallError::Body(format!("Pod: {error}")))?;
    let tolerations = &pod.spec.tolerations;
    let annotation = pod.metadata.annotations.0;
    if annotation.is_none() && !tolerations.iter().any(|t| t.operator.is_numeric()) {
        return Ok(PodDemand::Unmanaged);
    }
    let originals: Vec<ExtendedToleration> = match annotation.as_deref().map(serde_json::from_str) {
        None => Vec::new(),
        Some(Ok(originals)) => originals,
        Some(Err(error)) => return Ok(broken(&error)),
    };
    let rules: Result<Vec<Rule>, _> = match restore(tolerations, &originals) {
        Ok(asked) => asked.iter().map(Authored::rule).collect(),
        Err(error) => return Ok(broken(&error)),
    };
    Ok(match rules {
        Ok(rules) => PodDemand::Managed(TolerationRules::new(rules)),
        Err(error) => broken(&error),
    })
}

fn broken(error: &impl fmt::Display) -> PodDemand {
    PodDemand::Broken(format!("annotation {ANNOTATION} cannot be used: {error}"))
}

impl TolerationRules {
    fn new(rules: Vec<Rule>) -> Self {
        let reasons = rules
            .iter()
            .flat_map(|rule| {
                let key = &rule.key;
                // Alternatives are listed together, for satisfying any of them would do.
                let same = rules
                    .iter()
                    .filter(|other| other.is_numeric && other.key == *key);
                let mut wanted: Vec<String> = same.map(Rule::numbers).collect();
                wanted.dedup();
                let wanted = wanted.join(" or ");
                [
                    format!("node(s) had a value of taint {key} that is not {wanted}"),
                    format!("node(s) had a value of taint {key} that is no whole number"),
                    format!(
                        "node(s) had no taint {key} whose value is {}",
                        rule.numbers()
                    ),
                ]
            })
            .collect();
        Self { rules, reasons }
    }

    /// Why a node with `taints` is refused; nothing if it fits.
    pub(super) fn refusal(&self, taints: &[ParsedTaint]) -> Option<ReasonIndex> {
        let hidden = taints
            .iter()
            .filter(|parsed| parsed.taint.effect.forbids_scheduling())
            .find_map(|parsed| {
                let rule = self.hides(parsed)?;
                Some(ReasonIndex(
                    rule * TEXTS + usize::from(parsed.number.is_none()),
                ))
            });
        hidden.or_else(|| {
            let lacks = |rule: &Rule| {
                rule.must_be_present && !taints.iter().any(|parsed| rule.tolerates(parsed))
            };
            let rule = self.rules.iter().position(lacks)?;
            Some(ReasonIndex(rule * TEXTS + 2))
        })
    }

    /// The text of a refusal.
    pub(super) fn reason(&self, index: ReasonIndex) -> &str {
        self.reasons.get(index.0).map_or("", String::as_str)
    }

    /// How many `PreferNoSchedule` taints the pod does not tolerate.
    pub(super) fn preferences(&self, taints: &[ParsedTaint]) -> Preferences {
        let mut found = Preferences::default();
        let soft = |parsed: &&ParsedTaint| parsed.taint.effect == Effect::PreferNoSchedule;
        for parsed in taints.iter().filter(soft) {
            if self.hides(parsed).is_some() {
                found.hidden += 1;
            } else if !self.rules.iter().any(|rule| rule.tolerates(parsed)) {
                found.seen += 1;
            }
        }
        found
    }

    /// The numeric rule that, as `Exists`, hides a taint that the pod does not tolerate.
    fn hides(&self, parsed: &ParsedTaint) -> Option<usize> {
        let concerned = |rule: &Rule| rule.is_numeric && rule.concerns(&parsed.taint);
        let rule = self.rules.iter().position(concerned)?;
        let tolerated = self.rules.iter().any(|rule| rule.tolerates(parsed));
        (!tolerated).then_some(rule)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WirePod {
    #[serde(deserialize_with = "null_is_default")]
    metadata: WireMetadata,
    #[serde(deserialize_with = "null_is_default")]
    spec: WireSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireMetadata {
    #[serde(deserialize_with = "null_is_default")]
    annotations: Annotation,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireSpec {
    #[serde(deserialize_with = "null_is_default")]
    tolerations: Vec<Toleration>,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + DeserializeOwned,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The one annotation that counts, out of many.
#[derive(Default)]
struct Annotation(Option<String>);

impl<'de> Deserialize<'de> for Annotation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnnotationVisitor;
        impl<'de> Visitor<'de> for AnnotationVisitor {
            type Value = Annotation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Annotation::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == ANNOTATION {
                        found.0 = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(AnnotationVisitor)
    }
}
