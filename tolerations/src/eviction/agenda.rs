//! Who leaves which node when: the rewritten pods of a whole cluster as a state machine, without clock or client.
//!
//! Nodes and pods go in as they are seen, with the time; what comes out is what begins or ends to wait ([`Change`]), when to
//! look again ([`Agenda::next`]), and who leaves now ([`Agenda::orders`]). By default the times are those of the
//! taint-eviction controller, to the millisecond: judged anew when a node's `NoExecute` taints or a pod's tolerations
//! change and never otherwise, a deadline kept while it is bounded, gone with the node's taints, anew after a restart.
//!
//! Where the cluster's own controller ends a pod's stay as early by the stored list, it is left to it. An order is given
//! once: until [`Agenda::settle`] says what became of it, and never again after it was carried out. One that failed is
//! judged anew, and tried again later and later. Options are named, and off by default.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Pending,
    appointment::Appointment,
    pace::{Buckets, Pace},
    wishes::{Because, Wishes},
};
use crate::{Effect, Taint, time::later};

/// A pod that goes this long before its deadline went because of it: clocks differ, and the cluster's may be ahead.
const CLOCKS_DIFFER: Duration = Duration::from_secs(1);

/// Where the agenda goes beyond upstream. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A later evaluation with a shorter time brings a deadline forward, counted from where it began.
    pub shorten: bool,
    /// A later evaluation with a longer time puts a deadline off, counted from where it began.
    pub lengthen: bool,
    /// How fast a domain may lose pods.
    pub pace: Option<Pace>,
}

/// Which pod. A pod of the same name with another UID is another pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodId {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A pod that runs on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPod {
    /// Which.
    pub id: PodId,
    /// Its node.
    pub node: String,
    /// What it asks for; nothing if it is not rewritten, and only here for its group.
    pub wishes: Option<Wishes>,
    /// Pods of a namespace that leave together.
    pub group: Option<String>,
    /// A deadline that an earlier process left. Read when the pod is first seen.
    pub persisted: Option<Pending>,
}

/// What began or ended to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The pod leaves at `pending.due`, unless something changes.
    Waits {
        /// Which.
        pod: PodId,
        /// Since when, and until when.
        pending: Pending,
        /// Why.
        because: Because,
        /// Who ends it.
        by: By,
    },
    /// The pod stays: its node's taints are gone or tolerated for ever.
    Cancelled {
        /// Which.
        pod: PodId,
        /// Who would have ended it.
        by: By,
    },
}

/// Who ends a pod's stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Whoever asks for [`Agenda::orders`].
    Us,
    /// The cluster's own controller, by the stored list.
    Cluster,
}

/// A pod that leaves now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which.
    pub pod: PodId,
    /// Its node.
    pub node: String,
    /// Why.
    pub because: Because,
    /// When it had to leave; the pace and failures may have kept it.
    pub due: Timestamp,
    /// How often it was tried before.
    pub attempt: u32,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The pod is leaving, or gone already.
    Leaves,
    /// A disruption budget does not allow it yet.
    Refused,
    /// It did not work, or must not be done as things are.
    Failed,
}

#[derive(Clone, Debug)]
struct KnownNode {
    taints: Vec<Taint>,
    domain: String,
}

#[derive(Clone, Debug)]
struct Tracked {
    appointment: Appointment,
    timer: Option<Timer>,
}

/// A moment to look at a pod again, and its deadline, by which pods of the same moment are ordered.
type Timer = (Timestamp, Timestamp, String);
/// Namespace and name.
type Group = (String, String);

/// The state machine.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    options: Options,
    buckets: Buckets,
    nodes: BTreeMap<String, KnownNode>,
    pods: BTreeMap<String, Tracked>,
    on_node: BTreeMap<String, BTreeSet<String>>,
    groups: BTreeMap<Group, BTreeSet<String>>,
    timers: BTreeSet<Timer>,
}

impl Agenda {
    /// Nobody on it.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            buckets: Buckets::new(options.pace),
            ..Self::default()
        }
    }

    /// A node as it is now. `domain` is what the pace counts by.
    pub fn node(
        &mut self,
        name: &str,
        taints: &[Taint],
        domain: &str,
        now: Timestamp,
    ) -> Vec<Change> {
        let taints: Vec<Taint> = evicting(taints).cloned().collect();
        let is_same = self
            .nodes
            .get(name)
            .is_some_and(|known| known.taints == taints);
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

    /// A node that is gone. Deadlines stay, as upstream leaves them; its pods' own end comes from elsewhere.
    pub fn node_gone(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// A pod as it is now, placed and not terminating.
    pub fn pod(&mut self, pod: PlacedPod, now: Timestamp) -> Option<Change> {
        let uid = pod.id.uid.clone();
        if let Some(tracked) = self.pods.get_mut(&uid) {
            let before = tracked.appointment.replace_pod(pod.clone())?;
            unlist(&mut self.on_node, &before.node, &uid);
            if let Some(group) = group(&before) {
                unlist(&mut self.groups, &group, &uid);
            }
        } else {
            let appointment = Appointment::new(pod.clone());
            let timer = None;
            self.pods
                .insert(uid.clone(), Tracked { appointment, timer });
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
        let pod = tracked.appointment.pod();
        unlist(&mut self.on_node, &pod.node, uid);
        if let Some(group) = group(pod) {
            unlist(&mut self.groups, &group, uid);
        }
        if tracked.appointment.was_kept_by(later(now, CLOCKS_DIFFER)) {
            self.follow(pod, now);
        }
    }

    /// Whether a node has other `NoExecute` taints than when it was last seen; one that is not known had none.
    pub fn has_changed(&self, node: &str, taints: &[Taint]) -> bool {
        let before: &[Taint] = self.nodes.get(node).map_or(&[], |known| &known.taints);
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
        let ours = |tracked: &&Tracked| tracked.appointment.is_ours();
        self.pods.values().filter(ours).count()
    }

    /// When to ask for orders next; nothing while no pod waits.
    pub fn next(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, ..)| *at)
    }

    /// The pods that leave now, the longest overdue first. Each is given once until it is settled.
    pub fn orders(&mut self, now: Timestamp) -> Vec<Order> {
        let is_due = |(at, ..): &&Timer| *at <= now;
        let due: Vec<Timer> = self.timers.iter().take_while(is_due).cloned().collect();
        let by_deadline: BTreeSet<(Timestamp, String)> =
            due.into_iter().map(|(_, due, uid)| (due, uid)).collect();
        let mut orders = Vec::new();
        for (_, uid) in by_deadline {
            orders.extend(self.order(&uid, now));
            self.set_timer(&uid);
        }
        orders
    }

    /// Says what became of an order. A pod that has not left is judged anew, for much may have changed meanwhile.
    pub fn settle(&mut self, uid: &str, settled: Settled, now: Timestamp) -> Option<Change> {
        let tracked = self.pods.get_mut(uid)?;
        if tracked.appointment.settle(settled, now) {
            let pod = tracked.appointment.pod().clone();
            self.follow(&pod, now);
        }
        self.reconsider(uid, now)
    }

    /// Judges a pod anew. While its node is not known nothing changes, as upstream has it.
    fn reconsider(&mut self, uid: &str, now: Timestamp) -> Option<Change> {
        let tracked = self.pods.get_mut(uid)?;
        let node = self.nodes.get(&tracked.appointment.pod().node);
        let change =
            node.and_then(|node| tracked.appointment.judge(&node.taints, self.options, now));
        self.set_timer(uid);
        change
    }

    fn order(&mut self, uid: &str, now: Timestamp) -> Option<Order> {
        let appointment = &self.pods.get(uid)?.appointment;
        let pod = appointment.pod();
        let members = group(pod).and_then(|group| self.groups.get(&group));
        let appointments = members.into_iter().flatten();
        let appointments = appointments.filter_map(|uid| Some(&self.pods.get(uid)?.appointment));
        let (mut count, mut is_led) = (0_u32, false);
        for member in appointments {
            count = count.saturating_add(u32::from(!member.is_on_its_way()));
            is_led |= member.is_on_its_way();
        }
        let domain = self.nodes.get(&pod.node).map_or("", |node| &node.domain);
        // The first of a group is charged for all of it.
        let count = if is_led { 0 } else { count.max(1) };
        let buckets = &mut self.buckets;
        let charge = || buckets.take(domain, count, now);
        self.pods.get_mut(uid)?.appointment.order(now, charge)
    }

    /// The rest of a group follows the first that left.
    fn follow(&mut self, first: &PlacedPod, now: Timestamp) {
        let members = group(first).and_then(|group| self.groups.get(&group).cloned());
        for uid in members.into_iter().flatten() {
            if let Some(tracked) = self.pods.get_mut(&uid) {
                tracked.appointment.follow(&first.id.name, now);
            }
            self.set_timer(&uid);
        }
    }

    fn set_timer(&mut self, uid: &str) {
        let Some(tracked) = self.pods.get_mut(uid) else {
            return;
        };
        let wanted = tracked.appointment.timer();
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
