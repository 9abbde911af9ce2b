//! How fast gangs get their nodes on a real kube-scheduler, beside single pods without us, in one
//! run.
//!
//! Nodes are posted as ready and nobody plays them. Single pods are created while the scheduler is
//! stopped (SIGSTOP), as in [`throughput`](crate::throughput). Groups and their gated pods are
//! created while our controllers are: time counts from the moment that either goes on, so all
//! writes of plans and releases are in it. The rate counts from the first binding to the last.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use pd_api::v1alpha1::{
    ClusterTopology, PlacementGroup,
    placement_group::{GATE, GROUP_LABEL},
};
use serde_json::{Value, json};

use crate::{
    add_ons::start_control_as,
    bindings::{Bindings, clear},
    control_plane::{
        BLOCK_LABEL, Component, ControlPlane, GPU_RESOURCE, NodeSpec, Options, RACK_LABEL,
        eventually, until_served,
    },
    meter::processor_ms,
    supervisor::Process,
};

const CONCURRENCY: usize = 32;
/// How long a turn may take.
const DEADLINE: Duration = Duration::from_mins(5);

/// How much is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct GangOptions {
    /// Nodes, in racks of 16.
    #[arg(long, default_value_t = 5000)]
    pub nodes: usize,
    /// Pods of each turn.
    #[arg(long, default_value_t = 2000)]
    pub pods: usize,
    /// Turns of each way.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Pods of a gang, by commas; 1 is single pods without a group.
    #[arg(long, value_delimiter = ',', default_value = "1,4,64")]
    pub sizes: Vec<usize>,
}

/// The result of one turn.
#[derive(Debug, Clone, Copy)]
pub struct GangTurn {
    /// Pods bound in a second, from the first binding to the last.
    pub pods_per_second: f64,
    /// Time to the last binding of all pods of a gang, seconds: the gang in the middle.
    pub p50_seconds: f64,
    /// The same of the gang that 99 of 100 are not slower than.
    pub p99_seconds: f64,
    /// Processor time of the scheduler for each pod, ms; absent where the system does not say.
    pub scheduler_ms: Option<f64>,
    /// The same of our controllers.
    pub control_ms: Option<f64>,
}

/// The cluster that is measured on.
#[expect(missing_debug_implementations, reason = "a client shows nothing")]
pub struct Gangs {
    plane: ControlPlane,
    client: Client,
    control: Process,
    options: GangOptions,
}

impl Gangs {
    /// Starts a control plane with all nodes, and the controllers beside it.
    pub async fn start(options: GangOptions) -> anyhow::Result<Self> {
        let plane = ControlPlane::start(Options {
            kwok: false,
            controller_manager: false,
            scheduler: false,
            // Nobody takes the taint of a new node away, nor makes service accounts.
            api_server_arguments: vec![
                "--disable-admission-plugins=TaintNodesByCondition,ServiceAccount".to_owned(),
            ],
            ready_timeout: Duration::from_mins(2),
            ..Options::default()
        })
        .await?;
        let nodes = NodeSpec {
            prefix: "ip-10-0.eu-west-1.compute.internal".to_owned(),
            count: options.nodes,
            nodes_per_rack: 16,
            racks_per_block: 8,
            blocks_per_zone: 8,
            ..NodeSpec::default()
        };
        plane.add_nodes(&nodes).await?;
        for resource in pd_api::Resource::ALL {
            plane.apply(&resource.crd_yaml()?).await?;
            until_served(&plane, &format!("{}.pdautoscaler.io", resource.plural())).await?;
        }
        let client = plane.client().await?;
        let topology: ClusterTopology = serde_json::from_value(json!({
            "metadata": { "name": "default" },
            "spec": { "levels": [
                { "name": "block", "nodeLabels": [BLOCK_LABEL] },
                { "name": "rack", "nodeLabels": [RACK_LABEL] },
            ] },
        }))?;
        let topologies = Api::<ClusterTopology>::all(client.clone());
        topologies.create(&PostParams::default(), &topology).await?;
        // They lead still when they go on.
        let flags = [
            "--placement",
            "--mirror-labels=false",
            "--evict=false",
            "--leader-election-lease-duration=10m",
            "--leader-election-renew-deadline=9m",
        ];
        let control = start_control_as(&plane, "pd-control", plane.kubeconfig(), &flags).await?;
        eventually("the controllers to lead", DEADLINE, async || {
            let log = control.log();
            if log.contains("\"leading\"") {
                Ok(())
            } else {
                Err(control.log_tail())
            }
        })
        .await?;
        Ok(Self {
            plane,
            client,
            control,
            options,
        })
    }

    /// Measures all sizes in turns, and reports each turn as it ends.
    pub async fn measure(
        &self,
        mut report: impl FnMut(usize, usize, GangTurn),
    ) -> anyhow::Result<BTreeMap<usize, Vec<GangTurn>>> {
        let mut turns: BTreeMap<usize, Vec<GangTurn>> = BTreeMap::new();
        for round in 0..self.options.rounds {
            let mut sizes = self.options.sizes.clone();
            // Nobody is always the first.
            let first = round % sizes.len();
            sizes.rotate_left(first);
            for size in sizes {
                let turn = self.turn(size).await?;
                report(round, size, turn);
                turns.entry(size).or_default().push(turn);
            }
        }
        Ok(turns)
    }

    async fn turn(&self, size: usize) -> anyhow::Result<GangTurn> {
        self.plane.restart(Component::Scheduler).await?;
        // One through, so that caches are filled and connections made.
        self.place(size, size).await?;
        self.clear().await?;
        let count = self.options.pods / size * size;
        let turn = self.place(size, count).await?;
        self.plane.kill(Component::Scheduler).await?;
        self.clear().await?;
        Ok(turn)
    }

    async fn clear(&self) -> anyhow::Result<()> {
        let groups = Api::<PlacementGroup>::default_namespaced(self.client.clone());
        let pods = Api::<Pod>::default_namespaced(self.client.clone());
        let at_once = DeleteParams::default().grace_period(0);
        groups
            .delete_collection(&at_once, &ListParams::default())
            .await?;
        clear(&pods).await
    }

    /// Has `count` pods placed in gangs of `size`.
    async fn place(&self, size: usize, count: usize) -> anyhow::Result<GangTurn> {
        let pods = Api::<Pod>::default_namespaced(self.client.clone());
        let bindings = Bindings::from_now(&pods).await?;
        if size == 1 {
            self.plane.pause(Component::Scheduler).await?;
        } else {
            self.control.pause().await?;
            self.make_groups(size, count / size).await?;
        }
        stream::iter(0..count)
            .map(|number| {
                let pods = &pods;
                async move {
                    let pod = serde_json::from_value(pod(number, size))?;
                    pods.create(&PostParams::default(), &pod).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<Vec<()>>()
            .await?;
        let scheduler = self.plane.process(Component::Scheduler)?;
        let before = [&scheduler, &self.control].map(processor_ms);
        let mut began = Instant::now();
        let start = async {
            began = Instant::now();
            if size == 1 {
                self.plane.resume(Component::Scheduler).await?;
            } else {
                self.control.resume().await?;
            }
            Ok(())
        };
        let bound = bindings.of(&pods, count, start).await;
        let bound = bound.with_context(|| self.control.log_tail())?;
        let bound = bound.into_iter().map(|(pod, at)| (pod, at - began));
        let bound: BTreeMap<String, Duration> = bound.collect();
        let after = [&scheduler, &self.control].map(processor_ms);
        Ok(turn_of(&bound, size, before, after))
    }

    async fn make_groups(&self, size: usize, count: usize) -> anyhow::Result<()> {
        let groups = Api::<PlacementGroup>::default_namespaced(self.client.clone());
        stream::iter(0..count)
            .map(|number| {
                let groups = &groups;
                async move {
                    let group = serde_json::from_value(json!({
                        "metadata": { "name": format!("gang-{number}") },
                        "spec": { "requiredLevel": "rack", "roles": [{ "name": "all", "minReplicas": size }] },
                    }))?;
                    groups.create(&PostParams::default(), &group).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }
}

fn pod(number: usize, size: usize) -> Value {
    let mut pod = json!({
        "metadata": { "name": format!("p-{number}") },
        "spec": {
            "containers": [{ "name": "c", "image": "x", "resources": {
                "requests": { "cpu": "100m", "memory": "100Mi", GPU_RESOURCE: "1" },
                "limits": { GPU_RESOURCE: "1" },
            } }],
            "terminationGracePeriodSeconds": 0,
        },
    });
    if size > 1 {
        pod["metadata"]["labels"] = json!({ GROUP_LABEL: format!("gang-{}", number / size) });
        pod["spec"]["schedulingGates"] = json!([{ "name": GATE }]);
    }
    pod
}

fn turn_of(
    bound: &BTreeMap<String, Duration>,
    size: usize,
    before: [Option<f64>; 2],
    after: [Option<f64>; 2],
) -> GangTurn {
    let mut last: BTreeMap<usize, Duration> = BTreeMap::new();
    for (name, at) in bound {
        let number = name.strip_prefix("p-").and_then(|text| text.parse().ok());
        let gang = number.map_or(0, |number: usize| number / size);
        let last = last.entry(gang).or_default();
        *last = (*last).max(*at);
    }
    let mut times: Vec<f64> = last.values().map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let place = (times.len() * percent).div_ceil(100).max(1) - 1;
        times.get(place).copied().unwrap_or(0.0)
    };
    let seconds = bound.values().map(Duration::as_secs_f64);
    let first = seconds.clone().fold(f64::INFINITY, f64::min);
    let end = seconds.fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "thousands of pods")]
    let count = bound.len() as f64;
    let [scheduler_ms, control_ms] =
        [0, 1].map(|index| Some((after[index]? - before[index]?) / count));
    GangTurn {
        pods_per_second: (count - 1.0) / (end - first).max(f64::EPSILON),
        p50_seconds: at(50),
        p99_seconds: at(99),
        scheduler_ms,
        control_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gang_is_bound_when_its_last_pod_is() {
        let bound = (0..8).map(|number| {
            let seconds = if number == 5 { 9 } else { 1 + number / 4 };
            (format!("p-{number}"), Duration::from_secs(seconds))
        });
        let turn = turn_of(&bound.collect(), 4, [Some(8.0), None], [Some(24.0), None]);
        let want = GangTurn {
            pods_per_second: 7.0 / 8.0,
            p50_seconds: 1.0,
            p99_seconds: 9.0,
            scheduler_ms: Some(2.0),
            control_ms: None,
        };
        assert_eq!(format!("{turn:?}"), format!("{want:?}"));
    }
}
