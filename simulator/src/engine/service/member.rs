//! The workers of one role: named places that are reused after a worker has left.
//!
//! Owns the rule that an event belongs to a worker and not to a place: every worker has a number
//! that no other worker of the service ever gets, and an event that carries another number finds
//! nobody. Choosing among ready workers is here, as it is the only thing done on every request.

use super::{Role, WorkerState, WorkerView};
use crate::engine::metrics::WorkerMetrics;
use crate::engine::prefix_cache::PrefixCache;
use crate::engine::profile::Profile;
use crate::engine::request::Request;
use crate::engine::router::{Candidate, Workload};
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
    /// Where it stands; see `Links`.
    pub(super) domain: u32,
    /// The prompts that it holds; empty unless the scenario has prefix caches.
    pub(super) cache: PrefixCache,
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

    /// Notes a prompt that is sent here, and gives the tokens of it that were here before.
    pub(super) fn hold(&mut self, request: &Request, capacity_tokens: u64) -> u32 {
        let held_tokens = request.tokens_in(&self.cache);
        if let Some(prompt) = &request.prompt {
            let cache = &mut self.cache;
            cache.hold(prompt, request.input_tokens, capacity_tokens);
        }
        held_tokens
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
    /// Puts a starting worker into the first free place, and into the domain that has fewest.
    pub(super) fn add(&mut self, name: &str, ready_at: Nanos, domains: u32) -> (u32, u32) {
        self.numbers += 1;
        let number = self.numbers;
        let in_domain = |domain: &u32| self.members().filter(|m| m.domain == *domain).count();
        let domain = (0..domains).min_by_key(in_domain).unwrap_or(0);
        let member = Member {
            name: name.to_owned(),
            number,
            state: WorkerState::Starting,
            ready_at,
            waits_for: None,
            domain,
            cache: PrefixCache::default(),
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

    /// The place of the ready worker with the least key, in a domain if one is given; of equals the
    /// lowest.
    pub(super) fn ready_by_least(
        &self,
        domain: Option<u32>,
        key: impl Fn(&W) -> u64,
    ) -> Option<u32> {
        let mut least: Option<(u64, u32)> = None;
        for (place, member) in self.ready(domain) {
            let key = key(&member.core);
            if least.is_none_or(|(other, _)| key < other) {
                least = Some((key, place));
            }
        }
        least.map(|(_, place)| place)
    }

    /// The ready workers, in a domain if one is given.
    fn ready(&self, domain: Option<u32>) -> impl Iterator<Item = (u32, &Member<W>)> {
        (0..)
            .zip(&self.places)
            .filter_map(|(place, member)| Some((place, member.as_ref()?)))
            .filter(move |(_, member)| {
                member.state == WorkerState::Ready && domain.is_none_or(|d| d == member.domain)
            })
    }
}

impl<W: Workload> Pool<W> {
    /// The ready workers as a router sees them, for a request whose prompt they may hold.
    pub(super) fn candidates(
        &self,
        domain: Option<u32>,
        profile: &Profile,
        request: Option<&Request>,
        candidates: &mut Vec<Candidate>,
    ) {
        candidates.clear();
        candidates.extend(self.ready(domain).map(|(place, member)| {
            let capacity = profile.kv_capacity_blocks().max(1);
            let kv_usage = member.core.kv_blocks() as f64 / capacity as f64;
            Candidate {
                place,
                requests: member.core.requests(),
                waiting: member.core.waiting(),
                kv_usage: kv_usage.min(1.0),
                cached_share: request.map_or(0.0, |request| {
                    let held = request.tokens_in(&member.cache);
                    f64::from(held) / f64::from(request.input_tokens)
                }),
            }
        }));
    }
}
