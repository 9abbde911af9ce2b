//! The eviction queue: which rewritten pod of a whole cluster leaves its node when, as a state
//! machine without clock or client.
//!
//! Nodes and pods go in as they are seen, with the time. What comes out is what begins or ends to
//! wait ([`DeadlineChange`]), when to look again ([`EvictionQueue::next`]), and who leaves now
//! ([`EvictionQueue::requests`]). By default the times are those of the taint-eviction controller:
//! a pod is judged when its node's `NoExecute` taints or its tolerations change and never
//! otherwise, a deadline is kept while it is bounded, is gone with the node's taints, and starts
//! again after a restart.
//!
//! Where the cluster's own controller ends a pod's time as early by the stored list, it is left to
//! it. A request is given once: until [`EvictionQueue::finish`] says what became of it, and never
//! again after it was carried out. One that failed is judged again, and tried again later and
//! later. Options are named, and off by default.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    pod_eviction::PodEviction,
    rate_limit::Buckets,
    request::{DeadlineChange, EvictionOptions, EvictionRequest, PlacedPod, RequestOutcome},
};
use crate::{Effect, Taint, time::Moment};

/// A pod that goes this long before its deadline went because of it: clocks differ, and the
/// cluster's may be ahead.
const CLOCKS_DIFFER: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct KnownNode {
    taints: Vec<Taint>,
    domain: String,
}

#[derive(Clone, Debug)]
struct Tracked {
    eviction: PodEviction,
    timer: Option<Timer>,
}

/// A moment to look at a pod again, and its deadline, by which pods of the same moment are ordered.
type Timer = (Timestamp, Timestamp, String);
/// Namespace and name.
type Group = (String, String);

/// The state machine.
#[derive(Clone, Debug, Default)]
pub struct EvictionQueue {
    options: EvictionOptions,
    buckets: Buckets,
    nodes: BTreeMap<String, KnownNode>,
    pods: BTreeMap<String, Tracked>,
    on_node: BTreeMap<String, BTreeSet<String>>,
    groups: BTreeMap<Group, BTreeSet<String>>,
    timers: BTreeSet<Timer>,
}

impl EvictionQueue {
    /// An empty queue.
    pub fn new(options: EvictionOptions) -> Self {
        Self {
            options,
            buckets: Buckets::new(options.rate),
            ..Self::default()
        }
    }

    /// A node as it is now. The rate limit counts by `domain`.
    pub fn node(
        &mut self,
        name: &str,
        taints: &[Taint],
        domain: &str,
        now: Timestamp,
    ) -> Vec<DeadlineChange> {
        let taints: Vec<Taint> = evicting(taints).cloned().collect();
        let is_same = self
            .nodes
            .get(name)
            .is_some_and(|node| node.taints == taints);
        let domain = domain.to_owned();
        self.nodes
            .insert(name.to_owned(), KnownNode { taints, domain });
        if is_same {
            return Vec::new();
        }
        let uids = self.on_node.get(name).cloned().unwrap_or_default();
        uids.iter()
            .filter_map(|uid| self.reconsider(uid, now))
            .collect()
    }

    /// A node that is gone. Deadlines stay, as upstream leaves them; its pods' own end comes from
    /// elsewhere.
    pub fn node_gone(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// A pod as it is now, placed and not terminating.
    pub fn pod(&mut self, pod: PlacedPod, now: Timestamp) -> Option<DeadlineChange> {
        let uid = pod.id.uid.clone();
        if let Some(tracked) = self.pods.get_mut(&uid) {
            let before = tracked.eviction.replace_pod(pod.clone())?;
            unlist(&mut self.on_node, &before.node, &uid);
            if let Some(group) = group(&before) {
                unlist(&mut self.groups, &group, &uid);
            }
        } else {
            let eviction = PodEviction::new(pod.clone());
            let timer = None;
            self.pods.insert(uid.clone(), Tracked { eviction, timer });
        }
        if let Some(group) = group(&pod) {
            self.groups.entry(group).or_default().insert(uid.clone());
        }
        self.on_node
            .entry(pod.node)
            .or_default()
            .insert(uid.clone());
        self.reconsider(&uid, now)
    }

    /// A pod that is gone or terminating, whoever ended it.
    pub fn pod_gone(&mut self, uid: &str, now: Timestamp) {
        let Some(tracked) = self.pods.remove(uid) else {
            return;
        };
        if let Some(timer) = &tracked.timer {
            self.timers.remove(timer);
        }
        let pod = tracked.eviction.pod();
        unlist(&mut self.on_node, &pod.node, uid);
        if let Some(group) = group(pod) {
            unlist(&mut self.groups, &group, uid);
        }
        if tracked.eviction.was_kept_by(now.later(CLOCKS_DIFFER)) {
            self.follow(pod, now);
        }
    }

    /// Whether a node has other `NoExecute` taints than when it was last seen; one that is not
    /// known had none.
    pub fn has_changed(&self, node: &str, taints: &[Taint]) -> bool {
        let before: &[Taint] = self.nodes.get(node).map_or(&[], |node| &node.taints);
        !before.iter().eq(evicting(taints))
    }

    /// The UIDs of all pods that are known.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(String::as_str)
    }

    /// The names of all nodes that are known.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// How many pods wait or go by our hand.
    pub fn pending(&self) -> usize {
        let ours = |tracked: &&Tracked| tracked.eviction.is_ours();
        self.pods.values().filter(ours).count()
    }

    /// When to ask for requests next; nothing while no pod waits.
    pub fn next(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, ..)| *at)
    }

    /// The pods that leave now, the longest overdue first. Each is given once until it is settled.
    pub fn requests(&mut self, now: Timestamp) -> Vec<EvictionRequest> {
        let is_due = |(at, ..): &&Timer| *at <= now;
        let due: Vec<Timer> = self.timers.iter().take_while(is_due).cloned().collect();
        let by_deadline: BTreeSet<(Timestamp, String)> =
            due.into_iter().map(|(_, due, uid)| (due, uid)).collect();
        let mut requests = Vec::new();
        for (_, uid) in by_deadline {
            requests.extend(self.request(&uid, now));
            self.set_timer(&uid);
        }
        requests
    }

    /// Records the outcome of a request. A pod that has not left is judged again, for much may have
    /// changed meanwhile.
    pub fn finish(
        &mut self,
        uid: &str,
        outcome: RequestOutcome,
        now: Timestamp,
    ) -> Option<DeadlineChange> {
        let tracked = self.pods.get_mut(uid)?;
        if tracked.eviction.finish(outcome, now) {
            let pod = tracked.eviction.pod().clone();
            self.follow(&pod, now);
        }
        self.reconsider(uid, now)
    }

    /// Judges a pod again. While its node is not known nothing changes, as upstream has it.
    fn reconsider(&mut self, uid: &str, now: Timestamp) -> Option<DeadlineChange> {
        let tracked = self.pods.get_mut(uid)?;
        let node = self.nodes.get(&tracked.eviction.pod().node);
        let change = node.and_then(|node| tracked.eviction.judge(&node.taints, self.options, now));
        self.set_timer(uid);
        change
    }

    fn request(&mut self, uid: &str, now: Timestamp) -> Option<EvictionRequest> {
        let eviction = &self.pods.get(uid)?.eviction;
        let pod = eviction.pod();
        let members = group(pod).and_then(|group| self.groups.get(&group));
        let evictions = members.into_iter().flatten();
        let evictions = evictions.filter_map(|uid| Some(&self.pods.get(uid)?.eviction));
        let (mut count, mut is_led) = (0_u32, false);
        for member in evictions {
            count = count.saturating_add(u32::from(!member.is_on_its_way()));
            is_led |= member.is_on_its_way();
        }
        let domain = self.nodes.get(&pod.node).map_or("", |node| &node.domain);
        // The first of a group is charged for all of it.
        let count = if is_led { 0 } else { count.max(1) };
        let buckets = &mut self.buckets;
        let charge = || buckets.take(domain, count, now);
        self.pods.get_mut(uid)?.eviction.request(now, charge)
    }

    /// The rest of a group follows the first that left.
    fn follow(&mut self, first: &PlacedPod, now: Timestamp) {
        let members = group(first).and_then(|group| self.groups.get(&group).cloned());
        for uid in members.into_iter().flatten() {
            if let Some(tracked) = self.pods.get_mut(&uid) {
                tracked.eviction.follow(&first.id.name, now);
            }
            self.set_timer(&uid);
        }
    }

    fn set_timer(&mut self, uid: &str) {
        let Some(tracked) = self.pods.get_mut(uid) else {
            return;
        };
        let wanted = tracked.eviction.timer();
        let wanted = wanted.map(|(at, due)| (at, due, uid.to_owned()));
        if let Some(timer) = &tracked.timer {
            self.timers.remove(timer);
        }
        self.timers.extend(wanted.clone());
        tracked.timer = wanted;
    }
}

fn evicting(taints: &[Taint]) -> impl Iterator<Item = &Taint> {
    let evicts = |taint: &&Taint| taint.effect == Effect::NoExecute;
    taints.iter().filter(evicts)
}

fn group(pod: &PlacedPod) -> Option<Group> {
    let group = pod.group.clone()?;
    Some((pod.id.namespace.clone(), group))
}

fn unlist<K: Ord>(lists: &mut BTreeMap<K, BTreeSet<String>>, key: &K, uid: &str) {
    if let Some(list) = lists.get_mut(key) {
        list.remove(uid);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}
