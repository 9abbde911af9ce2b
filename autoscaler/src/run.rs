//! Composition: flags to a running controller, and its orderly end.
//!
//! Starting needs a Kubernetes client configuration and free ports, nothing else: a missing
//! CRD, an absent Prometheus or an API server that is down are waited for, and
//! `/readyz`, the log and conditions say so.

use std::sync::Arc;

use kube::{
    Api,
    api::ListParams,
    runtime::events::{Event, EventType},
};
use pd_api::v1alpha1::PDAutoscaler;
use pd_core::Reason;
use pd_runtime::{
    leader::{LeaderElection, Term},
    process::Process,
    readiness::ReadinessHandle,
    shutdown::{Ending, Shutdown},
};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    Guarded, answer::within_limit, args::Args, console, context::Context, controller,
    metrics::Metrics,
};

/// Pause between two looks for a CRD that is not there.
const CRD_RETRY: std::time::Duration = std::time::Duration::from_secs(2);

/// Pause between two looks whether it is still there.
const CRD_CHECK: std::time::Duration = std::time::Duration::from_secs(15);

const CRD_MISSING: &str = "the CustomResourceDefinition pdautoscalers.pdautoscaler.io is not installed: install the chart with crds.enabled";

/// Runs until a signal ends it.
pub async fn run(args: Args) -> anyhow::Result<Ending> {
    args.selection.check()?;
    let process = Process::prepare(&args.process, crate::NAME, crate::VERSION).await?;
    let crd_ready = process.readiness.register("pdautoscaler-crd");
    crd_ready.set_waiting("not looked for yet");
    let metrics = Arc::new(Metrics::default());
    process
        .serve_admin(|registry| metrics.register(registry))
        .await?;
    let Process {
        shutdown, client, ..
    } = process;
    let lease_name = args.selection.lease_name();
    let election = LeaderElection::new(client.clone(), &args.leader, &lease_name)?;
    let leadership = election.run(&shutdown);
    let context = Arc::new(Context::new(
        client.clone(),
        args.decisions.clone(),
        args.selection.clone(),
        args.metrics.clone(),
        args.tenancy.clone(),
        metrics,
        leadership,
    ));
    let identity = args.leader.leader_election_identity.clone();
    console::start(&args.console, identity, &context, &shutdown).await?;
    if args.metrics.server.prometheus_url.is_none() {
        warn!(
            "no --prometheus-url: only PDAutoscalers with spec.metrics.source.serverUrl get metrics"
        );
    }
    shutdown.spawn(
        "controller",
        lead(context, args, shutdown.clone(), crd_ready),
    );
    let ending = shutdown.wait().await;
    info!(?ending, "ended");
    Ok(ending)
}

/// Runs the controller whenever this process leads and the CRD is there.
async fn lead(context: Arc<Context>, args: Args, shutdown: Shutdown, crd_ready: ReadinessHandle) {
    let client = context.client.clone();
    let api = || match &args.decisions.watch_namespace {
        Some(namespace) => Api::<Guarded>::namespaced(client.clone(), namespace),
        None => Api::<Guarded>::all(client.clone()),
    };
    let stopping = shutdown.stopping();
    loop {
        let crd_is_there = await_crd(&context, &args, &crd_ready);
        if stopping.run_until_cancelled(crd_is_there).await.is_none() {
            return;
        }
        let Some(term) = Term::next(&context.leadership, &stopping).await else {
            return;
        };
        context.metrics.leads(true);
        let stop = term.stop.clone().cancelled_owned();
        let controller = controller::run(Arc::clone(&context), api(), stop);
        let decide = async {
            tokio::select! {
                () = controller => {}
                () = keep_looking(&context, &args, &crd_ready) => {}
            }
        };
        Box::pin(term.run(decide)).await;
        context.metrics.leads(false);
        context.forget_all();
    }
}

/// Completes when PDAutoscalers can be listed. Until then readiness, log and an event on the own
/// pod say why they cannot: there is no object yet that could carry a condition.
async fn await_crd(context: &Context, args: &Args, crd_ready: &ReadinessHandle) {
    let mut reported = String::new();
    while let Err(waiting) = look(context, args).await {
        if waiting != reported {
            warn!("{waiting}; waiting for it");
            if waiting == CRD_MISSING {
                report_on_own_pod(context, args).await;
            }
        }
        crd_ready.set_waiting(waiting.clone());
        reported = waiting;
        context.metrics.api_failed("crd");
        sleep(CRD_RETRY).await;
    }
    crd_ready.set_ready();
}

/// Looks, for as long as this process leads, whether PDAutoscalers can still be listed: a CRD or
/// right that is taken away leaves a watch that is silent and timers that go on.
async fn keep_looking(context: &Context, args: &Args, crd_ready: &ReadinessHandle) {
    loop {
        sleep(CRD_CHECK).await;
        match look(context, args).await {
            Ok(()) => crd_ready.set_ready(),
            Err(lost) => {
                warn!("{lost}; waiting for it");
                crd_ready.set_waiting(lost);
                context.metrics.api_failed("crd");
            }
        }
    }
}

/// Whether PDAutoscalers can be listed, or why not.
async fn look(context: &Context, args: &Args) -> Result<(), String> {
    let api: Api<PDAutoscaler> = match &args.decisions.watch_namespace {
        Some(namespace) => Api::namespaced(context.client.clone(), namespace),
        None => Api::all(context.client.clone()),
    };
    match within_limit(api.list_metadata(&ListParams::default().limit(1))).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 404 => Err(CRD_MISSING.to_owned()),
        Err(error) => Err(format!("PDAutoscalers cannot be listed: {error}")),
    }
}

/// An event on the pod this process runs in, if it knows: its name is the identity in the election.
async fn report_on_own_pod(context: &Context, args: &Args) {
    let Some(pod) = args.leader.own_pod(context.client.default_namespace()) else {
        return;
    };
    let event = Event {
        type_: EventType::Warning,
        reason: Reason::CrdMissing.as_str().to_owned(),
        note: Some(CRD_MISSING.to_owned()),
        action: "Start".to_owned(),
        secondary: None,
    };
    if let Err(error) = context.events.publish(&event, &pod).await {
        warn!(%error, "event cannot be written");
    }
}
