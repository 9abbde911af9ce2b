//! The workers of one role: named places that are reused after a worker has left.
//!
//! Owns the rule that an event belongs to a worker and not to a place: every worker has a number
//! that no other worker of the service ever gets, and an event that carries another number finds
//! nobody. Choosing among ready workers is here, as it is the only thing done on every request.

use super::{Role, WorkerState, WorkerView};
use crate::engine::metrics::WorkerMetrics;
use crate::time::Nanos;

/// A worker with its name and state.
#[derive(Debug)]
pub(super) struct Member<W> {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) state: WorkerState,
    pub(super) ready_at: Nanos,
    /// For decode workers: the only time at which the batch is to change.
    pub(super) waits_for: Option<Nanos>,
    pub(super) core: W,
}

impl<W> Member<W> {
    pub(super) fn view<'a>(&'a self, role: Role, metrics: &'a WorkerMetrics) -> WorkerView<'a> {
        let Self {
            name,
            state,
            ready_at,
            ..
        } = self;
        WorkerView {
            name,
            role,
            state: *state,
            ready_at: *ready_at,
            metrics,
        }
    }
}

/// The workers of one role.
#[derive(Debug)]
pub(super) struct Pool<W> {
    places: Vec<Option<Member<W>>>,
    numbers: u32,
}

impl<W> Default for Pool<W> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            numbers: 0,
        }
    }
}

impl<W: Default> Pool<W> {
    /// Puts a starting worker into the first free place.
    pub(super) fn add(&mut self, name: &str, ready_at: Nanos) -> (u32, u32) {
        self.numbers += 1;
        let number = self.numbers;
        let member = Member {
            name: name.to_owned(),
            number,
            state: WorkerState::Starting,
            ready_at,
            waits_for: None,
            core: W::default(),
        };
        let place = self
            .places
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.places.push(None);
                self.places.len() - 1
            });
        self.places[place] = Some(member);
        (u32::try_from(place).unwrap_or(u32::MAX), number)
    }
}

impl<W> Pool<W> {
    pub(super) fn remove(&mut self, place: u32) {
        self.places[place as usize] = None;
    }

    pub(super) fn take(&mut self, place: u32) -> Option<Member<W>> {
        self.places.get_mut(place as usize)?.take()
    }

    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Member<W>> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    pub(super) fn get_mut(&mut self, place: u32, number: u32) -> Option<&mut Member<W>> {
        self.at_mut(place).filter(|member| member.number == number)
    }

    /// All places, used or not.
    pub(super) fn places(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn place_of(&self, name: &str) -> Option<u32> {
        let named =
            |place: &Option<Member<W>>| place.as_ref().is_some_and(|member| member.name == name);
        self.places
            .iter()
            .position(named)
            .and_then(|place| u32::try_from(place).ok())
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member<W>> {
        self.places.iter().flatten()
    }

    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member<W>> {
        self.places.iter_mut().flatten()
    }

    /// The ready worker with the least key; of equals the one in the lowest place.
    pub(super) fn ready_by_least(
        &mut self,
        key: impl Fn(&W) -> u64,
    ) -> Option<(u32, &mut Member<W>)> {
        let mut least: Option<(u64, usize)> = None;
        for (place, member) in self.places.iter().enumerate() {
            let Some(member) = member else { continue };
            if member.state == WorkerState::Ready {
                let key = key(&member.core);
                if least.is_none_or(|(other, _)| key < other) {
                    least = Some((key, place));
                }
            }
        }
        let (_, place) = least?;
        let member = self.places[place].as_mut()?;
        Some((u32::try_from(place).unwrap_or(u32::MAX), member))
    }
}
