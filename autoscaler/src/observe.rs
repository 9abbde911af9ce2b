//! The second step: everything about one PDAutoscaler is read over the network.
//!
//! Workloads and other autoscalers are read first: without workloads there is nothing to decide.
//! Metrics are read next, and their failure is not an error but `Unknown` in the snapshot.

pub mod contention;
pub mod gpus;
pub mod pod_phase;
pub mod profile;
pub mod rollout;
pub mod stuck;
pub mod target;

use kube::{Client, runtime::reflector::ObjectRef};
use pd_api::{
    FieldError,
    v1alpha1::{PDAutoscaler, PDAutoscalerSpec},
};
use pd_core::{PerRole, Policy, Role, Snapshot};
use pd_signals::{
    Sample,
    decode::{self, Answers, Overrides},
    engine::VLLM,
    queries::Scope,
    stated::Stated,
};

use tokio::time::Instant;
use tracing::warn;

use self::{contention::Claims, target::ObservedTarget};
use crate::{
    args::MetricsArgs,
    context::Context,
    outcome::Stopped,
    prometheus::{Endpoint, QueryError},
    validate::ValidObject,
};

/// Everything that a decision about one object rests on.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The object.
    pub object: &'a PDAutoscaler,
    /// Input of the core.
    pub snapshot: Snapshot,
    /// Who else scales a target, if that could be read.
    pub contender: Result<Option<String>, kube::Error>,
    /// Performance profiles as the user states them.
    pub stated: Stated,
    /// The engine whose metrics were found.
    pub engine: Option<&'static str>,
    /// Why metrics are missing, if a query failed.
    pub metrics_error: Option<QueryError>,
    /// Annotations that hold values that cannot be used.
    pub annotation_errors: Vec<FieldError>,
}

/// Reads everything about `valid`, or says which of its targets cannot be read.
pub async fn observe<'a>(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    valid: ValidObject<'a>,
    claims: &Claims,
) -> Result<Observed<'a>, Stopped> {
    let ValidObject {
        object,
        policy,
        pauses,
    } = valid;
    let (args, client) = (&context.metrics_args, &context.client);
    let namespace = key.namespace.as_deref().unwrap_or_default();
    let (targets, contender) = futures::join!(
        targets(client, namespace, &object.spec),
        contention::contender(client, claims, object),
    );
    let targets = targets?;
    let scope = scope(args, &object.spec, namespace, &targets, &policy);
    let roles = PerRole::from_fn(|role| targets[role].state);
    let gpus = roles.map(|state| state.gpus_per_replica);
    let cache = context.read(key, |state| Some(state.profiles.clone()));
    let (answers, (stated, cache)) = futures::join!(
        // Boxed, for eight queries at once make the future large.
        Box::pin(answers(context, &object.spec, &scope)),
        profile::stated(
            client,
            namespace,
            &object.spec,
            &policy,
            gpus,
            cache.unwrap_or_default()
        ),
    );
    context.update(key, |state| state.profiles = cache);
    let metrics_error = answers.first_error().cloned();
    if let Some(error) = &metrics_error {
        context.metrics.query_failed(error);
    }
    log_change(context, key, metrics_error.as_ref());
    let ready = PerRole::from_fn(|role| targets[role].ready_pods.as_slice());
    Ok(Observed {
        object,
        snapshot: Snapshot {
            policy,
            roles,
            signals: decode::signals(&answers, ready, &scope, args.metrics_age_max),
            paused: pauses.paused,
            profile: stated.profile.clone(),
        },
        contender,
        stated,
        engine: decode::engine(&answers, &scope),
        metrics_error,
        annotation_errors: pauses.errors,
    })
}

/// Reads both workloads of `spec`.
async fn targets(
    client: &Client,
    namespace: &str,
    spec: &PDAutoscalerSpec,
) -> Result<PerRole<ObservedTarget>, Stopped> {
    let read = |role: Role| async move {
        let observed = target::observe(client, namespace, spec.role(role)).await;
        observed.map_err(|error| Stopped::Untargeted { role, error })
    };
    // Both are waited for, so that of two failures always the same one is reported.
    let (prefill, decode) = futures::join!(read(Role::Prefill), read(Role::Decode));
    let (prefill, decode) = (prefill?, decode?);
    Ok(PerRole { prefill, decode })
}

fn scope(
    args: &MetricsArgs,
    spec: &PDAutoscalerSpec,
    namespace: &str,
    targets: &PerRole<ObservedTarget>,
    policy: &Policy,
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
        attainment_window: policy.objective.attainment.window,
    }
}

/// Where to name a server.
const NO_SERVER: QueryError = QueryError::NoServer {
    remedy: "set `spec.metrics.source.serverUrl`, or start the controller with `--prometheus-url`",
};

/// The server that is asked about an object.
fn endpoint(context: &Context, spec: &PDAutoscalerSpec) -> Result<Endpoint, QueryError> {
    match &spec.metrics.source {
        Some(source) => context.tenancy.server(&source.server_url),
        None => context.own_server.clone().ok_or(NO_SERVER),
    }
}

/// Sends every query of an object at once.
async fn answers(context: &Context, spec: &PDAutoscalerSpec, scope: &Scope) -> Answers<QueryError> {
    let endpoint = endpoint(context, spec);
    let query = |text: String| async {
        let text = text;
        let endpoint = endpoint.as_ref().map_err(Clone::clone)?;
        let started = Instant::now();
        let answer = context.servers.query(endpoint, &text).await;
        context.metrics.query_took(started.elapsed());
        let (samples, _) = answer?.into_parts();
        Ok(samples.into_iter().map(plain).collect())
    };
    let stated = |field: &'static str, text: Option<&String>| {
        let text = text.cloned();
        let (endpoint, query) = (&endpoint, &query);
        async move {
            let text = text?;
            let namespace = (scope.namespace_label.as_str(), scope.namespace.as_str());
            let allowed = endpoint
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|endpoint| {
                    let owner = endpoint.owner;
                    context.tenancy.query(field, &text, owner, namespace)
                });
            Some(match allowed {
                Ok(text) => query(text).await,
                Err(error) => Err(error),
            })
        }
    };
    let overrides = spec.metrics.overrides.clone().unwrap_or_default();
    let zero = spec.scale_to_zero.as_ref();
    let (state, histograms, wide, attainment, ttft, tpot, arrival_rate, wake) = futures::join!(
        query(scope.state_query()),
        query(scope.histogram_query()),
        query(scope.wide_query()),
        query(scope.attainment_query()),
        stated("spec.metrics.overrides.ttft", overrides.ttft.as_ref()),
        stated("spec.metrics.overrides.tpot", overrides.tpot.as_ref()),
        stated(
            "spec.metrics.overrides.arrivalRate",
            overrides.arrival_rate.as_ref()
        ),
        stated(
            "spec.scaleToZero.wakeSignal",
            zero.map(|zero| &zero.wake_signal)
        ),
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

/// Logs an error when it is another one than before: status has less of it than the operator needs.
fn log_change(context: &Context, key: &ObjectRef<PDAutoscaler>, error: Option<&QueryError>) {
    let error = error.map(ToString::to_string);
    context.update(key, |state| {
        if let Some(error) = error.as_ref().filter(|_| state.logged != error) {
            let (namespace, name) = (key.namespace.as_deref(), &key.name);
            warn!(error, namespace, name, "metrics are missing");
        }
        state.logged = error;
    });
}

/// The sample without its client.
fn plain(sample: crate::prometheus::Sample) -> Sample {
    let crate::prometheus::Sample { labels, value } = sample;
    Sample { labels, value }
}
