//! Bindings of pods on a scheduler that is measured: when each pod got its node.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::bail;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, WatchEvent, WatchParams},
};

use crate::control_plane::eventually;

/// How long all of them, or their removal, may take.
const DEADLINE: Duration = Duration::from_mins(5);

/// Bindings since a moment.
#[derive(Debug)]
pub struct Bindings {
    version: String,
}

impl Bindings {
    /// Those from now on.
    pub async fn from_now(pods: &Api<Pod>) -> kube::Result<Self> {
        let listed = pods.list_metadata(&ListParams::default().limit(1)).await?;
        Ok(Self {
            version: listed.metadata.resource_version.unwrap_or_default(),
        })
    }

    /// The moment at which each of `count` pods was seen on a node. `begin` runs once bindings are
    /// watched.
    pub async fn of(
        self,
        pods: &Api<Pod>,
        count: usize,
        begin: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<BTreeMap<String, Instant>> {
        let watch = WatchParams::default().timeout(290);
        let mut events = std::pin::pin!(pods.watch(&watch, &self.version).await?);
        begin.await?;
        let mut bound = BTreeMap::new();
        let all = async {
            while let Some(event) = events.next().await {
                let pod = match event? {
                    WatchEvent::Modified(pod) => pod,
                    WatchEvent::Error(error) => bail!("the watch of pods failed: {error:?}"),
                    _ => continue,
                };
                if pod.spec.is_some_and(|spec| spec.node_name.is_some()) {
                    let name = pod.metadata.name.unwrap_or_default();
                    bound.entry(name).or_insert_with(Instant::now);
                }
                if bound.len() == count {
                    return Ok(());
                }
            }
            bail!("the watch of pods ended")
        };
        let ended = tokio::time::timeout(DEADLINE, all).await;
        let Ok(ended) = ended else {
            bail!("only {} of {count} pods were bound", bound.len());
        };
        ended?;
        Ok(bound)
    }
}

/// Deletes all pods, and returns when they are gone.
pub async fn clear(pods: &Api<Pod>) -> anyhow::Result<()> {
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete_collection(&at_once, &ListParams::default())
        .await?;
    eventually("the pods to be gone", DEADLINE, async || {
        let left = pods.list_metadata(&ListParams::default().limit(1)).await;
        match left.map_err(|error| error.to_string())?.items.len() {
            0 => Ok(()),
            _ => Err("some are left".to_owned()),
        }
    })
    .await?;
    Ok(())
}
