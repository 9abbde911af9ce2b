//! Every placement of small cases, tried one by one: the planner is never worse.
//!
//! Nothing here is shared with the search: levels, shares and costs are counted again from the
//! definitions in the guide.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use pd_placement::{
    GroupPlan, Outcome, Problem,
    group::{Group, Member, Traffic},
    node::Node,
    objective::{Objective, Search},
    place,
    pod::PodShape,
    port::HostPort,
};
use pd_tolerations::{Comparison, Effect, Operator, Rule, Taint, Toleration};
use proptest::{prelude::*, strategy::ValueTree};

use crate::world::{GPU, group, node, occupant, placed, plan, pods, problem, role};

const LEVELS: [&str; 3] = ["block", "rack", "node"];

/// Pods of each kind on each node: `counts[kind][node]`.
type Counts = Vec<Vec<u32>>;

/// A kind: its role, name, pods per replica, and shape.
struct Kind<'a> {
    role: usize,
    name: &'a str,
    per_replica: u32,
    shape: &'a PodShape,
}

struct World<'a> {
    nodes: Vec<&'a Node>,
    group: &'a Group,
    kinds: Vec<Kind<'a>>,
    running: Counts,
}

impl<'a> World<'a> {
    fn new(problem: &'a Problem) -> Self {
        let group = &problem.groups[0];
        let mut nodes: Vec<&Node> = problem.nodes.iter().collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        let kinds: Vec<Kind<'_>> = group
            .roles
            .iter()
            .enumerate()
            .flat_map(|(role, of)| {
                of.pods.iter().map(move |pods| Kind {
                    role,
                    name: &pods.name,
                    per_replica: pods.count,
                    shape: &pods.shape,
                })
            })
            .collect();
        let mut running = vec![vec![0; nodes.len()]; kinds.len()];
        for member in &group.members {
            let kind = kinds.iter().position(|kind| {
                group.roles[kind.role].name == member.role && kind.name == member.kind
            });
            let node = nodes.iter().position(|node| node.name == member.node);
            running[kind.unwrap()][node.unwrap()] += 1;
        }
        Self {
            nodes,
            group,
            kinds,
            running,
        }
    }

    /// The domain of a node at a level, by its whole path.
    fn domain(&self, node: usize, level: &str) -> Option<Vec<String>> {
        let node = self.nodes[node];
        let mut path = Vec::new();
        for known in LEVELS {
            if known == "node" {
                path.push(node.name.clone());
            } else if let Some(value) = node.labels.get(known) {
                path.push(value.clone());
            } else if level == "node" {
                continue;
            } else {
                return None;
            }
            if known == level {
                return Some(path);
            }
        }
        None
    }

    /// Domains of a level that hold pods of these kinds; a node without a label is its own.
    fn used(
        &self,
        counts: &Counts,
        level: &str,
        is_of: impl Fn(usize) -> bool,
    ) -> Vec<Option<Vec<String>>> {
        let mut used = BTreeSet::new();
        let mut bare = Vec::new();
        let has = |node: &usize| {
            let mut kinds = counts.iter().enumerate();
            kinds.any(|(kind, of)| is_of(kind) && of[*node] > 0)
        };
        for node in (0..self.nodes.len()).filter(has) {
            match self.domain(node, level) {
                Some(domain) => {
                    used.insert(domain);
                }
                None => bare.push(None),
            }
        }
        used.into_iter().map(Some).chain(bare).collect()
    }

    fn free(&self, node: usize) -> i64 {
        let here = self.nodes[node];
        let others: i64 = here
            .occupants
            .iter()
            .map(|other| other.requests.get(GPU))
            .sum();
        let own = |kind: usize| {
            i64::from(self.running[kind][node]) * self.kinds[kind].shape.requests.get(GPU)
        };
        let own: i64 = (0..self.kinds.len()).map(own).sum();
        here.allocatable.get(GPU) - others - own
    }

    fn new_gpus(&self, counts: &Counts, node: usize) -> i64 {
        let of = |kind: usize| {
            let new = i64::from(counts[kind][node]) - i64::from(self.running[kind][node]);
            new * self.kinds[kind].shape.requests.get(GPU)
        };
        (0..self.kinds.len()).map(of).sum()
    }

    fn is_feasible(&self, counts: &Counts) -> bool {
        for node in 0..self.nodes.len() {
            if self.new_gpus(counts, node) > self.free(node).max(0) {
                return false;
            }
            let mut ports: Vec<&HostPort> = Vec::new();
            for (kind, of) in self.kinds.iter().enumerate() {
                let (count, running) = (counts[kind][node], self.running[kind][node]);
                if count < running {
                    return false;
                }
                let is_closed = of.shape.unfit(self.nodes[node]).is_some()
                    || self.group.excluded_nodes.contains(&self.nodes[node].name);
                if count > running && is_closed {
                    return false;
                }
                for _ in 0..count {
                    ports.extend(&of.shape.ports);
                }
            }
            let clash = |(place, port): (usize, &&HostPort)| {
                ports
                    .iter()
                    .skip(place + 1)
                    .any(|other| port.conflicts(other))
            };
            let is_new = self.new_gpus(counts, node) > 0;
            if is_new && ports.iter().enumerate().any(clash) {
                return false;
            }
        }
        self.keeps_levels(counts)
    }

    fn keeps_levels(&self, counts: &Counts) -> bool {
        let is_one = |level: &Option<String>, role: Option<usize>| {
            let Some(level) = level else { return true };
            let is_of = |kind: usize| role.is_none_or(|role| self.kinds[kind].role == role);
            let used = self.used(counts, level, is_of);
            used.len() <= 1 && !used.contains(&None)
        };
        let roles = self.group.roles.iter().enumerate();
        is_one(&self.group.required, None)
            && roles
                .clone()
                .all(|(role, of)| is_one(&of.required, Some(role)))
            && roles.clone().all(|(role, of)| {
                let Some(level) = &of.replica_required else {
                    return true;
                };
                let domains = self.used(counts, level, |kind| self.kinds[kind].role == role);
                domains.iter().all(|domain| {
                    let whole = |kind: usize| {
                        let here = (0..self.nodes.len())
                            .filter(|node| self.domain(*node, level) == *domain)
                            .map(|node| counts[kind][node])
                            .sum::<u32>();
                        let each = self.kinds[kind].per_replica;
                        (here % each == 0).then_some(here / each)
                    };
                    let kinds = (0..self.kinds.len()).filter(|kind| self.kinds[*kind].role == role);
                    let replicas: BTreeSet<Option<u32>> = kinds.map(whole).collect();
                    domain.is_some() && replicas.len() == 1 && !replicas.contains(&None)
                })
            })
    }

    fn objective(&self, counts: &Counts) -> Objective {
        let all = |kind: usize| kind < self.kinds.len();
        let nodes: Vec<usize> = (0..self.nodes.len())
            .filter(|node| counts.iter().any(|of| of[*node] > 0))
            .collect();
        let most: u64 = self
            .kinds
            .iter()
            .map(|kind| {
                u64::from(kind.per_replica) * u64::from(self.group.roles[kind.role].desired)
            })
            .sum();
        let mut objective = Objective::default();
        let mut prefer = |level: &Option<String>, is_of: &dyn Fn(usize) -> bool| {
            let Some(preferred) = level else { return };
            let depth = LEVELS.iter().position(|known| known == preferred).unwrap();
            for (wider, known) in LEVELS.iter().enumerate().take(depth + 1) {
                let weight = (most + 1).pow(u32::try_from(depth - wider).unwrap());
                let used = self.used(counts, known, is_of).len();
                objective.preferred += weight * u64::try_from(used).unwrap();
            }
        };
        prefer(&self.group.preferred, &all);
        for (role, of) in self.group.roles.iter().enumerate() {
            prefer(&of.preferred, &|kind| self.kinds[kind].role == role);
        }
        objective.traffic = self.traffic(counts);
        let around = self.around(&nodes);
        let inside = (0..self.nodes.len())
            .filter(|node| around.iter().all(|part| self.path(*node).contains(part)));
        let room: i64 = inside.map(|node| self.free(node).max(0)).sum();
        let new: i64 = nodes.iter().map(|node| self.new_gpus(counts, *node)).sum();
        objective.room = u64::try_from(room - new).unwrap_or(0);
        for node in nodes {
            let left = self.free(node) - self.new_gpus(counts, node);
            objective.fragments += u64::try_from(left.max(0)).unwrap();
            for (kind, of) in self.kinds.iter().enumerate() {
                if of.shape.unfit(self.nodes[node]).is_none() {
                    let reluctance = of.shape.reluctance(self.nodes[node]);
                    objective.margin += reluctance * u64::from(counts[kind][node]);
                }
            }
        }
        objective
    }

    /// The path of a node as level and value, as far as labels go, then the node.
    fn path(&self, node: usize) -> Vec<(usize, String)> {
        let levels = LEVELS.iter().enumerate();
        let labels = levels.map_while(|(depth, level)| {
            let value = self.nodes[node].labels.get(*level)?;
            Some((depth, value.clone()))
        });
        let mut path: Vec<(usize, String)> = labels.collect();
        path.push((2, self.nodes[node].name.clone()));
        path
    }

    /// The path of the smallest domain that holds all of `nodes`.
    fn around(&self, nodes: &[usize]) -> Vec<(usize, String)> {
        let mut around = self.path(nodes[0]);
        for node in nodes {
            let path = self.path(*node);
            let same = around
                .iter()
                .zip(&path)
                .take_while(|(one, other)| one == other);
            let same = same.count();
            around.truncate(same);
        }
        around
    }

    fn traffic(&self, counts: &Counts) -> u64 {
        let mut pods: Vec<(usize, usize)> = Vec::new();
        for (kind, of) in counts.iter().enumerate() {
            for (node, count) in of.iter().enumerate() {
                pods.extend((0..*count).map(|_| (kind, node)));
            }
        }
        let mut sum = 0;
        for (place, (kind, node)) in pods.iter().enumerate() {
            for (other, at) in pods.iter().skip(place + 1) {
                let role = |kind: usize| self.group.roles[self.kinds[kind].role].name.as_str();
                let pair = (role(*kind), role(*other));
                for traffic in &self.group.traffic {
                    let stated = (traffic.from.as_str(), traffic.to.as_str());
                    if (pair == stated || (pair.1, pair.0) == stated) && node != at {
                        let common = self.around(&[*node, *at]).len();
                        sum += u64::from(traffic.weight) * u64::try_from(3 - common).unwrap();
                    }
                }
            }
        }
        sum
    }
}

/// Which replicas are placed: shares, then the pods.
type Extent = (u64, u64, Vec<u32>);

/// The best placement there is, by trying all.
fn best(problem: &Problem) -> Option<(Extent, Objective)> {
    let world = World::new(problem);
    let roles = &world.group.roles;
    let mut best: Option<(Reverse<Extent>, Objective)> = None;
    let mut replicas: Vec<Vec<u32>> = vec![Vec::new()];
    for role in roles {
        replicas = replicas
            .into_iter()
            .flat_map(|chosen| {
                (role.min..=role.desired).map(move |count| [chosen.clone(), vec![count]].concat())
            })
            .collect();
    }
    for replicas in replicas {
        // Replicas that run in part are completed, not mixed.
        let mut pairs = replicas.iter().zip(roles);
        if pairs.any(|(count, role)| *count < begun(world.group, &role.name)) {
            continue;
        }
        if world.group.lockstep && !is_even(&replicas, world.group) {
            continue;
        }
        let shares = replicas
            .iter()
            .zip(roles)
            .map(|(count, role)| u64::from(*count) * 1_000_000_000 / u64::from(role.desired));
        let pods: Vec<u32> = world
            .kinds
            .iter()
            .map(|kind| replicas[kind.role] * kind.per_replica)
            .collect();
        let extent = (shares.clone().min().unwrap(), shares.sum(), pods.clone());
        if best.as_ref().is_some_and(|(known, _)| known.0 > extent) {
            continue;
        }
        let mut all: Vec<Counts> = vec![Vec::new()];
        for pods in pods {
            let ways = spread(pods, world.nodes.len());
            all = all
                .into_iter()
                .flat_map(|counts| {
                    ways.iter()
                        .map(move |way| [counts.clone(), vec![way.clone()]].concat())
                })
                .collect();
        }
        for counts in all.into_iter().filter(|counts| world.is_feasible(counts)) {
            let found = (Reverse(extent.clone()), world.objective(&counts));
            if best.as_ref().is_none_or(|known| found < *known) {
                best = Some(found);
            }
        }
    }
    best.map(|(extent, objective)| (extent.0, objective))
}

/// Whether no role has more than the smallest share needs, but for `min` and running replicas.
fn is_even(replicas: &[u32], group: &Group) -> bool {
    let worst = replicas
        .iter()
        .zip(&group.roles)
        .min_by(|(one, of), (other, of_other)| {
            (*one * of_other.desired).cmp(&(*other * of.desired))
        });
    let (some, of) = worst.map(|(count, role)| (*count, role.desired)).unwrap();
    replicas.iter().zip(&group.roles).all(|(count, role)| {
        let running = begun(group, &role.name);
        *count
            <= (some * role.desired)
                .div_ceil(of)
                .max(role.min)
                .max(running)
    })
}

/// Replicas of a role of which pods run.
fn begun(group: &Group, role: &str) -> u32 {
    let members = group.members.iter().filter(|member| member.role == role);
    let replicas: BTreeSet<u32> = members.map(|member| member.replica).collect();
    u32::try_from(replicas.len()).unwrap()
}

/// Every way to put `pods` on `nodes`.
fn spread(pods: u32, nodes: usize) -> Vec<Vec<u32>> {
    match nodes {
        0 => Vec::new(),
        1 => vec![vec![pods]],
        _ => (0..=pods)
            .flat_map(|first| {
                let rest = spread(pods - first, nodes - 1).into_iter();
                rest.map(move |rest| [vec![first], rest].concat())
            })
            .collect(),
    }
}

fn extent(plan: &GroupPlan, group: &Group) -> Extent {
    let shares = group
        .roles
        .iter()
        .map(|role| u64::from(plan.replicas[&role.name]) * 1_000_000_000 / u64::from(role.desired));
    let pods = group.roles.iter().flat_map(|role| {
        let of = |kind: &str| {
            let slots = plan.slots.iter();
            slots
                .filter(|slot| slot.role == role.name && slot.kind == kind)
                .count()
        };
        role.pods
            .iter()
            .map(move |pods| u32::try_from(of(&pods.name)).unwrap())
    });
    (shares.clone().min().unwrap(), shares.sum(), pods.collect())
}

fn any_node(index: usize) -> impl Strategy<Value = Node> {
    let label = prop_oneof![8 => Just("1"), 3 => Just("2"), 1 => Just("")];
    let sla = proptest::option::weighted(0.2, prop_oneof![Just("850"), Just("920"), Just("990")]);
    (
        label.clone(),
        label,
        0_i64..=6,
        0_i64..=2,
        sla,
        prop::bool::weighted(0.1),
    )
        .prop_map(move |(block, rack, gpus, used, sla, is_cordoned)| {
            let mut node = node(&format!("n{index}"), (block, rack), gpus);
            node.occupants = vec![occupant("x/y", used)];
            let taint = sla.map(|value| Taint::new("sla", value, Effect::NoSchedule).into());
            node.taints.extend(taint);
            node.is_cordoned = is_cordoned;
            node
        })
}

/// A level at `least` or below it, or no level, which is `none` times as likely.
fn any_level(least: usize, none: u32) -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        none => Just(None),
        1 => (least..LEVELS.len()).prop_map(|level| Some(LEVELS[level].to_owned())),
    ]
}

fn rank(level: Option<&String>) -> usize {
    let known = |level: &String| LEVELS.iter().position(|known| known == level);
    level.and_then(known).unwrap_or(0)
}

fn any_role(name: &'static str, group: usize) -> impl Strategy<Value = pd_placement::group::Role> {
    let kinds = prop_oneof![6 => Just(vec![1]), 2 => Just(vec![2]), 1 => Just(vec![1, 1])];
    let gpus = prop_oneof![3 => Just(1), 2 => Just(2), 1 => Just(3)];
    let needs = (gpus, kinds, prop::bool::weighted(0.2), any::<bool>());
    (needs, 1_u32..=2, 0_u32..=1, any_level(group, 8)).prop_flat_map(
        move |((gpus, kinds, has_port, tolerates), min, more, required)| {
            let inner = rank(required.as_ref()).max(group);
            (any_level(rank(required.as_ref()), 4), any_level(inner, 6)).prop_map(
                move |(preferred, replica_required)| {
                    let mut role = role(name, gpus, min, min + more);
                    let each = kinds.iter().enumerate();
                    role.pods = each
                        .map(|(index, count)| pods(&format!("k{index}"), *count, gpus))
                        .collect();
                    for pods in &mut role.pods {
                        if has_port {
                            pods.shape.ports = vec![HostPort::tcp(80)];
                        }
                        if tolerates {
                            pods.shape.tolerations = vec![above_900()];
                        }
                    }
                    role.required.clone_from(&required);
                    role.preferred = preferred;
                    role.replica_required = replica_required;
                    role
                },
            )
        },
    )
}

fn above_900() -> Rule {
    let toleration = Toleration {
        key: "sla".to_owned(),
        operator: Operator::Gt,
        value: "900".to_owned(),
        ..Toleration::default()
    };
    Rule::plain(&toleration, Comparison::On)
}

/// A small case: up to 4 nodes, up to 2 roles.
pub(crate) fn any_case() -> impl Strategy<Value = Problem> {
    let nodes = (2_usize..=4).prop_flat_map(|count| {
        let nodes: Vec<_> = (0..count).map(any_node).collect();
        nodes
    });
    let group = any_level(0, 3).prop_flat_map(|required| {
        let own = rank(required.as_ref());
        let roles = (
            any_role("prefill", own),
            proptest::option::weighted(0.7, any_role("decode", own)),
        );
        (
            roles,
            any_level(own, 1),
            0_u32..3,
            any::<bool>(),
            prop::bool::weighted(0.2),
        )
            .prop_map(
                move |((prefill, decode), preferred, weight, lockstep, excludes)| {
                    let mut roles = vec![prefill];
                    roles.extend(decode);
                    let mut group = group("g", &roles);
                    group.required.clone_from(&required);
                    group.preferred = preferred;
                    group.lockstep = lockstep;
                    if weight > 0 {
                        let last = roles[roles.len() - 1].name.clone();
                        group.traffic = vec![Traffic {
                            from: "prefill".to_owned(),
                            to: last,
                            weight,
                        }];
                    }
                    if excludes {
                        group.excluded_nodes = ["n1".to_owned()].into();
                    }
                    group
                },
            )
    });
    (nodes, group).prop_map(|(nodes, group)| problem(nodes, vec![group]))
}

/// The members that a plan would become.
pub(crate) fn members(plan: &GroupPlan) -> Vec<Member> {
    let each = plan.slots.iter().enumerate();
    each.map(|(index, slot)| slot.member(format!("pod-{index}")))
        .collect()
}

fn is_as_good_as_any(problem: &Problem) {
    let placement = placed(problem);
    let plan = plan(&placement, "g");
    assert_eq!(plan.search, Search::Exact);
    let best = best(problem);
    let own = (plan.outcome == Outcome::Placed)
        .then(|| (extent(plan, &problem.groups[0]), plan.objective));
    assert_eq!(own, best, "the planner's, and the best there is");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_planner_is_never_worse_than_trying_every_placement(problem in any_case()) {
        is_as_good_as_any(&problem);
    }

    #[test]
    fn replacing_lost_pods_is_never_worse_than_trying_every_placement(
        problem in any_case(),
        lost in prop::collection::vec(any::<bool>(), 16),
        taken in 0_i64..3,
    ) {
        let first = place(&problem);
        let mut problem = problem;
        let all = members(plan(&first, "g"));
        let kept = all.into_iter().zip(lost).filter(|(_, is_lost)| !is_lost);
        problem.groups[0].members = kept.map(|(member, _)| member).collect();
        problem.nodes[0].occupants.push(occupant("x/late", taken));
        is_as_good_as_any(&problem);
    }
}

#[test]
fn the_cases_are_of_all_kinds() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..400 {
        let problem = any_case().new_tree(&mut runner).unwrap().current();
        let placement = place(&problem);
        let plan = plan(&placement, "g");
        let objective = &plan.objective;
        let facts = [
            ("placed", plan.outcome == Outcome::Placed),
            ("waiting", plan.outcome == Outcome::Waiting),
            (
                "in part",
                plan.outcome == Outcome::Placed && plan.explanation.is_some(),
            ),
            ("traffic", objective.traffic > 0),
            ("preferred", objective.preferred > 1),
            ("fragments", objective.fragments > 0),
            ("margin", objective.margin > 0),
        ];
        for (name, is_so) in facts {
            *seen.entry(name).or_default() += u32::from(is_so);
        }
    }
    // One in twenty at least, so that 400 cases try each of them often.
    for (name, count) in &seen {
        assert!(*count >= 20, "{name}: {count} of 400; {seen:?}");
    }
}

#[test]
fn the_ways_to_spread_pods_are_counted_right() {
    // Stars and bars: C(4 + 2, 2) ways to put 4 pods on 3 nodes.
    assert_eq!(spread(4, 3).len(), 15);
    let sums: BTreeMap<u32, usize> = spread(4, 3).iter().fold(BTreeMap::new(), |mut sums, way| {
        *sums.entry(way.iter().sum()).or_default() += 1;
        sums
    });
    assert_eq!(sums, [(4, 15)].into());
}
