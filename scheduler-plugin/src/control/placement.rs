//! Placement groups: pods are planned together and released to their nodes.
//!
//! Everything is decided by the pure [`step`](pd_placement::gate::step); here are the caches that
//! it looks at and the requests that it asks for. A step is made only when the caches show all that
//! this process has written, so that no place is given twice, and while all of them are kept up.
//! Time is the wall clock at the start of a term and runs by the monotonic clock from then on, so
//! that a clock that is set does not end windows.

mod act;
pub mod autoscaler;
pub mod caches;
mod join;
pub mod keep;
mod look;
pub mod made;
mod member;
pub mod metrics;
pub mod objects;
mod pin;
mod read;
mod record;
mod request;
pub mod what_if;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Resource as _, ResourceExt as _,
    runtime::events::{Event, EventType},
};
use pd_api::v1alpha1::PlacementGroup;
use pd_placement::gate::{Action, GateSettings, GroupState, step};
use pd_runtime::leader::Term;
use tokio::time::{Instant, sleep_until};

pub use self::caches::Caches;
use self::{
    look::{Look, wall_seconds},
    objects::key,
    request::{Answer, Request},
};
use super::Context;

/// Shortest time between two steps. Pods of a gang are created within tenths of a second.
const PAUSE: Duration = Duration::from_millis(250);

/// A step is made so often even if nothing changes, for windows end by themselves.
const INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for caches to show a write. After it they are taken as they are: versions protect
/// each object, and a plan that was made twice is dropped when it is seen.
const CATCH_UP: Duration = Duration::from_secs(15);

/// Requests that are under way at a time.
const AT_ONCE: usize = 32;

/// Places groups until the term ends.
pub async fn run(context: &Context, caches: &Caches, term: &Term) {
    let mut placing = Placing {
        context,
        caches,
        started: Instant::now(),
        started_seconds: wall_seconds(),
        written: HashMap::new(),
        states: HashMap::new(),
        is_paused: false,
    };
    let (mut pods, mut groups) = (caches.pods.changes(), caches.groups.changes());
    let (mut nodes, mut topologies) = (caches.nodes.changes(), caches.topologies.changes());
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = term.stop.cancelled() => break,
            () = sleep_until(next) => {
                let began = Instant::now();
                placing.step(term).await;
                // A step may take a part of the time and no more.
                let pause = PAUSE.max(began.elapsed() * 2);
                next = began + INTERVAL.max(pause);
                placing.is_paused = false;
            }
            _ = pods.next() => next = placing.sooner(next),
            _ = groups.next() => next = placing.sooner(next),
            _ = nodes.next() => next = placing.sooner(next),
            _ = topologies.next() => next = placing.sooner(next),
        }
    }
    context.metrics.placement.forget();
}

/// Versions that caches have to show: the key is kind, namespace and name.
type Written = HashMap<(&'static str, String, String), (u64, Instant)>;

struct Placing<'a> {
    context: &'a Context,
    caches: &'a Caches,
    started: Instant,
    started_seconds: u64,
    written: Written,
    /// The state of each group as it was last reported.
    states: HashMap<String, GroupState>,
    is_paused: bool,
}

impl Placing<'_> {
    /// The time of the next step after a change.
    fn sooner(&mut self, next: Instant) -> Instant {
        if self.is_paused {
            return next;
        }
        self.is_paused = true;
        next.min(Instant::now() + PAUSE)
    }

    async fn step(&mut self, term: &Term) {
        let metrics = &self.context.metrics.placement;
        if let Some(kind) = self.caches.failing() {
            tracing::debug!(kind, "nothing is placed while a watch fails");
            metrics.stepped("stale", Duration::ZERO);
            return;
        }
        if !self.has_caught_up() {
            metrics.stepped("behind", Duration::ZERO);
            return;
        }
        let caches = self.caches;
        let look = Look::at(caches);
        self.report(&look.groups).await;
        let now_seconds = self.started_seconds + self.started.elapsed().as_secs();
        let orphans = look.orphans();
        let orphans = orphans.filter_map(|pod| Request::without_group(pod, now_seconds));
        self.send(&orphans.collect::<Vec<_>>(), term).await;
        if look.groups.is_empty() {
            return;
        }
        let began = Instant::now();
        let settings = GateSettings {
            window_seconds: self.context.args.placement.placement_window.as_secs(),
            ..GateSettings::default()
        };
        let seen = look.seen(now_seconds, settings);
        let Ok(actions) = tokio::task::spawn_blocking(move || step(&seen)).await else {
            tracing::error!("a step of placement panicked, and nothing is done");
            metrics.stepped("failed", began.elapsed());
            return;
        };
        metrics.stepped("made", began.elapsed());
        self.carry_out(actions, &look, term).await;
    }

    /// Sends the requests of all actions, some at a time: each names the version of its object, so
    /// none depends on another.
    async fn carry_out(&mut self, actions: Vec<Action>, look: &Look<'_>, term: &Term) {
        let requests = actions.into_iter();
        let requests: Vec<Request> = requests
            .filter_map(|action| Request::of(action, &look.groups, &look.by_group))
            .collect();
        self.send(&requests, term).await;
    }

    async fn send(&mut self, requests: &[Request], term: &Term) {
        let mut left = requests.iter();
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < AT_ONCE
                && term.may_write()
                && let Some(request) = left.next()
            {
                under_way.push(answered(self.context, request));
            }
            let Some((request, answer)) = under_way.next().await else {
                return;
            };
            self.note(request, &answer);
        }
    }

    fn note(&mut self, request: &Request, answer: &Answer) {
        let verb = request.verb();
        let (kind, namespace, name) = request.about();
        let word = match &answer.outcome {
            Ok(outcome) => outcome.as_str(),
            Err(error) => {
                tracing::warn!(%error, verb, namespace, name, "a request of placement failed");
                "failed"
            }
        };
        self.context.metrics.placement.acted(verb, word);
        if let Some(version) = &answer.version {
            self.expect((kind, namespace, name), version);
        }
    }

    /// The cache must show this version before the next step.
    fn expect(&mut self, object: (&'static str, String, String), version: &str) {
        if self.context.args.control.dry_run {
            return;
        }
        // Versions of one kind are numbers that grow (KEP-5504).
        if let Ok(version) = version.parse() {
            self.written.insert(object, (version, Instant::now()));
        }
    }

    fn has_caught_up(&mut self) -> bool {
        let caches = self.caches;
        self.written
            .retain(|(kind, namespace, name), (version, since)| {
                let shown = match *kind {
                    "pods" => caches
                        .pods
                        .get(name, Some(namespace))
                        .and_then(|pod| pod.resource_version()),
                    _ => caches
                        .groups
                        .get(name, Some(namespace))
                        .and_then(|group| group.resource_version()),
                };
                // One that is gone shows nothing any more.
                let is_behind = shown
                    .and_then(|shown| shown.parse::<u64>().ok())
                    .is_some_and(|shown| shown < *version);
                is_behind && since.elapsed() < CATCH_UP
            });
        self.written.is_empty()
    }

    /// Metrics of all groups, and an event of each whose state is another one.
    async fn report(&mut self, groups: &[Arc<PlacementGroup>]) {
        let mut counts = HashMap::new();
        let mut events = Vec::new();
        let mut known = HashMap::new();
        for group in groups {
            let Some(status) = &group.status else {
                continue;
            };
            let Some(state) = GroupState::named(&status.state) else {
                continue;
            };
            *counts.entry(state).or_default() += 1;
            let key = key(group);
            if self.states.get(&key).is_some_and(|before| *before != state) {
                events.push((group.object_ref(&()), event(state, &status.message)));
            }
            known.insert(key, state);
        }
        self.states = known;
        self.context.metrics.placement.groups(&counts);
        for (about, event) in events {
            self.context.publish(&about, &event).await;
        }
    }
}

async fn answered<'a>(context: &Context, request: &'a Request) -> (&'a Request, Answer) {
    (request, request.send(context).await)
}

fn event(state: GroupState, message: &str) -> Event {
    let is_normal = matches!(
        state,
        GroupState::Placed | GroupState::Placing | GroupState::WaitingForPods
    );
    let fallback = format!("the group is {}", state.as_str());
    Event {
        type_: if is_normal {
            EventType::Normal
        } else {
            EventType::Warning
        },
        reason: state.as_str().to_owned(),
        note: Some(if message.is_empty() {
            fallback
        } else {
            message.to_owned()
        }),
        action: "Place".to_owned(),
        secondary: None::<ObjectReference>,
    }
}
