//! How many pods a second kube-scheduler places on many nodes, with and without the extender, in
//! one run.
//!
//! Only the scheduler and what it asks is measured: nodes are posted as ready and nobody plays
//! them, no controller runs, the pods are created while the scheduler is stopped (SIGSTOP), and
//! time counts from the first binding to the last. Ways take turns within each round, so that a
//! slow minute of the machine is everybody's; ratios are taken round by round and the median
//! counts. The processors' time of scheduler and extender for each pod is told besides, for it
//! depends less on what else the machine does. The scheduler is a new process in each turn, with
//! the configuration of its way.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Pod, Taint as NodeTaint};
use kube::{Api, Client, api::PostParams};
use pd_tolerations::{
    Effect, Operator, Rule, Taint, Toleration,
    mirror::{self, Margin, constraints, lower, prefer},
    rewrite::{ANNOTATION, rewrite},
};
use serde_json::{Value, json};

use crate::{
    add_ons::{ExtenderPort, GATE},
    bindings::{Bindings, clear},
    control_plane::{Component, ControlPlane, GPU_RESOURCE, NodeSpec, Options},
    meter::processor_ms,
    supervisor::Process,
};

const SLA: &str = "node.kubernetes.io/sla";
/// The request of each pod; every node has more, so that all ways have the same nodes to choose
/// from.
const BOUND: &str = "900";
const CONCURRENCY: usize = 32;

/// The resource by which an extender's entry asks for the pods with numbers alone; no pod here asks
/// for it.
const MANAGED_RESOURCE: &str = "tests.pdautoscaler.io/numbers";

/// How many of the nodes the scheduler looks for, percent, where it looks for fewer: 200 of 5,000,
/// not 500.
const FEWER_PERCENT: u8 = 4;
/// How long a profile is taken, seconds; a turn takes longer.
const PROFILE_SECONDS: u64 = 4;

/// How pods are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Way {
    /// The scheduler alone; pods tolerate the taint by `Exists`.
    Stock,
    /// The scheduler alone with the gate on; pods tolerate the taint by `Gt`.
    Native,
    /// The extender is configured; pods are those of [`Way::Stock`].
    Unmanaged,
    /// The extender is configured; pods are as the webhook writes them, with annotation and node
    /// affinity.
    Managed,
    /// The extender is asked for scores only, the node affinity filters; pods are those of
    /// [`Way::Stock`].
    ScoredUnmanaged,
    /// The same with the pods of [`Way::Managed`].
    ScoredManaged,
    /// The scheduler alone with the required node affinity of [`Way::Managed`], as the webhook
    /// writes pods with `--prefer-margin none`.
    Affinity,
    /// The scheduler alone with pods as the webhook writes them by default: required node affinity,
    /// and preferred node affinity by margin.
    Preference,
    /// The extender is configured for pods that ask for a resource (`managedResources`); pods are
    /// those of [`Way::Stock`], which do not.
    Others,
    /// As [`Way::Stock`], but the scheduler looks for fewer nodes that fit.
    FewerStock,
    /// As [`Way::Managed`], with as few.
    FewerManaged,
    /// As [`Way::ScoredManaged`], with as few.
    FewerScoredManaged,
}

impl Way {
    /// All of them, in the order of their turns.
    pub const ALL: [Self; 12] = [
        Self::Stock,
        Self::Native,
        Self::Unmanaged,
        Self::Managed,
        Self::ScoredUnmanaged,
        Self::ScoredManaged,
        Self::Affinity,
        Self::Preference,
        Self::Others,
        Self::FewerStock,
        Self::FewerManaged,
        Self::FewerScoredManaged,
    ];

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Native => "stock, gate on, Gt",
            Self::Unmanaged => "extender, unmanaged pods",
            Self::Managed => "extender, managed pods",
            Self::ScoredUnmanaged => "scores only, unmanaged pods",
            Self::ScoredManaged => "scores only, managed pods",
            Self::Affinity => "affinity alone, no extender, pods with numbers",
            Self::Preference => "affinity and preference, no extender, pods with numbers",
            Self::Others => "others with the extender configured",
            Self::FewerStock => "stock, fewer nodes",
            Self::FewerManaged => "extender, managed pods, fewer nodes",
            Self::FewerScoredManaged => "scores only, managed pods, fewer nodes",
        }
    }

    /// The extender's entry in the scheduler's configuration, where there is one.
    fn extender(self, port: &ExtenderPort) -> Option<Value> {
        let mut entry = port.configuration();
        match self {
            Self::Stock | Self::Native | Self::Affinity | Self::Preference | Self::FewerStock => {
                return None;
            }
            Self::Others => {
                entry["managedResources"] = json!([{ "name": MANAGED_RESOURCE }]);
            }
            Self::Unmanaged | Self::Managed | Self::FewerManaged => {}
            Self::ScoredUnmanaged | Self::ScoredManaged | Self::FewerScoredManaged => {
                entry.as_object_mut()?.remove("filterVerb");
            }
        }
        Some(entry)
    }

    /// The scheduler's profile, where it is not the default.
    fn profile(self) -> Option<Value> {
        let looks_for_fewer = matches!(
            self,
            Self::FewerStock | Self::FewerManaged | Self::FewerScoredManaged
        );
        looks_for_fewer.then(|| {
            json!({ "schedulerName": "default-scheduler", "percentageOfNodesToScore": FEWER_PERCENT })
        })
    }

    /// Whether pods are as the webhook writes them.
    const fn is_managed(self) -> bool {
        matches!(
            self,
            Self::Managed
                | Self::ScoredManaged
                | Self::Affinity
                | Self::Preference
                | Self::FewerManaged
                | Self::FewerScoredManaged
        )
    }

    /// The least part of the stock scheduler's rate that is wanted of it; nothing if no bar is set
    /// for it.
    pub const fn bar(self) -> Option<f64> {
        match self {
            Self::Preference => Some(0.95),
            Self::Others => Some(0.98),
            _ => None,
        }
    }

    /// The pod to create many of.
    fn pod(self) -> anyhow::Result<Pod> {
        let numeric = Toleration {
            key: SLA.to_owned(),
            operator: Operator::Gt,
            value: BOUND.to_owned(),
            effect: Effect::NoSchedule,
            toleration_seconds: None,
        };
        let plain = Toleration {
            operator: Operator::Exists,
            value: String::new(),
            ..numeric.clone()
        };
        let mut pod = json!({
            "metadata": { "generateName": "p-", "annotations": {} },
            "spec": {
                "containers": [{ "name": "c", "image": "x", "resources": {
                    "requests": { "cpu": "100m", "memory": "100Mi", GPU_RESOURCE: "1" },
                    "limits": { GPU_RESOURCE: "1" },
                } }],
                "terminationGracePeriodSeconds": 0,
                "tolerations": [if self == Self::Native { &numeric } else { &plain }],
            },
        });
        if self.is_managed() {
            let rules = [Rule::plain(&numeric, pd_tolerations::Comparison::On)];
            let terms = lower(None, &constraints(&rules)?)?;
            let (tolerations, originals) = rewrite(&[numeric]);
            pod["spec"]["tolerations"] = json!(tolerations);
            pod["metadata"]["annotations"][ANNOTATION] = json!(serde_json::to_string(&originals)?);
            pod["spec"]["affinity"] = json!({ "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } });
            if self == Self::Preference {
                let preferred = prefer(None, &rules, Margin::Most);
                pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] =
                    json!(preferred);
            }
        }
        Ok(serde_json::from_value(pod)?)
    }
}

/// How much is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct ThroughputOptions {
    /// Nodes.
    #[arg(long, default_value_t = 5000)]
    pub nodes: usize,
    /// Pods of each turn.
    #[arg(long, default_value_t = 2000)]
    pub pods: usize,
    /// Turns of each way.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Least ratio to the stock scheduler of `unmanaged` and `managed`, where every pod is sent to
    /// the extender. That of `preference` is 0.95 and that of `others` 0.98.
    #[arg(long, default_value_t = 0.9)]
    pub bar: f64,
    /// Ways to measure, by commas; by default all. Without `stock` there are no ratios.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub ways: Vec<Way>,
    /// Directory for CPU profiles of the scheduler, one for each turn, for `go tool pprof`.
    /// Profiling costs a little itself.
    #[arg(long)]
    pub profiles: Option<PathBuf>,
}

/// The result of one turn.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Pods bound in a second.
    pub pods_per_second: f64,
    /// Processor time of the scheduler for each pod, ms; absent where the system does not tell.
    pub scheduler_ms: Option<f64>,
    /// The same of the extender.
    pub extender_ms: Option<f64>,
}

/// The turns of each way, one for each round.
pub type Turns = BTreeMap<Way, Vec<Turn>>;

/// The cluster that is measured on.
#[expect(missing_debug_implementations, reason = "a client shows nothing")]
pub struct Throughput {
    plane: ControlPlane,
    client: Client,
    port: ExtenderPort,
    extender: Process,
    options: ThroughputOptions,
}

impl Throughput {
    /// Starts a control plane with all nodes, and the extender beside it.
    pub async fn start(options: ThroughputOptions) -> anyhow::Result<Self> {
        let port = ExtenderPort::reserve()?;
        let plane = ControlPlane::start(Options {
            kwok: false,
            controller_manager: false,
            scheduler: false,
            // Nobody takes the taint of a new node away, nor makes service accounts.
            api_server_arguments: vec![
                "--disable-admission-plugins=TaintNodesByCondition,ServiceAccount".to_owned(),
            ],
            scheduler_arguments: vec![
                "--authorization-always-allow-paths=/healthz,/livez,/readyz,/debug/*".to_owned(),
            ],
            feature_gates: BTreeMap::from([(GATE.to_owned(), true)]),
            ready_timeout: Duration::from_mins(2),
            ..Options::default()
        })
        .await?;
        // Ten values, so that margins differ.
        for value in 950..960 {
            let taint = Taint::new(SLA, value.to_string(), Effect::NoSchedule);
            let spec = NodeSpec {
                prefix: format!("ip-10-0-{value}.eu-west-1.compute.internal"),
                count: options.nodes / 10,
                labels: mirror::labels(std::slice::from_ref(&taint)),
                taints: vec![serde_json::from_value::<NodeTaint>(json!(taint))?],
                nodes_per_rack: 16,
                racks_per_block: 8,
                blocks_per_zone: 8,
                ..NodeSpec::default()
            };
            plane.add_nodes(&spec).await?;
        }
        let extender = port.start(&plane).await?;
        let client = plane.client().await?;
        Ok(Self {
            plane,
            client,
            port,
            extender,
            options,
        })
    }

    /// Measures all ways in turns, and tells each turn as it ends.
    pub async fn measure(
        &mut self,
        mut tell: impl FnMut(usize, Way, Turn),
    ) -> anyhow::Result<Turns> {
        let mut turns = Turns::new();
        for round in 0..self.options.rounds {
            let mut ways = match &*self.options.ways {
                [] => Way::ALL.to_vec(),
                chosen => chosen.to_vec(),
            };
            // Nobody is always the first.
            let first = round % ways.len();
            ways.rotate_left(first);
            for way in ways {
                let turn = self.turn(round, way).await.with_context(|| way.name())?;
                tell(round, way, turn);
                turns.entry(way).or_default().push(turn);
            }
        }
        Ok(turns)
    }

    async fn turn(&mut self, round: usize, way: Way) -> anyhow::Result<Turn> {
        let extenders = way.extender(&self.port).into_iter().collect();
        self.plane
            .set_scheduler(extenders, way.profile().into_iter().collect())?;
        self.plane.set_feature_gate(GATE, way == Way::Native);
        self.plane.restart(Component::Scheduler).await?;
        let pods = Api::<Pod>::default_namespaced(self.client.clone());
        // One pod through, so that caches are filled and connections made.
        self.place(&pods, way, 1).await?;
        let turn = if let Some(directory) = &self.options.profiles {
            let file = directory.join(format!(
                "{}-{round}.pprof",
                way.name().replace([' ', ','], "-")
            ));
            let placed = self.place(&pods, way, self.options.pods);
            let (measured, written) = tokio::join!(placed, self.profile(&file));
            written.with_context(|| format!("no profile {}", file.display()))?;
            measured?
        } else {
            self.place(&pods, way, self.options.pods).await?
        };
        self.plane.kill(Component::Scheduler).await?;
        clear(&pods).await?;
        Ok(turn)
    }

    /// Writes where the scheduler's processor time goes from its resumption on.
    async fn profile(&self, file: &Path) -> anyhow::Result<()> {
        let authority = self.plane.certificate_authority();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(authority.as_bytes())?])
            .build()?;
        let metrics = self.plane.metrics_url(Component::Scheduler);
        let server = metrics.trim_end_matches("/metrics");
        let url = format!("{server}/debug/pprof/profile?seconds={PROFILE_SECONDS}");
        // The scheduler is stopped until all pods are there, and answers from then on.
        let answer = client.get(url).send().await?.error_for_status()?;
        std::fs::write(file, answer.bytes().await?)?;
        Ok(())
    }

    /// Has `count` pods placed, and measures from the first binding to the last.
    async fn place(&self, pods: &Api<Pod>, way: Way, count: usize) -> anyhow::Result<Turn> {
        self.plane.pause(Component::Scheduler).await?;
        let pod = way.pod()?;
        let bindings = Bindings::from_now(pods).await?;
        stream::iter(0..count)
            .map(|_| async { pods.create(&PostParams::default(), &pod).await })
            .buffer_unordered(CONCURRENCY)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        let scheduler = self.plane.process(Component::Scheduler)?;
        let before = [&scheduler, &self.extender].map(processor_ms);
        let resumed = async { Ok(self.plane.resume(Component::Scheduler).await?) };
        let bound = bindings.of(pods, count, resumed).await?;
        let first = bound.values().min();
        let seconds = first.map_or(f64::INFINITY, |first| first.elapsed().as_secs_f64());
        let after = [&scheduler, &self.extender].map(processor_ms);
        #[expect(clippy::cast_precision_loss, reason = "thousands of pods")]
        let count = count as f64;
        let [scheduler_ms, extender_ms] =
            [0, 1].map(|index| Some((after[index]? - before[index]?) / count));
        Ok(Turn {
            pods_per_second: (count - 1.0) / seconds,
            scheduler_ms,
            extender_ms,
        })
    }
}

/// The median over rounds of one way's rate to another's.
pub fn ratio(turns: &Turns, way: Way, to: Way) -> Option<f64> {
    let pairs = turns.get(&way)?.iter().zip(turns.get(&to)?);
    let ratios = pairs.map(|(turn, base)| turn.pods_per_second / base.pods_per_second);
    median(ratios.collect())
}

/// The middle one of `numbers`, between the two in the middle of an even count; nothing of none.
pub fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let last = numbers.len().checked_sub(1)?;
    Some(f64::midpoint(numbers[last / 2], numbers[last.div_ceil(2)]))
}

/// The middle one of what `of` gives for the turns.
pub fn middle(turns: &[Turn], of: impl Fn(&Turn) -> Option<f64>) -> Option<f64> {
    median(turns.iter().filter_map(of).collect())
}

/// The measurement as JSON: medians by way, the rates of all rounds, and ratios to the stock
/// scheduler.
pub fn summary(options: &ThroughputOptions, turns: &Turns) -> Value {
    let ways = turns.iter().map(|(way, each)| {
        let rates = each.iter().map(|turn| turn.pods_per_second);
        json!({
            "way": way.name(),
            "podsPerSecond": rates.collect::<Vec<_>>(),
            "median": middle(each, |turn| Some(turn.pods_per_second)),
            "toStock": ratio(turns, *way, Way::Stock),
            "schedulerMillisecondsPerPod": middle(each, |turn| turn.scheduler_ms),
            "extenderMillisecondsPerPod": middle(each, |turn| turn.extender_ms),
        })
    });
    json!({ "nodes": options.nodes, "pods": options.pods, "ways": ways.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_no_better_than_the_middle() {
        let of = |numbers: &[f64]| median(numbers.to_vec()).map(|median| median.to_string());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[0.9]).as_deref(), Some("0.9"));
        assert_eq!(of(&[1.0, 0.5]).as_deref(), Some("0.75"));
        assert_eq!(of(&[3.0, 1.0, 8.0]).as_deref(), Some("3"));
    }
}
