//! Toleration rules of a rewritten pod: how long it may stay on a node with `NoExecute` taints, and
//! why.
//!
//! Two answers are given side by side. `period` is by the pod's own numbers, as a cluster with the
//! feature would have it. `cluster` is by the stored list, in which `Exists` stands for the
//! numbers: so long the cluster's own controller leaves the pod, which nobody can prevent. It
//! tolerates more, so it ends earlier only where the rewrite put a shorter `tolerationSeconds`
//! before a longer one of the same key. `mustBePresent` is about placing and evicts nobody.

use std::fmt;

use super::{TolerationPeriod, period_of, toleration_period};
use crate::{
    Comparison, Effect, ExtendedToleration, Rule, Taint, Toleration,
    extension::{BoundError, ParsedTaint},
    rewrite::{Authored, Disagreement, restore},
};

/// The tolerations of a rewritten pod, ready to judge nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TolerationRules {
    rules: Vec<TimedRule>,
    spec: Vec<Toleration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TimedRule {
    rule: Rule,
    seconds: Option<i64>,
}

/// Why nothing can be said about a pod: it is never evicted for what cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Annotation and tolerations do not belong together.
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    /// A toleration compares with what is no number.
    #[error(transparent)]
    Bound(#[from] BoundError),
}

/// How long a pod may stay on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// By its own numbers.
    pub period: TolerationPeriod,
    /// By the stored list, as the cluster itself does.
    pub cluster: TolerationPeriod,
    /// Why it must go, unless it may stay for ever.
    pub because: Option<Because>,
}

/// Why a pod must go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// No toleration answers a taint.
    Untolerated {
        /// The taint.
        taint: Taint,
        /// The numbers that would do, if any would: `at least 901`.
        wanted: Vec<String>,
    },
    /// A taint is tolerated for a time.
    Bounded {
        /// The taint that is tolerated for the shortest time.
        taint: Taint,
        /// `tolerationSeconds` of the toleration that answers it.
        seconds: i64,
    },
    /// Another pod of its group goes.
    Group {
        /// That pod's name.
        first: String,
    },
}

impl Because {
    /// A word for labels of metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Untolerated { .. } => "untolerated",
            Self::Bounded { .. } => "expired",
            Self::Group { .. } => "group",
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untolerated { taint, wanted } if wanted.is_empty() => {
                write!(f, "taint {taint} is not tolerated")
            }
            Self::Untolerated { taint, wanted } => {
                let wanted = wanted.join(" or ");
                write!(
                    f,
                    "taint {taint} is not tolerated: its value is not {wanted}"
                )
            }
            Self::Bounded { taint, seconds } if *seconds <= 0 => {
                write!(f, "taint {taint} is tolerated for no time")
            }
            Self::Bounded { taint, seconds } => {
                write!(f, "taint {taint} is tolerated for {seconds} s")
            }
            Self::Group { first } => write!(f, "pod `{first}` of the same group goes"),
        }
    }
}

impl TolerationRules {
    /// Reads the stored list and the originals of its entries.
    pub fn read(spec: &[Toleration], originals: &[ExtendedToleration]) -> Result<Self, RulesError> {
        let asked = restore(spec, originals)?;
        let timed = |asked: &Authored<'_>| {
            Ok(TimedRule {
                rule: asked.rule()?,
                seconds: asked.toleration_seconds(),
            })
        };
        let rules: Result<Vec<TimedRule>, BoundError> = asked.iter().map(timed).collect();
        Ok(Self {
            rules: rules?,
            spec: spec.to_vec(),
        })
    }

    /// How long the pod may stay on a node with `taints`. Those with other effects do not count.
    pub fn judge(&self, taints: &[Taint]) -> Judgement {
        let mut answers = Vec::new();
        let mut because = None;
        for taint in taints
            .iter()
            .filter(|taint| taint.effect == Effect::NoExecute)
        {
            let parsed = ParsedTaint::from(taint.clone());
            let answer = self
                .rules
                .iter()
                .find(|timed| timed.rule.tolerates(&parsed));
            let seconds = answer.map(|timed| timed.seconds);
            answers.push(seconds);
            because = match seconds {
                None => Some(self.untolerated(&parsed)),
                Some(Some(seconds)) => shorter(because, taint, seconds),
                Some(None) => because,
            };
            // Nothing that follows can keep it.
            if seconds.is_none() {
                break;
            }
        }
        let period = period_of(answers);
        Judgement {
            period,
            // A number that is still in the stored list is the cluster's own business: with the
            // gate on it compares, with the gate off it has the pod deleted at once, and neither
            // leaves anything to do here.
            cluster: toleration_period(taints, &self.spec, Comparison::On),
            because: because.filter(|_| period != TolerationPeriod::Forever),
        }
    }

    fn untolerated(&self, parsed: &ParsedTaint) -> Because {
        let about_it = self
            .rules
            .iter()
            .filter(|timed| timed.rule.is_numeric && timed.rule.concerns(&parsed.taint));
        let mut wanted: Vec<String> = about_it.map(|timed| timed.rule.numbers()).collect();
        wanted.dedup();
        Because::Untolerated {
            taint: parsed.taint.clone(),
            wanted,
        }
    }
}

fn shorter(before: Option<Because>, taint: &Taint, seconds: i64) -> Option<Because> {
    match before {
        Some(Because::Bounded { seconds: least, .. }) if least <= seconds => before,
        _ => Some(Because::Bounded {
            taint: taint.clone(),
            seconds,
        }),
    }
}
