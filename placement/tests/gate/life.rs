//! Lives of clusters: nodes come and go, others take places, requests fail, answers are lost,
//! caches are behind, the controller is killed. Every promise is checked after every change.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};

use pd_placement::{
    gate::{Action, GateSettings, GroupState, PodState, Seen, SeenPod, step},
    group::{OnLoss, PodKind},
    node::Occupant,
    place,
    pod::PodShape,
    problem::Problem,
};

use crate::{
    chance::Chance,
    cluster::{Cluster, HOST, OwnedGroup, group, node, topology},
    promises::Observer,
};

/// Lives that the test command plays.
const SEEDS: u64 = 150;

/// Seconds of trouble, and of peace after it. Peace is longer than all pauses together.
const TROUBLE_SECONDS: u64 = 240;
const PEACE_SECONDS: u64 = 300;

/// Shorter than the default ones, so that a life has many of each.
const SETTINGS: GateSettings = GateSettings {
    window_seconds: 20,
    protect_seconds: 30,
    retry_seconds: 2,
    retry_max_seconds: 40,
    exclude_seconds: 60,
    mark_seconds: 2,
    planner: pd_placement::problem::Settings {
        patience_seconds: 60,
        work_max: 4_000_000,
    },
};

/// A cluster, and a controller whose caches are behind. It waits until they show its own writes.
struct Life {
    cluster: Cluster,
    chance: Chance,
    observer: Observer,
    /// Clusters of before, of which caches show one.
    past: Vec<(Cluster, BTreeMap<String, u64>)>,
    /// The moment that each cache shows: nodes, pods, groups.
    behind: [usize; 3],
    /// Versions that the caches have to show before the controller acts again: of pods by UID and
    /// of groups by name.
    written: Written,
    made: usize,
}

/// Objects that the controller wrote, and the versions that came of it.
#[derive(Default)]
struct Written {
    pods: BTreeMap<String, u64>,
    groups: BTreeMap<String, u64>,
}

impl Written {
    /// Reads the version after an action. The controller does so too when an answer is lost.
    fn note(&mut self, cluster: &Cluster, action: &Action) {
        match action {
            Action::Write { group, .. } => {
                let version = cluster.groups[group].version;
                self.groups.insert(group.clone(), version);
            }
            Action::Release { pod, .. } => {
                if let Some((_, found)) = cluster.pods.get(&pod.uid) {
                    self.pods.insert(pod.uid.clone(), version(found));
                }
            }
            Action::Mark { .. } | Action::End { .. } => {}
        }
    }

    /// Whether caches with these pods and groups show all. A pod that is gone shows nothing.
    fn is_shown(&self, pods: &Cluster, groups: &Cluster) -> bool {
        let has_pod = |(uid, version_then): (&String, &u64)| {
            let found = pods.pods.get(uid);
            found.is_none_or(|(_, pod)| version(pod) >= *version_then)
        };
        let has_group = |(name, version): (&String, &u64)| groups.groups[name].version >= *version;
        self.pods.iter().all(has_pod) && self.groups.iter().all(has_group)
    }
}

fn version(pod: &SeenPod) -> u64 {
    pod.resource_version.parse().unwrap()
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut nodes = Vec::new();
        for place in 0..3 + chance.below(6) {
            let block = ["b1", "b2"][chance.below(2)];
            let rack = ["r1", "r2"][chance.below(2)];
            nodes.push(node(
                &format!("n{place}"),
                block,
                rack,
                4 + 4 * i64::from(chance.happens(60)),
            ));
        }
        let groups = (0..=chance.below(4)).map(|number| a_group(number, &mut chance));
        let mut cluster = Cluster::new(nodes, groups.collect());
        cluster.settings = SETTINGS;
        cluster.owners_act();
        Self {
            past: vec![(cluster.clone(), cluster.versions())],
            cluster,
            chance,
            observer: Observer::default(),
            behind: [0; 3],
            written: Written::default(),
            made: 0,
        }
    }

    /// The view of the caches. They go forwards only.
    fn seen(&mut self, is_fresh: bool) -> (Seen, BTreeMap<String, u64>) {
        let newest = self.past.len() - 1;
        for behind in &mut self.behind {
            let steps = newest - *behind;
            *behind += if is_fresh {
                steps
            } else {
                self.chance.below(steps + 1)
            };
        }
        let [nodes, pods, groups] = self.behind;
        let mut shown = self.past[groups].0.clone();
        shown.nodes.clone_from(&self.past[nodes].0.nodes);
        shown.fillers.clone_from(&self.past[pods].0.fillers);
        shown.pods.clone_from(&self.past[pods].0.pods);
        shown.now_seconds = self.cluster.now_seconds;
        (shown.seen(), self.past[groups].1.clone())
    }

    /// The controller acts once. Its requests fail, and their answers are lost, in `percent` of
    /// 100 cases; it is killed in as many.
    fn act(&mut self, percent: usize) {
        let (seen, versions) = self.seen(percent == 0);
        let [_, pods, groups] = self.behind;
        if !self
            .written
            .is_shown(&self.past[pods].0, &self.past[groups].0)
        {
            return;
        }
        self.written = Written::default();
        let mut failed: Vec<String> = Vec::new();
        for action in step(&seen) {
            if self.chance.happens(percent / 4) {
                // Killed. The next one lists everything, and has written nothing yet.
                self.written = Written::default();
                self.note();
                let newest = self.past.len() - 1;
                self.behind = [newest; 3];
                return;
            }
            let group = match &action {
                Action::Write { group, .. }
                | Action::Release { group, .. }
                | Action::Mark { group, .. }
                | Action::End { group, .. } => group.clone(),
            };
            if failed.contains(&group) {
                continue;
            }
            if self.chance.happens(percent) {
                // The request came to nothing: the controller reads the version that is there.
                self.written.note(&self.cluster, &action);
                failed.push(group);
                continue;
            }
            self.observer.before(&self.cluster, &action);
            let answer = self.cluster.carry_out(&action, &versions);
            self.observer.after(&self.cluster);
            if answer.is_ok() {
                self.written.note(&self.cluster, &action);
            }
            if answer.is_err() || self.chance.happens(percent) {
                failed.push(group);
            }
        }
    }

    fn note(&mut self) {
        self.past
            .push((self.cluster.clone(), self.cluster.versions()));
    }

    /// Something happens to the cluster.
    fn trouble(&mut self) {
        let names: Vec<String> = self.cluster.nodes.keys().cloned().collect();
        let uids: Vec<String> = self.cluster.pods.keys().cloned().collect();
        match self.chance.below(9) {
            0 => {
                let filler = self.chance.pick(&names);
                let gpus = 1 + i64::try_from(self.chance.below(4)).unwrap();
                if let Some(node) = filler.filter(|node| self.cluster.free(node) >= gpus) {
                    self.made += 1;
                    let name = format!("filler-{}", self.made);
                    self.cluster.fillers.insert(name, (node, gpus));
                }
            }
            1 => {
                let fillers: Vec<String> = self.cluster.fillers.keys().cloned().collect();
                if let Some(name) = self.chance.pick(&fillers) {
                    self.cluster.fillers.remove(&name);
                }
            }
            2 if names.len() > 2 => {
                let name = self.chance.pick(&names).unwrap();
                self.cluster.lose(&name);
            }
            3 => {
                self.made += 1;
                let block = ["b1", "b2"][self.chance.below(2)];
                let rack = ["r1", "r2"][self.chance.below(2)];
                let name = format!("new-{}", self.made);
                let node = node(&name, block, rack, 8);
                self.cluster.nodes.insert(name, node);
            }
            4 => {
                if let Some(name) = self.chance.pick(&names) {
                    let node = self.cluster.nodes.get_mut(&name).unwrap();
                    node.is_cordoned = !node.is_cordoned;
                }
            }
            5 => {
                if let Some(uid) = self.chance.pick(&uids) {
                    self.cluster.end(&uid);
                }
            }
            6 => self.an_owner_scales(),
            7 => {
                let Some(uid) = self.chance.pick(&uids) else {
                    return;
                };
                let on = match &self.cluster.pods[&uid].1.state {
                    PodState::Bound { node } => node.clone(),
                    _ => return,
                };
                let refused_by = self.chance.happens(50).then_some(on);
                self.cluster
                    .change(&uid, |pod| pod.state = PodState::Ended { refused_by });
            }
            _ => {
                let name = self
                    .chance
                    .pick(&self.cluster.groups.keys().cloned().collect::<Vec<_>>());
                let has_topology = self.chance.happens(70);
                if let Some(group) = name.and_then(|name| self.cluster.groups.get_mut(&name)) {
                    group.has_topology = has_topology;
                }
            }
        }
    }

    fn an_owner_scales(&mut self) {
        let names: Vec<String> = self.cluster.groups.keys().cloned().collect();
        let name = self.chance.pick(&names).unwrap();
        let more = self.chance.below(3);
        let group = self.cluster.groups.get_mut(&name).unwrap();
        for role in &group.rules.roles {
            let (replicas, _) = group.owned.get_mut(&role.name).unwrap();
            *replicas = role.min + u32::try_from(more).unwrap();
        }
    }

    /// One second.
    fn second(&mut self, percent: usize) {
        if percent > 0 && self.chance.happens(30) {
            self.trouble();
        }
        self.observer.after(&self.cluster);
        self.cluster.owners_act();
        self.note();
        self.act(percent);
        let mut uids = self.cluster.released();
        if percent > 0 {
            uids.retain(|_| self.chance.happens(70));
        }
        self.cluster.schedule(&uids);
        self.observer.after(&self.cluster);
        if percent == 0 || self.chance.happens(60) {
            self.cluster.kubelets_act();
        }
        self.cluster.now_seconds += 1;
        self.note();
        // Caches are a few seconds behind at most.
        let oldest = self.past.len().saturating_sub(12);
        self.past.drain(..oldest);
        for behind in &mut self.behind {
            *behind = behind.saturating_sub(oldest);
        }
    }

    /// Everything works, and the cluster stays as it is.
    fn peace(&mut self) {
        for node in self.cluster.nodes.values_mut() {
            node.is_cordoned = false;
        }
        for group in self.cluster.groups.values_mut() {
            group.has_topology = true;
            group.is_gated_by_others = false;
        }
        for uid in self.cluster.pods.keys().cloned().collect::<Vec<_>>() {
            if self.cluster.pods[&uid].1.state == PodState::GatedByOthers {
                self.cluster.change(&uid, |pod| pod.state = PodState::Gated);
            }
            if matches!(self.cluster.pods[&uid].1.state, PodState::Ended { .. }) {
                self.cluster.pods.remove(&uid);
            }
        }
    }

    /// Invariant C: what can be placed is placed, and nobody holds a part.
    fn ends_well(&self) {
        let seen = self.cluster.seen();
        for group in &seen.groups {
            let name = &group.rules.name;
            let waits = group.record.state.is_waiting();
            for pod in &group.pods {
                let says = pod.marked.is_some_and(GroupState::is_waiting);
                let is_right = match pod.state {
                    PodState::Gated => says || !waits,
                    PodState::Bound { .. } => !says,
                    _ => true,
                };
                assert!(
                    is_right,
                    "{} is marked {:?} and its group is {:?}",
                    pod.name, pod.marked, group.record.state
                );
            }
            assert!(
                group.record.deadline_seconds.is_none(),
                "{name} is still on its way: {:?}",
                group.record.message
            );
            let bound = self.cluster.nodes_of(name).len();
            if group.record.state == GroupState::WaitingForRoom && !group.record.was_placed {
                assert_eq!(bound, 0, "{name} waits and holds {bound} places");
                // The planner alone cannot say so of pods with places of their own.
                if self.cluster.groups[name].directions.is_empty() {
                    self.has_no_room(&seen, name);
                }
            }
            assert_ne!(
                group.record.state,
                GroupState::BackingOff,
                "{name}: {}",
                group.record.message
            );
        }
    }

    /// The planner, shown the cluster as it is, finds no place for the group either. Nodes that
    /// drain for a group which has waited longer are not free.
    fn has_no_room(&self, seen: &Seen, name: &str) {
        let mut nodes = seen.nodes.clone();
        let held = seen.groups.iter().filter(|group| group.rules.name != name);
        let held: BTreeSet<&String> = held.flat_map(|group| &group.record.holds).collect();
        nodes.retain(|node| !held.contains(&node.name));
        for pod in self.cluster.pods.values().map(|(_, pod)| pod) {
            let PodState::Bound { node } = &pod.state else {
                continue;
            };
            let found = nodes.iter_mut().find(|known| known.name == *node);
            if let Some(node) = found {
                node.occupants.push(Occupant {
                    name: pod.name.clone(),
                    requests: pod.shape.as_ref().unwrap().requests.clone(),
                    ..Occupant::default()
                });
            }
        }
        let owned = &self.cluster.groups[name];
        let mut rules = owned.rules.clone();
        for role in &mut rules.roles {
            let whole = owned.pods_per_replica.get(&role.name).copied().unwrap_or(1);
            let (_, gpus) = owned.owned[&role.name];
            role.desired = role.min;
            role.pods = vec![PodKind {
                name: "pod".to_owned(),
                count: whole,
                shape: PodShape {
                    requests: crate::cluster::amounts(gpus),
                    ..PodShape::default()
                },
            }];
        }
        let problem = Problem {
            nodes,
            topology: topology(),
            groups: vec![rules],
            ..Problem::default()
        };
        let plan = &place(&problem).groups[name];
        assert_eq!(
            plan.outcome,
            pd_placement::Outcome::Waiting,
            "{name} waits and there is room for it: {:?}",
            plan.slots
        );
    }
}

fn a_group(number: usize, chance: &mut Chance) -> OwnedGroup {
    let mut prefill = 1 + chance.below(3);
    let mut decode = 1 + chance.below(3);
    let is_large = chance.happens(20);
    if is_large {
        (prefill, decode) = (1, 1);
    }
    let roles = [("prefill", prefill), ("decode", decode)];
    let roles = roles.map(|(name, min)| {
        let min = u32::try_from(min).unwrap();
        let more = u32::try_from(chance.below(2)).unwrap();
        let gpus = 1 + i64::try_from(chance.below(4)).unwrap();
        (name, min, min + more, gpus)
    });
    let mut made = group(&format!("g{number}"), &roles);
    if is_large {
        let whole = 2 + u32::try_from(chance.below(2)).unwrap();
        made.pods_per_replica.insert("decode".to_owned(), whole);
    }
    made.rules.required = [None, Some("rack"), Some("block")][chance.below(3)].map(str::to_owned);
    made.rules.on_loss = [OnLoss::Wait, OnLoss::Relocate, OnLoss::Degrade][chance.below(3)];
    made.is_gated_by_others = chance.happens(10);
    made
}

fn play(seed: u64) -> u64 {
    live(Life::new(seed))
}

/// The same life, in which somebody else names the nodes or racks of some roles' pods.
fn play_directed(seed: u64) -> u64 {
    let mut life = Life::new(seed);
    let mut chance = Chance::new(seed);
    let names: Vec<String> = life.cluster.nodes.keys().cloned().collect();
    for group in life.cluster.groups.values_mut() {
        for role in &group.rules.roles {
            let labels = if chance.happens(50) {
                names.iter().map(|name| (HOST, name.clone())).collect()
            } else {
                vec![("rack", "r1".to_owned()), ("rack", "r2".to_owned())]
            };
            if chance.happens(70) {
                group.directions.insert(role.name.clone(), labels);
            }
        }
    }
    live(life)
}

fn live(mut life: Life) -> u64 {
    let percent = [5, 20, 40][life.chance.below(3)];
    for _ in 0..TROUBLE_SECONDS {
        life.second(percent);
    }
    let of_trouble = life.observer.longest_partial_seconds;
    life.peace();
    for _ in 0..PEACE_SECONDS {
        life.second(0);
    }
    life.ends_well();
    of_trouble
}

#[test]
fn no_life_of_a_cluster_breaks_a_promise() {
    keeps_its_promises(play);
}

#[test]
fn no_life_of_pods_whose_places_others_name_breaks_a_promise() {
    keeps_its_promises(play_directed);
}

fn keeps_its_promises(play: fn(u64) -> u64) {
    if let Some(seed) = number("PD_GATE_SEED") {
        play(seed);
        return;
    }
    let window = SETTINGS.window_seconds;
    for seed in 0..number("PD_GATE_SEEDS").unwrap_or(SEEDS) {
        let played = std::panic::catch_unwind(|| play(seed));
        assert!(
            played.is_ok(),
            "seed {seed} breaks a promise: PD_GATE_SEED={seed} plays it alone"
        );
        let longest = played.unwrap_or_default();
        // The window itself, and as long again three times for requests of which up to six in ten
        // come to nothing or stay without an answer.
        assert!(
            longest <= 4 * window,
            "seed {seed}: a group held a part for {longest} s: PD_GATE_SEED={seed}"
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the test says how many lives it plays"
)]
fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}
