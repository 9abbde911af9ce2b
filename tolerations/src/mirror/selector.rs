//! Node selector terms as Kubernetes writes them, and whether one can hold at all.
//!
//! Fields that this version does not know are kept as they are, for newer API servers may have
//! more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{super::null_is_default, label::is_mirrored};

/// One condition on a node's label or field, as Kubernetes writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The label or field.
    #[serde(default)]
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`.
    #[serde(default)]
    pub operator: String,
    /// The values that the operator compares with.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub values: Vec<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

/// A node selector term: all its requirements must hold. An empty term matches no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Term {
    /// Requirements on labels.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub match_expressions: Vec<Requirement>,
    /// Requirements on fields.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub match_fields: Vec<Requirement>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

impl Requirement {
    /// A requirement on a label.
    pub fn new(key: &str, operator: &str, values: &[String]) -> Self {
        Self {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.to_vec(),
            unknown: BTreeMap::new(),
        }
    }

    /// Whether it is on a label of the mirror.
    pub fn is_ours(&self) -> bool {
        is_mirrored(&self.key)
    }
}

impl Term {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.match_expressions.is_empty() && self.match_fields.is_empty() && self.unknown.is_empty()
    }

    /// Whether no node's labels can satisfy what it says of the mirror's.
    pub fn contradicts_itself(&self) -> bool {
        let ours = || self.match_expressions.iter().filter(|one| one.is_ours());
        ours().any(|one| {
            let mut same = Wanted::default();
            for other in ours().filter(|other| other.key == one.key) {
                same.add(other);
            }
            same.is_impossible()
        })
    }
}

/// All that a term says of one label.
#[derive(Default)]
struct Wanted<'a> {
    is_absent: bool,
    is_present: bool,
    texts: Vec<&'a str>,
    least: Option<i64>,
    most: Option<i64>,
    /// A bound beyond which there is no number.
    is_over: bool,
}

impl<'a> Wanted<'a> {
    fn add(&mut self, one: &'a Requirement) {
        let number = || one.values.first()?.parse::<i64>().ok();
        self.is_absent |= one.operator == "DoesNotExist";
        self.is_present |= one.operator != "DoesNotExist";
        match (one.operator.as_str(), &one.values[..]) {
            ("In", [text]) => self.texts.push(text),
            ("Gt", _) => match number().map(|bound| bound.checked_add(1)) {
                Some(Some(least)) => self.least = self.least.max(Some(least)),
                Some(None) => self.is_over = true,
                None => {}
            },
            ("Lt", _) => match number().map(|bound| bound.checked_sub(1)) {
                Some(Some(most)) => {
                    self.most = Some(self.most.map_or(most, |before| before.min(most)));
                }
                Some(None) => self.is_over = true,
                None => {}
            },
            _ => {}
        }
    }

    fn is_impossible(&self) -> bool {
        let is_within = |text: &str| {
            let Ok(number) = text.parse::<i64>() else {
                return self.least.is_none() && self.most.is_none();
            };
            self.least.is_none_or(|least| least <= number)
                && self.most.is_none_or(|most| number <= most)
        };
        self.is_absent && self.is_present
            || self.is_over
            || self
                .least
                .zip(self.most)
                .is_some_and(|(least, most)| least > most)
            || self
                .texts
                .windows(2)
                .any(|pair| pair.first() != pair.last())
            || !self.texts.iter().all(|text| is_within(text))
    }
}
