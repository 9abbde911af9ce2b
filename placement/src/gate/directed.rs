//! Groups whose pods may not all go to the same nodes, although they are of one kind.
//!
//! The planner takes the pods of a kind as equal. They are not where somebody else has chosen their
//! places: Kueue's topology-aware scheduling writes a domain into each pod's node selector, down to
//! the node's name, and a claim of a `StatefulSet` lies in one zone. Such pods are placed one by
//! one, each by its own rules, those with the fewest nodes first. The promises are those of every
//! group: its least replicas or nothing, and required levels hold. Preferences have no say, for the
//! choice was made elsewhere, and other groups go first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    Assignment, PodState, SeenPod,
    composition::{GroupView, ReplicaView, RoleView},
    facts::Standing,
    room::Room,
};
use crate::{
    group::{OnLoss, Role},
    node::Node,
    pod::PodShape,
    topology::{Level, NODE_LEVEL, Topology},
};

/// Names of nodes in a message before it says only how many there are.
const NAMED_MOST: usize = 3;

/// The places of a group's pods that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Directed {
    /// Pods and their nodes; none where the group holds nothing new.
    pub(super) assignments: Vec<Assignment>,
    /// Why a pod has no place, of the first.
    pub(super) waits: Option<String>,
}

/// A replica with pods that wait.
struct Waiting<'a> {
    role: &'a Role,
    pods: Vec<(&'a SeenPod, &'a PodShape)>,
    /// Whether other pods of it have nodes: then it counts among the replicas that are there.
    is_begun: bool,
    key: &'a str,
}

/// A set of pods that have to be in one domain of a level.
type Scope<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// The domain of each scope, as far as it is decided.
type Domains<'a> = BTreeMap<Scope<'a>, Vec<String>>;

/// The search for the places of one group.
struct Search<'a> {
    view: &'a GroupView<'a>,
    nodes: &'a [Node],
    levels: Vec<&'a Level>,
    excluded: &'a BTreeSet<String>,
    closed: &'a BTreeSet<String>,
}

/// The places of the pods of `view` that wait. `excluded` are nodes that failed it, `closed` those
/// that others have to themselves; what is found is taken from `room`.
pub(super) fn directed(
    view: &GroupView<'_>,
    nodes: &[Node],
    room: &mut Room,
    excluded: &BTreeSet<String>,
    closed: &BTreeSet<String>,
) -> Directed {
    let Ok(topology) = &view.seen.topology else {
        return Directed::default();
    };
    let labels: Vec<_> = nodes.iter().map(|node| &node.labels).collect();
    let search = Search {
        view,
        nodes,
        levels: topology.in_force(&labels),
        excluded,
        closed,
    };
    let mut best: Option<(usize, Directed, Room)> = None;
    for start in search.starts() {
        let mut left = room.clone();
        let found = search.within(start, &mut left);
        let placed = found.assignments.len();
        if best.as_ref().is_none_or(|(most, ..)| placed > *most) {
            best = Some((placed, found, left));
        }
    }
    let Some((_, found, left)) = best else {
        let level = view.seen.rules.required.as_deref().unwrap_or_default();
        return Directed {
            waits: Some(format!("no node has a domain of level `{level}`")),
            ..Directed::default()
        };
    };
    *room = left;
    found
}

impl<'a> Search<'a> {
    /// The domains that the group may be in: that of its running pods, or each one.
    fn starts(&self) -> BTreeSet<Vec<String>> {
        let Some(level) = self.view.seen.rules.required.as_deref() else {
            return BTreeSet::from([Vec::new()]);
        };
        let here = self
            .members()
            .find_map(|(.., node)| self.domain(level, node));
        let each = || {
            self.nodes
                .iter()
                .filter_map(|node| self.domain(level, node))
        };
        here.map_or_else(|| each().collect(), |here| BTreeSet::from([here]))
    }

    /// The places with the group in the domain `start`; its least replicas or none.
    fn within(&self, start: Vec<String>, room: &mut Room) -> Directed {
        let before = room.clone();
        let mut domains = self.domains_of_members();
        if let Some(level) = self.view.seen.rules.required.as_deref() {
            domains.insert((level, None, None), start);
        }
        let mut found = Directed::default();
        let mut placed: BTreeMap<&str, u32> = BTreeMap::new();
        for role in &self.view.roles {
            let begun = u32::try_from(role.members.len()).unwrap_or(u32::MAX);
            placed.insert(&role.rules.name, begun);
        }
        for replica in self.waiting() {
            let (count, most) = (
                placed.entry(&replica.role.name).or_default(),
                replica.role.desired,
            );
            if !replica.is_begun && most > 0 && *count >= most {
                continue;
            }
            match self.replica(&replica, &mut domains, room) {
                Ok(assignments) => {
                    found.assignments.extend(assignments);
                    *count += u32::from(!replica.is_begun);
                }
                Err(why) => {
                    found.waits.get_or_insert(why);
                }
            }
        }
        let has_least = |role: &RoleView<'_>| {
            placed.get(role.rules.name.as_str()).copied().unwrap_or(0) >= role.rules.min
        };
        let degrades = self.view.seen.rules.on_loss == OnLoss::Degrade && self.view.has_members();
        if !degrades && !self.view.roles.iter().all(has_least) {
            found.assignments.clear();
            *room = before;
        }
        found
    }

    /// Replicas with pods that wait: those that are begun, then those with the fewest nodes, then
    /// the oldest.
    fn waiting(&self) -> Vec<Waiting<'a>> {
        let mut all = Vec::new();
        for role in &self.view.roles {
            let begun = role.members.iter().map(|replica| (replica, true));
            let new = role.candidates.iter().map(|replica| (replica, false));
            for (replica, is_begun) in begun.chain(new) {
                let pods = pods_that_wait(replica);
                let Some((first, _)) = pods.first() else {
                    continue;
                };
                let nodes = |(_, shape): &(&SeenPod, &PodShape)| self.nodes_for(shape).count();
                let fewest = pods.iter().map(nodes).min().unwrap_or(0);
                let key = (!is_begun, fewest, first.created_seconds, first.name.clone());
                let waiting = Waiting {
                    role: role.rules,
                    key: &first.replica,
                    pods,
                    is_begun,
                };
                all.push((key, waiting));
            }
        }
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.into_iter().map(|(_, waiting)| waiting).collect()
    }

    /// Places for all pods of a replica, or why one has none; then nothing is taken.
    fn replica(
        &self,
        replica: &Waiting<'a>,
        domains: &mut Domains<'a>,
        room: &mut Room,
    ) -> Result<Vec<Assignment>, String> {
        let before = (domains.clone(), room.clone());
        let mut found = Vec::new();
        for (pod, shape) in &replica.pods {
            let scopes = self.scopes(replica.role, replica.key);
            let Some(node) = self.place(shape, &scopes, domains, room) else {
                (*domains, *room) = before;
                return Err(self.why_not(pod, shape));
            };
            for scope in scopes {
                if let Some(domain) = self.domain(scope.0, node) {
                    domains.entry(scope).or_insert(domain);
                }
            }
            room.take(&node.name, shape);
            found.push(Assignment {
                pod: pod.name.clone(),
                uid: pod.uid.clone(),
                node: node.name.clone(),
            });
        }
        Ok(found)
    }

    /// The fullest node that a pod may go to and fits on.
    fn place(
        &self,
        shape: &PodShape,
        scopes: &[Scope<'a>],
        domains: &Domains<'a>,
        room: &Room,
    ) -> Option<&'a Node> {
        let is_inside = |node: &&Node| {
            scopes.iter().all(|scope| {
                let domain = self.domain(scope.0, node);
                domain.is_some_and(|domain| {
                    domains.get(scope).is_none_or(|decided| *decided == domain)
                })
            })
        };
        self.nodes_for(shape)
            .filter(is_inside)
            .filter(|node| room.fits(node, shape))
            .max_by_key(|node| (Reverse(room.left(node, shape)), Reverse(&node.name)))
    }

    /// Nodes that a pod may go to, whatever they have free.
    fn nodes_for<'s>(&'s self, shape: &'s PodShape) -> impl Iterator<Item = &'a Node> + 's {
        self.nodes.iter().filter(|node| {
            let is_open = !self.excluded.contains(&node.name) && !self.closed.contains(&node.name);
            is_open && shape.unfit(node).is_none()
        })
    }

    fn why_not(&self, pod: &SeenPod, shape: &PodShape) -> String {
        let names: Vec<&str> = self
            .nodes_for(shape)
            .map(|node| node.name.as_str())
            .collect();
        let name = &pod.name;
        if names.is_empty() {
            let selector = shape.node_selector.iter();
            let selector: Vec<String> = selector
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            return format!(
                "no node is open to pod `{name}`, whose node selector is `{}`",
                selector.join(",")
            );
        }
        let some = if names.len() > NAMED_MOST {
            format!("{} nodes", names.len())
        } else {
            names.join(", ")
        };
        format!(
            "pod `{name}` may go to {some} alone, where it has no room within the group's levels"
        )
    }

    /// The sets of pods that a pod of a replica has to be near to.
    fn scopes(&self, role: &'a Role, replica: &'a str) -> Vec<Scope<'a>> {
        let name = role.name.as_str();
        let of_group = self.view.seen.rules.required.as_deref();
        let of_role = role.required.as_deref();
        let of_replica = role.replica_required.as_deref();
        let scopes = [
            of_group.map(|level| (level, None, None)),
            of_role.map(|level| (level, Some(name), None)),
            of_replica.map(|level| (level, Some(name), Some(replica))),
        ];
        scopes.into_iter().flatten().collect()
    }

    fn domains_of_members(&self) -> Domains<'a> {
        let mut domains = Domains::new();
        for (role, replica, node) in self.members() {
            for scope in self.scopes(role, replica) {
                if let Some(domain) = self.domain(scope.0, node) {
                    domains.entry(scope).or_insert(domain);
                }
            }
        }
        domains
    }

    /// Pods that have nodes, with their roles and replicas.
    fn members(&self) -> impl Iterator<Item = (&'a Role, &'a str, &'a Node)> + '_ {
        self.view.roles.iter().flat_map(move |role| {
            let pods = role.members.iter().flat_map(|replica| &replica.pods);
            pods.filter_map(move |(pod, standing)| {
                let Standing::Member { node } = standing else {
                    return None;
                };
                let node = self.nodes.iter().find(|known| known.name == *node)?;
                Some((role.rules, pod.replica.as_str(), node))
            })
        })
    }

    /// The domain of a node at a level, as its whole path; nothing where its labels end before.
    fn domain(&self, level: &str, node: &Node) -> Option<Vec<String>> {
        let path = Topology::path(&self.levels, &node.labels);
        if level == NODE_LEVEL {
            let path = path.into_iter().chain([node.name.as_str()]);
            return Some(path.map(ToOwned::to_owned).collect());
        }
        let place = self.levels.iter().position(|known| known.name == level)?;
        let path = path.get(..=place)?;
        Some(path.iter().map(ToString::to_string).collect())
    }
}

/// The pods of a replica that wait for a plan and can be read.
fn pods_that_wait<'a>(replica: &ReplicaView<'a>) -> Vec<(&'a SeenPod, &'a PodShape)> {
    let waits = replica.pods.iter().filter(|(pod, standing)| {
        **standing == Standing::Candidate && pod.state == PodState::Gated
    });
    waits
        .filter_map(|(pod, _)| Some((*pod, pod.shape.as_ref().ok()?)))
        .collect()
}
