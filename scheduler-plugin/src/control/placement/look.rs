//! One look at the caches, as the gate takes it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use kube::ResourceExt as _;
use pd_api::v1alpha1::PlacementGroup;
use pd_placement::{
    gate::{GateSettings, Seen},
    manifest::VolumeRules,
};

use super::{
    caches::Caches,
    objects::{PlacementPod, key},
    read,
};

/// The time of day, seconds since 1970; 1 for a clock of before.
pub(super) fn wall_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| since.as_secs())
}

/// Groups and pods at one moment.
pub(super) struct Look<'a> {
    caches: &'a Caches,
    /// All groups.
    pub(super) groups: Vec<Arc<PlacementGroup>>,
    /// All pods.
    pub(super) pods: Vec<Arc<PlacementPod>>,
    /// Pods by the namespace and name of their group, of groups that there are.
    pub(super) by_group: BTreeMap<String, Vec<Arc<PlacementPod>>>,
}

impl<'a> Look<'a> {
    /// Takes one.
    pub(super) fn at(caches: &'a Caches) -> Self {
        let groups = caches.groups.store().state();
        let pods = caches.pods.store().state();
        Self {
            by_group: by_group(&groups, &pods),
            caches,
            groups,
            pods,
        }
    }

    /// Pods whose group does not exist.
    pub(super) fn orphans(&self) -> impl Iterator<Item = &PlacementPod> {
        let pods = self.pods.iter().map(|pod| &**pod);
        pods.filter(|pod| {
            let group = pod.group_key();
            group.is_some_and(|group| !self.by_group.contains_key(&group))
        })
    }

    /// Everything, at `now_seconds` since 1970.
    pub(super) fn seen(&self, now_seconds: u64, settings: GateSettings) -> Seen {
        let objects = self.caches.topologies.store().state();
        let topologies = read::topologies(objects.iter().map(|object| &**object));
        let nodes = self.caches.nodes.store().state();
        let others = self.pods.iter().filter(|pod| {
            let group = pod.group_key();
            group.is_none_or(|group| !self.by_group.contains_key(&group))
        });
        let group = |group: &Arc<PlacementGroup>| {
            let namespace = group.namespace().unwrap_or_default();
            let pods = self
                .by_group
                .get(&key(group))
                .map_or(&[][..], Vec::as_slice);
            let pods: Vec<&PlacementPod> = pods.iter().map(|pod| &**pod).collect();
            let volumes = self.volume_rules(&namespace, &pods);
            read::group(group, &pods, &topologies, &volumes)
        };
        Seen {
            now_seconds,
            nodes: read::nodes(
                nodes.iter().filter_map(|node| node.node.as_ref()),
                others.map(|pod| &**pod),
            ),
            groups: self.groups.iter().map(group).collect(),
            settings,
        }
    }

    /// Where the claims of these pods can be reached from. A claim without a volume yet may be
    /// bound anywhere; one that is not there is unknown.
    fn volume_rules(&self, namespace: &str, pods: &[&PlacementPod]) -> VolumeRules {
        let mut rules = VolumeRules::new();
        for pod in pods {
            for name in pod.claims() {
                let Some(claim) = self.caches.claims.get(&name, Some(namespace)) else {
                    continue;
                };
                let volume = claim.spec.volume_name.as_ref();
                let volume = volume.and_then(|name| self.caches.volumes.get(name, None));
                let reach = volume.and_then(|volume| volume.reach());
                rules.insert(name, reach.into_iter().collect());
            }
        }
        rules
    }
}

fn by_group(
    groups: &[Arc<PlacementGroup>],
    pods: &[Arc<PlacementPod>],
) -> BTreeMap<String, Vec<Arc<PlacementPod>>> {
    let mut by_group: BTreeMap<String, Vec<Arc<PlacementPod>>> = groups
        .iter()
        .map(|group| (key(group), Vec::new()))
        .collect();
    for pod in pods {
        let of_group = pod.group_key().and_then(|group| by_group.get_mut(&group));
        if let Some(of_group) = of_group {
            of_group.push(pod.clone());
        }
    }
    by_group
}
