//! Scores by SLA margin: how far a node's value is from the one at which the pod would have to go.
//!
//! Margins of one key are stretched over the nodes of the call, so that the scale of a key does not matter: the most
//! gets the best score, the least the worst, and equal ones the best. With several keys the weakest counts. A node
//! without a number that the pod tolerates promises nothing, and gets 0.
//!
//! Preferences come first, as in Kubernetes: fewer untolerated `PreferNoSchedule` taints are better, and margins only
//! decide between nodes with as many. The scheduler counts those taints itself, but for hidden ones, which it takes for
//! tolerated because of a rewritten `Exists`. Without hidden ones margins are kept smaller than the scheduler's own
//! steps. With hidden ones nodes are put in bands, and what the scheduler gives for the taints it sees is given back
//! to those it takes it from; that alone may exceed 10, which the scheduler does not mind. It is exact if the extender has the
//! weight of the scheduler's `TaintToleration` plugin, 3. All arithmetic is in integers; margins of the whole of int64 neither
//! overflow nor round.

use clap::ValueEnum;
use pd_core::toleration::extension::ParsedTaint;

use super::Wishes;

/// Best score of an extender, but for nodes with hidden and other preferences both.
pub const SCORE_MAX: u8 = 10;

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

/// A score from 0 to [`SCORE_MAX`] for each node, in order.
pub(super) fn scores<'a>(
    wishes: &Wishes,
    nodes: impl Iterator<Item = &'a [ParsedTaint]>,
    prefer: Margin,
) -> Vec<u8> {
    let mut keys: Vec<&str> = Vec::new();
    for rule in wishes.rules.iter().filter(|rule| rule.is_numeric) {
        if !keys.contains(&rule.key.as_str()) {
            keys.push(&rule.key);
        }
    }
    let mut preferences = Vec::new();
    let mut margins = Vec::new();
    for taints in nodes {
        preferences.push(wishes.preferences(taints));
        margins.extend(keys.iter().map(|key| margin(wishes, taints, key)));
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
    preferences.iter().enumerate().map(score).collect()
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
    /// We do: by the numbers of taints that there are, most first, with so many points from one to the next.
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
        // The scheduler takes this from the node; rounded, it is off by less than the gap between bands.
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
fn margin(wishes: &Wishes, taints: &[ParsedTaint], key: &str) -> Option<u64> {
    let own = taints.iter().filter(|parsed| parsed.taint.key == key);
    let margins = own.filter_map(|parsed| {
        let rules = wishes.rules.iter().filter(|rule| rule.is_numeric);
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
