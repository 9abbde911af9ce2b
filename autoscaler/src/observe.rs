//! Everything known about one PDAutoscaler at this moment, read over the network.
//!
//! The workloads are read first: without them there is nothing to decide. Metrics are read next, and
//! their failure is not an error but `Unknown` in the snapshot.

pub mod contention;
pub mod gpus;
pub mod profile;
pub mod rollout;
pub mod stuck;
pub mod target;

use std::time::Duration;

use pd_api::v1alpha1::{PDAutoscaler, PDAutoscalerSpec};
use pd_core::{PerRole, Policy, Role, Signals, Snapshot, snapshot::Paused};
use pd_signals::{
    Sample,
    decode::{self, Answers, Overrides},
    engine::VLLM,
    queries::Scope,
    stated::Stated,
};

use self::target::{ObservedTarget, TargetError};
use crate::{
    args::PrometheusArgs,
    context::{Context, ObjectKey},
    prometheus::QueryError,
};

/// A snapshot, and what it was made from that status tells users.
#[derive(Debug)]
pub struct Observation {
    /// For the core.
    pub snapshot: Snapshot,
    /// What is stated about replicas.
    pub stated: Stated,
    /// The engine whose metrics were found.
    pub engine: Option<&'static str>,
    /// Why metrics are missing, if a query failed.
    pub metrics_error: Option<QueryError>,
}

/// Reads both workloads of `spec`, or says which of them cannot be read.
pub async fn targets(
    context: &Context,
    namespace: &str,
    spec: &PDAutoscalerSpec,
) -> Result<PerRole<ObservedTarget>, (Role, TargetError)> {
    let read = |role: Role| async move {
        let observed = target::observe(&context.client, namespace, spec.role(role)).await;
        observed.map_err(|error| (role, error))
    };
    // Both are waited for, so that of two failures always the same one is told.
    let (prefill, decode) = futures::join!(read(Role::Prefill), read(Role::Decode));
    let (prefill, decode) = (prefill?, decode?);
    Ok(PerRole { prefill, decode })
}

/// Reads the metrics of `object` and completes the snapshot.
pub async fn observe(
    context: &Context,
    object: &PDAutoscaler,
    key: &ObjectKey,
    policy: Policy,
    targets: &PerRole<ObservedTarget>,
    paused: Paused,
) -> Observation {
    let args = &context.prometheus_args;
    let attainment_window = policy.objective.attainment.window;
    let scope = scope(
        args,
        &object.spec,
        &key.namespace,
        targets,
        attainment_window,
    );
    let roles = PerRole::from_fn(|role| targets[role].state);
    let gpus = roles.map(|state| state.gpus_per_replica);
    let (answers, stated) = futures::join!(
        ask(context, &object.spec, &scope),
        profile::stated(context, key, &object.spec, &policy, gpus),
    );
    if let Some(error) = answers.first_error() {
        context.metrics.query_failed(error);
    }
    let ready = PerRole::from_fn(|role| targets[role].ready_pods.as_slice());
    let signals: Signals = decode::signals(&answers, ready, &scope, args.metrics_age_max);
    Observation {
        snapshot: Snapshot {
            policy,
            roles,
            signals,
            paused,
            profile: stated.profile.clone(),
        },
        stated,
        engine: decode::engine(&answers, &scope),
        metrics_error: answers.first_error().cloned(),
    }
}

fn scope(
    args: &PrometheusArgs,
    spec: &PDAutoscalerSpec,
    namespace: &str,
    targets: &PerRole<ObservedTarget>,
    attainment_window: Duration,
) -> Scope {
    let selectors = &spec.metrics.selectors.0;
    Scope {
        engine: &VLLM,
        namespace_label: args.namespace_label.clone(),
        pod_label: args.pod_label.clone(),
        namespace: namespace.to_owned(),
        prefill_pods: targets.prefill.pod_pattern.clone(),
        decode_pods: targets.decode.pod_pattern.clone(),
        selectors: selectors
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        window: args.metrics_window,
        attainment_window,
    }
}

/// Where to name a server.
const NO_SERVER: QueryError = QueryError::NoServer {
    remedy: "set `spec.metrics.source.serverUrl`, or start the controller with `--prometheus-url`",
};

async fn ask(context: &Context, spec: &PDAutoscalerSpec, scope: &Scope) -> Answers<QueryError> {
    let own = spec
        .metrics
        .source
        .as_ref()
        .map(|source| source.server_url.as_str());
    let server = own.or(context.prometheus_args.server.prometheus_url.as_deref());
    let query = |text: String| async move {
        let server = server.ok_or(NO_SERVER)?;
        let started = std::time::Instant::now();
        let answer = context.servers.query(server, &text).await;
        context.metrics.query_took(started.elapsed());
        answer.map(|samples| samples.into_iter().map(plain).collect())
    };
    let stated = |text: Option<&String>| {
        let text = text.cloned();
        async move {
            match text {
                Some(text) => Some(query(text).await),
                None => None,
            }
        }
    };
    let overrides = spec.metrics.overrides.clone().unwrap_or_default();
    let zero = spec.scale_to_zero.as_ref();
    let (state, histograms, wide, attainment, ttft, tpot, arrival_rate, wake) = futures::join!(
        query(scope.state_query()),
        query(scope.histogram_query()),
        query(scope.wide_query()),
        query(scope.attainment_query()),
        stated(overrides.ttft.as_ref()),
        stated(overrides.tpot.as_ref()),
        stated(overrides.arrival_rate.as_ref()),
        stated(zero.map(|zero| &zero.wake_signal)),
    );
    Answers {
        state,
        histograms,
        wide,
        attainment,
        overrides: Overrides {
            ttft,
            tpot,
            arrival_rate,
            wake,
        },
    }
}

/// The sample without its client.
fn plain(sample: crate::prometheus::Sample) -> Sample {
    let crate::prometheus::Sample { labels, value } = sample;
    Sample { labels, value }
}
