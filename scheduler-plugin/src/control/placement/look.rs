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
    autoscaler::maker,
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
    makers: Makers,
}

/// The PDAutoscaler that each group was made for, by the group's namespace and name.
struct Makers(BTreeMap<String, Option<String>>);

impl Makers {
    fn of(groups: &[Arc<PlacementGroup>]) -> Self {
        let made = groups.iter().map(|group| {
            let maker = maker(group).map(|owner| owner.name.clone());
            (key(group), maker)
        });
        Self(made.collect())
    }

    /// The group of a pod, if there is one that it may be in: one that joined for a PDAutoscaler is
    /// in no group of others that has the same name.
    fn group_of(&self, pod: &PlacementPod) -> Option<String> {
        let group = pod.group_key()?;
        let maker = self.0.get(&group)?.as_deref();
        let source = pod.source();
        (source.is_none() || source == maker).then_some(group)
    }
}

impl<'a> Look<'a> {
    /// Takes one.
    pub(super) fn at(caches: &'a Caches) -> Self {
        let groups = caches.groups.store().state();
        let pods = caches.pods.store().state();
        let makers = Makers::of(&groups);
        Self {
            by_group: by_group(&groups, &pods, &makers),
            makers,
            caches,
            groups,
            pods,
        }
    }

    /// Pods whose group does not exist.
    pub(super) fn orphans(&self) -> impl Iterator<Item = &PlacementPod> {
        let pods = self.pods.iter().map(|pod| &**pod);
        pods.filter(|pod| pod.group().is_some() && self.makers.group_of(pod).is_none())
    }

    /// Everything, at `now_seconds` since 1970.
    pub(super) fn seen(&self, now_seconds: u64, settings: GateSettings) -> Seen {
        let objects = self.caches.topologies.store().state();
        let topologies = read::topologies(objects.iter().map(|object| &**object));
        let nodes = self.caches.nodes.store().state();
        let pods = self.pods.iter();
        let others = pods.filter(|pod| self.makers.group_of(pod).is_none());
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
    makers: &Makers,
) -> BTreeMap<String, Vec<Arc<PlacementPod>>> {
    let mut by_group: BTreeMap<String, Vec<Arc<PlacementPod>>> = groups
        .iter()
        .map(|group| (key(group), Vec::new()))
        .collect();
    for pod in pods {
        let group = makers.group_of(pod);
        let of_group = group.and_then(|group| by_group.get_mut(&group));
        if let Some(of_group) = of_group {
            of_group.push(pod.clone());
        }
    }
    by_group
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::control::cache::Cached as _;

    #[rstest]
    #[case::by_its_label(json!({}), json!([]), true)]
    #[case::by_its_label_in_a_made_one(json!({}), json!(["llama"]), true)]
    #[case::of_its_autoscaler(json!({ "pdautoscaler.io/placement-from": "llama/decode" }), json!(["llama"]), true)]
    #[case::of_nobody(json!({ "pdautoscaler.io/placement-from": "llama/decode" }), json!([]), false)]
    #[case::of_another(json!({ "pdautoscaler.io/placement-from": "llama/decode" }), json!(["other"]), false)]
    fn a_pod_that_joined_for_an_autoscaler_is_in_no_group_of_others(
        #[case] annotations: Value,
        #[case] makers: Value,
        #[case] is_in: bool,
    ) {
        let owner = |name: &Value| json!({ "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler", "name": name, "uid": "u", "controller": true });
        let owners: Vec<Value> = makers.as_array().unwrap().iter().map(owner).collect();
        let group: PlacementGroup = serde_json::from_value(json!({
            "metadata": { "name": "llama", "namespace": "ns", "ownerReferences": owners },
            "spec": { "roles": [{ "name": "decode" }] },
        }))
        .unwrap();
        let mut pod: PlacementPod = serde_json::from_value(json!({
            "metadata": { "name": "x", "namespace": "ns", "annotations": annotations,
                "labels": { "pdautoscaler.io/placement-group": "llama" } },
            "spec": { "containers": [] },
        }))
        .unwrap();
        pod.prune();
        let makers = Makers::of(&[Arc::new(group)]);
        let found = makers.group_of(&pod);
        assert_eq!(found.as_deref() == Some("ns/llama"), is_in, "{found:?}");
    }
}
