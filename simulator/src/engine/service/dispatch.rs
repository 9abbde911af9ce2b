//! The way of a request between workers: who gets it, what they hold of its prompt, and how its KV
//! cache travels.
//!
//! Owns what a scenario says about routers, prefix caches and links, and what these remember. By
//! default there is nothing to remember: workers are chosen by least work, prompts have the
//! profile's share in common, and each transfer has a bandwidth of its own. A prompt is noted at
//! the worker it is sent to, and what that worker holds is then known to the end of its prefill.
//! Events of a link that a later change made void are recognised by the link, which knows the one
//! time it waits for.

use std::sync::Arc;

use super::calendar::Event;
use super::{Role, Service};
use crate::engine::decode::Admission;
use crate::engine::link::{KvTraffic, Links, Network, Transfer, Wake};
use crate::engine::prefix_cache::{Conversations, PrefixCaches};
use crate::engine::profile::Profile;
use crate::engine::prompt_blocks::PromptBlocks;
use crate::engine::request::Slot;
use crate::engine::router::{Candidate, LocalPrefill, Router, Routing, Workload as _};
use crate::time::Nanos;

/// How requests and their KV caches move; the default is the plain model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dispatch {
    /// Rules of the routers.
    pub routing: Routing,
    /// The workers' memory of prompts; without, the profile's `prefixHitRatio` of each.
    pub prefix_caches: Option<PrefixCaches>,
    /// The links that KV caches travel over; without, each has the profile's bandwidth to itself.
    pub links: Option<Links>,
    /// Seed of what routers and sessions draw.
    pub seed: u64,
}

/// The same with what it remembers.
#[derive(Debug, Default)]
pub(super) struct Dispatcher {
    prefill: Router,
    decode: Router,
    caches: Option<PrefixCaches>,
    conversations: Option<Conversations>,
    network: Option<Network>,
    local_prefill: Option<LocalPrefill>,
    // Kept between calls so that a run allocates nothing per request.
    candidates: Vec<Candidate>,
    ended: Vec<(Transfer, Nanos)>,
}

impl Dispatcher {
    pub(super) fn new(dispatch: Dispatch) -> Self {
        let Dispatch {
            routing,
            prefix_caches,
            links,
            seed,
        } = dispatch;
        let sessions = prefix_caches.and_then(|caches| caches.sessions);
        Self {
            prefill: Router::new(&routing, Role::Prefill, seed),
            decode: Router::new(&routing, Role::Decode, seed),
            conversations: sessions.map(|sessions| Conversations::new(sessions, seed)),
            caches: prefix_caches,
            network: links.map(Network::new),
            local_prefill: routing.local_prefill,
            candidates: Vec::new(),
            ended: Vec::new(),
        }
    }

    pub(super) fn domains(&self) -> u32 {
        self.network
            .as_ref()
            .map_or(1, |network| network.links().domains)
    }

    /// The blocks of a request's prompt, where workers remember prompts.
    pub(super) fn prompt(
        &mut self,
        told: Option<Arc<PromptBlocks>>,
        input_tokens: u32,
    ) -> Option<Arc<PromptBlocks>> {
        self.caches.as_ref()?;
        told.or_else(|| Some(self.conversations.as_mut()?.prompt(input_tokens)))
    }

    /// KV tokens that prefixes may take on a decode worker, where these keep any.
    fn decode_capacity(&self, profile: &Profile) -> Option<u64> {
        let caches = self.caches.filter(|caches| caches.decode)?;
        Some(caches.capacity(profile))
    }

    fn stays_in_domain(&self) -> bool {
        let stays = |network: &Network| network.links().stay_in_domain;
        self.network.as_ref().is_some_and(stays)
    }
}

impl Service {
    /// The bytes that went over the links so far; nothing where the scenario has none.
    pub fn kv_traffic(&self) -> KvTraffic {
        let network = self.dispatcher.network.as_ref();
        network.map(Network::traffic).unwrap_or_default()
    }

    /// Sends a request that begins, or starts over.
    pub(super) fn route(&mut self, slot: Slot) {
        let Some(place) = self.choose_local(slot) else {
            self.route_to_prefill(slot);
            return;
        };
        let request = &mut self.requests[slot];
        request.computed_here = true;
        request.recomputes = true;
        self.give_decode(place, slot);
    }

    pub(super) fn route_to_prefill(&mut self, slot: Slot) {
        let chosen = self.choose_prefill(slot);
        let Some((place, worker)) = chosen.and_then(|p| Some((p, self.prefill.at_mut(p)?))) else {
            self.waiting_for_prefill.push_back(slot);
            return;
        };
        let request = &mut self.requests[slot];
        if let Some(caches) = self.dispatcher.caches
            && request.prompt.is_some()
        {
            request.cached_tokens = worker.hold(request, caches.capacity(&self.profile));
        }
        let requests = &mut self.requests;
        worker.core.enqueue(self.now, slot, requests, &self.profile);
        if worker.core.next_event().is_none() {
            self.go_on_prefill(place);
        }
    }

    pub(super) fn route_to_decode(&mut self, slot: Slot) {
        let near = self.dispatcher.stays_in_domain();
        let domain = near.then(|| self.requests[slot].domain);
        let chosen = self
            .choose_decode(domain, slot)
            .or_else(|| domain.and_then(|_| self.choose_decode(None, slot)));
        match chosen {
            Some(place) => self.give_decode(place, slot),
            None => self.waiting_for_decode.push_back(slot),
        }
    }

    fn give_decode(&mut self, place: u32, slot: Slot) {
        let Some(worker) = self.decode.at_mut(place) else {
            return;
        };
        let request = &mut self.requests[slot];
        if let Some(capacity) = self.dispatcher.decode_capacity(&self.profile) {
            let used = worker.core.kv_blocks() * u64::from(self.profile.kv_block_tokens);
            request.held_tokens = worker.hold(request, capacity.saturating_sub(used));
        }
        if request.computed_here && request.generated == 0 {
            request.prefilled = request.held_tokens;
        }
        worker.core.enqueue(
            self.now,
            slot,
            &mut self.requests,
            &self.profile,
            &mut self.admissions,
        );
        if !self.admissions.is_empty() {
            self.plan_kv_arrivals(place);
        }
        self.plan_batch_change(place);
    }

    /// The decode worker that computes the prompt itself, if one is to.
    fn choose_local(&mut self, slot: Slot) -> Option<u32> {
        let rule = self.dispatcher.local_prefill?;
        let place = self.choose_decode(None, slot)?;
        let worker = self.decode.at_mut(place)?;
        let request = &self.requests[slot];
        let caches = self.dispatcher.caches.is_some_and(|caches| caches.decode);
        let held_tokens = if caches {
            request.tokens_in(&worker.cache)
        } else {
            0
        };
        rule.stays(request.input_tokens, held_tokens)
            .then_some(place)
    }

    fn choose_prefill(&mut self, slot: Slot) -> Option<u32> {
        let now = self.now;
        let dispatcher = &mut self.dispatcher;
        if let Router::LeastWork = dispatcher.prefill {
            let free_at = |worker: &super::PrefillWorker| worker.free_at().max(now);
            return self.prefill.ready_by_least(None, free_at);
        }
        let reads = dispatcher.prefill.reads_prefixes();
        let request = reads.then(|| &self.requests[slot]);
        let candidates = &mut dispatcher.candidates;
        self.prefill
            .candidates(None, &self.profile, request, candidates);
        dispatcher.prefill.choose(candidates)
    }

    fn choose_decode(&mut self, domain: Option<u32>, slot: Slot) -> Option<u32> {
        let profile = &self.profile;
        let dispatcher = &mut self.dispatcher;
        if let Router::LeastWork = dispatcher.decode {
            // The load is a finite, non-negative float, whose bits order like its value.
            let load = |worker: &super::DecodeWorker| worker.load_milliseconds(profile).to_bits();
            return self.decode.ready_by_least(domain, load);
        }
        let reads = dispatcher.decode.reads_prefixes();
        let request = reads.then(|| &self.requests[slot]);
        let candidates = &mut dispatcher.candidates;
        self.decode.candidates(domain, profile, request, candidates);
        dispatcher.decode.choose(candidates)
    }

    /// Sends the KV caches of admitted requests on their way.
    pub(super) fn plan_kv_arrivals(&mut self, place: u32) {
        let Some(worker) = self.decode.at_mut(place) else {
            return;
        };
        let (number, to_domain) = (worker.number, worker.domain);
        let mut admissions = std::mem::take(&mut self.admissions);
        for Admission { slot, delay } in admissions.drain(..) {
            let request = &self.requests[slot];
            let Some(network) = &mut self.dispatcher.network else {
                self.plan_kv_arrival(self.now + delay, place, number, slot);
                continue;
            };
            let travels = request.input_tokens - request.held_tokens;
            let transfer = Transfer {
                slot,
                place,
                number,
                bytes: self.profile.kv_bytes(travels),
            };
            if let Some(wake) = network.begin(self.now, request.domain, to_domain, transfer) {
                self.plan(wake.at, Event::TransferEnds { link: wake.link });
            }
        }
        self.admissions = admissions;
    }

    fn plan_kv_arrival(&mut self, at: Nanos, place: u32, number: u32, slot: Slot) {
        self.requests[slot].kv_arrives_at = at;
        let event = Event::KvArrives {
            place,
            number,
            slot,
        };
        self.plan(at, event);
    }

    /// Ends what is due on a link; nothing if a later change made the event void.
    pub(super) fn end_transfers(&mut self, wake: Wake) {
        let Some(network) = &mut self.dispatcher.network else {
            return;
        };
        let mut ended = std::mem::take(&mut self.dispatcher.ended);
        if let Some(wake) = network.end(wake, &mut ended) {
            self.plan(wake.at, Event::TransferEnds { link: wake.link });
        }
        for (transfer, latency) in ended.drain(..) {
            let Transfer {
                slot,
                place,
                number,
                ..
            } = transfer;
            self.plan_kv_arrival(self.now + latency, place, number, slot);
        }
        self.dispatcher.ended = ended;
    }

    /// Cuts the transfers that `goes` is true of, as one of their workers is gone.
    pub(super) fn cut_transfers(&mut self, goes: impl Fn(&Transfer) -> bool) {
        let Some(network) = &mut self.dispatcher.network else {
            return;
        };
        for Wake { link, at } in network.cut(self.now, goes) {
            self.plan(at, Event::TransferEnds { link });
        }
    }
}
