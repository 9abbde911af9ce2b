//! Sets of the numbers that a mirrored label can hold, and the requirements that select them.
//!
//! No taint is negative and none exceeds int64, so sets lie within these ends. A set is kept as
//! ranges that neither touch nor overlap, so that a label's number is selected once.

use super::selector::Requirement;

/// Ranges of numbers, ends included, in order, with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NumberSet(Vec<(i64, i64)>);

impl NumberSet {
    /// All numbers that are in one of the ranges, as far as a label can hold them.
    pub(super) fn union(ranges: impl Iterator<Item = (i128, i128)>) -> Self {
        let most = i128::from(i64::MAX);
        let held = ranges.filter_map(|(first, last)| {
            let (first, last) = (first.max(0), last.min(most));
            let held = i64::try_from(first).ok().zip(i64::try_from(last).ok());
            held.filter(|(first, last)| first <= last)
        });
        let mut held: Vec<(i64, i64)> = held.collect();
        held.sort_unstable();
        let mut joined: Vec<(i64, i64)> = Vec::with_capacity(held.len());
        for (first, last) in held {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// The numbers that are not in `other`.
    pub(super) fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for (first, last) in &self.0 {
            let mut from = Some(*first);
            for (hole, end) in other
                .0
                .iter()
                .filter(|(hole, end)| hole <= last && end >= first)
            {
                if let Some(start) = from.filter(|start| start < hole) {
                    left.push((start, hole - 1));
                }
                from = end.checked_add(1);
            }
            if let Some(start) = from.filter(|start| start <= last) {
                left.push((start, *last));
            }
        }
        Self(left)
    }

    pub(super) fn contains(&self, number: i64) -> bool {
        let mut ranges = self.0.iter();
        ranges.any(|(first, last)| (first..=last).contains(&&number))
    }

    /// The requirements on a label of which one list holds, and never two, if its value is in the
    /// set.
    pub(super) fn selected(&self, label: &str) -> Vec<Vec<Requirement>> {
        let number =
            |operator: &str, bound: i64| Requirement::new(label, operator, &[bound.to_string()]);
        let mut lists = Vec::with_capacity(self.0.len());
        for (first, last) in &self.0 {
            if first == last {
                lists.push(vec![number("In", *first)]);
                continue;
            }
            let above = (*first > 0).then(|| number("Gt", first - 1));
            let below = last.checked_add(1).map(|end| number("Lt", end));
            if above.is_none() && below.is_none() {
                // Affinity takes no bound below zero.
                lists.extend([vec![number("In", 0)], vec![number("Gt", 0)]]);
                continue;
            }
            lists.push(above.into_iter().chain(below).collect());
        }
        lists
    }
}
