//! `pd-scheduler-plugin control`: the controllers of nodes and evictions, and their orderly start and end.
//!
//! Every replica fills the caches, so that a new leader acts at once; only the leader's controllers run. A term ends with
//! the leadership or the process: controllers see [`Term::stop`], finish the request under way and return, and only then
//! is the lease given back. Whatever they need of the past is in the cluster (labels, taints, annotations), so a process
//! that was killed goes on where it was. Ready means that the caches are filled, whoever leads.
//!
//! A controller is a function of the [`Context`] and a [`Term`]. It asks [`Term::may_write`] before each write, treats
//! `--dry-run` as the API server's own dry run ([`Context::patch_params`]), and never ends by itself.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    api::PatchParams,
    runtime::events::{Event, Recorder, Reporter},
};
use pd_runtime::{
    admin,
    leader::{LeaderElection, Leadership},
    metrics::registry,
    readiness::Readiness,
    shutdown::{Ending, Shutdown},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    cache::Cache,
    metrics::Metrics,
    objects::{WatchedNode, WatchedPod},
};
use crate::args::ControlArgs;

pub mod backlog;
pub mod cache;
pub mod eviction;
pub mod gates;
pub mod metrics;
pub mod mirror;
pub mod objects;
pub mod publisher;
pub mod wake;

/// Name of the controllers' Lease.
pub const LEASE: &str = "pd-scheduler-plugin";

/// What controllers share.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Every node.
    pub nodes: Cache<WatchedNode>,
    /// Every pod.
    pub pods: Cache<WatchedPod>,
    /// What they tell Prometheus.
    pub metrics: Arc<Metrics>,
    /// What they are told to do.
    pub args: Arc<ControlArgs>,
    events: Recorder,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl Context {
    /// Parameters of a patch: a dry run where asked for.
    pub fn patch_params(&self) -> PatchParams {
        PatchParams {
            dry_run: self.args.control.dry_run,
            field_manager: Some(crate::NAME.to_owned()),
            ..PatchParams::default()
        }
    }

    /// Publishes an event; one that cannot be written is in the log.
    pub async fn tell(&self, about: &ObjectReference, event: &Event) {
        if let Err(error) = self.events.publish(event, about).await {
            tracing::warn!(
                error = crate::words(&error),
                note = event.note,
                "event cannot be written"
            );
        }
    }

    /// The own pod, if the process knows it, for events about the cluster as a whole.
    pub fn own_pod(&self) -> Option<ObjectReference> {
        let leader = &self.args.leader;
        let namespace = leader.leader_election_namespace.clone();
        Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(leader.leader_election_identity.clone()?),
            namespace: Some(
                namespace.unwrap_or_else(|| self.client.default_namespace().to_owned()),
            ),
            ..ObjectReference::default()
        })
    }
}

/// One term of leadership. Clones are of the same term.
#[derive(Debug, Clone)]
pub struct Term {
    /// Cancelled when the term ends, or the process: finish the request under way and return.
    pub stop: CancellationToken,
    leadership: watch::Receiver<Leadership>,
}

impl Term {
    /// Whether a write may be made at this moment.
    pub fn may_write(&self) -> bool {
        !self.stop.is_cancelled() && self.leadership.borrow().is_leader()
    }
}

/// Runs until a signal ends it.
pub async fn control(args: ControlArgs) -> anyhow::Result<Ending> {
    args.telemetry.init()?;
    let shutdown = Shutdown::on_signals(&args.shutdown)?;
    let client = args.kubernetes.client(crate::NAME, crate::VERSION).await?;
    let readiness = Readiness::new(shutdown.stopping());
    let (nodes_ready, pods_ready) = (readiness.register("nodes"), readiness.register("pods"));
    let metrics = Arc::new(Metrics::default());
    let mut registry = registry(crate::NAME, crate::VERSION);
    metrics.register(&mut registry);
    let pages = admin::router(readiness, Arc::new(registry));
    admin::serve(&args.admin, pages, &shutdown).await?;

    let (nodes, node_filler) = Cache::new();
    let (pods, pod_filler) = Cache::new();
    until_stopped(
        &shutdown,
        "nodes",
        node_filler.follow(client.clone(), nodes_ready),
    );
    until_stopped(
        &shutdown,
        "pods",
        pod_filler.follow(client.clone(), pods_ready),
    );
    let leadership = LeaderElection::new(client.clone(), &args.leader, LEASE)?.run(&shutdown);
    let reporter = Reporter {
        controller: crate::NAME.to_owned(),
        instance: args.leader.leader_election_identity.clone(),
    };
    let context = Context {
        events: Recorder::new(client.clone(), reporter),
        client,
        nodes,
        pods,
        metrics,
        args: Arc::new(args),
    };
    shutdown.spawn("control", lead(context, leadership, shutdown.stopping()));
    let ending = shutdown.wait().await;
    tracing::info!(?ending, "ended");
    Ok(ending)
}

fn until_stopped(shutdown: &Shutdown, name: &str, task: impl Future<Output = ()> + Send + 'static) {
    let stopping = shutdown.stopping();
    shutdown.spawn(name, async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = task => {}
        }
    });
}

/// Runs the controllers whenever this process leads and the caches are filled.
async fn lead(
    context: Context,
    leadership: watch::Receiver<Leadership>,
    stopping: CancellationToken,
) {
    let filled = async {
        context.nodes.listed().await;
        context.pods.listed().await;
    };
    tokio::select! {
        () = stopping.cancelled() => return,
        () = filled => {}
    }
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = until_leads(leadership.clone(), true) => {}
        }
        tracing::info!("leading");
        context.metrics.leads(true);
        let term = Term {
            stop: stopping.child_token(),
            leadership: leadership.clone(),
        };
        let watched = async {
            tokio::select! {
                () = until_leads(leadership.clone(), false) => term.stop.cancel(),
                () = term.stop.cancelled() => {}
            }
        };
        tokio::join!(watched, run_controllers(&context, &term));
        context.metrics.leads(false);
        tracing::info!("not leading");
    }
}

/// All controllers, side by side, until the term ends.
async fn run_controllers(context: &Context, term: &Term) {
    tokio::join!(
        mirror::run(context, term),
        eviction::run(context, term),
        publisher::run(context, term),
        gates::run(context, term),
        wake::run(context, term),
        term.stop.cancelled(),
    );
}

/// Completes when this process leads, or no longer does.
async fn until_leads(mut leadership: watch::Receiver<Leadership>, leads: bool) {
    // The sender lives as long as the process; its end means nobody leads any more.
    let gone = leadership
        .wait_for(|now| now.is_leader() == leads)
        .await
        .is_err();
    if gone && leads {
        std::future::pending::<()>().await;
    }
}
