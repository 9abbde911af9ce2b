//! From counts per node to pods: which of them run already, and which replica each belongs to.
//!
//! A replica whose pods must be in one domain gets its number there, and keeps it: a lost pod is
//! replaced in the domain of its replica.

use std::collections::{BTreeMap, BTreeSet};

use super::{counts::Counts, job::Job, ledger::Ledger};
use crate::{
    group::{Group, Member},
    plan::Slot,
};

/// The pods of a group, and the running ones that have to end.
pub(crate) fn slots(
    job: &Job,
    ledger: &Ledger<'_>,
    group: &Group,
    placed: &[(usize, Counts)],
) -> (Vec<Slot>, Vec<String>) {
    let mut filling = Filling {
        job,
        ledger,
        group,
        all: Vec::new(),
        kept: BTreeSet::new(),
    };
    for role in 0..job.roles.len() {
        filling.role(role, placed);
    }
    let Filling { mut all, kept, .. } = filling;
    let ends = group
        .members
        .iter()
        .filter(|member| ledger.node(&member.node).is_some() && !kept.contains(&member.pod))
        .map(|member| member.pod.clone());
    all.sort();
    let mut ends: Vec<String> = ends.collect();
    ends.sort();
    (all, ends)
}

/// Pods that a replica still needs, by its number and kind.
type Open = BTreeMap<u32, Vec<u16>>;

/// Slots while they are being filled.
struct Filling<'a> {
    job: &'a Job,
    ledger: &'a Ledger<'a>,
    group: &'a Group,
    all: Vec<Slot>,
    /// Running pods that stay.
    kept: BTreeSet<String>,
}

impl Filling<'_> {
    fn role(&mut self, role: usize, placed: &[(usize, Counts)]) {
        let depth = self.job.roles[role].replica;
        let mut buckets: BTreeMap<usize, Vec<(usize, Counts)>> = BTreeMap::new();
        for (node, counts) in placed {
            let bucket = self.ledger.tree.domain_of(*node, depth);
            buckets.entry(bucket).or_default().push((*node, *counts));
        }
        let mut used = BTreeSet::new();
        let open: Vec<Open> = buckets
            .values()
            .map(|nodes| self.running(role, nodes, &mut used))
            .collect();
        for (nodes, open) in buckets.values().zip(open) {
            self.new_pods(role, nodes, open, &mut used);
        }
    }

    /// Running pods of `role` that keep their slots. Returns the replicas that they are parts of.
    fn running(
        &mut self,
        role: usize,
        nodes: &[(usize, Counts)],
        used: &mut BTreeSet<u32>,
    ) -> Open {
        let first = self.job.roles[role].first;
        let of_role = &self.group.roles[role];
        let mut open = Open::new();
        for (node, counts) in nodes {
            let name = &self.ledger.nodes[*node].name;
            for (place, pods) in of_role.pods.iter().enumerate() {
                let is_here = |member: &&Member| {
                    member.node == *name && member.role == of_role.name && member.kind == pods.name
                };
                let mut members: Vec<&Member> = self.group.members.iter().filter(is_here).collect();
                members.sort_by(|one, other| one.pod.cmp(&other.pod));
                let stay = usize::from(counts.get(first + place));
                for member in members.into_iter().take(stay) {
                    // A replica in two domains keeps the part in the first.
                    if !open.contains_key(&member.replica) && used.contains(&member.replica) {
                        continue;
                    }
                    used.insert(member.replica);
                    let needed = open
                        .entry(member.replica)
                        .or_insert_with(|| self.job.replica_of(role));
                    let Some(left) = needed[place].checked_sub(1) else {
                        continue;
                    };
                    needed[place] = left;
                    self.kept.insert(member.pod.clone());
                    self.all.push(Slot {
                        role: member.role.clone(),
                        replica: member.replica,
                        kind: member.kind.clone(),
                        node: name.clone(),
                        pod: Some(member.pod.clone()),
                    });
                }
            }
        }
        open
    }

    /// The other pods of `role` on these nodes, in replicas that are begun, then in new ones.
    fn new_pods(
        &mut self,
        role: usize,
        nodes: &[(usize, Counts)],
        mut open: Open,
        used: &mut BTreeSet<u32>,
    ) {
        let first = self.job.roles[role].first;
        let of_role = &self.group.roles[role];
        for (node, counts) in nodes {
            let name = &self.ledger.nodes[*node].name;
            for (place, pods) in of_role.pods.iter().enumerate() {
                let is_here = |slot: &&Slot| {
                    slot.node == *name && slot.role == of_role.name && slot.kind == pods.name
                };
                let there = self.all.iter().filter(is_here).count();
                for _ in there..usize::from(counts.get(first + place)) {
                    let begun = open.iter().find(|(_, needs)| needs[place] > 0);
                    let replica = if let Some((replica, _)) = begun {
                        *replica
                    } else {
                        let unused = |number: &u32| !used.contains(number);
                        let next = (0..u32::MAX).find(unused).unwrap_or(u32::MAX);
                        used.insert(next);
                        open.insert(next, self.job.replica_of(role));
                        next
                    };
                    if let Some(needs) = open.get_mut(&replica) {
                        needs[place] = needs[place].saturating_sub(1);
                    }
                    self.all.push(Slot {
                        role: of_role.name.clone(),
                        replica,
                        kind: pods.name.clone(),
                        node: name.clone(),
                        pod: None,
                    });
                }
            }
        }
    }
}

/// Leaves out pods until just `wanted` are left, never one that runs and has to stay.
pub(crate) fn trimmed(
    job: &Job,
    ledger: &Ledger<'_>,
    stays: impl Fn(usize) -> Counts,
    mut placed: Vec<(usize, Counts)>,
    wanted: Counts,
) -> Option<Vec<(usize, Counts)>> {
    let total = |placed: &[(usize, Counts)]| {
        let counts = placed.iter().map(|(_, counts)| *counts);
        counts.sum::<Counts>()
    };
    for (role, rule) in job.roles.iter().enumerate() {
        let mut surplus = total(&placed).minus(wanted);
        for kind in (0..job.kinds.len()).filter(|kind| job.kinds[*kind].role != role) {
            surplus.set(kind, 0);
        }
        let mut buckets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, (node, _)) in placed.iter().enumerate() {
            let bucket = ledger.tree.domain_of(*node, rule.replica);
            buckets.entry(bucket).or_default().push(place);
        }
        let replica = job.pods(|of| u32::from(of == role));
        for places in buckets.values().rev() {
            loop {
                let spare = places.iter().map(|place| {
                    let (node, counts) = placed[*place];
                    counts.minus(stays(node))
                });
                let free: Counts = spare.sum();
                // Whole replicas where these have a domain; elsewhere pod by pod.
                let unit = if rule.replica > 0 { replica } else { surplus };
                if surplus.is_zero() || !surplus.covers(&unit) || !free.covers(&unit) {
                    break;
                }
                let mut left = unit;
                for place in places.iter().rev() {
                    let (node, counts) = placed[*place];
                    let free = counts.minus(stays(node));
                    let taken = left.minus(left.minus(free));
                    placed[*place].1 = counts.minus(taken);
                    left = left.minus(taken);
                }
                surplus = surplus.minus(unit);
            }
        }
    }
    placed.retain(|(_, counts)| !counts.is_zero());
    (total(&placed) == wanted).then_some(placed)
}
