//! Which `Exists` of a list carries which number of the annotation.
//!
//! An entry is known by key, effect and `tolerationSeconds`, and by its place only among `Exists`
//! that have all of these alike. So it stays with its `Exists` when others are inserted, removed or
//! put in another order, and when the annotation is older than the list. [`find`] reads a list
//! alone, as every reader has to: it never fails, for a pod is stored and something has to be made
//! of it. [`follow`] knows the list before an edit, and refuses an edit after which two readings
//! are equally good: a number must not move to another toleration.
//!
//! Kubernetes itself merges tolerations of pods after admission (`RuntimeClass`,
//! `PodTolerationRestriction`): of two of which one covers the other, only that one is kept. The
//! numbers of the merged ones are then carried by the one that is left.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effect, ExtendedToleration, Operator, Toleration};

/// The toleration that carries a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// Its place in the list.
    pub place: usize,
    /// Whether its `tolerationSeconds` are the number's too. If not, the number's own toleration
    /// was merged into this one, and the annotation alone has its seconds.
    pub has_its_seconds: bool,
}

/// Why the numbers of an edited list cannot be known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it cannot be known which Exists of key `{key}`{effect} the number of `{toleration}` belongs to now: write numbers in place of all Exists of that key, or give the annotation the entries and their `index` as they are to be"
)]
pub struct Ambiguity {
    /// The key.
    pub key: String,
    /// The effect, to follow the key in words.
    effect: String,
    /// One of the numbers in question.
    pub toleration: String,
}

/// Whether `one` can be the toleration of `entry` but for its seconds.
fn is_alike(one: &Toleration, entry: &ExtendedToleration) -> bool {
    one.operator == Operator::Exists && one.key == entry.key && one.effect == entry.effect
}

/// Whether Kubernetes keeps `one` alone where the toleration of `entry` is beside it.
fn covers(one: &Toleration, entry: &ExtendedToleration) -> bool {
    let lasts = one.effect != Effect::NoExecute
        || match (one.toleration_seconds, entry.toleration_seconds) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(one), Some(entry)) => entry <= one,
        };
    one.operator == Operator::Exists
        && one.key == entry.key
        && (one.effect.is_unset() || one.effect == entry.effect)
        && lasts
}

/// The carrier of each entry in `list`; nothing for an entry that has none. Own carriers first: at
/// the entry's place with its seconds, then anywhere with its seconds, then in order. An entry that
/// finds none is carried by that of another which covers it.
pub fn find(list: &[Toleration], entries: &[ExtendedToleration]) -> Vec<Option<Carrier>> {
    let mut found = own(list, entries, &BTreeSet::new(), &vec![false; entries.len()]);
    share(list, entries, &mut found);
    found
}

/// As [`find`], for a list that somebody writes: an entry that was written here, and whose number
/// is in the list again, is of an earlier version and has no carrier, unless it is at its place.
pub fn read(list: &[Toleration], entries: &[ExtendedToleration]) -> Vec<Option<Carrier>> {
    let mut again = Again::new(list, &[]);
    let done: Vec<bool> = entries
        .iter()
        .map(|entry| {
            let at_its_place = entry.index.and_then(|index| list.get(index));
            let is_there = at_its_place.is_some_and(|one| {
                is_alike(one, entry) && one.toleration_seconds == entry.toleration_seconds
            });
            entry.index.is_some() && !is_there && again.takes(entry, false)
        })
        .collect();
    let mut found = own(list, entries, &BTreeSet::new(), &done);
    share(list, entries, &mut found);
    for (slot, _) in found.iter_mut().zip(&done).filter(|(_, done)| **done) {
        *slot = None;
    }
    found
}

/// Whether the `Exists` at a place may be that of an entry, by one rule.
type Rule<'a> = &'a dyn Fn(usize, &ExtendedToleration) -> bool;

/// The carriers of the entries that are not `done`, among the places that are not `taken`.
fn own(
    list: &[Toleration],
    entries: &[ExtendedToleration],
    taken: &BTreeSet<usize>,
    done: &[bool],
) -> Vec<Option<Carrier>> {
    let mut taken = taken.clone();
    let mut found: Vec<Option<Carrier>> = vec![None; entries.len()];
    let has_seconds = |place: usize, entry: &ExtendedToleration| {
        let one = list.get(place);
        one.is_some_and(|one| one.toleration_seconds == entry.toleration_seconds)
    };
    let rules: [Rule<'_>; 3] = [
        &|place, entry| entry.index == Some(place) && has_seconds(place, entry),
        &has_seconds,
        &|_, _| true,
    ];
    for rule in rules {
        for ((entry, slot), done) in entries.iter().zip(&mut found).zip(done) {
            if *done || slot.is_some() {
                continue;
            }
            let free = list.iter().enumerate().find(|(place, one)| {
                is_alike(one, entry) && !taken.contains(place) && rule(*place, entry)
            });
            if let Some((place, _)) = free {
                taken.insert(place);
                *slot = Some(Carrier {
                    place,
                    has_its_seconds: true,
                });
            }
        }
    }
    found
}

/// Gives entries without a carrier that of another entry, if it covers them.
fn share(list: &[Toleration], entries: &[ExtendedToleration], found: &mut [Option<Carrier>]) {
    let carried: Vec<(usize, &ExtendedToleration)> = entries
        .iter()
        .zip(&*found)
        .filter_map(|(entry, carrier)| Some(((*carrier)?.place, entry)))
        .collect();
    for (entry, slot) in entries.iter().zip(found) {
        if slot.is_some() {
            continue;
        }
        // Equal ones were one toleration, and go on being one when its seconds are changed.
        let twin = carried.iter().find(|(_, other)| {
            (&other.key, &other.effect, other.toleration_seconds)
                == (&entry.key, &entry.effect, entry.toleration_seconds)
        });
        let covering = || {
            carried
                .iter()
                .find(|(place, _)| list.get(*place).is_some_and(|one| covers(one, entry)))
        };
        *slot = match twin {
            Some((place, _)) => Some(Carrier {
                place: *place,
                has_its_seconds: true,
            }),
            None => covering().map(|(place, _)| Carrier {
                place: *place,
                has_its_seconds: false,
            }),
        };
    }
}

/// The lines of one key and effect: as they were, and as they are.
type Lines = (Vec<Line>, Vec<Line>);

/// The carriers of `entries` in `list`, which was `old` with the same entries. An entry whose
/// number is written in the list again, or whose toleration is gone, has none.
///
/// Tolerations with the seconds they had are the same ones, in the order they had. Where as many
/// are left over on both sides, their seconds were changed, in order. Everything else that touches
/// a number is refused, unless both readings mean the same.
pub fn follow(
    list: &[Toleration],
    old: &[Toleration],
    entries: &[ExtendedToleration],
) -> Result<Vec<Option<Carrier>>, Ambiguity> {
    let before = find(old, entries);
    let mut again = Again::new(list, old);
    let mut written: Vec<bool> = entries
        .iter()
        .map(|entry| entry.index.is_some() && again.takes(entry, true))
        .collect();
    let mut found = vec![None; entries.len()];
    let mut taken = BTreeSet::new();
    let mut groups: BTreeMap<(&str, &Effect), Lines> = BTreeMap::new();
    for (place, one) in exists(old) {
        let carried = |entry: &usize| before.get(*entry).copied().flatten();
        let is_here = |entry: &usize| carried(entry).is_some_and(|own| own.place == place);
        let mine: Vec<usize> = (0..entries.len()).filter(is_here).collect();
        let left: Vec<usize> = mine
            .iter()
            .copied()
            .filter(|entry| written.get(*entry) == Some(&false))
            .collect();
        // Its numbers are all in the list again: the manifest was written in its place.
        if mine.is_empty() || !left.is_empty() {
            let line = Line::new(place, one, left);
            groups
                .entry((&one.key, &one.effect))
                .or_default()
                .0
                .push(line);
        }
    }
    for (place, one) in exists(list) {
        let line = Line::new(place, one, Vec::new());
        groups
            .entry((&one.key, &one.effect))
            .or_default()
            .1
            .push(line);
    }
    for (was, is) in groups.into_values() {
        let group = Group { was, is, entries };
        for (line, place) in group.matched(&mut again, &mut written)? {
            taken.insert(place);
            for entry in line {
                let own = before.get(entry).copied().flatten();
                if let (Some(own), Some(slot)) = (own, found.get_mut(entry)) {
                    *slot = Some(Carrier { place, ..own });
                }
            }
        }
    }
    // Entries that no toleration carried yet stand for new ones.
    let done: Vec<bool> = before.iter().map(Option::is_some).collect();
    let new = own(list, entries, &taken, &done);
    Ok(found
        .into_iter()
        .zip(new)
        .map(|(old, new)| old.or(new))
        .collect())
}

fn exists(list: &[Toleration]) -> impl Iterator<Item = (usize, &Toleration)> {
    let all = list.iter().enumerate();
    all.filter(|(_, one)| one.operator == Operator::Exists)
}

/// The numbers that an edit wrote into a list, each of which stands for one entry of the earlier
/// version.
struct Again<'a>(Vec<&'a Toleration>);

impl<'a> Again<'a> {
    fn new(list: &'a [Toleration], old: &[Toleration]) -> Self {
        let mut kept: Vec<&Toleration> =
            old.iter().filter(|one| one.operator.is_numeric()).collect();
        let numbers = list.iter().filter(|one| one.operator.is_numeric());
        let is_new = |one: &&Toleration| match kept.iter().position(|kept| kept == one) {
            Some(place) => {
                kept.swap_remove(place);
                false
            }
            None => true,
        };
        Self(numbers.filter(is_new).collect())
    }

    /// Whether `entry` is among them; if so, it is taken out.
    fn takes(&mut self, entry: &ExtendedToleration, with_seconds: bool) -> bool {
        let place = self.0.iter().position(|one| {
            is_written(one, entry)
                && (!with_seconds || one.toleration_seconds == entry.toleration_seconds)
        });
        place.map(|place| self.0.swap_remove(place)).is_some()
    }
}

/// Whether `one` is the number of `entry`, whatever its seconds.
pub fn is_written(one: &Toleration, entry: &ExtendedToleration) -> bool {
    one.operator.as_str() == entry.operator.as_str()
        && !entry.must_be_present
        && (&one.key, &one.value, &one.effect) == (&entry.key, &entry.value, &entry.effect)
}

/// An `Exists`, and the entries that it carries.
struct Line {
    place: usize,
    seconds: Option<i64>,
    carried: Vec<usize>,
}

impl Line {
    fn new(place: usize, one: &Toleration, carried: Vec<usize>) -> Self {
        Self {
            place,
            seconds: one.toleration_seconds,
            carried,
        }
    }
}

/// All `Exists` of one key and effect, before and after an edit.
struct Group<'a> {
    was: Vec<Line>,
    is: Vec<Line>,
    entries: &'a [ExtendedToleration],
}

impl Group<'_> {
    /// The entries of each line that is still there, and its place now.
    fn matched(
        &self,
        again: &mut Again<'_>,
        written: &mut [bool],
    ) -> Result<Vec<(Vec<usize>, usize)>, Ambiguity> {
        let mut pairs = self.with_their_seconds()?;
        let is_left = |pairs: &[(usize, usize)], was: usize| pairs.iter().all(|pair| pair.0 != was);
        let mut gone: Vec<usize> = (0..self.was.len())
            .filter(|was| is_left(&pairs, *was))
            .collect();
        let new: Vec<usize> = (0..self.is.len())
            .filter(|is| pairs.iter().all(|pair| pair.1 != *is))
            .collect();
        // Written again with other seconds: the manifest was written in its place.
        gone.retain(|was| {
            let carried = self.was.get(*was).map_or(&[][..], |line| &line.carried);
            let all_again = !carried.is_empty()
                && carried.iter().all(|number| {
                    let entry = self
                        .entries
                        .get(*number)
                        .filter(|entry| entry.index.is_some());
                    entry.is_some_and(|entry| again.takes(entry, false))
                });
            for number in carried.iter().filter(|_| all_again) {
                if let Some(written) = written.get_mut(*number) {
                    *written = true;
                }
            }
            !all_again
        });
        let carries = |was: &&usize| {
            self.was
                .get(**was)
                .is_some_and(|line| !line.carried.is_empty())
        };
        if gone.len() == new.len() {
            pairs.extend(gone.into_iter().zip(new));
        } else if let Some(was) = gone.iter().find(carries).filter(|_| !new.is_empty()) {
            return Err(self.ambiguity(*was));
        }
        let line = |(was, is): (usize, usize)| {
            let (was, is) = (self.was.get(was)?, self.is.get(is)?);
            Some((was.carried.clone(), is.place))
        };
        Ok(pairs.into_iter().filter_map(line).collect())
    }

    /// Pairs of lines that have the same seconds.
    fn with_their_seconds(&self) -> Result<Vec<(usize, usize)>, Ambiguity> {
        let mut pairs = Vec::new();
        if self.was.len() == self.is.len() {
            let alike = self.was.iter().zip(&self.is).enumerate();
            let alike = alike.filter(|(_, (was, is))| was.seconds == is.seconds);
            pairs.extend(alike.map(|(rank, _)| (rank, rank)));
        }
        let all: BTreeSet<Option<i64>> = self.was.iter().map(|line| line.seconds).collect();
        for seconds in all {
            let left = |lines: &[Line], is_taken: &dyn Fn(usize) -> bool| -> Vec<usize> {
                let lines = lines.iter().enumerate();
                let left = lines.filter(|(rank, line)| line.seconds == seconds && !is_taken(*rank));
                left.map(|(rank, _)| rank).collect()
            };
            let was = left(&self.was, &|rank| pairs.iter().any(|(was, _)| *was == rank));
            let is = left(&self.is, &|rank| pairs.iter().any(|(_, is)| *is == rank));
            if was.len() > is.len() && !is.is_empty() && !self.mean_the_same(&was) {
                let carrying = was.iter().copied().find(|was| {
                    self.was
                        .get(*was)
                        .is_some_and(|line| !line.carried.is_empty())
                });
                return Err(self.ambiguity(carrying.unwrap_or_default()));
            }
            pairs.extend(was.into_iter().zip(is));
        }
        Ok(pairs)
    }

    /// Whether the lines say the same, so that it does not matter which of them is left.
    fn mean_the_same(&self, lines: &[usize]) -> bool {
        let meaning = |line: &usize| -> Vec<String> {
            let carried = self.was.get(*line).map_or(&[][..], |line| &line.carried);
            let entries = carried.iter().filter_map(|entry| self.entries.get(*entry));
            entries.map(ToString::to_string).collect()
        };
        let mut meanings = lines.iter().map(meaning);
        let first = meanings.next();
        meanings.all(|other| Some(other) == first)
    }

    fn ambiguity(&self, line: usize) -> Ambiguity {
        let entry = self.was.get(line).and_then(|line| line.carried.first());
        let entry = entry.and_then(|entry| self.entries.get(*entry));
        let effect = entry.map(|entry| entry.effect.as_str()).unwrap_or_default();
        Ambiguity {
            key: entry.map(|entry| entry.key.clone()).unwrap_or_default(),
            effect: if effect.is_empty() {
                String::new()
            } else {
                format!(" and effect {effect}")
            },
            toleration: entry.map(ToString::to_string).unwrap_or_default(),
        }
    }
}
