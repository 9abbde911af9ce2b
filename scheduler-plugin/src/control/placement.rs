//! Placement groups: pods are planned together and released to their nodes.
//!
//! Everything is decided by the pure [`step`](pd_placement::gate::step); here are the caches that
//! it looks at and the requests that it asks for. A step is made only when the caches show all that
//! this process has written, so that no place is given twice, and while all of them are kept up.
//! Time is the wall clock at the start of a term and runs by the monotonic clock from then on, so
//! that a clock that is set does not end windows.

mod act;
pub mod caches;
mod member;
pub mod metrics;
pub mod objects;
mod pin;
mod read;
mod record;
mod request;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Resource as _, ResourceExt as _,
    runtime::events::{Event, EventType},
};
use pd_api::v1alpha1::PlacementGroup;
use pd_placement::{
    gate::{Action, GateSettings, GroupState, Seen, step},
    manifest::VolumeRules,
};
use pd_runtime::leader::Term;
use tokio::time::{Instant, sleep_until};

pub use self::caches::Caches;
use self::{
    objects::{PlacementPod, key},
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

fn wall_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| since.as_secs())
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
        let groups = self.caches.groups.store().state();
        self.report(&groups).await;
        let pods = self.caches.pods.store().state();
        let by_group = by_group(&groups, &pods);
        let orphans = pods.iter().filter(|pod| {
            let group = pod.group_key();
            group.is_some_and(|group| !by_group.contains_key(&group))
        });
        let orphans = orphans.filter_map(|pod| Request::without_group(pod));
        self.send(&orphans.collect::<Vec<_>>(), term).await;
        if groups.is_empty() {
            return;
        }
        let began = Instant::now();
        let seen = self.seen(&groups, &by_group, &pods);
        let Ok(actions) = tokio::task::spawn_blocking(move || step(&seen)).await else {
            tracing::error!("a step of placement panicked, and nothing is done");
            metrics.stepped("failed", began.elapsed());
            return;
        };
        metrics.stepped("made", began.elapsed());
        self.carry_out(actions, &groups, &by_group, term).await;
    }

    fn seen(
        &self,
        groups: &[Arc<PlacementGroup>],
        by_group: &BTreeMap<String, Vec<Arc<PlacementPod>>>,
        pods: &[Arc<PlacementPod>],
    ) -> Seen {
        let objects = self.caches.topologies.store().state();
        let topologies = read::topologies(objects.iter().map(|object| &**object));
        let nodes = self.caches.nodes.store().state();
        let others = pods.iter().filter(|pod| {
            let group = pod.group_key();
            group.is_none_or(|group| !by_group.contains_key(&group))
        });
        Seen {
            now_seconds: self.started_seconds + self.started.elapsed().as_secs(),
            nodes: read::nodes(
                nodes.iter().filter_map(|node| node.node.as_ref()),
                others.map(|pod| &**pod),
            ),
            groups: groups
                .iter()
                .map(|group| {
                    let namespace = group.namespace().unwrap_or_default();
                    let pods = by_group.get(&key(group)).map_or(&[][..], Vec::as_slice);
                    let pods: Vec<&PlacementPod> = pods.iter().map(|pod| &**pod).collect();
                    read::group(
                        group,
                        &pods,
                        &topologies,
                        &self.volume_rules(&namespace, &pods),
                    )
                })
                .collect(),
            settings: GateSettings {
                window_seconds: self.context.args.placement.placement_window.as_secs(),
                ..GateSettings::default()
            },
        }
    }

    /// Where the claims of these pods can be reached from. A claim without a volume yet may be
    /// bound anywhere; one that is not there is unknown.
    fn volume_rules(&self, namespace: &str, pods: &[&PlacementPod]) -> VolumeRules {
        let mut rules = VolumeRules::new();
        for pod in pods {
            for name in pod.claims() {
                let Some(claim) = self.caches.claims.get(&name, Some(namespace)) else {
                    continue;
                };
                let volume = claim.spec.volume_name.as_ref();
                let volume = volume.and_then(|name| self.caches.volumes.get(name, None));
                let reach = volume.and_then(|volume| volume.reach());
                rules.insert(name, reach.into_iter().collect());
            }
        }
        rules
    }

    /// Sends the requests of all actions, some at a time: each names the version of its object, so
    /// none depends on another.
    async fn carry_out(
        &mut self,
        actions: Vec<Action>,
        groups: &[Arc<PlacementGroup>],
        by_group: &BTreeMap<String, Vec<Arc<PlacementPod>>>,
        term: &Term,
    ) {
        let requests = actions.into_iter();
        let requests: Vec<Request> = requests
            .filter_map(|action| Request::of(action, groups, by_group))
            .collect();
        self.send(&requests, term).await;
    }

    async fn send(&mut self, requests: &[Request], term: &Term) {
        for some in requests.chunks(AT_ONCE) {
            if !term.may_write() {
                return;
            }
            let context = self.context;
            let sent = some.iter().map(|request| request.send(context));
            let answers = futures::future::join_all(sent).await;
            for (request, answer) in some.iter().zip(answers) {
                self.note(request, &answer);
            }
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

/// Pods by the namespace and name of their group, of groups that there are.
fn by_group(
    groups: &[Arc<PlacementGroup>],
    pods: &[Arc<PlacementPod>],
) -> BTreeMap<String, Vec<Arc<PlacementPod>>> {
    let mut by_group: BTreeMap<String, Vec<Arc<PlacementPod>>> = groups
        .iter()
        .map(|group| (key(group), Vec::new()))
        .collect();
    for pod in pods {
        let of_group = pod.group_key().and_then(|group| by_group.get_mut(&group));
        if let Some(of_group) = of_group {
            of_group.push(pod.clone());
        }
    }
    by_group
}
