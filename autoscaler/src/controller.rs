//! One pass over one PDAutoscaler, and the loop around it.
//!
//! The loop runs only while this process leads. A pass reads as the pipeline it is; it ends in an
//! outcome for status, or in an error of the API server, after which it is tried again with growing
//! pauses. Objects that cannot be decoded harm no other: they are watched behind a guard.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Time, jiff};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        Controller, controller, controller::Action, events::Event, reflector::Store, watcher,
    },
};
use pd_api::{
    ConditionState, ConditionType, PauseReading, condition,
    v1alpha1::{Mode, PDAutoscaler, PDAutoscalerStatus},
};
use pd_core::{Decision, Memory, PerRole, Policy, Snapshot, Timestamp, audit, plan};
use serde_json::json;
use tracing::{debug, info, warn};

use crate::{
    apply::{self, ApplyError},
    context::{Context, ObjectKey},
    error::Error,
    observe::{
        self,
        contention::{self, Claims},
        target::ObservedTarget,
    },
    report::{Decided, Fate, Outcome, events, status},
};

/// The watched type: a PDAutoscaler, or why it cannot be decoded.
pub type Guarded = DeserializeGuard<PDAutoscaler>;

/// Pause after a failed pass.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How old the overview of all objects may be. Looking at all of them in every pass would make the
/// work grow with the square of their number.
const OVERVIEW_AGE_MAX: Duration = Duration::from_secs(2);

/// What the passes share with the loop: the context, and the objects as last watched.
#[derive(Debug)]
struct Shared {
    context: Arc<Context>,
    store: Store<Guarded>,
    overview: Mutex<Overview>,
}

/// What follows from all objects together.
#[derive(Clone, Debug, Default)]
struct Overview {
    made_at: Option<Instant>,
    claims: Arc<Claims>,
}

/// Decides for all PDAutoscalers until `stop` completes.
pub async fn run(
    context: Arc<Context>,
    api: Api<Guarded>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let controller = Controller::new(api, watcher::Config::default());
    let store = controller.store();
    let config = controller::Config::default().concurrency(context.decision_args.concurrency);
    let overview = Mutex::default();
    let shared = Arc::new(Shared {
        context,
        store,
        overview,
    });
    let passes = controller
        .with_config(config)
        .graceful_shutdown_on(stop)
        .run(pass, failed, Arc::clone(&shared));
    passes
        .for_each(|result| {
            match result {
                Ok((object, _)) => debug!(object = %object, "passed"),
                Err(controller::Error::ReconcilerFailed(..)) => {} // told by `failed`
                Err(controller::Error::ObjectNotFound(object)) => {
                    debug!(object = %object, "gone");
                    shared.context.forget(&ObjectKey {
                        namespace: object.namespace.unwrap_or_default(),
                        name: object.name,
                    });
                }
                Err(error) => warn!(%error, "watching PDAutoscalers failed, trying again"),
            }
            futures::future::ready(())
        })
        .await;
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature is the controller runtime's"
)]
fn failed(_: Arc<Guarded>, error: &Error, shared: Arc<Shared>) -> Action {
    warn!(%error, "pass failed, trying again");
    shared.context.metrics.api_failed(error.category());
    Action::requeue(RETRY_AFTER)
}

/// Namespace and name, which every watched object has.
fn key(meta: &kube::core::ObjectMeta) -> ObjectKey {
    ObjectKey {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

async fn pass(object: Arc<Guarded>, shared: Arc<Shared>) -> Result<Action, Error> {
    let context = &*shared.context;
    let key = key(object.meta());
    if !context.is_leader() {
        return Ok(Action::await_change());
    }
    if let Some(wait) = not_due(context, &key, &object) {
        return Ok(Action::requeue(wait));
    }
    let started = Instant::now();
    let (outcome, before, generation) = match &object.0 {
        Ok(object) => {
            let outcome = outcome(&shared, object, &key).await?;
            (outcome, object.status.clone(), object.metadata.generation)
        }
        Err(InvalidObject { error, metadata }) => (
            Outcome::Undecodable(error.clone()),
            None,
            metadata.generation,
        ),
    };
    tell(
        context,
        &object,
        &key,
        &outcome,
        before.as_ref(),
        generation.unwrap_or(0),
    )
    .await?;
    let seen = Some((generation, object.annotations().clone()));
    context.update(&key, |state| {
        state.seen = seen;
        state.passed_at = Some(Instant::now());
    });
    context.metrics.passed(outcome.reason(), started.elapsed());
    Ok(Action::requeue(context.decision_args.interval))
}

impl Shared {
    /// Who has a right to which workload. Now and then looks at all objects anew.
    fn claims(&self) -> Arc<Claims> {
        let mut overview = self.overview.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at: Instant| at.elapsed() < OVERVIEW_AGE_MAX;
        if !overview.made_at.is_some_and(fresh) {
            let objects = self.store.state();
            let decoded = objects.iter().filter_map(|guarded| guarded.0.as_ref().ok());
            overview.claims = Arc::new(Claims::of(decoded));
            overview.made_at = Some(Instant::now());
        }
        Arc::clone(&overview.claims)
    }
}

/// How long to wait when the last pass saw this very spec and is not an interval ago: our own
/// status writes wake us too.
fn not_due(context: &Context, key: &ObjectKey, object: &Guarded) -> Option<Duration> {
    let interval = context.decision_args.interval;
    context.read(key, |state| {
        let (generation, annotations) = state.seen.as_ref()?;
        let same = *generation == object.meta().generation && annotations == object.annotations();
        // A timer that fires a moment early must not cost a whole interval.
        let wait = interval
            .mul_f64(0.9)
            .checked_sub(state.passed_at?.elapsed())?;
        same.then_some(wait + interval.mul_f64(0.1))
    })
}

/// Validate, observe, plan, apply.
async fn outcome(
    shared: &Shared,
    object: &PDAutoscaler,
    key: &ObjectKey,
) -> Result<Outcome, Error> {
    if object.spec.mode == Mode::Off {
        return Ok(Outcome::Off);
    }
    let policy = match object.spec.policy() {
        Ok(policy) => policy,
        Err(errors) => return Ok(Outcome::Invalid(errors)),
    };
    let targets = match observe::targets(&shared.context, &key.namespace, &object.spec).await {
        Ok(targets) => targets,
        Err((role, error)) => return Ok(Outcome::Untargeted { role, error }),
    };
    // Boxed, for the many queries of a decision make its future large.
    let decided = Box::pin(decide(shared, object, key, policy, &targets)).await?;
    Ok(Outcome::Decided(Box::new(decided)))
}

async fn decide(
    shared: &Shared,
    object: &PDAutoscaler,
    key: &ObjectKey,
    policy: Policy,
    targets: &PerRole<ObservedTarget>,
) -> Result<Decided, Error> {
    let context = &*shared.context;
    let pauses = PauseReading::from_annotations(object.annotations());
    let observation = observe::observe(context, object, key, policy, targets, pauses.paused).await;
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let decision = plan(&observation.snapshot, &memory(context, object, key), now);
    context.update(key, |state| state.memory = Some(decision.memory.clone()));
    let fate = fate(shared, object, key, &observation.snapshot, &decision).await?;
    Ok(Decided {
        snapshot: observation.snapshot,
        decision,
        stated: observation.stated,
        engine: observation.engine,
        metrics_error: observation.metrics_error,
        fate,
        annotation_errors: pauses.errors,
    })
}

/// What becomes of a plan: applied, unless the audit, another autoscaler or the mode forbids it.
async fn fate(
    shared: &Shared,
    object: &PDAutoscaler,
    key: &ObjectKey,
    snapshot: &Snapshot,
    decision: &Decision,
) -> Result<Fate, Error> {
    let context = &*shared.context;
    let findings = audit(snapshot, decision);
    if !findings.is_empty() {
        context.metrics.audit_found(findings.len());
        return Ok(Fate::Refused(findings));
    }
    if let Some(contender) = contender(shared, object, key).await? {
        return Ok(Fate::Contended(contender));
    }
    if object.spec.mode == Mode::Recommend {
        return Ok(Fate::Recommended);
    }
    let current = snapshot.roles.map(|state| state.current);
    let (written, result) = apply::apply(
        context,
        &key.namespace,
        &object.spec,
        current,
        decision.plan,
    )
    .await;
    Ok(match result {
        Ok(()) => Fate::Applied(written),
        Err(error) => Fate::Failed(written, error),
    })
}

/// Who else scales a target, if anyone does.
async fn contender(
    shared: &Shared,
    object: &PDAutoscaler,
    key: &ObjectKey,
) -> Result<Option<String>, Error> {
    if let Some(elder) = shared.claims().elder_than(object) {
        return Ok(Some(elder));
    }
    let read = contention::horizontal_autoscaler(&shared.context.client, object).await;
    read.map_err(|source| Error::Contention {
        namespace: key.namespace.clone(),
        source,
    })
}

/// Memory of this process, else of the process before, else none.
fn memory(context: &Context, object: &PDAutoscaler, key: &ObjectKey) -> Memory {
    let stored = || {
        let text = object.status.as_ref()?.memory.as_deref()?;
        match serde_json::from_str(text) {
            Ok(memory) => Some(memory),
            Err(error) => {
                warn!(%error, namespace = key.namespace, name = key.name, "stored memory cannot be read, starting without");
                None
            }
        }
    };
    let kept = context.read(key, |state| state.memory.clone());
    kept.or_else(stored).unwrap_or_default()
}

/// Metrics, log, events and status.
async fn tell(
    context: &Context,
    object: &Guarded,
    key: &ObjectKey,
    outcome: &Outcome,
    before: Option<&PDAutoscalerStatus>,
    generation: i64,
) -> Result<(), Error> {
    let now = Time(jiff::Timestamp::now());
    let after = status::status(before, outcome, generation, &now);
    measure(context, key, outcome, &after);
    let conditions_before = before
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let mut events = events::events(outcome, conditions_before, &after.conditions);
    let stale = context
        .read(key, |state| state.written_at)
        .is_none_or(|at| at.elapsed() >= context.decision_args.status_interval);
    let written = if stale || status::differs(before, &after) {
        write_status(context, key, &after).await
    } else {
        Ok(())
    };
    // A verdict that status does not have yet is told by the next pass; a write happens only once.
    if written.is_err() {
        events.retain(|event| event.action == events::SCALE);
    }
    publish(context, key, &object.object_ref(&()), &events).await;
    written
}

async fn publish(
    context: &Context,
    key: &ObjectKey,
    reference: &ObjectReference,
    events: &[Event],
) {
    for event in events {
        info!(
            namespace = key.namespace,
            name = key.name,
            reason = event.reason,
            note = event.note.as_deref(),
            "event"
        );
        if let Err(error) = context.events.publish(event, reference).await {
            warn!(%error, reason = event.reason, "event cannot be written");
        }
    }
}

fn measure(context: &Context, key: &ObjectKey, outcome: &Outcome, after: &PDAutoscalerStatus) {
    let ready = condition::get(&after.conditions, ConditionType::Ready)
        .is_some_and(|ready| ready.status == ConditionState::True.as_str());
    context.metrics.readiness(key, ready);
    let Outcome::Decided(decided) = outcome else {
        return;
    };
    let report = &decided.decision.report;
    context
        .metrics
        .decided(key, report, &decided.snapshot.roles);
    for &role in decided.written() {
        context.metrics.scaled(
            key,
            role,
            *report.from.get(role),
            *report.to.get(role),
            report.reason,
        );
    }
    if matches!(
        decided.fate,
        Fate::Failed(
            _,
            ApplyError::Conflict { .. } | ApplyError::Contended { .. }
        )
    ) {
        context.metrics.conflicted();
    }
    if tracing::enabled!(tracing::Level::DEBUG) {
        debug!(
            namespace = key.namespace,
            name = key.name,
            summary = report.paragraph(),
            report = serde_json::to_string(report).unwrap_or_default(),
            "decided"
        );
    }
}

/// Server-side apply of our whole status, so that parts that are gone go.
async fn write_status(
    context: &Context,
    key: &ObjectKey,
    status: &PDAutoscalerStatus,
) -> Result<(), Error> {
    let api: Api<PDAutoscaler> = Api::namespaced(context.client.clone(), &key.namespace);
    let patch = Patch::Apply(json!({
        "apiVersion": PDAutoscaler::api_version(&()),
        "kind": PDAutoscaler::kind(&()),
        "status": status::own(status),
    }));
    let params = PatchParams::apply(crate::NAME).force();
    match api.patch_status(&key.name, &params, &patch).await {
        Ok(_) => {
            context.update(key, |state| state.written_at = Some(Instant::now()));
            Ok(())
        }
        // Deleted meanwhile: there is nobody left to tell.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(source) => {
            let (namespace, name) = (key.namespace.clone(), key.name.clone());
            Err(Error::Status {
                namespace,
                name,
                source,
            })
        }
    }
}
