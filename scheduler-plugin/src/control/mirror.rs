//! The label mirror: every node carries the labels that say what its taints say.
//!
//! The labels to write are [`pd_tolerations::mirror::changes`], a function of the node as last seen
//! and of the pods that run there ([`Holds`]), so a restart needs no memory and looking twice
//! writes once. A write names our labels alone and the node's version: whoever changed the node in
//! between wins, and the node is looked at again. Conflicts are no failures. Failures are reported
//! once per node, as an event, and tried again with growing pauses; other nodes do not wait for
//! them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, ResourceExt as _,
    api::Patch,
    runtime::events::{Event, EventType},
};
use pd_tolerations::{
    eviction::rate_limit::{Bucket, RateLimit},
    mirror,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    Context, Term,
    backlog::Backlog,
    cache::CacheChange,
    holds::Holds,
    objects::WatchedNode,
    write::{WriteError, WriteOutcome},
};

/// Writes under way at once.
const WRITES_AT_ONCE: usize = 8;
/// Most events about failures in a minute: with the right to patch gone, every node fails.
const EVENTS_PER_MINUTE: u32 = 6;

/// The outcome of a write.
#[derive(Debug)]
enum Written {
    /// It was made.
    Done,
    /// It was a dry run.
    Dry(Labels),
    /// Nothing had to be written any more.
    Unneeded,
    /// Somebody changed the node in between.
    Conflict,
    /// It was not.
    Failed(WriteError),
}

type Labels = BTreeMap<String, Option<String>>;

#[derive(Debug)]
struct Mirror<'a> {
    context: &'a Context,
    backlog: Backlog,
    holds: Holds,
    writes: Bucket<std::time::Instant>,
    events: Bucket<std::time::Instant>,
    /// The labels that dry runs would have written.
    dry: HashMap<String, Labels>,
}

/// Keeps the labels of all nodes true until the term ends.
pub async fn run(context: &Context, term: &Term) {
    if !context.args.mirror.mirror_labels {
        return;
    }
    let mut changes = context.nodes.changes();
    let mut pods = context.pods.changes();
    let mut mirror = Mirror::new(context);
    mirror.pods_changed(&CacheChange::All);
    mirror.look_at(&CacheChange::All);
    loop {
        let next = mirror.next();
        tokio::select! {
            biased;
            () = term.stop.cancelled() => break,
            // Pods first: a node's change must not make one illegal that is known to run there.
            change = pods.next() => mirror.pods_changed(&change),
            change = changes.next() => mirror.look_at(&change),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => mirror.write(term).await,
        }
    }
    context.metrics.nodes_out_of_date(0);
}

impl<'a> Mirror<'a> {
    fn new(context: &'a Context) -> Self {
        let rate = context.args.mirror.label_writes_per_second;
        let events = RateLimit::of(EVENTS_PER_MINUTE, Duration::from_mins(1), EVENTS_PER_MINUTE);
        Self {
            context,
            backlog: Backlog::default(),
            holds: Holds::default(),
            writes: Bucket::new(RateLimit::of(rate, Duration::from_secs(1), rate)),
            events: Bucket::new(events),
            dry: HashMap::new(),
        }
    }

    /// Compares what changed with its mirror.
    fn look_at(&mut self, change: &CacheChange) {
        match change {
            CacheChange::One { name, .. } => self.look_at_node(name),
            CacheChange::All => {
                let mut names = self.backlog.names();
                let nodes = self.context.nodes.store().state();
                names.extend(nodes.iter().map(|node| node.name_any()));
                for name in &names {
                    self.look_at_node(name);
                }
            }
        }
        self.count();
    }

    /// Looks at the nodes of pods that changed.
    fn pods_changed(&mut self, change: &CacheChange) {
        let names: BTreeSet<(String, String)> = match change {
            CacheChange::One { name, namespace } => {
                BTreeSet::from([(namespace.clone().unwrap_or_default(), name.clone())])
            }
            CacheChange::All => {
                let seen = self.context.pods.store().state();
                let seen = seen
                    .iter()
                    .map(|pod| (pod.namespace().unwrap_or_default(), pod.name_any()));
                seen.chain(self.holds.known().cloned()).collect()
            }
        };
        for (namespace, name) in names {
            let pod = self.context.pods.get(&name, Some(&namespace));
            for node in self.holds.pod((namespace, name), pod.as_deref()) {
                self.look_at_node(&node);
            }
        }
        self.count();
    }

    fn look_at_node(&mut self, name: &str) {
        let node = self.context.nodes.get(name, None);
        let due = node.map(|node| due(&node, &self.holds));
        match due {
            Some(due) if due.is_empty() => self.forget(name),
            Some(due) if self.dry.get(name) == Some(&due) => {}
            Some(_) => {
                self.dry.remove(name);
                self.backlog.add(name, Instant::now());
            }
            None => self.forget(name),
        }
    }

    fn forget(&mut self, name: &str) {
        self.backlog.done(name);
        self.dry.remove(name);
    }

    fn count(&self) {
        let count = self.backlog.len() + self.dry.len();
        self.context.metrics.nodes_out_of_date(count);
    }

    /// When the next write may be made, if one is left.
    fn next(&self) -> Option<Instant> {
        let due = self.backlog.next_due()?;
        let now = Instant::now();
        Some(due.max(now + self.writes.wait(1, now.into_std())))
    }

    /// Makes the writes that are due.
    async fn write(&mut self, term: &Term) {
        let now = Instant::now();
        let mut names = self.backlog.due(now, WRITES_AT_ONCE);
        let allowed = names
            .iter()
            .take_while(|_| self.writes.take(1, now.into_std()).is_ok())
            .count();
        names.truncate(allowed);
        let (context, holds) = (self.context, &self.holds);
        let written: Vec<_> = stream::iter(names)
            .map(|name| async move {
                let written = write(context, holds, term, &name).await;
                (name, written)
            })
            .buffer_unordered(WRITES_AT_ONCE)
            .collect()
            .await;
        for (name, written) in written {
            self.note(&name, written).await;
        }
        self.count();
    }

    async fn note(&mut self, name: &str, written: Written) {
        let now = Instant::now();
        let outcome = match written {
            Written::Unneeded => {
                self.backlog.done(name);
                return;
            }
            Written::Done => {
                self.backlog.done(name);
                "written"
            }
            Written::Dry(labels) => {
                self.backlog.done(name);
                tracing::info!(node = name, ?labels, "labels would be written");
                self.dry.insert(name.to_owned(), labels);
                "dry_run"
            }
            Written::Conflict => {
                self.backlog.put_off(name, now);
                "conflict"
            }
            Written::Failed(error) => {
                if self.backlog.failed(name, now) == 1 {
                    tracing::warn!(node = name, %error, "labels cannot be written, trying again");
                    self.report(name, &error).await;
                }
                "failed"
            }
        };
        self.context.metrics.labels_written(outcome);
    }

    async fn report(&mut self, name: &str, error: &WriteError) {
        if self.events.take(1, std::time::Instant::now()).is_err() {
            return;
        }
        let node = self.context.nodes.get(name, None);
        let about = node.map_or_else(ObjectReference::default, |node| node.reference());
        let event = Event {
            type_: EventType::Warning,
            reason: "TaintLabelsNotWritten".to_owned(),
            note: Some(format!(
                "labels that mirror the taints cannot be written, so affinity on them is out of date: {error}"
            )),
            action: "MirrorTaints".to_owned(),
            secondary: None,
        };
        self.context.publish(&about, &event).await;
    }
}

/// The changes that a node's labels need.
fn due(node: &WatchedNode, holds: &Holds) -> Labels {
    let mut labels = mirror::labels(node.taints());
    labels.extend(holds.labels(&node.name_any(), &node.parsed_taints()));
    mirror::changes(node.labels(), &labels)
}

/// The patch that makes `labels` of `node`, as it was seen.
fn patch(node: &WatchedNode, labels: &Labels) -> Value {
    json!({ "metadata": { "resourceVersion": node.metadata.resource_version, "labels": labels } })
}

async fn write(context: &Context, holds: &Holds, term: &Term, name: &str) -> Written {
    let Some(node) = context.nodes.get(name, None) else {
        return Written::Unneeded;
    };
    let labels = due(&node, holds);
    if labels.is_empty() {
        return Written::Unneeded;
    }
    if !term.may_write() {
        return Written::Conflict;
    }
    let api = Api::<WatchedNode>::all(context.client.clone());
    let (parameters, patch) = (context.patch_params(), Patch::Merge(patch(&node, &labels)));
    match context.write(api.patch(name, &parameters, &patch)).await {
        Ok(WriteOutcome::DryRun) => Written::Dry(labels),
        Ok(WriteOutcome::Written) => Written::Done,
        Ok(WriteOutcome::Conflict) => Written::Conflict,
        Ok(WriteOutcome::Gone) => Written::Unneeded,
        Err(error) => Written::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_names_the_version_and_our_labels_alone() {
        let node: WatchedNode = serde_json::from_value(json!({
            "metadata": { "name": "n", "resourceVersion": "7", "labels": {
                "zone": "a", "no-execute.taint.pdautoscaler.io/old": "1" } },
            "spec": { "taints": [{ "key": "sla", "value": "950", "effect": "NoExecute" }] },
        }))
        .unwrap();
        assert_eq!(
            patch(&node, &due(&node, &Holds::default())),
            json!({ "metadata": { "resourceVersion": "7", "labels": {
                "no-execute.taint.pdautoscaler.io/sla": "950",
                "no-execute.taint.pdautoscaler.io/old": null } } })
        );
    }
}
