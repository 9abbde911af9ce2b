//! Wakes pods that the scheduler gave up a moment too early.
//!
//! A changed taint reaches the scheduler and the extender each in its own time. A scheduler that is
//! the faster one asks an extender that still has the old value, is refused, and looks at the pod
//! again when something else happens in the cluster, or after five minutes. So each pod that waits
//! and fits a node whose taints have changed is touched some time after the change, and again with
//! growing pauses for as long as it waits; then the scheduler's own five minutes are over. A touch
//! is an annotation, which makes the scheduler try that pod again and does nothing else.
//!
//! The pods that wait and the nodes that they fit follow from the caches alone, so a new leader
//! needs no memory: to it, every node is new.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use kube::{Api, ResourceExt as _, api::Patch};
use pd_tolerations::{
    Rule,
    eviction::rate_limit::{Bucket, RateLimit},
    extension::ParsedTaint,
};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::{Context, Term, cache::CacheChange, objects::WatchedPod, write::WriteOutcome};

/// The annotation that is written. Its value says what for.
pub const TOUCHED: &str = "pdautoscaler.io/woken";

/// Pauses before the touches that follow a change.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(16),
    Duration::from_secs(64),
];
/// Most touches in a second.
const TOUCHES_PER_SECOND: u32 = 50;

/// Namespace and name.
type PodKey = (String, String);

/// Touches to come: pure, time is an argument.
#[derive(Debug, Default)]
struct Wakes(BTreeMap<PodKey, Wake>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Wake {
    /// The node that has changed, and its version.
    cause: String,
    due: Instant,
    touches: usize,
}

impl Wakes {
    /// Begins again with a pod that fits something since `now`.
    fn fits(&mut self, pod: &PodKey, cause: String, now: Instant) {
        let wake = Wake {
            cause,
            due: now + PAUSES[0],
            touches: 0,
        };
        self.0.insert(pod.clone(), wake);
    }

    /// The pod that has been due the longest.
    fn next(&self) -> Option<(&PodKey, &Wake)> {
        self.0.iter().min_by_key(|(_, wake)| wake.due)
    }

    /// Counts a touch, and puts the next one off.
    fn touched(&mut self, pod: &PodKey, now: Instant) {
        let Some(wake) = self.0.get_mut(pod) else {
            return;
        };
        wake.touches += 1;
        match PAUSES.get(wake.touches) {
            Some(pause) => wake.due = now + *pause,
            None => self.forget(pod),
        }
    }

    fn forget(&mut self, pod: &PodKey) {
        self.0.remove(pod);
    }
}

#[derive(Debug)]
struct Waker<'a> {
    context: &'a Context,
    /// Pods with numeric tolerations that have no node, and what they tolerate.
    waiting: HashMap<PodKey, Vec<Rule>>,
    /// The taints of nodes as last seen.
    nodes: HashMap<String, Vec<ParsedTaint>>,
    wakes: Wakes,
    touches: Bucket<std::time::Instant>,
}

/// Wakes pods until the term ends.
pub async fn run(context: &Context, term: &Term) {
    let (mut pods, mut nodes) = (context.pods.changes(), context.nodes.changes());
    let mut waker = Waker {
        context,
        waiting: HashMap::new(),
        nodes: HashMap::new(),
        wakes: Wakes::default(),
        touches: Bucket::new(RateLimit::of(
            TOUCHES_PER_SECOND,
            Duration::from_secs(1),
            TOUCHES_PER_SECOND,
        )),
    };
    waker.look_at_pods(&CacheChange::All);
    waker.look_at_nodes(&CacheChange::All);
    loop {
        let next = waker.next();
        tokio::select! {
            biased;
            () = term.stop.cancelled() => break,
            change = pods.next() => waker.look_at_pods(&change),
            change = nodes.next() => waker.look_at_nodes(&change),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => waker.touch(term).await,
        }
    }
}

impl Waker<'_> {
    fn look_at_pods(&mut self, change: &CacheChange) {
        match change {
            CacheChange::One { name, namespace } => {
                let key = (namespace.clone().unwrap_or_default(), name.clone());
                self.look_at_pod(key);
            }
            CacheChange::All => {
                let mut keys: Vec<PodKey> = self.waiting.keys().cloned().collect();
                let pods = self.context.pods.store().state();
                keys.extend(pods.iter().map(|pod| key_of(pod)));
                for key in keys {
                    self.look_at_pod(key);
                }
            }
        }
    }

    fn look_at_pod(&mut self, key: PodKey) {
        let pod = self.context.pods.get(&key.1, Some(&key.0));
        if let Some(rules) = pod.and_then(|pod| rules_of_waiting(&pod)) {
            self.waiting.insert(key, rules);
        } else {
            self.waiting.remove(&key);
            self.wakes.forget(&key);
        }
    }

    fn look_at_nodes(&mut self, change: &CacheChange) {
        match change {
            CacheChange::One { name, .. } => self.look_at_node(name),
            CacheChange::All => {
                let nodes = self.context.nodes.store().state();
                for name in nodes.iter().map(|node| node.name_any()) {
                    self.look_at_node(&name);
                }
                let context = self.context;
                self.nodes
                    .retain(|name, _| context.nodes.get(name, None).is_some());
            }
        }
    }

    fn look_at_node(&mut self, name: &str) {
        let Some(node) = self.context.nodes.get(name, None) else {
            self.nodes.remove(name);
            return;
        };
        let taints = node.parsed_taints();
        let before = self.nodes.insert(name.to_owned(), taints.clone());
        if before.as_ref() == Some(&taints) {
            return;
        }
        let now = Instant::now();
        for (pod, rules) in &self.waiting {
            let fitted = before.as_ref().is_some_and(|before| fits(rules, before));
            if !fitted && fits(rules, &taints) {
                let version = node.resource_version().unwrap_or_default();
                self.wakes.fits(pod, format!("{name} {version}"), now);
            }
        }
    }

    /// When the next touch may be made, if one is to come.
    fn next(&self) -> Option<Instant> {
        let (_, wake) = self.wakes.next()?;
        let now = Instant::now();
        Some(wake.due.max(now + self.touches.wait(1, now.into_std())))
    }

    async fn touch(&mut self, term: &Term) {
        let now = Instant::now();
        let Some((pod, wake)) = self.wakes.next() else {
            return;
        };
        let (pod, wake) = (pod.clone(), wake.clone());
        if wake.due > now || !term.may_write() || self.touches.take(1, now.into_std()).is_err() {
            return;
        }
        self.wakes.touched(&pod, now);
        let outcome = write(self.context, &pod, &wake).await;
        self.context.metrics.pod_woken(outcome);
    }
}

/// Patches the annotation, and says how that ended.
async fn write(context: &Context, (namespace, name): &PodKey, wake: &Wake) -> &'static str {
    let Some(pod) = context.pods.get(name, Some(namespace)) else {
        return "gone";
    };
    let value = format!("{} {}", wake.cause, wake.touches + 1);
    // A pod of the same name that came in its place must not be touched for it.
    let patch = Patch::Merge(
        json!({ "metadata": { "uid": pod.uid(), "annotations": { TOUCHED: value } } }),
    );
    let api = Api::<WatchedPod>::namespaced(context.client.clone(), namespace);
    let parameters = context.patch_params();
    let patched = api.patch_metadata(name, &parameters, &patch);
    match context.write(patched).await {
        Ok(WriteOutcome::Written | WriteOutcome::DryRun) => {
            tracing::debug!(namespace, pod = name, value, "pod woken");
            "woken"
        }
        Ok(WriteOutcome::Gone | WriteOutcome::Conflict) => "gone",
        Err(error) => {
            tracing::warn!(namespace, pod = name, %error, "pod cannot be woken");
            "failed"
        }
    }
}

fn key_of(pod: &WatchedPod) -> PodKey {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

/// The rules of a pod that has numeric tolerations and no node yet; nothing for any other.
fn rules_of_waiting(pod: &WatchedPod) -> Option<Vec<Rule>> {
    let is_over = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if pod.spec.node_name.is_some() || pod.metadata.deletion_timestamp.is_some() || is_over {
        return None;
    }
    pod.numeric_rules()
}

fn fits(rules: &[Rule], taints: &[ParsedTaint]) -> bool {
    let tolerated = |taint: &ParsedTaint| rules.iter().any(|rule| rule.tolerates(taint));
    let present = |rule: &Rule| taints.iter().any(|taint| rule.tolerates(taint));
    let mut hard = taints
        .iter()
        .filter(|parsed| parsed.taint.effect.forbids_scheduling());
    let mut required = rules.iter().filter(|rule| rule.must_be_present);
    hard.all(tolerated) && required.all(present)
}

#[cfg(test)]
mod tests {
    use pd_tolerations::{Effect, Taint, rewrite::ANNOTATION};

    use super::*;

    fn key(name: &str) -> PodKey {
        ("ns".to_owned(), name.to_owned())
    }

    #[test]
    fn a_pod_is_touched_with_growing_pauses_and_then_left_alone() {
        let start = Instant::now();
        let mut wakes = Wakes::default();
        wakes.fits(&key("a"), "n 1".to_owned(), start);
        let (mut now, mut pauses) = (start, Vec::new());
        while let Some((pod, wake)) = wakes.next() {
            let (pod, due) = (pod.clone(), wake.due);
            pauses.push((due - now).as_secs());
            now = due;
            wakes.touched(&pod, now);
        }
        assert_eq!(pauses, [1, 4, 16, 64]);
    }

    #[test]
    fn another_change_begins_again_and_the_longest_due_is_first() {
        let start = Instant::now();
        let mut wakes = Wakes::default();
        wakes.fits(&key("b"), "n 1".to_owned(), start);
        wakes.fits(
            &key("a"),
            "n 1".to_owned(),
            start + Duration::from_millis(1),
        );
        assert_eq!(wakes.next().unwrap().0, &key("b"));
        wakes.touched(&key("b"), start + PAUSES[0]);
        assert_eq!(wakes.next().unwrap().0, &key("a"));
        wakes.fits(&key("b"), "n 2".to_owned(), start);
        assert_eq!(wakes.next().unwrap().1.touches, 0);
        wakes.forget(&key("b"));
        assert_eq!(wakes.next().unwrap().0, &key("a"));
    }

    fn pod(spec: &serde_json::Value) -> WatchedPod {
        let originals = json!([{ "key": "sla", "operator": "Gt", "value": "900", "index": 0 }]);
        serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "ns", "annotations": { ANNOTATION: originals.to_string() } },
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn only_pods_that_wait_with_numbers_are_woken_and_only_for_nodes_they_fit() {
        let spec = json!({ "tolerations": [{ "key": "sla", "operator": "Exists" }] });
        let rules = rules_of_waiting(&pod(&spec)).unwrap();
        let taints = |value: &str| {
            vec![ParsedTaint::from(Taint::new(
                "sla",
                value,
                Effect::NoExecute,
            ))]
        };
        assert!(fits(&rules, &taints("950")) && !fits(&rules, &taints("900")) && fits(&rules, &[]));
        let mut placed = spec;
        placed["nodeName"] = json!("n");
        assert!(rules_of_waiting(&pod(&placed)).is_none());
        assert!(
            rules_of_waiting(&pod(&json!({}))).is_none(),
            "annotation without its toleration"
        );
        assert!(rules_of_waiting(&WatchedPod::default()).is_none());
    }
}
