//! The differences between Kubernetes with the gate on and a cluster without it that has us: all of
//! them.
//!
//! Each has its reason in the table "Differences" of `docs/numeric-tolerations.md`, and is
//! recognised here by what causes it, not by what came out. What no difference explains fails the
//! test.

use std::collections::{BTreeMap, BTreeSet};

use pd_tolerations::{Operator, Toleration};

use crate::generate::Edited;

/// Something that a cluster with us does otherwise, on purpose or for want of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// Its affinity would have more terms than we write.
    TooManyTerms,
    /// The extender prefers the node with more SLA margin where the scheduler does not care.
    MarginsBreakTies,
    /// The cluster evicts by the seconds of the first rewritten `Exists`, and not of the first
    /// number that fits.
    FirstExistsCounts,
    /// An `Exists` that an update adds, or leaves, may be that of a number, and the number counts.
    ExistsMayBeANumbers,
    /// An edit of what is stored has two readings.
    TwoReadings,
}

impl Difference {
    pub(crate) const ALL: [Self; 5] = [
        Self::TooManyTerms,
        Self::MarginsBreakTies,
        Self::FirstExistsCounts,
        Self::ExistsMayBeANumbers,
        Self::TwoReadings,
    ];

    /// The name of its row in the documentation.
    pub(crate) fn row(self) -> &'static str {
        match self {
            Self::TooManyTerms => "many keys without an effect",
            Self::MarginsBreakTies => "margins break ties",
            Self::FirstExistsCounts => "the first `Exists` counts",
            Self::ExistsMayBeANumbers => "an `Exists` beside a number that an update adds",
            Self::TwoReadings => "an edit with two readings",
        }
    }

    /// The explanation that one API server refuses for other causes than the other.
    pub(crate) fn of_admission(
        _tolerations: &[Toleration],
        _native: &BTreeSet<(String, String)>,
        ours: &BTreeSet<(String, String)>,
    ) -> Option<Self> {
        let says = |text: &str| ours.iter().any(|(_, words)| words.contains(text));
        says("would have more than 128 terms").then_some(Self::TooManyTerms)
    }
}

impl Difference {
    /// The explanation that an update of `authored`, which is stored as `stored`, comes out
    /// differently.
    pub(crate) fn of_update(
        authored: &[Toleration],
        stored: &[Toleration],
        edited: &Edited,
        ours: &BTreeSet<(String, String)>,
    ) -> Option<Self> {
        if ours
            .iter()
            .any(|(_, words)| words.contains("cannot be known"))
        {
            return Some(Self::TwoReadings);
        }
        // Where an `Exists` is new among those of its key and effect, or has the seconds of another
        // now, the request says the same as one that changes a number's seconds or moves it.
        let seconds = |list: &[Toleration], one: &Toleration| -> Vec<Option<i64>> {
            let alike = list.iter().filter(|other| {
                other.operator == Operator::Exists
                    && (&one.key, &one.effect) == (&other.key, &other.effect)
            });
            let mut seconds: Vec<Option<i64>> =
                alike.map(|other| other.toleration_seconds).collect();
            seconds.sort_unstable();
            seconds
        };
        let is_added = edited
            .plain
            .iter()
            .any(|one| !seconds(stored, one).is_empty());
        let is_retimed = stored.iter().any(|one| {
            let before = seconds(stored, one);
            before.len() > 1 && before != seconds(&edited.said, one)
        });
        // A number that is written again beside its `Exists` says the same as a manifest that has
        // one `Exists` more.
        let is_repeated = edited.said.iter().any(|one| {
            one.operator != Operator::Exists
                && authored.contains(one)
                && !stored.contains(one)
                && !seconds(&edited.said, one).is_empty()
        });
        (is_added || is_retimed || is_repeated).then_some(Self::ExistsMayBeANumbers)
    }
}

/// The cases that were compared, and the results.
#[derive(Default)]
pub(crate) struct Tally {
    cases: BTreeMap<&'static str, usize>,
    differences: BTreeMap<Difference, usize>,
    failures: Vec<String>,
}

impl Tally {
    pub(crate) fn case(&mut self, what: &'static str) {
        *self.cases.entry(what).or_default() += 1;
    }

    pub(crate) fn differs(&mut self, difference: Difference) {
        *self.differences.entry(difference).or_default() += 1;
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// Prints what there was, and fails if anything is unexplained.
    pub(crate) fn end(self, seed: u64) {
        let total: usize = self.cases.values().sum();
        eprintln!(
            "seed {seed}: {total} cases {:?}, differences {:?}",
            self.cases, self.differences
        );
        let shown: Vec<&str> = self.failures.iter().take(20).map(String::as_str).collect();
        assert!(
            self.failures.is_empty(),
            "seed {seed}: {} of {total} cases differ unexplained, such as\n{}",
            self.failures.len(),
            shown.join("\n\n")
        );
    }
}
