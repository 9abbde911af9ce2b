//! The node cache: the taints of every node, by name, from a watch.
//!
//! Keeps nothing else of a node, so that 15,000 of them are a few megabytes. It is filled as a
//! whole before it counts as synced, and a watch that starts over builds its successor beside it:
//! readers see the old cluster or the new one, never a part. While the API server is away the last
//! known taints are used; the scheduler is blind then as well.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use pd_runtime::readiness::ReadinessHandle;
use pd_tolerations::{Taint, extension::ParsedTaint};
use serde::{Deserialize, Serialize};

use crate::extender::NodeView;

/// The fields that are read of a node.
#[derive(Debug, Clone, Serialize, Deserialize, Resource)]
#[resource(inherit = Node)]
pub struct TaintedNode {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: TaintedSpec,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct TaintedSpec {
    taints: Option<Vec<Taint>>,
}

/// The taints of nodes by name, at one moment.
///
/// Nodes of a pool have the same taints, often the same values. Equal ones are kept once, so that a
/// call about many nodes reads memory that the processor has at hand.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    by_name: HashMap<String, Arc<[ParsedTaint]>>,
    distinct: HashSet<Arc<[ParsedTaint]>>,
}

impl Nodes {
    /// Adds a node, or replaces its taints.
    pub fn set(&mut self, name: String, taints: Vec<Taint>) {
        let taints: Arc<[ParsedTaint]> = taints.into_iter().map(ParsedTaint::from).collect();
        let taints = if let Some(known) = self.distinct.get(&taints) {
            Arc::clone(known)
        } else {
            self.distinct.insert(Arc::clone(&taints));
            taints
        };
        if let Some(before) = self.by_name.insert(name, taints) {
            self.forget(&before);
        }
    }

    /// Forgets a node.
    pub fn remove(&mut self, name: &str) {
        if let Some(before) = self.by_name.remove(name) {
            self.forget(&before);
        }
    }

    /// Drops what a node had, and with the last such node the taints themselves.
    fn forget(&mut self, before: &Arc<[ParsedTaint]>) {
        // The caller has one, and `distinct`.
        if Arc::strong_count(before) == 2 {
            self.distinct.remove(before);
        }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl NodeView for Nodes {
    fn taints(&self, node: &str) -> Option<&[ParsedTaint]> {
        self.by_name.get(node).map(|taints| &**taints)
    }
}

/// The cache, shared by its watch and the calls. Clones share the nodes.
#[derive(Debug, Clone, Default)]
pub struct NodeCache {
    nodes: Arc<RwLock<Option<Nodes>>>,
}

impl NodeCache {
    /// The nodes; nothing inside before the first complete list.
    pub fn read(&self) -> RwLockReadGuard<'_, Option<Nodes>> {
        // Each write leaves whole nodes behind, so a panic elsewhere does not spoil them.
        self.nodes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.read().as_ref().map_or(0, Nodes::len)
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes `nodes` the whole cache.
    pub fn replace(&self, nodes: Nodes) {
        *self.write() = Some(nodes);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Nodes>> {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the cache true until the future is dropped, and reports through `ready` when it is
    /// filled.
    pub async fn follow(self, client: Client, ready: ReadinessHandle) {
        ready.set_waiting("the nodes are not listed yet");
        let events = watcher(Api::<TaintedNode>::all(client), watcher::Config::default());
        self.apply(events.default_backoff(), &ready).await;
    }

    async fn apply(
        &self,
        events: impl Stream<Item = Result<Event<TaintedNode>, watcher::Error>>,
        ready: &ReadinessHandle,
    ) {
        let mut events = std::pin::pin!(events);
        let mut listed = Nodes::default();
        let mut is_failing = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    is_failing = false;
                    if self.change(event, &mut listed) {
                        tracing::info!(nodes = self.len(), "nodes listed");
                        ready.set_ready();
                    }
                }
                Err(error) => {
                    if !is_failing {
                        tracing::warn!(%error, "nodes cannot be watched, the last known taints are used");
                    }
                    is_failing = true;
                    if self.read().is_none() {
                        ready.set_waiting(format!("the nodes cannot be listed: {error}"));
                    }
                }
            }
        }
    }

    /// Makes one event's change, and returns whether it completed a list.
    fn change(&self, event: Event<TaintedNode>, listed: &mut Nodes) -> bool {
        match event {
            Event::Init => *listed = Nodes::default(),
            Event::InitApply(node) => node.put(listed),
            Event::InitDone => {
                self.replace(mem::take(listed));
                return true;
            }
            Event::Apply(node) => {
                if let Some(nodes) = self.write().as_mut() {
                    node.put(nodes);
                }
            }
            Event::Delete(node) => {
                if let (Some(nodes), Some(name)) = (self.write().as_mut(), node.metadata.name) {
                    nodes.remove(&name);
                }
            }
        }
        false
    }
}

impl TaintedNode {
    fn put(self, nodes: &mut Nodes) {
        if let Some(name) = self.metadata.name {
            nodes.set(name, self.spec.taints.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream;
    use pd_runtime::{
        readiness::{Check, Readiness},
        shutdown::Shutdown,
    };
    use pd_tolerations::Effect;

    use super::*;

    fn node(name: &str, value: &str) -> TaintedNode {
        TaintedNode {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec: TaintedSpec {
                taints: Some(vec![Taint::new("sla", value, Effect::NoSchedule)]),
            },
        }
    }

    async fn after(events: Vec<Event<TaintedNode>>) -> (NodeCache, Check) {
        let readiness = Readiness::new(Shutdown::new(Duration::ZERO).stopping());
        let ready = readiness.register("nodes");
        let cache = NodeCache::default();
        cache
            .apply(stream::iter(events.into_iter().map(Ok)), &ready)
            .await;
        (cache, readiness.report().checks["nodes"].clone())
    }

    fn value(cache: &NodeCache, name: &str) -> Option<String> {
        let nodes = cache.read();
        let taints = nodes.as_ref()?.taints(name)?;
        taints.first().map(|parsed| parsed.taint.value.clone())
    }

    #[tokio::test]
    async fn the_cache_is_empty_until_the_list_is_complete() {
        let (cache, check) = after(vec![Event::Init, Event::InitApply(node("a", "1"))]).await;
        assert!(cache.read().is_none());
        assert_ne!(check, Check::Ready);
    }

    #[tokio::test]
    async fn changes_are_followed_and_a_new_list_replaces_everything() {
        let listed = vec![
            Event::Init,
            Event::InitApply(node("a", "1")),
            Event::InitApply(node("b", "2")),
            Event::InitDone,
            Event::Apply(node("a", "7")),
            Event::Delete(node("b", "2")),
        ];
        let (cache, check) = after(listed.clone()).await;
        assert_eq!(check, Check::Ready);
        assert_eq!(value(&cache, "a").as_deref(), Some("7"));
        assert_eq!(cache.len(), 1);
        let again = [Event::Init, Event::InitApply(node("c", "3"))];
        let (cache, _) = after([listed, again.to_vec()].concat()).await;
        assert_eq!(value(&cache, "a").as_deref(), Some("7"));
        let (cache, _) = after(vec![
            Event::Init,
            Event::InitApply(node("c", "3")),
            Event::InitDone,
        ])
        .await;
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn equal_taints_are_kept_once_and_gone_with_their_last_node() {
        let taints = |value: &str| vec![Taint::new("sla", value, Effect::NoSchedule)];
        let mut nodes = Nodes::default();
        for name in ["a", "b"] {
            nodes.set(name.to_owned(), taints("950"));
        }
        assert_eq!(nodes.distinct.len(), 1);
        nodes.set("a".to_owned(), taints("800"));
        nodes.set("a".to_owned(), taints("800"));
        assert_eq!(nodes.distinct.len(), 2);
        nodes.remove("b");
        assert_eq!(nodes.distinct.len(), 1);
        assert_eq!(nodes.taints("a").unwrap()[0].number, Some(800));
        nodes.remove("a");
        assert!(nodes.distinct.is_empty() && nodes.is_empty());
    }

    #[test]
    fn a_whole_node_is_read_down_to_its_taints() {
        let json = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"},"spec":{"podCIDR":"x","taints":[{"key":"sla","value":"950","effect":"NoExecute","timeAdded":"2026-01-01T00:00:00Z"}]},"status":{"images":[]}}"#;
        let mut nodes = Nodes::default();
        serde_json::from_str::<TaintedNode>(json)
            .unwrap()
            .put(&mut nodes);
        assert_eq!(nodes.taints("n").unwrap()[0].number, Some(950));
        serde_json::from_str::<TaintedNode>(r#"{"metadata":{"name":"m"}}"#)
            .unwrap()
            .put(&mut nodes);
        assert!(nodes.taints("m").unwrap().is_empty());
    }
}
