//! The eviction controller: rewritten pods leave a node when their numbers say so, as they would on
//! a cluster with the feature.
//!
//! All decisions are [`EvictionQueue`]'s; this feeds it from the caches and carries its requests
//! out, with one timer for the next deadline and no polling. Whose pods: those with the annotation
//! of [`rewrite`], whatever the feature gate says, for the cluster sees nothing but `Exists` in
//! them; a number that is still in a pod's spec is the cluster's business.
//!
//! It holds when it may not act: not leading, or blind because a watch fails for longer than
//! allowed. Held requests are not lost, and not given before the cluster is seen again. Every
//! request is checked against the API server once more before anything is done ([`attempt`]), so
//! that a cache that lags spares a pod and never takes one. A term begins like a restart upstream:
//! clocks start again, unless deadlines are persisted ([`deadlines`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::ResourceExt as _;
use pd_tolerations::{
    ExtendedToleration,
    eviction::{
        queue::EvictionQueue,
        request::{By, DeadlineChange, PlacedPod, PodId},
        rules::{RulesError, TolerationRules},
    },
    rewrite,
    time::Moment,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::{args::EvictionArgs, attempt::Done, deadlines::Note};
use super::{
    Context, Term, cache,
    objects::{WatchedNode, WatchedPod},
};

pub mod args;
pub mod attempt;
pub mod deadlines;
pub mod metrics;

/// Orders carried out at once.
const ATTEMPTS_AT_ONCE: usize = 16;
/// Pause between two looks at whether a hold is over.
const HOLD_PAUSE: Duration = Duration::from_millis(500);
/// A longer sleep is cut, for timers have an end.
const SLEEP_MOST: Duration = Duration::from_hours(1);
/// The kubelet's mark of a pod that it keeps from a file: deleting it ends nothing.
const MIRROR_POD: &str = "kubernetes.io/config.mirror";

/// The wall clock, read once and moved on by the process's own, so that no correction of it makes
/// an eviction early.
#[derive(Debug, Clone, Copy)]
struct Clock {
    wall: Timestamp,
    from: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            wall: Timestamp::now(),
            from: Instant::now(),
        }
    }

    fn now(self) -> Timestamp {
        self.wall.later(self.from.elapsed())
    }

    fn wake(self, at: Timestamp) -> Instant {
        Instant::now() + at.elapsed_since(self.now()).min(SLEEP_MOST)
    }
}

/// Why the annotation of a pod cannot be used.
#[derive(Debug, thiserror::Error)]
enum AnnotationError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Rules(#[from] RulesError),
}

#[derive(Debug)]
struct Evictor<'a> {
    context: &'a Context,
    term: &'a Term,
    clock: Clock,
    queue: EvictionQueue,
    /// UIDs by namespace and name, for a hint has no more.
    uids: BTreeMap<(String, String), String>,
    /// Pods whose annotation cannot be used.
    unreadable: BTreeSet<String>,
    attempts: JoinSet<Done>,
    at_once: Arc<Semaphore>,
    writer: mpsc::UnboundedSender<Note>,
    held: Option<&'static str>,
}

/// Evicts until the term ends. Attempts under way are finished.
pub async fn run(context: &Context, term: &Term) {
    if !context.args.eviction.evict {
        return;
    }
    let (writer, notes) = mpsc::unbounded_channel();
    tokio::join!(
        evict(context, term, writer),
        deadlines::write(context, term, notes)
    );
}

async fn evict(context: &Context, term: &Term, writer: mpsc::UnboundedSender<Note>) {
    let mut nodes = context.nodes.changes();
    let mut pods = context.pods.changes();
    let mut evictor = Evictor::new(context, term, writer);
    evictor.all_nodes();
    evictor.all_pods();
    loop {
        evictor.act();
        let wake = evictor.wake();
        tokio::select! {
            biased;
            () = term.stop.cancelled() => break,
            change = nodes.next() => evictor.node_changed(&change),
            change = pods.next() => evictor.pod_changed(&change),
            Some(done) = evictor.attempts.join_next() => match done {
                Ok(done) => evictor.note_done(&done),
                Err(error) => tracing::error!(%error, "an eviction broke off"),
            },
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
    }
    while evictor.attempts.join_next().await.is_some() {}
    context.metrics.evictions.waiting(0, 0);
    context.metrics.evictions.held(false);
}

impl<'a> Evictor<'a> {
    fn new(context: &'a Context, term: &'a Term, writer: mpsc::UnboundedSender<Note>) -> Self {
        Self {
            context,
            term,
            clock: Clock::start(),
            queue: EvictionQueue::new(context.args.eviction.options()),
            uids: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            attempts: JoinSet::new(),
            at_once: Arc::new(Semaphore::new(ATTEMPTS_AT_ONCE)),
            writer,
            held: None,
        }
    }

    fn node_changed(&mut self, change: &cache::CacheChange) {
        match change {
            cache::CacheChange::One { name, .. } => self.node(name),
            cache::CacheChange::All => self.all_nodes(),
        }
    }

    fn all_nodes(&mut self) {
        let mut names: BTreeSet<String> = self.queue.nodes().map(str::to_owned).collect();
        let seen = self.context.nodes.store().state();
        names.extend(seen.iter().map(|node| node.name_any()));
        for name in names {
            self.node(&name);
        }
    }

    fn node(&mut self, name: &str) {
        let Some(node) = self.context.nodes.get(name, None) else {
            self.queue.node_gone(name);
            return;
        };
        let domain = domain(&node, &self.context.args.eviction);
        let now = self.clock.now();
        if self.queue.has_changed(name, node.taints()) {
            tracing::debug!(node = name, "NoExecute taints changed");
        }
        for change in self.queue.node(name, node.taints(), domain, now) {
            self.report(change);
        }
    }

    fn pod_changed(&mut self, change: &cache::CacheChange) {
        match change {
            cache::CacheChange::One { name, namespace } => {
                self.pod(namespace.as_deref().unwrap_or_default(), name);
            }
            cache::CacheChange::All => self.all_pods(),
        }
    }

    fn all_pods(&mut self) {
        let mut names: BTreeSet<(String, String)> = self.uids.keys().cloned().collect();
        let seen = self.context.pods.store().state();
        names.extend(
            seen.iter()
                .map(|pod| (pod.namespace().unwrap_or_default(), pod.name_any())),
        );
        for (namespace, name) in names {
            self.pod(&namespace, &name);
        }
    }

    fn pod(&mut self, namespace: &str, name: &str) {
        let now = self.clock.now();
        let pod = self.context.pods.get(name, Some(namespace));
        let placed = pod.and_then(|pod| self.placed(&pod, now));
        let key = (namespace.to_owned(), name.to_owned());
        let uid = placed.as_ref().map(|placed| placed.id.uid.clone());
        if let Some(before) = self
            .uids
            .get(&key)
            .filter(|before| Some(*before) != uid.as_ref())
        {
            self.queue.pod_gone(before, now);
            self.unreadable.remove(before);
        }
        match uid {
            Some(uid) => self.uids.insert(key, uid),
            None => self.uids.remove(&key),
        };
        if let Some(change) = placed.and_then(|placed| self.queue.pod(placed, now)) {
            self.report(change);
        }
    }

    /// The pod as the queue takes it; nothing if it is none of its business, or leaving already.
    fn placed(&mut self, pod: &WatchedPod, now: Timestamp) -> Option<PlacedPod> {
        let args = &self.context.args.eviction;
        let uid = pod.uid()?;
        let node = pod.spec.node_name.clone().filter(|node| !node.is_empty())?;
        let is_ours = pod.metadata.deletion_timestamp.is_none()
            && !pod.annotations().contains_key(MIRROR_POD);
        if !is_ours {
            return None;
        }
        let rules = match rules(pod) {
            Ok(rules) => {
                self.unreadable.remove(&uid);
                rules
            }
            Err(error) => {
                if self.unreadable.insert(uid.clone()) {
                    let (namespace, name) = (pod.namespace(), pod.name_any());
                    tracing::warn!(
                        namespace,
                        name,
                        %error,
                        "pod is never evicted: annotation {} cannot be used",
                        rewrite::ANNOTATION
                    );
                }
                None
            }
        };
        let label = args.eviction_group_label.as_ref();
        let group = label.and_then(|label| pod.labels().get(label).cloned());
        let is_known = rules.is_some() || group.is_some() || self.unreadable.contains(&uid);
        is_known.then(|| PlacedPod {
            id: PodId {
                uid,
                namespace: pod.namespace().unwrap_or_default(),
                name: pod.name_any(),
            },
            node,
            rules,
            group,
            persisted: args
                .eviction_persist
                .then(|| deadlines::read(pod, now))
                .flatten(),
        })
    }

    /// Gives the requests that are due, unless it holds.
    fn act(&mut self) {
        let metrics = &self.context.metrics.evictions;
        metrics.waiting(self.queue.pending(), self.unreadable.len());
        let now = self.clock.now();
        let is_due = self.queue.next().is_some_and(|next| next <= now);
        let hold = is_due.then(|| self.hold()).flatten();
        if hold != self.held {
            if let Some(reason) = hold {
                tracing::warn!(reason, "evictions held");
            } else {
                tracing::info!("evictions go on");
            }
            metrics.held(hold.is_some());
            self.held = hold;
        }
        if hold.is_some() || !is_due {
            return;
        }
        for request in self.queue.requests(now) {
            let (namespace, pod) = (&request.pod.namespace, &request.pod.name);
            tracing::debug!(namespace, pod, because = %request.because, "request given");
            let (context, term) = (self.context.clone(), self.term.clone());
            let (clock, at_once) = (self.clock, self.at_once.clone());
            self.attempts.spawn(async move {
                // Nobody closes it.
                let _permit = at_once.acquire_owned().await;
                let mut done = attempt::carry_out(&context, &term, request).await;
                done.late = clock.now().elapsed_since(done.request.due);
                done
            });
        }
    }

    /// Why nothing may be done now.
    fn hold(&self) -> Option<&'static str> {
        if !self.term.may_write() {
            return Some("this process does not lead");
        }
        let allowed = self.context.args.eviction.eviction_hold_after;
        let is_blind =
            |since: Option<Instant>| since.is_some_and(|since| since.elapsed() > allowed);
        if is_blind(self.context.nodes.failing_since()) {
            return Some("nodes cannot be watched");
        }
        is_blind(self.context.pods.failing_since()).then_some("pods cannot be watched")
    }

    fn wake(&self) -> Option<Instant> {
        if self.held.is_some() {
            return Some(Instant::now() + HOLD_PAUSE);
        }
        Some(self.clock.wake(self.queue.next()?))
    }

    fn note_done(&mut self, done: &Done) {
        let metrics = &self.context.metrics.evictions;
        metrics.ended(done.outcome, done.request.because.as_str(), done.late);
        let now = self.clock.now();
        if let Some(change) =
            self.queue
                .finish(&done.request.pod.uid, done.outcome.request_outcome(), now)
        {
            self.report(change);
        }
    }

    /// Makes a change known. The cluster itself reports the pods that it ends.
    fn report(&self, change: DeadlineChange) {
        let note = match change {
            DeadlineChange::Waits {
                pod,
                pending,
                because,
                by,
            } => {
                let seconds = pending.due.elapsed_since(self.clock.now()).as_secs_f64();
                tracing::info!(namespace = pod.namespace, pod = pod.name, %because, ?by, seconds, "pod leaves later");
                (by == By::Us).then_some(Note::Waits { pod, pending })
            }
            DeadlineChange::Cancelled { pod, by } => {
                tracing::info!(namespace = pod.namespace, pod = pod.name, ?by, "pod stays");
                self.context.metrics.evictions.cancelled();
                (by == By::Us).then_some(Note::Cancelled { pod })
            }
        };
        if let Some(note) = note {
            // The writer ends with the term, and this before it.
            let _ = self.writer.send(note);
        }
    }
}

/// The toleration rules of a pod; nothing if it is not rewritten.
fn rules(pod: &WatchedPod) -> Result<Option<TolerationRules>, AnnotationError> {
    let Some(text) = pod.annotations().get(rewrite::ANNOTATION) else {
        return Ok(None);
    };
    let originals: Vec<ExtendedToleration> = serde_json::from_str(text)?;
    if originals.is_empty() {
        return Ok(None);
    }
    let spec = pod.spec.tolerations.as_deref().unwrap_or_default();
    Ok(Some(TolerationRules::read(spec, &originals)?))
}

/// The domain that the rate limit counts by; nodes without the label are one domain.
fn domain<'a>(node: &'a WatchedNode, args: &EvictionArgs) -> &'a str {
    let value = node.labels().get(&args.eviction_domain_label);
    value.map_or("", String::as_str)
}
