//! How many pods of each kind: a small vector that is added and compared millions of times.

use std::iter::Sum;

use crate::group::KINDS_MAX;

/// Pods of each kind of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Counts(pub(crate) [u16; KINDS_MAX]);

impl Counts {
    pub(crate) const ZERO: Self = Self([0; KINDS_MAX]);

    pub(crate) fn get(&self, kind: usize) -> u16 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, kind: usize, count: u16) {
        if let Some(place) = self.0.get_mut(kind) {
            *place = count;
        }
    }

    /// One more of `kind`.
    pub(crate) fn increment(&mut self, kind: usize) {
        self.set(kind, self.get(kind).saturating_add(1));
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        let mut sum = self;
        for (one, other) in sum.0.iter_mut().zip(other.0) {
            *one = one.saturating_add(other);
        }
        sum
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        let mut rest = self;
        for (one, other) in rest.0.iter_mut().zip(other.0) {
            *one = one.saturating_sub(other);
        }
        rest
    }

    /// No more of each kind than in `most`.
    pub(crate) fn at_most(self, most: Self) -> Self {
        let mut capped = self;
        for (one, most) in capped.0.iter_mut().zip(most.0) {
            *one = (*one).min(most);
        }
        capped
    }

    /// Whether there are at least as many of each kind as in `other`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(one, other)| *one >= other)
    }

    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::ZERO, Self::plus)
    }
}
