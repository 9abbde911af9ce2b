//! The promises of the gate, checked after every step by an observer of the API server.

use std::collections::{BTreeMap, BTreeSet};

use pd_placement::gate::{Action, PodState};

use crate::cluster::{Cluster, OwnedGroup};

/// An observer.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    /// Plans that were ever written: group, plan, pod, node.
    written: BTreeSet<(String, u64, String, String)>,
    /// Since when a group that never ran has some pods bound and not its least.
    partial_since: BTreeMap<String, u64>,
    /// Longest time that one was so, seconds.
    pub(crate) longest_partial_seconds: u64,
}

impl Observer {
    /// Before an action is carried out.
    pub(crate) fn before(&self, cluster: &Cluster, action: &Action) {
        match action {
            Action::Write { .. } | Action::Mark { .. } => {}
            Action::Release {
                group,
                plan,
                pod,
                node,
            } => {
                let key = (group.clone(), *plan, pod.uid.clone(), node.clone());
                assert!(
                    self.written.contains(&key),
                    "{key:?} was never written and is released"
                );
                if let Some((_, pod)) = cluster.pods.get(&pod.uid) {
                    assert_ne!(
                        pod.state,
                        PodState::GatedByOthers,
                        "{} is released against another's gate",
                        pod.name
                    );
                }
            }
            Action::End { pod, .. } => {
                if let Some((_, pod)) = cluster.pods.get(&pod.uid) {
                    assert!(
                        pod.has_owner,
                        "{} is ended and nobody makes it again",
                        pod.name
                    );
                }
            }
        }
    }

    /// After anything has changed.
    pub(crate) fn after(&mut self, cluster: &Cluster) {
        for (name, group) in &cluster.groups {
            for planned in &group.record.assignments {
                self.written.insert((
                    name.clone(),
                    group.record.plan,
                    planned.uid.clone(),
                    planned.node.clone(),
                ));
            }
            keeps_its_level(cluster, name, group);
            self.is_whole(cluster, name, group);
        }
        for name in cluster.nodes.keys() {
            assert!(
                cluster.free(name) >= 0,
                "node {name} has less than its pods use"
            );
        }
    }

    /// Invariant A: all or nothing, but for the window.
    fn is_whole(&mut self, cluster: &Cluster, name: &str, group: &OwnedGroup) {
        let bound = bound_replicas(cluster, name, group);
        let has_some = cluster
            .pods_of(name)
            .any(|pod| matches!(pod.state, PodState::Bound { .. }) && !pod.is_ending);
        let has_least = group
            .rules
            .roles
            .iter()
            .all(|role| bound.get(role.name.as_str()).copied().unwrap_or(0) >= role.min);
        if has_least || !has_some || group.record.was_placed {
            self.partial_since.remove(name);
            return;
        }
        let since = self.partial_since.entry(name.to_owned());
        let since = *since.or_insert(cluster.now_seconds);
        let seconds = cluster.now_seconds.saturating_sub(since);
        self.longest_partial_seconds = self.longest_partial_seconds.max(seconds);
    }
}

/// Whole replicas on nodes, by role.
pub(crate) fn bound_replicas<'a>(
    cluster: &'a Cluster,
    name: &'a str,
    group: &'a OwnedGroup,
) -> BTreeMap<&'a str, u32> {
    let mut pods: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for pod in cluster.pods_of(name) {
        if matches!(pod.state, PodState::Bound { .. }) && !pod.is_ending {
            *pods.entry((&pod.role, &pod.replica)).or_default() += 1;
        }
    }
    let mut replicas: BTreeMap<&str, u32> = BTreeMap::new();
    for ((role, _), count) in pods {
        let whole = group.pods_per_replica.get(role).copied().unwrap_or(1);
        if count >= whole {
            *replicas.entry(role).or_default() += 1;
        }
    }
    replicas
}

/// Invariant B: what is required holds for the pods that we placed.
fn keeps_its_level(cluster: &Cluster, name: &str, group: &OwnedGroup) {
    let Some(level) = &group.rules.required else {
        return;
    };
    let domains: BTreeSet<Vec<String>> = cluster
        .pods_of(name)
        .filter(|pod| !pod.is_ending)
        .filter_map(|pod| match &pod.state {
            PodState::Bound { node } => cluster.nodes.get(node),
            _ => None,
        })
        .map(|node| {
            let keys: &[&str] = if level == "block" {
                &["block"]
            } else {
                &["block", "rack"]
            };
            keys.iter().map(|key| node.labels[*key].clone()).collect()
        })
        .collect();
    assert!(
        domains.len() <= 1,
        "group {name} must be in one {level} and is in {domains:?}"
    );
}
