//! Scores by SLA margin: how far a node's value is from the one at which the pod would have to go.
//!
//! Margins of one key are stretched over the nodes of the call, so that the scale of a key does not
//! matter: the most gets the best score, the least the worst, and equal ones the best. With several
//! keys the weakest counts. A node without a number that the pod tolerates promises nothing, and
//! gets 0.
//!
//! Preferences come first, as in Kubernetes: fewer untolerated `PreferNoSchedule` taints are
//! better, and margins only decide between nodes with as many. The scheduler counts those taints
//! itself, but for hidden ones, which it takes for tolerated because of a rewritten `Exists`.
//! Without hidden ones margins are kept smaller than the scheduler's own steps. With hidden ones
//! nodes are put in bands, and what the scheduler gives for the taints it sees is given back to
//! those it takes it from; that alone may exceed 10, which the scheduler does not mind. It is exact
//! if the extender has the weight of the scheduler's `TaintToleration` plugin, 3. All arithmetic is
//! in integers; margins of the whole of int64 neither overflow nor round.
//!
//! Every node that an answer names costs the scheduler more than it costs us to score it, so an
//! answer names few ([`Scores::named`]): it leaves out the nodes with the commonest score, or all
//! but the best ones.

use clap::ValueEnum;
use pd_tolerations::extension::{ParsedTaint, numeric_keys};

use super::TolerationRules;

/// Best score of an extender, but for nodes with hidden and other preferences both.
pub const SCORE_MAX: u8 = 10;

/// Rank at least this many nodes individually, so that the scheduler keeps a choice. A cluster with
/// no more candidates is ranked exactly.
const BEST: usize = 32;

/// Sum of the bands, and of the gaps between them: with two levels scores are 0 to 4 and 6 to 10.
const BANDS: u8 = 12;

/// Which nodes score best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Margin {
    /// Those whose value may worsen most before the pod must go.
    #[default]
    Most,
    /// Those that are just good enough, which keeps the others free.
    Least,
}

/// How the nodes of one call are put in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scores {
    /// Points of each node, from 0 to [`SCORE_MAX`], or more with preferences.
    pub(super) points: Vec<u8>,
    /// Whether nothing but margins is in them.
    pub(super) is_margin_alone: bool,
}

/// The scores of `nodes`, in order.
pub(super) fn scores<'a>(
    rules: &TolerationRules,
    nodes: impl Iterator<Item = &'a [ParsedTaint]>,
    prefer: Margin,
) -> Scores {
    let keys = numeric_keys(&rules.rules);
    let mut preferences = Vec::new();
    let mut margins = Vec::new();
    for taints in nodes {
        preferences.push(rules.preferences(taints));
        margins.extend(keys.iter().map(|key| margin(rules, taints, key)));
    }
    let ranges: Vec<Option<(u64, u64)>> = (0..keys.len())
        .map(|key| range(margins.iter().skip(key).step_by(keys.len())))
        .collect();
    let weakest = |node: usize, best: u8| {
        let own = margins.iter().skip(node * keys.len()).zip(&ranges);
        let by_key =
            own.filter_map(|(margin, range)| Some(stretched(*margin, (*range)?, best, prefer)));
        by_key.min().unwrap_or(0)
    };
    let scale = Scale::of(&preferences);
    let score = |(node, own): (usize, &Preferences)| {
        scale
            .base(*own)
            .saturating_add(weakest(node, scale.margin_max()))
    };
    Scores {
        points: preferences.iter().enumerate().map(score).collect(),
        is_margin_alone: matches!(scale, Scale::Scheduler { steps: 0 }),
    }
}

impl Scores {
    /// The points of each node above or below those with zero, which need not be named.
    ///
    /// Only differences count. Where preferences play a part, the least points are zero. Margins
    /// alone are named in the shorter of two ways: all differences, with the commonest points as
    /// zero; or the points of the best nodes, whole levels from the top down until there are
    /// [`BEST`] of them, and zero for all others. Equal points stay equal in both, and no node gets
    /// ahead of a better one.
    pub(super) fn named(&self) -> Vec<i16> {
        let points = || self.points.iter().copied();
        let mut counts = [0; 1 + u8::MAX as usize];
        for points in points() {
            counts[usize::from(points)] += 1;
        }
        let least = points().min().unwrap_or(0);
        let above = |base: u8| move |points: u8| i16::from(points) - i16::from(base);
        if !self.is_margin_alone {
            return points().map(above(least)).collect();
        }
        let levels = || (0..=u8::MAX).zip(counts).filter(|(_, count)| *count > 0);
        let (commonest, most) = levels()
            .rev()
            .max_by_key(|(_, count)| *count)
            .unwrap_or_default();
        let mut reached = 0;
        let is_enough = |(_, count): &(u8, usize)| {
            reached += count;
            reached >= BEST
        };
        let lowest = levels()
            .rev()
            .find(is_enough)
            .map_or(least, |(level, _)| level);
        if self.points.len() - most <= reached {
            return points().map(above(commonest)).collect();
        }
        let best = |points: u8| if points < lowest { least } else { points };
        points().map(best).map(above(least)).collect()
    }
}

/// How many `PreferNoSchedule` taints of a node the pod does not tolerate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    /// Those that the scheduler takes for tolerated.
    pub(super) hidden: usize,
    /// Those that it counts itself.
    pub(super) seen: usize,
}

/// How the nodes of one call are put in order.
enum Scale {
    /// The scheduler orders them, in as many steps; margins stay below one.
    Scheduler { steps: usize },
    /// We do: by the numbers of taints that there are, most first, with so many points from one to
    /// the next.
    Bands {
        levels: Vec<usize>,
        width: u8,
        most_seen: usize,
    },
}

impl Scale {
    fn of(preferences: &[Preferences]) -> Self {
        let most_seen = preferences.iter().map(|own| own.seen).max().unwrap_or(0);
        if preferences.iter().all(|own| own.hidden == 0) {
            return Self::Scheduler { steps: most_seen };
        }
        let mut levels: Vec<usize> = preferences.iter().map(|own| own.total()).collect();
        levels.sort_unstable_by(|one, other| other.cmp(one));
        levels.dedup();
        let count = u8::try_from(levels.len()).unwrap_or(BANDS);
        Self::Bands {
            width: (BANDS / count.max(1)).max(2),
            levels,
            most_seen,
        }
    }

    /// The most points that a margin gives.
    fn margin_max(&self) -> u8 {
        match self {
            Self::Scheduler { steps: 0 } => SCORE_MAX,
            Self::Scheduler { steps } => {
                let step = usize::from(SCORE_MAX).div_ceil(*steps);
                u8::try_from(step).map_or(0, |step| step - 1)
            }
            Self::Bands { width, .. } => (width - 2).min(SCORE_MAX),
        }
    }

    /// The points of a node without a margin.
    fn base(&self, own: Preferences) -> u8 {
        let Self::Bands {
            levels,
            width,
            most_seen,
        } = self
        else {
            return 0;
        };
        let level = levels.iter().position(|level| *level == own.total());
        let level = u8::try_from(level.unwrap_or(0)).unwrap_or(u8::MAX);
        // The scheduler takes this from the node; rounded, it is off by less than the gap between
        // bands.
        let taken = own.seen.saturating_mul(usize::from(SCORE_MAX) * 2) + most_seen;
        let taken = taken.checked_div(2 * most_seen).unwrap_or(0);
        let taken = u8::try_from(taken).unwrap_or(SCORE_MAX);
        level.saturating_mul(*width).saturating_add(taken)
    }
}

impl Preferences {
    fn total(self) -> usize {
        self.hidden.saturating_add(self.seen)
    }
}

/// The node's margin at `key`: the best alternative of each taint, the worst taint.
fn margin(rules: &TolerationRules, taints: &[ParsedTaint], key: &str) -> Option<u64> {
    let own = taints.iter().filter(|parsed| parsed.taint.key == key);
    let margins = own.filter_map(|parsed| {
        let rules = rules.rules.iter().filter(|rule| rule.is_numeric);
        rules.filter_map(|rule| rule.margin(parsed)).max()
    });
    margins.min()
}

fn range<'a>(margins: impl Iterator<Item = &'a Option<u64>>) -> Option<(u64, u64)> {
    let mut known = margins.flatten().copied();
    let first = known.next()?;
    Some(known.fold((first, first), |(least, most), margin| {
        (least.min(margin), most.max(margin))
    }))
}

fn stretched(margin: Option<u64>, (least, most): (u64, u64), best: u8, prefer: Margin) -> u8 {
    let Some(margin) = margin else {
        return 0;
    };
    let (part, whole) = match prefer {
        Margin::Most => (margin - least, most - least),
        Margin::Least => (most - margin, most - least),
    };
    if whole == 0 {
        return best;
    }
    let stretched = u128::from(part) * u128::from(best) / u128::from(whole);
    u8::try_from(stretched).unwrap_or(best)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn named(points: Vec<u8>, is_margin_alone: bool) -> Vec<i16> {
        Scores {
            points,
            is_margin_alone,
        }
        .named()
    }

    /// Points by level: each with how many nodes have it.
    fn levels(levels: &[(u8, usize)]) -> Vec<u8> {
        let level = |(points, count): &(u8, usize)| vec![*points; *count];
        levels.iter().flat_map(level).collect()
    }

    #[rstest]
    #[case::all_alike(&[(10, 400)], &[(10, 0)])]
    #[case::few_candidates(&[(0, 10), (3, 5), (10, 15)], &[(0, -10), (3, -7), (10, 0)])]
    #[case::least_if_none_is_commoner(&[(0, 1), (4, 1), (10, 1)], &[(0, 0), (4, 4), (10, 10)])]
    #[case::most_are_best(&[(0, 3), (6, 7), (10, 400)], &[(0, -10), (6, -4), (10, 0)])]
    #[case::even(&[(0, 50), (1, 50), (5, 50), (8, 50), (10, 50)], &[(0, 0), (1, 0), (5, 0), (8, 0), (10, 10)])]
    #[case::few_are_best(&[(0, 50), (5, 50), (8, 30), (9, 1), (10, 1)], &[(0, 0), (5, 0), (8, 8), (9, 9), (10, 10)])]
    #[case::one_is_better(&[(8, 10), (9, 400), (10, 1)], &[(8, -1), (9, 0), (10, 1)])]
    #[case::worse_than_nothing(&[(2, 50), (7, 50), (8, 50)], &[(2, 0), (7, 0), (8, 6)])]
    fn few_nodes_are_named(#[case] points: &[(u8, usize)], #[case] want: &[(u8, i16)]) {
        let points = levels(points);
        let said = named(points.clone(), true);
        for (points, said) in points.iter().zip(&said) {
            assert!(
                want.contains(&(*points, *said)),
                "{points} is named as {said}"
            );
        }
    }

    #[test]
    fn preferences_are_told_of_every_node() {
        let points = levels(&[(1, 50), (4, 50), (5, 300), (12, 50)]);
        let want: Vec<i16> = points.iter().map(|points| i16::from(*points) - 1).collect();
        assert_eq!(named(points, false), want);
    }

    proptest! {
        #[test]
        fn order_is_kept_and_the_best_are_told_exactly(
            points in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 5, 9, 10, 10, 10]), 1..200),
        ) {
            let said = named(points.clone(), true);
            let mut best = points.clone();
            best.sort_unstable_by(|one, other| other.cmp(one));
            let lowest = best.get(BEST - 1).copied().unwrap_or(0);
            let pairs = || points.iter().zip(&said);
            for (one, one_said) in pairs() {
                for (other, other_said) in pairs().filter(|(other, _)| one >= *other) {
                    prop_assert!(one_said >= other_said);
                    let gap = i16::from(one - other);
                    prop_assert!(one != other || one_said == other_said);
                    prop_assert!(*other < lowest || one_said - other_said == gap);
                    prop_assert!(*one < lowest || one_said - other_said >= gap);
                }
            }
            let least = points.iter().min().copied().unwrap_or(0);
            let named = said.iter().filter(|said| **said != 0).count();
            prop_assert!(named <= points.iter().filter(|points| **points > least).count());
        }
    }
}
