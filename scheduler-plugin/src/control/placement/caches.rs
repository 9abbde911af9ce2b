//! The caches of placing: what the cluster has, as the last watch events showed it.

use kube::Client;
use pd_api::v1alpha1::{ClusterTopology, PlacementGroup};
use pd_runtime::{readiness::Readiness, shutdown::Shutdown};

use super::autoscaler::PlacingAutoscaler;
use super::objects::{PlacementNode, PlacementPod, WatchedClaim, WatchedVolume};
use crate::control::cache::Cache;

/// The caches of placing.
#[derive(Debug, Clone)]
pub struct Caches {
    pub(super) pods: Cache<PlacementPod>,
    pub(super) nodes: Cache<PlacementNode>,
    pub(super) groups: Cache<PlacementGroup>,
    pub(super) topologies: Cache<ClusterTopology>,
    pub(super) claims: Cache<WatchedClaim>,
    pub(super) volumes: Cache<WatchedVolume>,
    pub(super) autoscalers: Cache<PlacingAutoscaler>,
}

impl Caches {
    /// Begins to follow the cluster.
    pub fn follow(client: &Client, shutdown: &Shutdown, readiness: &Readiness) -> Self {
        Self {
            pods: Cache::followed(client, shutdown, readiness, "placement pods"),
            nodes: Cache::followed(client, shutdown, readiness, "placement nodes"),
            groups: Cache::followed(client, shutdown, readiness, "placement groups"),
            topologies: Cache::followed(client, shutdown, readiness, "cluster topologies"),
            claims: Cache::followed(client, shutdown, readiness, "volume claims"),
            volumes: Cache::followed(client, shutdown, readiness, "volumes"),
            autoscalers: Cache::followed(client, shutdown, readiness, "placing autoscalers"),
        }
    }

    /// Completes once everything was listed.
    pub async fn listed(&self) {
        self.pods.listed().await;
        self.nodes.listed().await;
        self.groups.listed().await;
        self.topologies.listed().await;
        self.claims.listed().await;
        self.volumes.listed().await;
        self.autoscalers.listed().await;
    }

    /// Whether everything was listed.
    pub(super) fn are_listed(&self) -> bool {
        self.pods.is_listed()
            && self.nodes.is_listed()
            && self.groups.is_listed()
            && self.topologies.is_listed()
            && self.claims.is_listed()
            && self.volumes.is_listed()
    }

    /// The kind whose watch fails, if one does.
    pub(super) fn failing(&self) -> Option<&'static str> {
        let watches = [
            (self.pods.failing_since(), "pods"),
            (self.nodes.failing_since(), "nodes"),
            (self.groups.failing_since(), "placementgroups"),
            (self.topologies.failing_since(), "clustertopologies"),
            (self.claims.failing_since(), "persistentvolumeclaims"),
            (self.volumes.failing_since(), "persistentvolumes"),
        ];
        let mut failing = watches.into_iter();
        failing.find_map(|(since, kind)| since.map(|_| kind))
    }
}
