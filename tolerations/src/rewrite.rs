//! Numeric tolerations on clusters that refuse them: to `Exists` and back, without loss.
//!
//! [`rewrite`] turns each `Gt` and `Lt` into `Exists` at the same place, with effect and seconds
//! kept, and records the originals, which the pod carries in [`ANNOTATION`] as a JSON list.
//! [`restore`] reads both and says what the pod asks for: whoever places or evicts it judges that,
//! never the `Exists`. Which `Exists` an original belongs to is [`carrier`]'s to find. An
//! annotation that the list does not bear out is an error, not a guess, for else a pod could claim
//! `Exists` and no number.

use std::fmt;

use super::{
    Comparison, ExtendedToleration, Operator, Rule, Toleration,
    carrier::{self, Carrier},
    extension::{BoundError, NumericOperator},
};

/// The annotation of a pod that holds a JSON list of [`ExtendedToleration`].
pub const ANNOTATION: &str = "pdautoscaler.io/numeric-tolerations";

/// Most entries that are read; a pod with more is refused.
pub const ORIGINALS_MAX: usize = 64;

/// A toleration as its author meant it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authored<'a> {
    /// As the spec has it.
    Plain(&'a Toleration),
    /// The spec says `Exists`, the annotation says this.
    Rewritten {
        /// The original.
        original: &'a ExtendedToleration,
        /// How long it tolerates a `NoExecute` taint, seconds. Those of the spec, which a live pod
        /// may change, unless its toleration was merged into another.
        seconds: Option<i64>,
    },
}

/// Why annotation and tolerations do not belong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// An original without its `Exists`.
    #[error(
        "entry {entry} `{toleration}` has no toleration with the same key and effect and operator Exists in spec.tolerations: add it, or remove the entry"
    )]
    NotInSpec {
        /// Its place in the annotation.
        entry: usize,
        /// The original.
        toleration: String,
    },
    /// An original that means nothing.
    #[error("entry {entry}: {source}")]
    Bound {
        /// Its place in the annotation.
        entry: usize,
        /// The fault.
        source: BoundError,
    },
    /// Too many originals.
    #[error("{0} entries are more than {ORIGINALS_MAX}: merge or remove some")]
    TooMany(usize),
}

/// The list with every `Gt` and `Lt` turned into `Exists`, and what they were. Nothing changes
/// without one, so that a second call does nothing. An entry that the API server would refuse for
/// another reason is left to it.
pub fn rewrite(list: &[Toleration]) -> (Vec<Toleration>, Vec<ExtendedToleration>) {
    let mut rewritten = list.to_vec();
    let mut originals = Vec::new();
    for (index, toleration) in rewritten.iter_mut().enumerate() {
        let operator = match toleration.operator {
            Operator::Gt => NumericOperator::Gt,
            Operator::Lt => NumericOperator::Lt,
            _ => continue,
        };
        let original = ExtendedToleration {
            key: toleration.key.clone(),
            operator,
            value: std::mem::take(&mut toleration.value),
            effect: toleration.effect.clone(),
            toleration_seconds: toleration.toleration_seconds,
            must_be_present: false,
            index: Some(index),
        };
        if let Err(BoundError::NoKey | BoundError::NoNumber { .. }) = original.interval() {
            toleration.value = original.value;
            continue;
        }
        toleration.operator = Operator::Exists;
        originals.push(original);
    }
    (rewritten, originals)
}

/// The list as its author meant it, in the order of `spec`. Several numbers that one `Exists`
/// carries are in the order of the annotation.
pub fn restore<'a>(
    spec: &'a [Toleration],
    originals: &'a [ExtendedToleration],
) -> Result<Vec<Authored<'a>>, Disagreement> {
    if originals.len() > ORIGINALS_MAX {
        return Err(Disagreement::TooMany(originals.len()));
    }
    let mut pairs: Vec<(Carrier, &ExtendedToleration)> = Vec::with_capacity(originals.len());
    let found = carrier::find(spec, originals);
    for (entry, (original, carrier)) in originals.iter().zip(found).enumerate() {
        let Some(carrier) = carrier else {
            return Err(Disagreement::NotInSpec {
                entry,
                toleration: original.to_string(),
            });
        };
        if let Err(source) = original.interval() {
            return Err(Disagreement::Bound { entry, source });
        }
        pairs.push((carrier, original));
    }
    let mut asked = Vec::with_capacity(spec.len());
    for (place, plain) in spec.iter().enumerate() {
        let before = asked.len();
        let here = pairs.iter().filter(|(carrier, _)| carrier.place == place);
        asked.extend(here.map(|(carrier, original)| Authored::Rewritten {
            original,
            seconds: if carrier.has_its_seconds {
                plain.toleration_seconds
            } else {
                original.toleration_seconds
            },
        }));
        if asked.len() == before {
            asked.push(Authored::Plain(plain));
        }
    }
    Ok(asked)
}

impl Authored<'_> {
    /// The rule it is. Numbers compare whatever the cluster's gate says: making them compare is the
    /// point.
    pub fn rule(&self) -> Result<Rule, BoundError> {
        match self {
            Self::Plain(toleration) => Ok(Rule::plain(toleration, Comparison::On)),
            Self::Rewritten { original, .. } => Rule::extended(original),
        }
    }

    /// How long it tolerates a `NoExecute` taint, seconds; absent means forever.
    pub const fn toleration_seconds(&self) -> Option<i64> {
        match self {
            Self::Plain(spec) => spec.toleration_seconds,
            Self::Rewritten { seconds, .. } => *seconds,
        }
    }
}

/// As a plain toleration displays, with the seconds that count.
impl fmt::Display for Authored<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(toleration) => toleration.fmt(f),
            Self::Rewritten { original, seconds } => ExtendedToleration {
                toleration_seconds: *seconds,
                ..(*original).clone()
            }
            .fmt(f),
        }
    }
}
