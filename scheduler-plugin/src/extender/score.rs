//! Scores by SLA margin: how far a node's value is from the one at which the pod would have to go.
//!
//! Margins of one key are stretched over the nodes of the call, so that the scale of a key does not matter: the most
//! gets the best score, the least the worst, and equal ones the best. With several keys the weakest counts. A node
//! without a number that the pod tolerates promises nothing, and gets 0.
//!
//! Preferences come first, as in the scheduler, which takes a rewritten `Exists` for tolerance and cannot see them:
//! when some node has hidden `PreferNoSchedule` taints, nodes without score 5 to 10 by margin, the others 0 to 4 by
//! count. All arithmetic is in integers; margins of the whole of int64 neither overflow nor round.

use clap::ValueEnum;
use pd_core::toleration::extension::ParsedTaint;

use super::Wishes;

/// Best score of an extender.
pub const SCORE_MAX: u8 = 10;

/// Best score of a node with hidden preferences, plus one.
const HALF: u8 = SCORE_MAX / 2;

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
    let mut hidden = Vec::new();
    let mut margins = Vec::new();
    for taints in nodes {
        hidden.push(wishes.hidden_preferences(taints));
        margins.extend(keys.iter().map(|key| margin(wishes, taints, key)));
    }
    let ranges: Vec<Option<(u64, u64)>> = (0..keys.len())
        .map(|key| range(margins.iter().skip(key).step_by(keys.len())))
        .collect();
    let most_hidden = hidden.iter().copied().max().unwrap_or(0);
    let score = |(node, hidden): (usize, &usize)| {
        let own = margins.iter().skip(node * keys.len()).zip(&ranges);
        let weakest = |best: u8| {
            let by_key = own
                .clone()
                .filter_map(|(margin, range)| Some(stretched(*margin, (*range)?, best, prefer)));
            by_key.min().unwrap_or(0)
        };
        match (most_hidden, hidden) {
            (0, _) => weakest(SCORE_MAX),
            (_, 0) => HALF + weakest(HALF),
            (most, count) => share(most - count, most, HALF),
        }
    };
    hidden.iter().enumerate().map(score).collect()
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

/// `best * part / whole`, rounded down; `part` is less than `whole`, so the answer is less than `best`.
fn share(part: usize, whole: usize, best: u8) -> u8 {
    let share = part.saturating_mul(best.into()) / whole.max(1);
    u8::try_from(share).unwrap_or(best)
}
