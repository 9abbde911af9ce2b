//! A group's pods as replicas: which pods belong together, and what one replica is made of.

use std::collections::BTreeMap;

use super::{
    Seen, SeenGroup, SeenPod,
    facts::{Standing, Standings},
};
use crate::{
    group::{Group, Member, PodKind, Role},
    pod::PodShape,
    resources::Resources,
};

/// The kind of pods of which a replica has one.
const ONLY_KIND: &str = "pod";

/// A role with its pods.
pub(super) struct RoleView<'a> {
    pub(super) rules: &'a Role,
    /// Pods of one replica; empty while none is known in full.
    pub(super) kinds: Vec<PodKind>,
    /// Replicas with a pod that has a node, by their number.
    pub(super) members: Vec<ReplicaView<'a>>,
    /// Replicas whose pods are all there, and none of which has a node; the oldest first.
    pub(super) candidates: Vec<ReplicaView<'a>>,
}

/// A replica with the pods that are there.
pub(super) struct ReplicaView<'a> {
    pub(super) pods: Vec<(&'a SeenPod, &'a Standing)>,
}

/// A group with its pods.
pub(super) struct GroupView<'a> {
    pub(super) seen: &'a SeenGroup,
    pub(super) roles: Vec<RoleView<'a>>,
    /// Why a pod cannot be placed at all.
    pub(super) fault: Option<String>,
}

impl<'a> GroupView<'a> {
    pub(super) fn new(seen: &'a SeenGroup, standings: &'a Standings) -> Self {
        let roles = seen.rules.roles.iter();
        Self {
            roles: roles.map(|role| role_view(seen, role, standings)).collect(),
            fault: fault(seen, standings),
            seen,
        }
        .refused_if_directed()
    }

    /// All groups that are seen.
    pub(super) fn all(seen: &'a Seen, standings: &'a Standings) -> Vec<Self> {
        let groups = seen.groups.iter();
        groups.map(|group| Self::new(group, standings)).collect()
    }

    /// Rules between groups are the planner's alone, so they cannot be kept where somebody else
    /// chooses the places of single pods.
    fn refused_if_directed(mut self) -> Self {
        let rules = &self.seen.rules;
        let field = match (&rules.exclusive, &rules.spread) {
            (Some(_), _) => "exclusive",
            (None, Some(_)) => "spread",
            (None, None) => return self,
        };
        let fault = self.directed().map(|role| {
            format!(
                "{field}: pods of role `{}` have node selectors, affinities or volumes of their own, which leave no choice of a domain: take {field} out, or whatever directs them, such as Kueue's topology",
                role.rules.name
            )
        });
        self.fault = self.fault.or(fault);
        self
    }

    /// Whether any of its pods has a node, or is on its way to one.
    pub(super) fn has_members(&self) -> bool {
        self.roles.iter().any(|role| !role.members.is_empty())
    }

    /// The role whose pods wait and may not all go to the same nodes, as the planner takes it.
    pub(super) fn directed(&self) -> Option<&RoleView<'a>> {
        self.roles.iter().find(|role| role.is_directed())
    }

    /// Why it cannot be planned yet: the role that lacks pods, in words.
    pub(super) fn lacks(&self) -> Option<String> {
        let has_members = self.has_members();
        self.roles.iter().find_map(|role| {
            let there = role.members.len() + role.candidates.len();
            let least = usize::try_from(role.rules.min).unwrap_or(usize::MAX);
            let is_short = if has_members {
                role.kinds.is_empty()
            } else {
                there < least
            };
            is_short.then(|| {
                format!(
                    "{there} of at least {least} replicas of {} are there",
                    role.rules.name
                )
            })
        })
    }

    /// The group as the planner takes it, wanting `wanted` replicas of each role.
    pub(super) fn group(&self, now_seconds: u64, wanted: impl Fn(&RoleView<'_>) -> u32) -> Group {
        let mut group = self.seen.rules.clone();
        let pods = self.seen.pods.iter();
        group.priority = pods.map(|pod| pod.priority).max().unwrap_or_default();
        let since = self.seen.record.since_seconds;
        group.age_seconds = match since {
            0 => 0,
            since => now_seconds.saturating_sub(since),
        };
        group.members = self.members();
        for (role, view) in group.roles.iter_mut().zip(&self.roles) {
            role.desired = wanted(view).max(role.min);
            role.pods.clone_from(&view.kinds);
        }
        group
    }

    fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        for role in &self.roles {
            for (number, replica) in (0..).zip(&role.members) {
                for (pod, standing) in &replica.pods {
                    if let Standing::Member { node } = standing {
                        members.push(Member {
                            pod: pod.name.clone(),
                            role: role.rules.name.clone(),
                            kind: role.kind_of(pod).to_owned(),
                            replica: number,
                            node: node.clone(),
                        });
                    }
                }
            }
        }
        members
    }

    /// Amounts that members have beyond those of their kind, by node: pods of before a change.
    pub(super) fn beyond(&self) -> Vec<(&'a str, &'a SeenPod, Resources)> {
        let mut beyond = Vec::new();
        for role in &self.roles {
            for (pod, standing) in role.members.iter().flat_map(|replica| &replica.pods) {
                let kind = role
                    .kinds
                    .iter()
                    .find(|kind| kind.name == role.kind_of(pod));
                if let (Standing::Member { node }, Some(kind), Ok(shape)) =
                    (standing, kind, &pod.shape)
                {
                    let of_kind = &kind.shape.requests;
                    let more = shape.requests.iter().filter_map(|(name, amount)| {
                        let rest = amount - of_kind.get(name);
                        (rest > 0).then(|| (name.to_owned(), rest))
                    });
                    let more: Resources = more.collect();
                    if more.iter().next().is_some() {
                        beyond.push((node.as_str(), *pod, more));
                    }
                }
            }
        }
        beyond
    }
}

impl RoleView<'_> {
    /// The name of a pod's kind in the planner.
    pub(super) fn kind_of<'p>(&self, pod: &'p SeenPod) -> &'p str {
        match self.kinds.as_slice() {
            [only] if only.count == 1 => ONLY_KIND,
            _ => &pod.kind,
        }
    }

    fn is_directed(&self) -> bool {
        let replicas = self.members.iter().chain(&self.candidates);
        let mut pods = replicas.flat_map(|replica| &replica.pods);
        pods.any(|(pod, standing)| {
            let mut kinds = self.kinds.iter();
            let kind = kinds.find(|kind| kind.name == self.kind_of(pod));
            let (Standing::Candidate, Ok(shape), Some(kind)) = (*standing, &pod.shape, kind) else {
                return false;
            };
            !shape.has_same_places(&kind.shape)
        })
    }

    /// Replicas all of whose pods have a node.
    pub(super) fn bound(&self) -> u32 {
        let whole: u32 = self.kinds.iter().map(|kind| kind.count).sum();
        let is_bound = |replica: &&ReplicaView<'_>| {
            let bound = replica.pods.iter().filter(|(pod, _)| pod.is_bound());
            whole > 0 && u32::try_from(bound.count()).unwrap_or(u32::MAX) >= whole
        };
        let bound = self.members.iter().filter(is_bound).count();
        u32::try_from(bound).unwrap_or(u32::MAX)
    }

    /// Replicas that are there, on a node or not.
    pub(super) fn there(&self) -> u32 {
        u32::try_from(self.members.len() + self.candidates.len()).unwrap_or(u32::MAX)
    }
}

impl ReplicaView<'_> {
    fn created_seconds(&self) -> u64 {
        let created = self.pods.iter().map(|(pod, _)| pod.created_seconds);
        created.max().unwrap_or_default()
    }
}

fn role_view<'a>(seen: &'a SeenGroup, rules: &'a Role, standings: &'a Standings) -> RoleView<'a> {
    let mut replicas: BTreeMap<&str, ReplicaView<'a>> = BTreeMap::new();
    for pod in seen.pods.iter().filter(|pod| pod.role == rules.name) {
        let standing = standings.of(pod);
        if matches!(standing, Standing::Member { .. } | Standing::Candidate) {
            let replica = replicas.entry(&pod.replica);
            let replica = replica.or_insert_with(|| ReplicaView { pods: Vec::new() });
            replica.pods.push((pod, standing));
        }
    }
    let per_replica = seen.pods_per_replica.get(&rules.name).copied().unwrap_or(1);
    let whole = usize::try_from(per_replica).unwrap_or(usize::MAX);
    let kinds = kinds(replicas.values(), whole);
    let has_node = |replica: &ReplicaView<'_>| {
        let mut pods = replica.pods.iter();
        pods.any(|(_, standing)| matches!(standing, Standing::Member { .. }))
    };
    let (members, candidates): (Vec<_>, Vec<_>) = replicas
        .into_values()
        .partition(|replica| has_node(replica));
    let mut candidates: Vec<_> = candidates
        .into_iter()
        .filter(|replica| replica.pods.len() == whole)
        .collect();
    // Names decide between those of one second, for the map was in their order.
    candidates.sort_by_key(ReplicaView::created_seconds);
    RoleView {
        rules,
        kinds,
        members,
        candidates,
    }
}

/// The pods of one replica, as the newest that is whole has them.
fn kinds<'a>(replicas: impl Iterator<Item = &'a ReplicaView<'a>>, whole: usize) -> Vec<PodKind> {
    let newest = replicas
        .filter(|replica| replica.pods.len() == whole)
        .max_by_key(|replica| replica.created_seconds());
    let Some(newest) = newest else {
        return Vec::new();
    };
    let mut kinds: BTreeMap<&str, (u32, PodShape)> = BTreeMap::new();
    for (pod, _) in &newest.pods {
        let name = if whole == 1 { ONLY_KIND } else { &pod.kind };
        let shape = pod.shape.clone().unwrap_or_default();
        kinds.entry(name).or_insert((0, shape)).0 += 1;
    }
    let kinds = kinds.into_iter().map(|(name, (count, shape))| PodKind {
        name: name.to_owned(),
        count,
        shape,
    });
    kinds.collect()
}

/// The first pod that cannot be placed, and why.
fn fault(seen: &SeenGroup, standings: &Standings) -> Option<String> {
    seen.pods.iter().find_map(|pod| {
        let is_there = matches!(
            standings.of(pod),
            Standing::Member { .. } | Standing::Candidate
        );
        let fault = pod.shape.as_ref().err().filter(|_| is_there)?;
        Some(format!("pod `{}`: {fault}", pod.name))
    })
}
