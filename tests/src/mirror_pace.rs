//! How long the label mirror takes for many nodes, and for one more change.
//!
//! Nodes are posted with a taint each and nobody plays them; the controllers are the real program.
//! A watch of our own sees each label appear, so that nothing is polled. The first mirror counts
//! from the start of the process, its pace from the first label to the last. Then taints change one
//! after the other, each counted from the API server's answer to the change until the label is
//! seen.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Taint as NodeTaint};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use pd_tolerations::{Effect, Taint};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    add_ons::start_control_as,
    control_plane::{ControlPlane, NodeSpec, Options},
    meter::{processor_ms, quantile, resident_mib},
    supervisor::Process,
};

const SLA: &str = "node.kubernetes.io/sla";
const LABEL: &str = "node.kubernetes.io.no-execute.taint.pdautoscaler.io/sla";
/// How long one change may take.
const CHANGE_WITHIN: Duration = Duration::from_secs(40);

/// How much is measured.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct MirrorOptions {
    /// Nodes.
    #[arg(long, default_value_t = 5000)]
    pub nodes: usize,
    /// Label writes a second, as the controller's flag.
    #[arg(long, default_value_t = 50)]
    pub rate: u32,
    /// Changes of one node, once all are mirrored.
    #[arg(long, default_value_t = 100)]
    pub changes: usize,
}

/// The measured result.
#[derive(Debug, Clone)]
pub struct Mirrored {
    /// From the start of the process until every node had its label.
    pub first: Duration,
    /// From the first label to the last.
    pub writing: Duration,
    /// Processor time until then, ms; absent where the system does not tell.
    pub processor_ms: Option<f64>,
    /// Memory then and at most, MiB.
    pub resident_mib: Option<(f64, f64)>,
    /// Times of single changes, sorted.
    pub changes: Vec<Duration>,
    /// Processor time of each of them, ms.
    pub change_processor_ms: Option<f64>,
}

impl Mirrored {
    /// The quantile (0 to 1) of single changes, ms.
    pub fn change_ms(&self, at: f64) -> f64 {
        quantile(&self.changes, at).as_secs_f64() * 1000.0
    }

    /// All of it as JSON.
    pub fn summary(&self, options: &MirrorOptions) -> Value {
        json!({
            "nodes": options.nodes, "writesPerSecond": options.rate,
            "firstSeconds": self.first.as_secs_f64(), "writingSeconds": self.writing.as_secs_f64(),
            "processorMilliseconds": self.processor_ms,
            "residentMiB": self.resident_mib.map(|(now, _)| now), "residentMiBMost": self.resident_mib.map(|(_, most)| most),
            "changes": self.changes.len(),
            "changeMilliseconds": { "p50": self.change_ms(0.5), "p99": self.change_ms(0.99) },
            "processorMillisecondsPerChange": self.change_processor_ms,
        })
    }
}

/// A label of a node, and when it was seen.
type Seen = (String, String, Instant);

/// Starts a control plane with the nodes and then the controllers, and measures.
pub async fn measure(options: MirrorOptions) -> anyhow::Result<Mirrored> {
    let plane = ControlPlane::start(Options {
        kwok: false,
        controller_manager: false,
        scheduler: false,
        // Nobody takes the taint of a new node away.
        api_server_arguments: vec!["--disable-admission-plugins=TaintNodesByCondition".to_owned()],
        ..Options::default()
    })
    .await?;
    let taint = Taint::new(SLA, "950", Effect::NoExecute);
    let spec = NodeSpec {
        prefix: "ip-10-0.eu-west-1.compute.internal".to_owned(),
        count: options.nodes,
        taints: vec![serde_json::from_value::<NodeTaint>(json!(taint))?],
        nodes_per_rack: 16,
        racks_per_block: 8,
        blocks_per_zone: 8,
        ..NodeSpec::default()
    };
    plane.add_nodes(&spec).await?;
    let client = plane.client().await?;
    let (tell, mut seen) = mpsc::unbounded_channel();
    let watch = tokio::spawn(follow(client.clone(), tell));
    let started = Instant::now();
    let rate = format!("--label-writes-per-second={}", options.rate);
    let flags = [&rate, "--log-filter=info", "--preflight-interval=1h"];
    let process = start_control_as(&plane, "pd-control", plane.kubeconfig(), &flags).await?;
    let (first, last) = all_labelled(&mut seen, options)
        .await
        .with_context(|| process.log_tail())?;
    let processor = processor_ms(&process);
    let memory = resident_mib(&process);
    let (mut changes, change_processor_ms) =
        one_by_one(&client, &process, &mut seen, &spec.names(), options.changes).await?;
    watch.abort();
    changes.sort_unstable();
    Ok(Mirrored {
        first: last - started,
        writing: last - first,
        processor_ms: processor,
        resident_mib: memory,
        changes,
        change_processor_ms,
    })
}

/// Tells the label of every node that has one, whenever the node changes.
async fn follow(client: Client, tell: mpsc::UnboundedSender<Seen>) {
    let nodes = watcher(
        Api::<PartialObjectMeta<Node>>::all(client),
        watcher::Config::default(),
    );
    let mut nodes = std::pin::pin!(nodes.default_backoff().applied_objects());
    while let Some(node) = nodes.next().await {
        let Ok(node) = node else { continue };
        if let Some(value) = node.labels().get(LABEL)
            && tell
                .send((node.name_any(), value.clone(), Instant::now()))
                .is_err()
        {
            return;
        }
    }
}

/// Waits until every node has its label; gives the times of the first and the last.
async fn all_labelled(
    seen: &mut mpsc::UnboundedReceiver<Seen>,
    options: MirrorOptions,
) -> anyhow::Result<(Instant, Instant)> {
    let (mut names, mut first) = (BTreeSet::new(), None);
    // Three times what the rate allows, and a minute for a small cluster.
    let seconds = 60 + 3 * options.nodes as u64 / u64::from(options.rate.max(1));
    let all = async {
        while let Some((name, _, at)) = seen.recv().await {
            let first = *first.get_or_insert(at);
            names.insert(name);
            if names.len() >= options.nodes {
                return Some((first, at));
            }
        }
        None
    };
    let ended = tokio::time::timeout(Duration::from_secs(seconds), all).await;
    let ended = ended.with_context(|| format!("not all nodes were labelled in {seconds} s"))?;
    ended.context("the watch of nodes ended")
}

/// Changes the taint of one node after the other; gives the times, and the processor time of each,
/// ms.
async fn one_by_one(
    client: &Client,
    process: &Process,
    seen: &mut mpsc::UnboundedReceiver<Seen>,
    names: &[String],
    count: usize,
) -> anyhow::Result<(Vec<Duration>, Option<f64>)> {
    let nodes = Api::<Node>::all(client.clone());
    let before = processor_ms(process);
    let mut times = Vec::new();
    for (number, name) in names.iter().cycle().step_by(37).take(count).enumerate() {
        let value = (1000 + number).to_string();
        let taint = Taint::new(SLA, value.clone(), Effect::NoExecute);
        let patch = Patch::Merge(json!({ "spec": { "taints": [taint] } }));
        nodes.patch(name, &PatchParams::default(), &patch).await?;
        let changed = Instant::now();
        let label = async {
            while let Some((node, label, at)) = seen.recv().await {
                if node == *name && label == value {
                    return Some(at);
                }
            }
            None
        };
        let at = tokio::time::timeout(CHANGE_WITHIN, label).await;
        let at = at.with_context(|| format!("node `{name}` did not get label {value}"))?;
        let at = at.context("the watch of nodes ended")?;
        // The label can be seen before the answer to the change was.
        times.push(at.saturating_duration_since(changed));
    }
    #[expect(clippy::cast_precision_loss, reason = "hundreds of changes")]
    let each = processor_ms(process)
        .zip(before)
        .map(|(after, before)| (after - before) / times.len().max(1) as f64);
    Ok((times, each))
}
