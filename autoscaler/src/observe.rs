//! The second step: everything about one PDAutoscaler is read.
//!
//! Workloads and other autoscalers are read first, as watched: without workloads there is nothing
//! to decide. Metrics are read next, and their failure is not an error but `Unknown` in the
//! snapshot.

pub mod answers;
pub mod attainment;
pub mod contention;
pub mod drain;
pub mod gateway;
pub mod gpus;
pub mod login;
pub mod profile;
pub mod rollout;
pub mod series;
pub mod stuck;
pub mod system;
pub mod target;

use std::collections::BTreeMap;

use kube::{Client, runtime::reflector::ObjectRef};
use pd_api::{
    FieldError,
    v1alpha1::{PDAutoscaler, PDAutoscalerSpec},
};
use pd_core::{PerRole, Policy, Role, Signals, Snapshot};
use pd_signals::{decode, engine::Engine, queries::Scope, stated::Stated};
use tokio::time::Instant;
use tracing::warn;

use self::{
    answers::{Asked, Asking, asked, endpoint},
    attainment::KeptAttainment,
    contention::Claims,
    drain::{Drain, Longest},
    gateway::Behind,
    series::Series,
    target::{ObservedTarget, TargetError},
};
use crate::{
    args::MetricsArgs,
    cluster::{Cluster, Unseen},
    context::Context,
    grouping::workload,
    outcome::{Sources, Stopped, Unobserved},
    placement::member::Member,
    poller::read::Place,
    prometheus::QueryError,
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
    pub contender: Result<Option<String>, Unseen>,
    /// Performance profiles as the user states them.
    pub stated: Stated,
    /// The metrics that were found.
    pub sources: Sources,
    /// Why metrics are missing, if a query failed or its answer is not whole.
    pub metrics_error: Option<QueryError>,
    /// Annotations that hold values that cannot be used.
    pub annotation_errors: Vec<FieldError>,
    /// The placement groups that the roles' pods are in.
    pub members: PerRole<Option<Member>>,
    /// The price of lowering replicas, in requests.
    pub drain: Drain,
}

/// Reads everything about `valid`, or says which of its targets cannot be read, or that its metrics
/// come with those of others soon.
pub async fn observe<'a>(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    valid: ValidObject<'a>,
    claims: &Claims,
) -> Result<Observed<'a>, Unobserved> {
    let ValidObject {
        object,
        policy,
        pauses,
    } = valid;
    let (args, client, cluster) = (&context.metrics_args, &context.client, &context.cluster);
    let namespace = key.namespace.as_deref().unwrap_or_default();
    let (targets, contender) = futures::join!(
        targets(client, cluster, namespace, &object.spec),
        contention::contender(cluster, claims, object),
    );
    let targets = targets?;
    let policy = above_floors(policy, &targets);
    let shown = [&targets.prefill.owner, &targets.decode.owner];
    let shown = shown.into_iter().flatten().next().cloned();
    let contender = contender.map(|contender| contender.or(shown));
    let known = context.read(key, |state| Some(state.series.clone()));
    let series = known.unwrap_or_default();
    let engine = series.engine(object);
    let scope = scope(args, &object.spec, namespace, &targets, &policy, engine);
    let roles = PerRole::from_fn(|role| targets[role].state);
    let gpus = roles.map(|state| state.gpus_per_replica);
    let cache = context.read(key, |state| Some(state.profiles.clone()));
    let ready = PerRole::from_fn(|role| targets[role].ready_pods.as_slice());
    let place = place(namespace, &object.spec, &targets);
    let (measured, (stated, cache)) = futures::join!(
        // Boxed, for eight queries at once make the future large.
        Box::pin(measured(
            context,
            key,
            object,
            (series, place, scope),
            ready
        )),
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
    let measured = measured?;
    let longest = keep(context, key, &measured);
    Ok(Observed {
        object,
        snapshot: Snapshot {
            policy,
            roles,
            signals: measured.signals,
            paused: pauses.paused,
            profile: stated.profile.clone(),
        },
        contender,
        stated,
        sources: measured.sources,
        metrics_error: measured.metrics_error,
        annotation_errors: pauses.errors,
        members: PerRole::from_fn(|role| targets[role].member.clone()),
        drain: Drain::of(targets, measured.work, longest),
    })
}

/// Keeps what `measured` shows for the next pass; gives the longest answer of late.
fn keep(context: &Context, key: &ObjectRef<PDAutoscaler>, measured: &Measured) -> Option<Longest> {
    let longest = context.read(key, |state| state.longest_answer);
    let longest = Longest::after(longest, &measured.signals, Instant::now());
    context.update(key, |state| {
        state.series = measured.series.clone();
        state.longest_answer = longest;
    });
    if let Some(error) = &measured.metrics_error {
        context.metrics.query_failed(error);
    }
    log_change(context, key, measured.metrics_error.as_ref());
    longest
}

/// `policy` with bounds no lower than what the workloads' systems keep alive.
fn above_floors(mut policy: Policy, targets: &PerRole<ObservedTarget>) -> Policy {
    for role in Role::ALL {
        let bounds = &mut policy.bounds[role];
        let floor = targets[role].floor.min(bounds.max_replicas);
        bounds.min_replicas = bounds.min_replicas.max(floor);
    }
    policy
}

/// The measurements of an object.
struct Measured {
    signals: Signals,
    /// Requests in flight by pod.
    work: PerRole<BTreeMap<String, f64>>,
    sources: Sources,
    /// Why metrics are missing, if a query failed or its answer is not whole.
    metrics_error: Option<QueryError>,
    /// For the next time.
    series: Series,
}

/// The object as queries about many name it, where they can.
fn place(
    namespace: &str,
    spec: &PDAutoscalerSpec,
    targets: &PerRole<ObservedTarget>,
) -> Option<Place> {
    let key = |role: Role| {
        let target = &spec.role(role).target;
        let kind = target::kind(target).ok()?;
        workload::key(kind, &target.name, &targets[role].pod_pattern)
    };
    let keys = PerRole {
        prefill: key(Role::Prefill)?,
        decode: key(Role::Decode)?,
    };
    (keys.prefill != keys.decode).then(|| Place {
        namespace: namespace.to_owned(),
        keys,
    })
}

/// Asks for everything that is measured of the pods of `scope`, of which `ready` are ready, and of
/// the gateway before them. The series are what earlier answers have shown.
async fn measured(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    object: &PDAutoscaler,
    (series, place, scope): (Series, Option<Place>, Scope),
    ready: PerRole<&[String]>,
) -> Result<Measured, Unobserved> {
    let windows = series.windows(&context.metrics_args);
    let known_gateway = series.gateway(object);
    let scrape_interval = series.scrape_interval;
    let any_engine = series::stated_engine(object).is_none();
    let scope = series.spelt(scope, windows);
    let endpoint = endpoint(context, key, &object.spec).await;
    let kept = context.read(key, |state| state.attainment.clone());
    let is_attainment_kept = kept.as_ref().is_some_and(|kept| kept.is_fresh(&scope));
    let asking = Asking {
        context,
        key,
        spec: &object.spec,
        endpoint: &endpoint,
        place,
        any_engine,
    };
    let asked = asked(&asking, scope, is_attainment_kept).await;
    let Asked {
        answers,
        scope,
        warning,
        is_attainment_kept,
        attainment_read_at: read_at,
        is_grouped,
        waited,
    } = asked.map_err(Unobserved::Soon)?;
    // A sample is stale when its worker was not scraped in time, as it was when that was asked.
    let age_max = windows.age_max + waited;
    let mut signals = decode::signals(&answers, ready, &scope, age_max);
    let work = decode::in_flight(&answers, ready, &scope, age_max);
    let attainment = match kept {
        Some(kept) if is_attainment_kept => {
            kept.restore(&mut signals);
            Some(kept)
        }
        _ if answers.attainment.is_err() || answers.partial => None,
        _ => Some(KeptAttainment::of(&mut signals, &scope, read_at)),
    };
    context.update(key, |state| state.attainment = attainment);
    let behind = Behind {
        context,
        key,
        spec: &object.spec,
        endpoint,
        scope: &scope,
        answers: &answers,
        is_grouped,
    };
    let at_gateway = gateway::read(&behind, known_gateway, &mut signals).await;
    let at_gateway = at_gateway.map_err(Unobserved::Soon)?;
    let warning = warning.or(at_gateway.warning);
    Ok(Measured {
        signals,
        work,
        sources: Sources {
            engine: decode::engine(&answers, &scope),
            engine_missing: decode::names_tried(&answers, &scope, any_engine),
            gateway: at_gateway.gateway.map(|gateway| gateway.name),
            gateway_note: at_gateway.note,
            scraped_twice: decode::scraped_twice(&answers),
        },
        metrics_error: answers.first_error().cloned().or(warning),
        series: Series {
            gateway: at_gateway.gateway,
            ..Series::of(&answers, &scope).steady(scrape_interval)
        },
    })
}

/// Reads both workloads of `spec`.
async fn targets(
    client: &Client,
    cluster: &Cluster,
    namespace: &str,
    spec: &PDAutoscalerSpec,
) -> Result<PerRole<ObservedTarget>, Stopped> {
    let read = |role: Role| async move {
        let spec = spec.role(role);
        let observed = if target::is_of_system(&spec.target) {
            // Boxed, for its many requests make the future large.
            Box::pin(system::observe(client, namespace, spec, role)).await
        } else {
            target::observe(cluster, namespace, spec, role).await
        };
        observed.map_err(|error| Stopped::Untargeted { role, error })
    };
    // Both are waited for, so that of two failures always the same one is reported.
    let (prefill, decode) = futures::join!(read(Role::Prefill), read(Role::Decode));
    let targets = PerRole {
        prefill: prefill?,
        decode: decode?,
    };
    // Unknown is not zero: a budget that does not see a role's GPUs would let it have any number.
    let counted = spec.budget.as_ref().is_some_and(|b| b.gpus.is_some());
    for role in Role::ALL {
        if let Some(cause) = targets[role].gpus_unknown.clone().filter(|_| counted) {
            let target = &spec.role(role).target;
            let error = TargetError::GpusUnknown {
                role,
                kind: target.kind.clone(),
                name: target.name.clone(),
                cause,
            };
            return Err(Stopped::Untargeted { role, error });
        }
    }
    Ok(targets)
}

fn scope(
    args: &MetricsArgs,
    spec: &PDAutoscalerSpec,
    namespace: &str,
    targets: &PerRole<ObservedTarget>,
    policy: &Policy,
    engine: &'static Engine,
) -> Scope {
    let selectors = &spec.metrics.selectors.0;
    Scope {
        engine,
        prefix: None,
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
