//! What a rewritten pod makes of a node's `NoExecute` taints: how long it may stay, and why.
//!
//! Two answers are given side by side. `stay` is by the pod's own numbers, as a cluster with the feature would have it.
//! `cluster` is by the stored list, in which `Exists` stands for the numbers: what the cluster's own controller does with
//! the pod, which nobody can stop. It tolerates more, so it ends earlier only where the rewrite put a shorter
//! `tolerationSeconds` before a longer one of the same key. `mustBePresent` is a wish about placing and evicts nobody.

use std::fmt;

use super::{Stay, stay, stay_of};
use crate::{
    Comparison, Effect, ExtendedToleration, Rule, Taint, Toleration,
    extension::{BoundError, ParsedTaint},
    rewrite::{Asked, Disagreement, restore},
};

/// The tolerations of a rewritten pod, ready to judge nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    asked: Vec<Wish>,
    spec: Vec<Toleration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    rule: Rule,
    seconds: Option<i64>,
}

/// Why nothing can be said about a pod: it is never evicted for what cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
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
    pub stay: Stay,
    /// By the stored list: what the cluster itself does.
    pub cluster: Stay,
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

impl Wishes {
    /// Reads the stored list and what its entries stand for.
    pub fn read(spec: &[Toleration], originals: &[ExtendedToleration]) -> Result<Self, WishError> {
        let asked = restore(spec, originals)?;
        let wish = |asked: &Asked<'_>| {
            Ok(Wish {
                rule: asked.rule()?,
                seconds: asked.toleration_seconds(),
            })
        };
        let asked: Result<Vec<Wish>, BoundError> = asked.iter().map(wish).collect();
        Ok(Self {
            asked: asked?,
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
            let answer = self.asked.iter().find(|wish| wish.rule.tolerates(&parsed));
            let seconds = answer.map(|wish| wish.seconds);
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
        let stay_asked = stay_of(answers);
        Judgement {
            stay: stay_asked,
            // A number that is still in the stored list is the cluster's own business: with the gate on it compares, with
            // the gate off it has the pod deleted at once, and neither leaves anything to do here.
            cluster: stay(taints, &self.spec, Comparison::On),
            because: because.filter(|_| stay_asked != Stay::Forever),
        }
    }

    fn untolerated(&self, parsed: &ParsedTaint) -> Because {
        let about_it = self
            .asked
            .iter()
            .filter(|wish| wish.rule.is_numeric && wish.rule.concerns(&parsed.taint));
        let mut wanted: Vec<String> = about_it.map(|wish| wish.rule.numbers()).collect();
        wanted.dedup();
        Because::Untolerated {
            taint: parsed.taint.clone(),
            wanted,
        }
    }
}

fn shorter(known: Option<Because>, taint: &Taint, seconds: i64) -> Option<Because> {
    match known {
        Some(Because::Bounded { seconds: least, .. }) if least <= seconds => known,
        _ => Some(Because::Bounded {
            taint: taint.clone(),
            seconds,
        }),
    }
}
