//! Taints and tolerations as Kubernetes 1.36 and 1.37 understand them, numeric comparison included
//! (KEP-5471).
//!
//! A small library for anybody who needs the scheduler's answer without a scheduler. It owns its
//! types, and has no Kubernetes client, no async, no clock, no environment and no file: time is an
//! argument. [`number`] is the grammar of numbers, [`matching`] one toleration against one taint,
//! [`node`] all tolerations against a whole node, [`eviction`] how long a running pod may stay,
//! [`validation`] what the API server says about a list, in its words. What goes beyond Kubernetes
//! is in [`extension`] alone; [`rewrite`], [`carrier`] and [`mirror`] are how clusters without the
//! feature are served.
//!
//! Directions are where people go wrong: `Gt` tolerates a taint whose value is **above** the
//! toleration's, `Lt` one whose value is **below** it, both strictly. A toleration permits; it
//! attracts nothing and repels nothing.
//!
//! ```
//! use pd_tolerations::{Comparison, Effect, Operator, Taint, Toleration, node};
//!
//! let taint = Taint::new("node.kubernetes.io/sla", "950", Effect::NoExecute);
//! let above = |bound: &str| Toleration {
//!     key: "node.kubernetes.io/sla".to_owned(),
//!     operator: Operator::Gt,
//!     value: bound.to_owned(),
//!     ..Toleration::default()
//! };
//! // 950 > 800, but 950 is not above itself, and without the feature nothing compares.
//! assert!(above("800").tolerates(&taint, Comparison::On));
//! assert!(!above("950").tolerates(&taint, Comparison::On));
//! assert!(!above("800").tolerates(&taint, Comparison::Off));
//! assert_eq!(node::first_untolerated(&[taint], &[above("800")], Comparison::On), None);
//! ```

pub mod carrier;
pub mod eviction;
pub mod extension;
pub mod format;
pub mod go_text;
pub mod matching;
pub mod mirror;
pub mod node;
pub mod number;
pub mod rewrite;
#[cfg(test)]
mod tests;
pub mod time;
pub mod validation;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use extension::{ExtendedToleration, Interval, Rule};
pub use matching::{TaintVerdict, judge};
pub use number::{NotANumber, canonical_int64};
pub use validation::FieldError;

/// Whether `Gt` and `Lt` compare: the feature gate `TaintTolerationComparisonOperators`, off by
/// default on all releases up to 1.37.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Comparison {
    /// The gate is off: `Gt` and `Lt` tolerate nothing.
    #[default]
    Off,
    /// The gate is on.
    On,
}

/// The effect of a taint. Text that Kubernetes does not know is kept, for it matches by text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The empty text. In a toleration it means every effect; in a taint it is invalid.
    #[default]
    Unset,
    /// Pods that do not tolerate it are not placed on the node.
    NoSchedule,
    /// The scheduler avoids the node for pods that do not tolerate it.
    PreferNoSchedule,
    /// As `NoSchedule`, and running pods that do not tolerate it are deleted.
    NoExecute,
    /// Anything else.
    Other(String),
}

/// How a toleration compares. Text that Kubernetes does not know is kept, and tolerates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// The empty text, which means `Equal`.
    #[default]
    Unset,
    /// The values are the same text.
    Equal,
    /// The key is enough.
    Exists,
    /// The taint's value is above the toleration's.
    Gt,
    /// The taint's value is below the toleration's.
    Lt,
    /// Anything else.
    Other(String),
}

/// A taint of a node, with the field names of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// A label key, such as `node.kubernetes.io/sla`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub key: String,
    /// A label value, at most 63 bytes; a number only if it is canonical (see [`number`]).
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub value: String,
    /// Its effect.
    #[serde(default, deserialize_with = "null_is_default")]
    pub effect: Effect,
    /// When it was added, RFC 3339, as written by whoever added it. Plays no part in any rule of
    /// Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_added: Option<String>,
}

/// A toleration of a pod, with the field names of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; empty means every key.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub key: String,
    /// How values compare.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Operator::is_unset"
    )]
    pub operator: Operator,
    /// The value that the taint's is compared with.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub value: String,
    /// The taint's effect; empty means every effect.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Effect::is_unset"
    )]
    pub effect: Effect,
    /// How long a `NoExecute` taint is tolerated, seconds; absent means forever, zero and below not
    /// at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

impl Taint {
    /// A taint without a time.
    pub fn new(key: impl Into<String>, value: impl Into<String>, effect: Effect) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            effect,
            time_added: None,
        }
    }
}

/// `key=value:effect`, or `key:effect` without a value, as kubectl writes it.
impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if !self.value.is_empty() {
            write!(f, "={}", self.value)?;
        }
        write!(f, ":{}", self.effect)
    }
}

/// `key operator value:effect`, with `*` for every key, such as `sla Gt 950:NoExecute`.
impl fmt::Display for Toleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.key.is_empty() { "*" } else { &self.key })?;
        let operator = match &self.operator {
            Operator::Unset => "Equal",
            other => other.as_str(),
        };
        write!(f, " {operator}")?;
        if !self.value.is_empty() {
            write!(f, " {}", self.value)?;
        }
        if !self.effect.is_unset() {
            write!(f, ":{}", self.effect)?;
        }
        match self.toleration_seconds {
            Some(seconds) => write!(f, " for {seconds} s"),
            None => Ok(()),
        }
    }
}

impl Effect {
    /// The text of Kubernetes.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Unset => "",
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
            Self::Other(text) => text,
        }
    }

    /// Whether it is the empty text.
    pub fn is_unset(&self) -> bool {
        self.as_str().is_empty()
    }

    /// Whether an untolerated taint with this effect keeps new pods from the node.
    pub fn forbids_scheduling(&self) -> bool {
        matches!(self, Self::NoSchedule | Self::NoExecute)
    }
}

impl Operator {
    /// The text of Kubernetes.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Unset => "",
            Self::Equal => "Equal",
            Self::Exists => "Exists",
            Self::Gt => "Gt",
            Self::Lt => "Lt",
            Self::Other(text) => text,
        }
    }

    /// Whether it is the empty text.
    pub fn is_unset(&self) -> bool {
        self.as_str().is_empty()
    }

    /// Whether it compares numbers.
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::Gt | Self::Lt)
    }
}

impl From<&str> for Effect {
    fn from(text: &str) -> Self {
        match text {
            "" => Self::Unset,
            "NoSchedule" => Self::NoSchedule,
            "PreferNoSchedule" => Self::PreferNoSchedule,
            "NoExecute" => Self::NoExecute,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl From<&str> for Operator {
    fn from(text: &str) -> Self {
        match text {
            "" => Self::Unset,
            "Equal" => Self::Equal,
            "Exists" => Self::Exists,
            "Gt" => Self::Gt,
            "Lt" => Self::Lt,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Effect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for Operator {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Effect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from(text.as_str()))
    }
}

impl<'de> Deserialize<'de> for Operator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from(text.as_str()))
    }
}

/// Kubernetes reads `null` as an absent field.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
