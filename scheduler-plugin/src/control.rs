//! `pd-scheduler-plugin control`: the controllers of nodes and evictions, and their orderly start
//! and end.
//!
//! Every replica fills the caches, so that a new leader acts at once; only the leader's controllers
//! run. A term ends with the leadership or the process: controllers see [`Term::stop`], finish the
//! request under way and return, and only then is the lease given back. Whatever they need of the
//! past is in the cluster (labels, taints, annotations), so a process that was killed goes on where
//! it was. Ready means that the caches are filled, whoever leads.
//!
//! A controller is a function of the [`Context`] and a [`Term`]. It asks [`Term::may_write`] before
//! each write, treats `--dry-run` as the API server's own dry run ([`Context::patch_params`]), and
//! never ends by itself.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    api::PatchParams,
    runtime::events::{Event, Recorder, Reporter},
};
use pd_runtime::{
    kubernetes::error_message,
    leader::{LeaderElection, Leadership},
    process::Process,
    server::{self, Endpoint},
    shutdown::Ending,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    cache::Cache,
    metrics::Metrics,
    objects::{WatchedNode, WatchedPod},
    placement::{Caches, what_if},
};
use crate::args::ControlArgs;

pub use pd_runtime::leader::Term;

pub mod backlog;
pub mod cache;
pub mod eviction;
pub mod gates;
mod holds;
pub mod metrics;
pub mod mirror;
pub mod objects;
pub mod placement;
pub mod publisher;
pub mod wake;
pub mod write;

/// Name of the controllers' Lease.
pub const LEASE: &str = "pd-scheduler-plugin";

/// The state that controllers share.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Every node.
    pub nodes: Cache<WatchedNode>,
    /// Every pod.
    pub pods: Cache<WatchedPod>,
    /// Their metrics.
    pub metrics: Arc<Metrics>,
    /// Their flags.
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
    pub async fn publish(&self, about: &ObjectReference, event: &Event) {
        if let Err(error) = self.events.publish(event, about).await {
            tracing::warn!(
                error = error_message(&error),
                note = event.note,
                "event cannot be written"
            );
        }
    }

    /// The own pod, if the process knows it, for events about the cluster as a whole.
    pub fn own_pod(&self) -> Option<ObjectReference> {
        self.args.leader.own_pod(self.client.default_namespace())
    }
}

/// Runs until a signal ends it.
pub async fn control(args: ControlArgs) -> anyhow::Result<Ending> {
    let process = Process::prepare(&args.process, crate::NAME, crate::VERSION).await?;
    // Readiness checks are there before they can be asked for.
    let Process {
        client,
        shutdown,
        readiness,
        ..
    } = &process;
    let nodes = Cache::followed(client, shutdown, readiness, "nodes");
    let pods = Cache::followed(client, shutdown, readiness, "pods");
    let placement = args
        .placement
        .placement
        .then(|| Caches::follow(client, shutdown, readiness));
    let metrics = Arc::new(Metrics::default());
    process
        .serve_admin(|registry| metrics.register(registry))
        .await?;
    let Process {
        shutdown, client, ..
    } = process;
    if let (Some(caches), Some(address)) = (&placement, args.placement.what_if_address) {
        let endpoint = Endpoint {
            name: "what-if",
            address,
            flag: "--what-if-address",
        };
        let routes = what_if::router(caches.clone());
        server::serve(&endpoint, routes, None, &shutdown).await?;
    }

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
    let leading = lead(context, placement, leadership, shutdown.stopping());
    shutdown.spawn("control", leading);
    let ending = shutdown.wait().await;
    tracing::info!(?ending, "ended");
    Ok(ending)
}

/// Runs the controllers whenever this process leads and the caches are filled.
async fn lead(
    context: Context,
    placement: Option<Caches>,
    leadership: watch::Receiver<Leadership>,
    stopping: CancellationToken,
) {
    let filled = async {
        context.nodes.listed().await;
        context.pods.listed().await;
        if let Some(caches) = &placement {
            caches.listed().await;
        }
    };
    if stopping.run_until_cancelled(filled).await.is_none() {
        return;
    }
    while let Some(term) = Term::next(&leadership, &stopping).await {
        context.metrics.leads(true);
        let controllers = Box::pin(run_controllers(&context, placement.as_ref(), &term));
        term.clone().run(controllers).await;
        context.metrics.leads(false);
    }
}

/// All controllers, side by side, until the term ends.
async fn run_controllers(context: &Context, placement: Option<&Caches>, term: &Term) {
    let placing = async {
        if let Some(caches) = placement {
            tokio::join!(
                placement::run(context, caches, term),
                placement::keep::run(context, caches, term),
            );
        }
    };
    tokio::join!(
        placing,
        mirror::run(context, term),
        eviction::run(context, term),
        publisher::run(context, term),
        gates::run(context, term),
        wake::run(context, term),
        term.stop.cancelled(),
    );
}
