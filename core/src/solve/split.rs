//! The closest pair when both needs do not fit: the one that loses the fewest requests.
//!
//! A request is served in time when both roles serve it in time, so the share of such requests is
//! about the product of both attainments, and the split with the largest product is the one where a
//! further GPU gains as much on either side. Where a curve is not known, or hardly anybody is
//! served in time anyway, the role with the smaller share of its need counts: work goes through
//! both roles, and the worse-served one is the throughput.
//!
//! Replicas beyond a need count nothing. Among pairs of which none is better in both roles, the one
//! closest to the current pair stays until another is better by a margin.

use std::cmp::Reverse;

use super::Problem;
use crate::{
    ratio::RatioPolicy,
    role::{PerRole, Role},
};

/// A split moves when another serves more requests in time by so many tenths of a percentage point.
pub const PRODUCT_MARGIN_TENTHS: u32 = 5;

/// Where attainment is not known: a split moves when the worse-served role gets so many percentage
/// points more of its need.
pub const SHARE_MARGIN_PERCENT: u32 = 5;

/// One, as attainment is counted: parts per million, so that equal is equal.
const WHOLE_PPM: u32 = 1_000_000;

/// The margin in the unit of a product of two attainments.
const PRODUCT_MARGIN: u64 =
    WHOLE_PPM as u64 * WHOLE_PPM as u64 / 1_000 * PRODUCT_MARGIN_TENTHS as u64;

/// The share of requests that a role serves within its limit, by its replicas; or not known.
///
/// A table of shares from 0 to 1; the index is the number of replicas, and its last value holds for
/// more. It should not fall: where it does, or holds no number, the value before counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attained<'a>(Option<&'a [f64]>);

impl<'a> Attained<'a> {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self(None);

    /// Known for 0 replicas and up. An empty table is not known.
    pub const fn table(shares: &'a [f64]) -> Self {
        if shares.is_empty() {
            Self::UNKNOWN
        } else {
            Self(Some(shares))
        }
    }

    /// Parts per million for 0 to `most` replicas, rising.
    fn ppm(self, most: u32) -> Option<Vec<u32>> {
        let wanted = usize::try_from(most).ok()?.checked_add(1)?;
        let rising = self
            .0?
            .iter()
            .take(wanted)
            .scan(0, |best: &mut u32, &share| {
                *best = (*best).max(in_ppm(share));
                Some(*best)
            });
        Some(rising.collect())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from zero to a million; no number becomes zero"
)]
fn in_ppm(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(WHOLE_PPM)).round() as u32
}

/// How good a pair is, the first difference deciding. Whole numbers, so comparing is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    /// Requests served in time by both roles, parts per million squared.
    product: u64,
    /// Attainment of the worse role, parts per million.
    attained_least: u32,
    /// Share of its need that the worse-served role gets, times both needs.
    share_least: u64,
    /// The same for the better-served role.
    share_most: u64,
    /// Fewer GPUs are better.
    gpus: Reverse<u64>,
    /// Fewer replicas to change are better.
    distance: Reverse<u64>,
}

/// By how much one pair is better than another, in requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advantage {
    /// Not at all.
    None,
    /// By no more than the margin.
    Small,
    /// By more.
    Large,
}

/// A pair that was chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// The pair.
    pub(super) pair: PerRole<u32>,
    /// How good it is.
    pub(super) score: Score,
    /// How good the best pair is; better by a margin at most.
    pub(super) best: Score,
    /// Whether both curves are known.
    known: bool,
}

impl Choice {
    /// The choice, in words.
    pub(super) fn text(&self) -> String {
        let PerRole { prefill, decode } = self.pair;
        let kept = if self.score < self.best {
            ", kept because the best split is hardly better"
        } else {
            ""
        };
        if !self.known {
            return format!("{prefill}:{decode} loses least{kept}");
        }
        let whole = u64::from(WHOLE_PPM) * u64::from(WHOLE_PPM);
        // Tenths of a percent, rounded down: never more than is expected.
        let tenths = self.score.product / (whole / 1_000);
        format!(
            "{prefill}:{decode} loses least: about {}.{} % of requests meet both limits{kept}",
            tenths / 10,
            tenths % 10
        )
    }
}

/// A pair and the part of the needs that it serves.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    pair: PerRole<u32>,
    served: PerRole<u32>,
    score: Score,
}

/// The search for one need.
pub(super) struct Split<'p, 'a> {
    problem: &'p Problem<'a>,
    need: PerRole<u32>,
    curves: Option<PerRole<Vec<u32>>>,
}

impl<'p, 'a> Split<'p, 'a> {
    pub(super) fn new(problem: &'p Problem<'a>, need: PerRole<u32>) -> Self {
        // A share of requests and a share of a need do not compare: both curves or none.
        let curve = |role: Role| problem.attained[role].ppm(need[role]);
        let curves = curve(Role::Prefill)
            .zip(curve(Role::Decode))
            .map(|(prefill, decode)| PerRole { prefill, decode });
        Self {
            problem,
            need,
            curves,
        }
    }

    #[cfg(test)]
    pub(super) fn curve(&self, role: Role) -> Option<&[u32]> {
        Some(&self.curves.as_ref()?[role])
    }

    /// The pair inside bounds, floor and budget, and in the band if one is given, that serves the
    /// most requests; or the one closest to the current pair if that is hardly worse.
    pub(super) fn choose(&self, ratio: Option<RatioPolicy>) -> Option<Choice> {
        self.choose_near(ratio, None)
    }

    /// The same where "hardly worse" is meant against `reference`, of other limits, if one is
    /// given: so that the margin is not spent twice.
    pub(super) fn choose_near(
        &self,
        ratio: Option<RatioPolicy>,
        reference: Option<&Score>,
    ) -> Option<Choice> {
        let frontier = self.frontier(ratio);
        let best = frontier.iter().max_by_key(|candidate| candidate.score)?;
        let near = frontier
            .iter()
            .min_by_key(|candidate| (candidate.score.distance.0, Reverse(candidate.score)))?;
        let stays =
            self.advantage(reference.unwrap_or(&best.score), &near.score) != Advantage::Large;
        let chosen = if stays { near } else { best };
        Some(Choice {
            pair: chosen.pair,
            score: chosen.score,
            best: best.score,
            known: self.curves.is_some(),
        })
    }

    /// By how much `best` serves more requests than `other`.
    pub(super) fn advantage(&self, best: &Score, other: &Score) -> Advantage {
        let (more, margin) = if best.product >= PRODUCT_MARGIN {
            let more = best.product.saturating_sub(other.product);
            (u128::from(more), u128::from(PRODUCT_MARGIN))
        } else {
            let more = u128::from(best.share_least.saturating_sub(other.share_least));
            let whole = u128::from(self.need.prefill) * u128::from(self.need.decode);
            (more * 100, whole * u128::from(SHARE_MARGIN_PERCENT))
        };
        match more {
            0 => Advantage::None,
            more if more <= margin => Advantage::Small,
            _ => Advantage::Large,
        }
    }

    /// The pairs of which no other serves more of one need and as much of the other, nor the same
    /// for fewer GPUs. The best pair is one of them, and each uses all that the limits allow.
    fn frontier(&self, ratio: Option<RatioPolicy>) -> Vec<Candidate> {
        let problem = self.problem;
        let least = problem.least(Role::Prefill);
        // Without a band, prefill beyond its need helps nobody.
        let most = if ratio.is_some() {
            problem.most(Role::Prefill)
        } else {
            self.need.prefill.max(least)
        };
        let mut frontier: Vec<Candidate> = Vec::new();
        for prefill in least..=most {
            let Some((least, most)) = problem.decode_range(prefill, ratio) else {
                continue;
            };
            let decode = self.need.decode.clamp(least, most);
            let candidate = self.candidate(PerRole { prefill, decode });
            // Prefill only rises, so this one serves no less prefill than those before it.
            while frontier.last().is_some_and(|last| beats(&candidate, last)) {
                frontier.pop();
            }
            if !frontier.last().is_some_and(|last| beats(last, &candidate)) {
                frontier.push(candidate);
            }
        }
        frontier
    }

    fn candidate(&self, pair: PerRole<u32>) -> Candidate {
        let served = PerRole::from_fn(|role| pair[role].min(self.need[role]));
        let attained = self.curves.as_ref().map_or(PerRole::default(), |curves| {
            PerRole::from_fn(|role| at(&curves[role], served[role]))
        });
        // Shares times both needs: comparing whole numbers is exact.
        let prefill = u64::from(served.prefill) * u64::from(self.need.decode);
        let decode = u64::from(served.decode) * u64::from(self.need.prefill);
        let score = Score {
            product: u64::from(attained.prefill) * u64::from(attained.decode),
            attained_least: attained.prefill.min(attained.decode),
            share_least: prefill.min(decode),
            share_most: prefill.max(decode),
            gpus: Reverse(self.problem.gpus(pair.prefill, pair.decode)),
            distance: Reverse(self.problem.distance(pair)),
        };
        Candidate {
            pair,
            served,
            score,
        }
    }
}

fn at(curve: &[u32], replicas: u32) -> u32 {
    let index = usize::try_from(replicas).unwrap_or(usize::MAX);
    curve.get(index).or(curve.last()).copied().unwrap_or(0)
}

/// Whether `one` serves both needs as well as `other`, and more of one or with less.
fn beats(one: &Candidate, other: &Candidate) -> bool {
    let as_well =
        one.served.prefill >= other.served.prefill && one.served.decode >= other.served.decode;
    as_well && one.score >= other.score
}
