//! A small cluster: an API server with versions, owners that make pods again, and a scheduler.

use std::collections::{BTreeMap, BTreeSet};

use pd_placement::{
    gate::{Action, GateSettings, PodState, PodVersion, Record, Seen, SeenGroup, SeenPod},
    group::{Group, Role},
    node::{Node, Occupant},
    pod::PodShape,
    resources::{PODS, Resources},
    topology::{Level, Topology},
};

pub(crate) const GPU: &str = "nvidia.com/gpu";

/// The label of a node's own name.
pub(crate) const HOST: &str = "kubernetes.io/hostname";

/// Why a request came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The object is at another version, or gone.
    Conflict,
}

/// A group with its owner's wishes.
#[derive(Clone, Debug)]
pub(crate) struct OwnedGroup {
    pub(crate) rules: Group,
    pub(crate) pods_per_replica: BTreeMap<String, u32>,
    pub(crate) has_topology: bool,
    pub(crate) record: Record,
    pub(crate) version: u64,
    /// Replicas and GPUs of a pod, by role.
    pub(crate) owned: BTreeMap<String, (u32, i64)>,
    /// Whether its pods are made again.
    pub(crate) has_owner: bool,
    /// Whether somebody else gates its pods, too.
    pub(crate) is_gated_by_others: bool,
    /// Labels of the node selectors that somebody else gives to its pods, by role: each label to
    /// one pod of those that are there, and the first again where there are more pods.
    pub(crate) directions: BTreeMap<String, Vec<(&'static str, String)>>,
}

/// The cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) now_seconds: u64,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) groups: BTreeMap<String, OwnedGroup>,
    /// Pods of groups, by UID, with the group.
    pub(crate) pods: BTreeMap<String, (String, SeenPod)>,
    /// Pods of others, by name: node and GPUs.
    pub(crate) fillers: BTreeMap<String, (String, i64)>,
    pub(crate) settings: GateSettings,
    made: u64,
}

pub(crate) fn amounts(gpus: i64) -> Resources {
    [(GPU.to_owned(), gpus), (PODS.to_owned(), 1)]
        .into_iter()
        .collect()
}

pub(crate) fn node(name: &str, block: &str, rack: &str, gpus: i64) -> Node {
    Node {
        name: name.to_owned(),
        labels: [("block", block), ("rack", rack), (HOST, name)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        is_ready: true,
        allocatable: [(GPU.to_owned(), gpus), (PODS.to_owned(), 110)]
            .into_iter()
            .collect(),
        ..Node::default()
    }
}

pub(crate) fn topology() -> Topology {
    let levels = vec![Level::new("block", "block"), Level::new("rack", "rack")];
    Topology::new(levels).unwrap()
}

/// A group of roles with a name, least replicas, replicas that are made, and GPUs of a pod.
pub(crate) fn group(name: &str, of: &[(&str, u32, u32, i64)]) -> OwnedGroup {
    let rules = Group {
        name: name.to_owned(),
        roles: of
            .iter()
            .map(|(name, min, _, _)| Role {
                name: (*name).to_owned(),
                min: *min,
                ..Role::default()
            })
            .collect(),
        ..Group::default()
    };
    OwnedGroup {
        rules,
        pods_per_replica: BTreeMap::new(),
        has_topology: true,
        record: Record::default(),
        version: 1,
        owned: of
            .iter()
            .map(|(name, _, made, gpus)| ((*name).to_owned(), (*made, *gpus)))
            .collect(),
        has_owner: true,
        is_gated_by_others: false,
        directions: BTreeMap::new(),
    }
}

impl Cluster {
    pub(crate) fn new(nodes: Vec<Node>, groups: Vec<OwnedGroup>) -> Self {
        Self {
            now_seconds: 1_000_000,
            nodes: nodes
                .into_iter()
                .map(|node| (node.name.clone(), node))
                .collect(),
            groups: groups
                .into_iter()
                .map(|group| (group.rules.name.clone(), group))
                .collect(),
            ..Self::default()
        }
    }

    /// All that a controller sees that has read everything now.
    pub(crate) fn seen(&self) -> Seen {
        let mut nodes: BTreeMap<&str, Node> = self
            .nodes
            .iter()
            .map(|(name, node)| (name.as_str(), node.clone()))
            .collect();
        for (name, (node, gpus)) in &self.fillers {
            if let Some(node) = nodes.get_mut(node.as_str()) {
                node.occupants.push(Occupant {
                    name: name.clone(),
                    requests: amounts(*gpus),
                    ..Occupant::default()
                });
            }
        }
        let groups = self.groups.values().map(|group| SeenGroup {
            rules: group.rules.clone(),
            pods_per_replica: group.pods_per_replica.clone(),
            topology_name: "default".to_owned(),
            topology: if group.has_topology {
                Ok(topology())
            } else {
                Err("ClusterTopology `default` is not there".to_owned())
            },
            record: group.record.clone(),
            pods: self.pods_of(&group.rules.name).cloned().collect(),
        });
        Seen {
            now_seconds: self.now_seconds,
            groups: groups.collect(),
            nodes: nodes.into_values().collect(),
            settings: self.settings,
        }
    }

    pub(crate) fn pods_of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a SeenPod> {
        self.pods
            .values()
            .filter(move |(of, _)| of == group)
            .map(|(_, pod)| pod)
    }

    /// Owners make the pods that are missing, and end those that are too many.
    pub(crate) fn owners_act(&mut self) {
        for group in self.groups.clone().values() {
            for (role, (replicas, gpus)) in &group.owned {
                let whole = group.pods_per_replica.get(role).copied().unwrap_or(1);
                if whole == 1 {
                    self.deployment_acts(group, role, *replicas, *gpus);
                } else {
                    self.set_of_groups_acts(group, role, (*replicas, whole), *gpus);
                }
            }
        }
    }

    fn live_pods(&self, group: &OwnedGroup, role: &str) -> Vec<SeenPod> {
        self.pods_of(&group.rules.name)
            .filter(|pod| pod.role == role && !pod.is_ending)
            .filter(|pod| !matches!(pod.state, PodState::Ended { .. }))
            .cloned()
            .collect()
    }

    fn deployment_acts(&mut self, group: &OwnedGroup, role: &str, replicas: u32, gpus: i64) {
        let mut there = self.live_pods(group, role);
        let wanted = usize::try_from(replicas).unwrap();
        for pod in there.split_off(there.len().min(wanted)) {
            self.end(&pod.uid);
        }
        if !group.has_owner && !there.is_empty() {
            return;
        }
        for _ in there.len()..wanted {
            self.made += 1;
            let text = format!("{}-{role}-{}", group.rules.name, self.made);
            self.make(group, role, (&text, "pod"), gpus);
        }
    }

    fn set_of_groups_acts(
        &mut self,
        group: &OwnedGroup,
        role: &str,
        (replicas, whole): (u32, u32),
        gpus: i64,
    ) {
        let there = self.live_pods(group, role);
        let mut wanted = BTreeSet::new();
        for replica in 0..replicas {
            for pod in 0..whole {
                let kind = if pod == 0 { "leader" } else { "worker" };
                let text = format!("{}-{role}-{replica}-{pod}", group.rules.name);
                if !there.iter().any(|known| known.name == text) {
                    self.make_named(group, role, (&text, &format!("{replica}"), kind), gpus);
                }
                wanted.insert(text);
            }
        }
        for pod in there.iter().filter(|pod| !wanted.contains(&pod.name)) {
            self.end(&pod.uid);
        }
    }

    fn make(&mut self, group: &OwnedGroup, role: &str, (name, kind): (&str, &str), gpus: i64) {
        self.make_named(group, role, (name, name, kind), gpus);
    }

    fn make_named(
        &mut self,
        group: &OwnedGroup,
        role: &str,
        (name, replica, kind): (&str, &str, &str),
        gpus: i64,
    ) {
        let node_selector = self.direction(group, role).into_iter().collect();
        self.made += 1;
        let uid = format!("uid-{}", self.made);
        let pod = SeenPod {
            name: name.to_owned(),
            uid: uid.clone(),
            resource_version: format!("{}", self.made),
            created_seconds: self.now_seconds,
            role: role.to_owned(),
            replica: replica.to_owned(),
            kind: kind.to_owned(),
            priority: 0,
            shape: Ok(PodShape {
                requests: amounts(gpus),
                node_selector,
                ..PodShape::default()
            }),
            has_owner: group.has_owner,
            is_ours: false,
            is_ending: false,
            marked: None,
            state: if group.is_gated_by_others {
                PodState::GatedByOthers
            } else {
                PodState::Gated
            },
        };
        self.pods.insert(uid, (group.rules.name.clone(), pod));
    }

    /// The label that the fewest pods of the role have.
    fn direction(&self, group: &OwnedGroup, role: &str) -> Option<(String, String)> {
        let labels = group.directions.get(role)?.iter();
        let pods = self.live_pods(group, role);
        let label = labels.min_by_key(|(key, value)| {
            let has_it = |pod: &&SeenPod| {
                let selector = &pod.shape.as_ref().unwrap().node_selector;
                selector.get(*key) == Some(value)
            };
            pods.iter().filter(has_it).count()
        });
        label.map(|(key, value)| ((*key).to_owned(), value.clone()))
    }

    /// A pod gets another version.
    pub(crate) fn change(&mut self, uid: &str, change: impl FnOnce(&mut SeenPod)) {
        self.made += 1;
        if let Some((_, pod)) = self.pods.get_mut(uid) {
            change(pod);
            pod.resource_version = format!("{}", self.made);
        }
    }

    /// A pod begins to end: one without a node is gone at once.
    pub(crate) fn end(&mut self, uid: &str) {
        let is_bound = self
            .pods
            .get(uid)
            .is_some_and(|(_, pod)| matches!(pod.state, PodState::Bound { .. }));
        if is_bound {
            self.change(uid, |pod| pod.is_ending = true);
        } else {
            self.pods.remove(uid);
        }
    }

    /// Kubelets finish what is ending.
    pub(crate) fn kubelets_act(&mut self) {
        self.pods.retain(|_, (_, pod)| !pod.is_ending);
    }

    /// Free GPUs of a node, as the scheduler sees it.
    pub(crate) fn free(&self, name: &str) -> i64 {
        let Some(node) = self.nodes.get(name) else {
            return -1;
        };
        let of_pods = self.pods.values().filter_map(|(_, pod)| match &pod.state {
            PodState::Bound { node } if node == name => {
                Some(pod.shape.as_ref().unwrap().requests.get(GPU))
            }
            _ => None,
        });
        let of_fillers = self
            .fillers
            .values()
            .filter(|(node, _)| node == name)
            .map(|(_, gpus)| *gpus);
        node.allocatable.get(GPU) - of_pods.chain(of_fillers).sum::<i64>()
    }

    /// The scheduler tries these pods, in this order.
    pub(crate) fn schedule(&mut self, uids: &[String]) {
        for uid in uids {
            let Some((_, pod)) = self.pods.get(uid).cloned() else {
                continue;
            };
            let PodState::Released { node } = &pod.state else {
                continue;
            };
            let shape = pod.shape.clone().unwrap();
            let gpus = shape.requests.get(GPU);
            let names: Vec<String> = match node {
                Some(node) => vec![node.clone()],
                None => self.nodes.keys().cloned().collect(),
            };
            let fits = names.into_iter().find(|name| {
                let node = self.nodes.get(name);
                node.is_some_and(|node| shape.unfit(node).is_none()) && self.free(name) >= gpus
            });
            if let Some(node) = fits {
                self.change(uid, |pod| pod.state = PodState::Bound { node });
            }
        }
    }

    /// Every pod that the scheduler may try.
    pub(crate) fn released(&self) -> Vec<String> {
        let pods = self.pods.iter();
        pods.filter(|(_, (_, pod))| matches!(pod.state, PodState::Released { .. }))
            .map(|(uid, _)| uid.clone())
            .collect()
    }

    /// Carries out an action, as the API server does, of a controller that saw `seen`.
    pub(crate) fn carry_out(
        &mut self,
        action: &Action,
        versions: &BTreeMap<String, u64>,
    ) -> Result<(), Failure> {
        match action {
            Action::Write { group, record } => {
                let known = versions.get(group).copied();
                let found = self.groups.get_mut(group).ok_or(Failure::Conflict)?;
                if known != Some(found.version) {
                    return Err(Failure::Conflict);
                }
                found.record = (**record).clone();
                found.version += 1;
            }
            Action::Release { pod, node, .. } => {
                self.current(pod, true)?;
                let node = Some(node.clone());
                self.change(&pod.uid, |pod| {
                    pod.is_ours = true;
                    pod.state = PodState::Released { node };
                });
            }
            Action::Mark { pod, state, .. } => {
                self.current(pod, false)?;
                let state = *state;
                self.change(&pod.uid, |pod| pod.marked = Some(state));
            }
            Action::End { pod, .. } => {
                self.current(pod, false)?;
                self.end(&pod.uid);
            }
        }
        Ok(())
    }

    fn current(&self, pod: &PodVersion, exactly: bool) -> Result<(), Failure> {
        let (_, found) = self.pods.get(&pod.uid).ok_or(Failure::Conflict)?;
        if exactly && found.resource_version != pod.resource_version {
            return Err(Failure::Conflict);
        }
        Ok(())
    }

    pub(crate) fn versions(&self) -> BTreeMap<String, u64> {
        self.groups
            .iter()
            .map(|(name, group)| (name.clone(), group.version))
            .collect()
    }

    /// A node is gone, and the pods on it with it.
    pub(crate) fn lose(&mut self, name: &str) {
        self.nodes.remove(name);
        self.fillers.retain(|_, (node, _)| node != name);
        self.pods
            .retain(|_, (_, pod)| !matches!(&pod.state, PodState::Bound { node } if node == name));
    }

    /// Lets a controller without faults work for some seconds.
    pub(crate) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.owners_act();
            let versions = self.versions();
            for action in pd_placement::gate::step(&self.seen()) {
                let _ = self.carry_out(&action, &versions);
            }
            self.schedule(&self.released());
            self.kubelets_act();
            self.now_seconds += 1;
        }
    }

    /// Nodes of a group's bound pods.
    pub(crate) fn nodes_of(&self, group: &str) -> BTreeMap<String, String> {
        let bound = self.pods_of(group).filter_map(|pod| match &pod.state {
            PodState::Bound { node } => Some((pod.name.clone(), node.clone())),
            _ => None,
        });
        bound.collect()
    }

    /// Racks of a group's bound pods.
    pub(crate) fn racks_of(&self, group: &str) -> BTreeSet<(String, String)> {
        let nodes = self.nodes_of(group).into_values();
        nodes
            .filter_map(|node| {
                let labels = &self.nodes.get(&node)?.labels;
                Some((labels["block"].clone(), labels["rack"].clone()))
            })
            .collect()
    }
}
