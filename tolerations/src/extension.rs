//! Extensions beyond Kubernetes, and nothing else: inclusive bounds, ranges, "the taint must be
//! present", margins.
//!
//! KEP-5471 compares strictly, ORs tolerations, and lets a pod onto nodes that lack the taint. An
//! [`ExtendedToleration`] adds what users miss: `Ge` and `Le` include the bound, `Range` needs both
//! ends (an AND, which no two tolerations can say), `mustBePresent` refuses nodes without the
//! taint. None of this is known to the API server or the stock scheduler: it travels in an
//! annotation, and is kept by this project's components.
//!
//! The one idea: every numeric comparison is an [`Interval`] of int64. A [`Rule`] is a toleration
//! made ready for many nodes: it parses its own bound once, takes the taint's number as parsed, and
//! allocates nothing.

use serde::{Deserialize, Serialize};

use super::{
    Comparison, Effect, NotANumber, Operator, Taint, Toleration, canonical_int64, null_is_default,
};

/// How an extended toleration compares the taint's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NumericOperator {
    /// Above the value, as Kubernetes' own.
    Gt,
    /// Below the value, as Kubernetes' own.
    Lt,
    /// Extension: the value or above.
    Ge,
    /// Extension: the value or below.
    Le,
    /// Extension: between two values written `900..990`, both included.
    Range,
}

impl NumericOperator {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gt => "Gt",
            Self::Lt => "Lt",
            Self::Ge => "Ge",
            Self::Le => "Le",
            Self::Range => "Range",
        }
    }

    /// Whether Kubernetes does not have it.
    pub const fn is_extension(self) -> bool {
        matches!(self, Self::Ge | Self::Le | Self::Range)
    }
}

/// A numeric toleration, Kubernetes' own or beyond it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtendedToleration {
    /// The taint's key, not empty.
    pub key: String,
    /// How to compare.
    pub operator: NumericOperator,
    /// A canonical int64, or two of them for `Range`.
    pub value: String,
    /// The taint's effect; empty means every effect.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Effect::is_unset"
    )]
    pub effect: Effect,
    /// How long a `NoExecute` taint is tolerated, seconds; absent means forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
    /// Extension: a node must have a taint with this key, and effect if given, whose value is
    /// tolerated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub must_be_present: bool,
    /// Its place in `spec.tolerations` when it was rewritten; absent if written by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
}

/// Why an extended toleration means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    /// The key is empty.
    #[error("key is empty: name the taint whose value is compared")]
    NoKey,
    /// A bound is no number.
    #[error(
        "value `{value}` of operator {operator} is {why}: write a whole number such as 950, without sign +, leading zeros or a fraction"
    )]
    NoNumber {
        /// The operator.
        operator: &'static str,
        /// The bound.
        value: String,
        /// The fault.
        why: NotANumber,
    },
    /// A range without two ends.
    #[error("value `{0}` of operator Range has no `..`: write both ends, such as 900..990")]
    NoRange(String),
    /// No number satisfies it.
    #[error(
        "value `{value}` of operator {operator} is satisfied by no number: swap or widen the bounds"
    )]
    Empty {
        /// The operator.
        operator: &'static str,
        /// The value.
        value: String,
    },
}

/// A set of neighbouring int64 numbers; an absent end is unbounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The least number in it.
    pub least: Option<i64>,
    /// The greatest number in it.
    pub most: Option<i64>,
}

impl Interval {
    /// Holds no number.
    const EMPTY: Self = Self {
        least: Some(i64::MAX),
        most: Some(i64::MIN),
    };

    /// All numbers above `bound`.
    pub const fn above(bound: i64) -> Self {
        match bound.checked_add(1) {
            Some(least) => Self::at_least(least),
            None => Self::EMPTY,
        }
    }

    /// All numbers below `bound`.
    pub const fn below(bound: i64) -> Self {
        match bound.checked_sub(1) {
            Some(most) => Self::at_most(most),
            None => Self::EMPTY,
        }
    }

    /// `least` and all numbers above it.
    pub const fn at_least(least: i64) -> Self {
        Self {
            least: Some(least),
            most: None,
        }
    }

    /// `most` and all numbers below it.
    pub const fn at_most(most: i64) -> Self {
        Self {
            least: None,
            most: Some(most),
        }
    }

    /// Whether no number is in it.
    pub fn is_empty(self) -> bool {
        self.least
            .zip(self.most)
            .is_some_and(|(least, most)| least > most)
    }

    /// Whether `number` is in it.
    pub fn contains(self, number: i64) -> bool {
        self.least.is_none_or(|least| least <= number)
            && self.most.is_none_or(|most| number <= most)
    }

    /// How far `number` is from the nearest number outside, at least 1; nothing if it is outside
    /// itself or the interval has no ends. The SLA margin: how much the node's value may worsen
    /// before the pod must go.
    pub fn margin(self, number: i64) -> Option<u64> {
        if !self.contains(number) {
            return None;
        }
        let below = self.least.map(|least| number.abs_diff(least));
        let above = self.most.map(|most| most.abs_diff(number));
        let nearest = match (below, above) {
            (Some(below), Some(above)) => below.min(above),
            (one, other) => one.or(other)?,
        };
        Some(nearest.saturating_add(1))
    }
}

/// `at least 951`, `at most 949`, `900 to 990`.
impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.least, self.most) {
            (Some(least), Some(most)) if least > most => {
                f.write_str("a number that does not exist")
            }
            (Some(least), Some(most)) => write!(f, "{least} to {most}"),
            (Some(least), None) => write!(f, "at least {least}"),
            (None, Some(most)) => write!(f, "at most {most}"),
            (None, None) => f.write_str("any number"),
        }
    }
}

impl ExtendedToleration {
    /// The numbers it tolerates.
    pub fn interval(&self) -> Result<Interval, BoundError> {
        if self.key.is_empty() {
            return Err(BoundError::NoKey);
        }
        let operator = self.operator.as_str();
        let number = |value: &str| {
            canonical_int64(value).map_err(|why| BoundError::NoNumber {
                operator,
                value: value.to_owned(),
                why,
            })
        };
        let interval = match self.operator {
            NumericOperator::Gt => Interval::above(number(&self.value)?),
            NumericOperator::Lt => Interval::below(number(&self.value)?),
            NumericOperator::Ge => Interval::at_least(number(&self.value)?),
            NumericOperator::Le => Interval::at_most(number(&self.value)?),
            NumericOperator::Range => {
                let ends = self.value.split_once("..");
                let (least, most) = ends.ok_or_else(|| BoundError::NoRange(self.value.clone()))?;
                Interval {
                    least: Some(number(least)?),
                    most: Some(number(most)?),
                }
            }
        };
        if interval.is_empty() && self.operator.is_extension() {
            let value = self.value.clone();
            return Err(BoundError::Empty { operator, value });
        }
        Ok(interval)
    }
}

/// `key operator value:effect`, as a plain toleration displays.
impl std::fmt::Display for ExtendedToleration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = Toleration {
            key: self.key.clone(),
            operator: Operator::from(self.operator.as_str()),
            value: self.value.clone(),
            effect: self.effect.clone(),
            toleration_seconds: self.toleration_seconds,
        };
        write!(f, "{plain}")?;
        if self.must_be_present {
            f.write_str(" (must be present)")?;
        }
        Ok(())
    }
}

/// A taint with its value parsed once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParsedTaint {
    /// The taint.
    pub taint: Taint,
    /// Its value, if that is a canonical int64.
    pub number: Option<i64>,
}

impl From<Taint> for ParsedTaint {
    fn from(taint: Taint) -> Self {
        let number = canonical_int64(&taint.value).ok();
        Self { taint, number }
    }
}

/// Which values a rule tolerates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Every value.
    Any,
    /// This text.
    Text(String),
    /// These numbers.
    Numbers(Interval),
    /// No value: an operator that is unknown or off, or a bound that is no number.
    Nothing,
}

/// A toleration made ready for many nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The taint's key; empty means every key.
    pub key: String,
    /// The taint's effect; unset means every effect.
    pub effect: Effect,
    /// The values.
    pub accepts: Accepts,
    /// Whether it compares numbers, even if its bound is none.
    pub is_numeric: bool,
    /// Whether a node without a tolerated taint of this key is refused.
    pub must_be_present: bool,
}

/// The keys that `rules` compare by number, each once, in their order.
pub fn numeric_keys(rules: &[Rule]) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.is_numeric) {
        if !keys.contains(&rule.key.as_str()) {
            keys.push(&rule.key);
        }
    }
    keys
}

/// The rules about taints of `key` and `effect`, if these are compared by number; nothing where any
/// value is tolerated.
pub fn compared<'a>(rules: &'a [Rule], key: &str, effect: &Effect) -> Option<Vec<&'a Rule>> {
    let concerned = rules.iter().filter(|rule| {
        (rule.effect.is_unset() || rule.effect == *effect)
            && (rule.key.is_empty() || rule.key == key)
    });
    let concerned: Vec<&Rule> = concerned.collect();
    let is_compared = concerned.iter().any(|rule| rule.is_numeric);
    let takes_any = concerned.iter().any(|rule| rule.accepts == Accepts::Any);
    (is_compared && !takes_any).then_some(concerned)
}

impl Rule {
    /// The rule of a plain toleration; it tolerates exactly what [`Toleration::tolerates`] does.
    pub fn plain(toleration: &Toleration, comparison: Comparison) -> Self {
        let numbers = |interval: fn(i64) -> Interval| match canonical_int64(&toleration.value) {
            Ok(bound) if comparison == Comparison::On => Accepts::Numbers(interval(bound)),
            _ => Accepts::Nothing,
        };
        let accepts = match &toleration.operator {
            Operator::Unset | Operator::Equal => Accepts::Text(toleration.value.clone()),
            Operator::Exists => Accepts::Any,
            Operator::Gt => numbers(Interval::above),
            Operator::Lt => numbers(Interval::below),
            Operator::Other(_) => Accepts::Nothing,
        };
        Self {
            key: toleration.key.clone(),
            effect: toleration.effect.clone(),
            accepts,
            is_numeric: toleration.operator.is_numeric(),
            must_be_present: false,
        }
    }

    /// The rule of an extended toleration.
    pub fn extended(toleration: &ExtendedToleration) -> Result<Self, BoundError> {
        Ok(Self {
            key: toleration.key.clone(),
            effect: toleration.effect.clone(),
            accepts: Accepts::Numbers(toleration.interval()?),
            is_numeric: true,
            must_be_present: toleration.must_be_present,
        })
    }

    /// Whether key and effect are the taint's.
    pub fn concerns(&self, taint: &Taint) -> bool {
        (self.effect.is_unset() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
    }

    /// Whether it tolerates `parsed`.
    pub fn tolerates(&self, parsed: &ParsedTaint) -> bool {
        self.concerns(&parsed.taint)
            && match &self.accepts {
                Accepts::Any => true,
                Accepts::Text(text) => *text == parsed.taint.value,
                Accepts::Numbers(interval) => parsed
                    .number
                    .is_some_and(|number| interval.contains(number)),
                Accepts::Nothing => false,
            }
    }

    /// How far the taint's value may worsen before the rule ends, at least 1; nothing if it does
    /// not tolerate the taint by number.
    pub fn margin(&self, parsed: &ParsedTaint) -> Option<u64> {
        match (&self.accepts, parsed.number) {
            (Accepts::Numbers(interval), Some(number)) if self.concerns(&parsed.taint) => {
                interval.margin(number)
            }
            _ => None,
        }
    }

    /// The numbers it accepts, to follow "is" or "is not": `at least 951`, `900 to 990`.
    pub fn numbers(&self) -> String {
        match &self.accepts {
            Accepts::Numbers(interval) => interval.to_string(),
            Accepts::Text(text) => format!("`{text}`"),
            Accepts::Any => "anything".to_owned(),
            Accepts::Nothing => "a number that can be compared".to_owned(),
        }
    }
}
