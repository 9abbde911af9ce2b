//! A group as the search sees it: kinds of pods by number, levels by depth.
//!
//! Everything that a group says is checked here, and each fault becomes a message. Two groups with
//! equal jobs share their tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    counts::Counts,
    tree::{NOWHERE, Tree},
};
use crate::group::{Group, GroupError, KINDS_MAX, PODS_MAX, Role};

/// The changes that running pods may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They stay.
    Stay,
    /// All of them may move.
    Move,
    /// Those of others could move: the cost is how much would have to.
    Drain,
}

/// A group, ready for the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) mode: Mode,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) roles: Vec<RoleRule>,
    /// Depth of which the group must be in one domain; 0 for the cluster.
    pub(crate) required: usize,
    /// Depth of which it should be in one domain; 0 for none.
    pub(crate) preferred: usize,
    /// Pairs of kinds with the weight of their distance.
    pub(crate) traffic: Vec<(usize, usize, u64)>,
    /// Most pods of each kind.
    pub(crate) most: Counts,
    /// Kinds of which running pods end.
    pub(crate) shrinks: Vec<bool>,
    pub(crate) lockstep: bool,
}

/// Pods with the same needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) role: usize,
    pub(crate) per_replica: u16,
    /// The place of its shape in the ledger.
    pub(crate) shape: usize,
}

/// The constraints of a role, levels as depths; 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoleRule {
    /// Its kinds: from this one
    pub(crate) first: usize,
    /// to the one before this.
    pub(crate) end: usize,
    pub(crate) required: usize,
    pub(crate) preferred: usize,
    pub(crate) replica: usize,
    /// Replicas with which a placement is accepted.
    pub(crate) least: u32,
    pub(crate) desired: u32,
    /// Replicas of which pods run: all of them stay.
    pub(crate) begun: u32,
}

impl Job {
    /// The job of a group of which nothing runs. `shapes` are the places of its kinds' shapes.
    pub(crate) fn new(
        group: &Group,
        tree: &Tree,
        shapes: &[usize],
    ) -> Result<Self, Vec<GroupError>> {
        let faults = faults(group, tree);
        if !faults.is_empty() {
            return Err(faults);
        }
        let depth = |level: &Option<String>| level.as_ref().map_or(0, |level| tree.depth(level));
        // A preference for a level that nobody has cannot be met, and is reported, not searched.
        let soft = |level: &Option<String>| Some(depth(level)).filter(|depth| *depth != NOWHERE);
        let (mut kinds, mut roles) = (Vec::new(), Vec::new());
        let mut most = Counts::ZERO;
        for (index, role) in group.roles.iter().enumerate() {
            let first = kinds.len();
            for pods in &role.pods {
                let total = pods.count.saturating_mul(role.desired);
                most.set(kinds.len(), u16::try_from(total).unwrap_or(u16::MAX));
                kinds.push(Kind {
                    role: index,
                    per_replica: u16::try_from(pods.count).unwrap_or(u16::MAX),
                    shape: shapes[kinds.len()],
                });
            }
            roles.push(RoleRule {
                first,
                end: kinds.len(),
                required: depth(&role.required),
                preferred: soft(&role.preferred).unwrap_or(0),
                replica: depth(&role.replica_required),
                least: role.min,
                desired: role.desired,
                begun: 0,
            });
        }
        let exclusive = group.exclusive.as_ref().map(|exclusive| &exclusive.level);
        let exclusive = exclusive.map_or(0, |level| tree.depth(level));
        let mut job = Self {
            mode: Mode::Stay,
            shrinks: vec![false; kinds.len()],
            kinds,
            roles,
            required: depth(&group.required).max(exclusive),
            preferred: soft(&group.preferred).unwrap_or(0),
            traffic: Vec::new(),
            most,
            lockstep: group.lockstep,
        };
        job.traffic = job.pairs(group);
        Ok(job)
    }

    fn pairs(&self, group: &Group) -> Vec<(usize, usize, u64)> {
        let kinds_of = |name: &str| {
            let role = group.roles.iter().position(|role| role.name == name);
            role.map_or(0..0, |role| self.kinds_of(role))
        };
        let mut weights: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for traffic in &group.traffic {
            let mut pairs = BTreeSet::new();
            for from in kinds_of(&traffic.from) {
                for to in kinds_of(&traffic.to) {
                    pairs.insert((from.min(to), from.max(to)));
                }
            }
            for pair in pairs {
                let weight = weights.entry(pair).or_default();
                *weight = weight.saturating_add(u64::from(traffic.weight));
            }
        }
        let pairs = weights.into_iter();
        pairs
            .map(|((from, to), weight)| (from, to, weight))
            .collect()
    }

    /// A depth such that a placement of everything in one domain of it, or below, is better than
    /// any that needs a wider domain.
    pub(crate) fn sure_depth(&self) -> usize {
        let is_only = self.roles.iter().all(|rule| rule.preferred == 0);
        if is_only && self.mode != Mode::Drain {
            self.preferred.max(self.required)
        } else {
            self.required
        }
    }

    /// The shapes of all kinds.
    pub(crate) fn shapes(&self) -> Vec<usize> {
        self.kinds.iter().map(|kind| kind.shape).collect()
    }

    /// The kinds of a role.
    pub(crate) fn kinds_of(&self, role: usize) -> Range<usize> {
        self.roles[role].first..self.roles[role].end
    }

    /// Whether some pod of `role` is among `counts`.
    pub(crate) fn has_role(&self, role: usize, counts: &Counts) -> bool {
        self.kinds_of(role).any(|kind| counts.get(kind) > 0)
    }

    /// Whether `counts` are whole replicas of `role`.
    pub(crate) fn is_whole(&self, role: usize, counts: &Counts) -> bool {
        let whole = self.replicas(role, counts);
        self.kinds_of(role).all(|kind| {
            let each = u32::from(self.kinds[kind].per_replica);
            u32::from(counts.get(kind)) == whole * each
        })
    }

    /// Whole replicas of `role` among `counts`.
    pub(crate) fn replicas(&self, role: usize, counts: &Counts) -> u32 {
        let of_kind = |kind: usize| counts.get(kind) / self.kinds[kind].per_replica.max(1);
        let whole = self.kinds_of(role).map(of_kind).min();
        u32::from(whole.unwrap_or(0))
    }

    /// Replicas of `role` of which at least one pod is among `counts`, at least.
    pub(crate) fn replicas_begun(&self, role: usize, counts: &Counts) -> u32 {
        let of_kind = |kind: usize| {
            let each = self.kinds[kind].per_replica.max(1);
            counts.get(kind).div_ceil(each)
        };
        let begun = self.kinds_of(role).map(of_kind).max();
        u32::from(begun.unwrap_or(0))
    }

    /// The pods of one replica of `role`, by its kinds.
    pub(crate) fn replica_of(&self, role: usize) -> Vec<u16> {
        let kinds = &self.kinds[self.kinds_of(role)];
        kinds.iter().map(|kind| kind.per_replica).collect()
    }

    /// The pods of so many replicas of each role.
    pub(crate) fn pods(&self, replicas: impl Fn(usize) -> u32) -> Counts {
        let mut counts = Counts::ZERO;
        for (index, kind) in self.kinds.iter().enumerate() {
            let total = replicas(kind.role).saturating_mul(u32::from(kind.per_replica));
            counts.set(index, u16::try_from(total).unwrap_or(u16::MAX));
        }
        counts
    }

    /// The pods of the fewest replicas that are accepted.
    pub(crate) fn least(&self) -> Counts {
        self.pods(|role| self.roles[role].least)
    }

    /// The cost of using a domain at `depth` with `counts`: wide levels weigh more than all uses of
    /// narrower ones together.
    pub(crate) fn preference(&self, depth: usize, counts: &Counts) -> u64 {
        let weight = |preferred: usize| match preferred.checked_sub(depth) {
            None => 0,
            Some(levels) => {
                let base = self.most.total().saturating_add(1);
                base.saturating_pow(u32::try_from(levels).unwrap_or(u32::MAX))
            }
        };
        if counts.is_zero() {
            return 0;
        }
        let roles = self.roles.iter().enumerate();
        let of_roles = roles
            .filter(|(role, rule)| rule.preferred > 0 && self.has_role(*role, counts))
            .map(|(_, rule)| weight(rule.preferred));
        let own = if self.preferred > 0 {
            weight(self.preferred)
        } else {
            0
        };
        of_roles.fold(own, u64::saturating_add)
    }

    /// The weight of all pairs between `one` and `other`.
    pub(crate) fn crossing(&self, one: &Counts, other: &Counts) -> u64 {
        let mut sum = 0_u64;
        for (from, to, weight) in &self.traffic {
            let pairs = |from: usize, to: usize| {
                u64::from(one.get(from)).saturating_mul(u64::from(other.get(to)))
            };
            // Among pods of one kind each pair has one pod on either side, counted once.
            let pairs = if from == to {
                pairs(*from, *to)
            } else {
                pairs(*from, *to).saturating_add(pairs(*to, *from))
            };
            sum = sum.saturating_add(pairs.saturating_mul(*weight));
        }
        sum
    }
}

/// Everything that is wrong with a group.
fn faults(group: &Group, tree: &Tree) -> Vec<GroupError> {
    let mut faults = Vec::new();
    if group.roles.is_empty() {
        faults.push(GroupError::NoRoles);
    }
    let mut names = BTreeSet::new();
    for role in &group.roles {
        if !names.insert(role.name.as_str()) {
            faults.push(twice("roles", &role.name));
        }
        of_role(role, &mut faults);
    }
    let kinds = group.roles.iter().map(|role| role.pods.len()).sum();
    too_many("kinds of pods", kinds, KINDS_MAX, &mut faults);
    for traffic in &group.traffic {
        for name in [&traffic.from, &traffic.to] {
            if !names.contains(name.as_str()) {
                faults.push(unknown("traffic", name));
            }
        }
    }
    for member in &group.members {
        if group.pods(&member.role, &member.kind).is_none() {
            faults.push(unknown(
                &format!("members.{}", member.pod),
                &format!("{}/{}", member.role, member.kind),
            ));
        }
    }
    levels(group, tree, &mut faults);
    faults
}

fn of_role(role: &Role, faults: &mut Vec<GroupError>) {
    if role.min == 0 || role.min > role.desired {
        faults.push(GroupError::Replicas {
            role: role.name.clone(),
            min: role.min,
            desired: role.desired,
        });
    }
    if role.pods.is_empty() || role.pods.iter().any(|pods| pods.count == 0) {
        faults.push(GroupError::NoPods(role.name.clone()));
    }
    let mut names = BTreeSet::new();
    for pods in &role.pods {
        if !names.insert(pods.name.as_str()) {
            faults.push(twice(&format!("roles.{}.pods", role.name), &pods.name));
        }
        let total = u64::from(pods.count) * u64::from(role.desired);
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        too_many("pods of one kind", total, PODS_MAX as usize, faults);
    }
}

fn twice(field: &str, name: &str) -> GroupError {
    GroupError::NameTwice {
        field: field.to_owned(),
        name: name.to_owned(),
    }
}

fn unknown(field: &str, name: &str) -> GroupError {
    GroupError::UnknownRole {
        field: field.to_owned(),
        name: name.to_owned(),
    }
}

fn too_many(what: &'static str, count: usize, most: usize, faults: &mut Vec<GroupError>) {
    if count > most {
        faults.push(GroupError::TooMany {
            count: u64::try_from(count).unwrap_or(u64::MAX),
            what,
            most: u64::try_from(most).unwrap_or(u64::MAX),
        });
    }
}

/// Faults of levels: unknown ones, and narrow rules that are wider than wide ones.
fn levels(group: &Group, tree: &Tree, faults: &mut Vec<GroupError>) {
    let exclusive = group.exclusive.as_ref().map(|claim| claim.level.as_str());
    let spread = group.spread.as_ref().map(|spread| spread.level.as_str());
    let required = group.required.as_deref();
    // Fields with their levels, and the levels that these must lie in.
    let mut stated = vec![
        ("required".to_owned(), required, None),
        ("preferred".to_owned(), group.preferred.as_deref(), required),
        ("exclusive.level".to_owned(), exclusive, None),
        ("spread.level".to_owned(), spread, None),
    ];
    for role in &group.roles {
        let own = role.required.as_deref();
        let parts = [
            ("required", own, required),
            ("preferred", role.preferred.as_deref(), own),
            ("replicaRequired", role.replica_required.as_deref(), own),
        ];
        stated.extend(
            parts.map(|(name, level, within)| {
                (format!("roles.{}.{name}", role.name), level, within)
            }),
        );
    }
    let before = faults.len();
    for (field, level, _) in &stated {
        if let Some(level) = level.filter(|level| tree.rank(level).is_none()) {
            faults.push(GroupError::UnknownLevel {
                field: field.clone(),
                level: level.to_owned(),
                known: tree.known_levels(),
            });
        }
    }
    if faults.len() > before {
        return;
    }
    let rank = |level: Option<&str>| level.and_then(|level| tree.rank(level));
    for (field, level, within) in stated {
        if let (Some(narrow), Some(wide)) = (level, within)
            && rank(level) < rank(within)
        {
            faults.push(GroupError::TooWide {
                field,
                level: narrow.to_owned(),
                other: wide.to_owned(),
            });
        }
    }
    let held = rank(required).max(rank(exclusive));
    if let Some(level) = spread.filter(|level| tree.rank(level) > held) {
        faults.push(GroupError::SpreadWithoutRequired(level.to_owned()));
    }
}
