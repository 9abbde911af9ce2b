//! One toleration against one taint, with the reason.
//!
//! [`judge`] makes upstream's tests in upstream's order: effect, key, operator, then the
//! toleration's value, then the taint's. The order shows only in the reason, never in the answer. A
//! number that does not parse tolerates nothing; `tolerationSeconds` plays no part here.
//!
//! Source: `ToleratesTaint` in kubernetes/api `core/v1/toleration.go`, the same text in 1.35, 1.36
//! and 1.37.

use std::fmt;

use super::{Comparison, NotANumber, Operator, Taint, Toleration, canonical_int64};

/// The answer of a toleration to a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintVerdict {
    /// It tolerates: the values are the same text.
    SameValue,
    /// It tolerates: any value will do.
    AnyValue,
    /// It tolerates: `taint > bound`.
    Above {
        /// The taint's value.
        taint: i64,
        /// The toleration's value.
        bound: i64,
    },
    /// It tolerates: `taint < bound`.
    Below {
        /// The taint's value.
        taint: i64,
        /// The toleration's value.
        bound: i64,
    },
    /// It is about another effect.
    OtherEffect,
    /// It is about another key.
    OtherKey,
    /// The values are different texts.
    OtherValue,
    /// `Gt`, and the taint's value is not above the bound.
    NotAbove {
        /// The taint's value.
        taint: i64,
        /// The toleration's value.
        bound: i64,
    },
    /// `Lt`, and the taint's value is not below the bound.
    NotBelow {
        /// The taint's value.
        taint: i64,
        /// The toleration's value.
        bound: i64,
    },
    /// The toleration's value is no number.
    BadBound(NotANumber),
    /// The taint's value is no number.
    BadTaint(NotANumber),
    /// `Gt` or `Lt`, and the feature is off.
    ComparisonOff,
    /// Kubernetes does not know the operator.
    UnknownOperator,
}

impl TaintVerdict {
    /// Whether the taint is tolerated.
    pub const fn tolerates(self) -> bool {
        matches!(
            self,
            Self::SameValue | Self::AnyValue | Self::Above { .. } | Self::Below { .. }
        )
    }

    /// Whether key and effect agree, so that the answer is about the value.
    pub const fn is_about_the_value(self) -> bool {
        !matches!(self, Self::OtherEffect | Self::OtherKey)
    }
}

impl fmt::Display for TaintVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameValue => f.write_str("same value"),
            Self::AnyValue => f.write_str("any value is tolerated"),
            Self::Above { taint, bound } => write!(f, "{taint} is above {bound}"),
            Self::Below { taint, bound } => write!(f, "{taint} is below {bound}"),
            Self::OtherEffect => f.write_str("another effect"),
            Self::OtherKey => f.write_str("another key"),
            Self::OtherValue => f.write_str("another value"),
            Self::NotAbove { taint, bound } if taint == bound => {
                write!(f, "{taint} is not above itself: Gt is strict")
            }
            Self::NotAbove { taint, bound } => write!(f, "{taint} is not above {bound}"),
            Self::NotBelow { taint, bound } if taint == bound => {
                write!(f, "{taint} is not below itself: Lt is strict")
            }
            Self::NotBelow { taint, bound } => write!(f, "{taint} is not below {bound}"),
            Self::BadBound(why) => write!(f, "the toleration's value is {why}"),
            Self::BadTaint(why) => write!(f, "the taint's value is {why}"),
            Self::ComparisonOff => {
                f.write_str("the feature gate TaintTolerationComparisonOperators is off")
            }
            Self::UnknownOperator => f.write_str("unknown operator"),
        }
    }
}

/// The answer of `toleration` to `taint`.
pub fn judge(toleration: &Toleration, taint: &Taint, comparison: Comparison) -> TaintVerdict {
    if !toleration.effect.is_unset() && toleration.effect != taint.effect {
        return TaintVerdict::OtherEffect;
    }
    if !toleration.key.is_empty() && toleration.key != taint.key {
        return TaintVerdict::OtherKey;
    }
    match toleration.operator {
        Operator::Unset | Operator::Equal if toleration.value == taint.value => {
            TaintVerdict::SameValue
        }
        Operator::Unset | Operator::Equal => TaintVerdict::OtherValue,
        Operator::Exists => TaintVerdict::AnyValue,
        Operator::Gt | Operator::Lt if comparison == Comparison::Off => TaintVerdict::ComparisonOff,
        Operator::Gt => compare(toleration, taint, |taint, bound| {
            if taint > bound {
                TaintVerdict::Above { taint, bound }
            } else {
                TaintVerdict::NotAbove { taint, bound }
            }
        }),
        Operator::Lt => compare(toleration, taint, |taint, bound| {
            if taint < bound {
                TaintVerdict::Below { taint, bound }
            } else {
                TaintVerdict::NotBelow { taint, bound }
            }
        }),
        Operator::Other(_) => TaintVerdict::UnknownOperator,
    }
}

fn compare(
    toleration: &Toleration,
    taint: &Taint,
    decide: impl FnOnce(i64, i64) -> TaintVerdict,
) -> TaintVerdict {
    match (
        canonical_int64(&toleration.value),
        canonical_int64(&taint.value),
    ) {
        (Err(why), _) => TaintVerdict::BadBound(why),
        (_, Err(why)) => TaintVerdict::BadTaint(why),
        (Ok(bound), Ok(taint)) => decide(taint, bound),
    }
}

impl Toleration {
    /// Whether it tolerates `taint`.
    pub fn tolerates(&self, taint: &Taint, comparison: Comparison) -> bool {
        judge(self, taint, comparison).tolerates()
    }
}
