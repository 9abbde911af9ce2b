//! The fifth step: metrics, log, events and status say the same about one outcome.
//!
//! [`conditions`] turns an outcome into findings, [`status`] into the status object, [`events`]
//! into events for changes, [`sentence`] a decision into a sentence for people. Status is written
//! when something a person would act on changed, and otherwise only now and then.

pub mod conditions;
pub mod events;
pub mod sentence;
pub mod status;
#[cfg(test)]
mod testing;

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Resource as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::{events::Event, reflector::ObjectRef},
};
use pd_api::{
    ConditionState, ConditionType, condition,
    v1alpha1::{PDAutoscaler, PDAutoscalerStatus},
};
use serde_json::json;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::{
    Guarded,
    answer::within_limit,
    apply::scale::ScaleError,
    context::Context,
    error::ReconcileError,
    outcome::{ApplyOutcome, ReconcileOutcome},
};

/// Reports `outcome` of the reconcile of `object`.
pub async fn report(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    object: &Guarded,
    outcome: &ReconcileOutcome,
) -> Result<(), ReconcileError> {
    let before = status_before(context, key, object).await;
    let before = before.as_ref();
    let generation = object.meta().generation.unwrap_or(0);
    let late = context.read(key, |state| state.late);
    let on_time = conditions::lateness::on_time(late, Instant::now());
    let now = Time((context.clock)());
    let after = status::status(before, outcome, on_time, generation, &now);
    let need = outcome
        .as_ref()
        .ok()
        .map(|applied| applied.decision.report.need);
    context.update(key, |state| state.need = need);
    measure(context, key, outcome, &after);
    let conditions_before = before
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let mut events = events::events(outcome, conditions_before, &after.conditions);
    let stale = context
        .read(key, |state| state.written_at)
        .is_none_or(|at| at.elapsed() >= context.decision_args.status_interval);
    // Leadership may have gone to another process since the decision: status is that one's now.
    let leads = context.is_leader();
    let written = if leads && (stale || status::differs(before, &after)) {
        write_status(context, key, object, &after).await
    } else {
        Ok(())
    };
    // The next reconcile reports a condition that status does not have yet; a write of replicas
    // happens only once.
    if !leads || written.is_err() {
        events.retain(|event| event.action == events::SCALE);
    }
    publish(context, key, &object.object_ref(&()), &events).await;
    written
}

/// The status as it was. An object that cannot be decoded shows none: then it is the one last
/// written, or read by itself, so that it is not written at each pass.
async fn status_before(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    object: &Guarded,
) -> Option<PDAutoscalerStatus> {
    if let Ok(object) = &object.0 {
        return object.status.clone();
    }
    if let Some(written) = context.read(key, |state| state.written.clone()) {
        return Some(written);
    }
    let namespace = key.namespace.as_deref().unwrap_or_default();
    let kind = ApiResource::erase::<PDAutoscaler>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let found = within_limit(api.get(&key.name)).await.ok()?;
    serde_json::from_value(found.data.get("status")?.clone()).ok()
}

async fn publish(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
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
        if let Err(error) = within_limit(context.events.publish(event, reference)).await {
            warn!(%error, reason = event.reason, "event cannot be written");
            context.metrics.api_failed("event");
        }
    }
}

fn measure(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    outcome: &ReconcileOutcome,
    after: &PDAutoscalerStatus,
) {
    let ready = condition::get(&after.conditions, ConditionType::Ready)
        .is_some_and(|ready| ready.status == ConditionState::True.as_str());
    context.metrics.readiness(key, ready);
    let decided = outcome.as_ref().ok();
    let decided = decided.map(|applied| (&applied.snapshot, &applied.decision.report));
    context.metrics.stated(key, &after.conditions, decided);
    let Ok(applied) = outcome else {
        context.metrics.undecided(key);
        return;
    };
    let report = &applied.decision.report;
    context
        .metrics
        .decided(key, report, &applied.snapshot.roles);
    for &role in applied.written() {
        let (from, to) = (report.from[role], report.to[role]);
        context.metrics.scaled(key, role, from, to, report.reason);
    }
    match &applied.outcome {
        ApplyOutcome::Failed(
            _,
            ScaleError::Conflict { .. } | ScaleError::VersionConflict { .. },
        ) => {
            context.metrics.conflicted();
        }
        ApplyOutcome::Failed(_, ScaleError::Refused { .. }) => context.metrics.api_failed("scale"),
        ApplyOutcome::ContentionUnknown(_) => context.metrics.api_failed("contention"),
        ApplyOutcome::AuditFailed(findings) => context.metrics.audit_found(findings.len()),
        ApplyOutcome::Applied(_)
        | ApplyOutcome::Failed(..)
        | ApplyOutcome::Recommended(_)
        | ApplyOutcome::Contended(_) => {}
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

/// Server-side apply of our whole status, so that parts that are gone go. The version makes it fail
/// when somebody else wrote meanwhile: a process that led before must not put an older
/// status over that of the one that leads now.
async fn write_status(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    object: &Guarded,
    status: &PDAutoscalerStatus,
) -> Result<(), ReconcileError> {
    let namespace = key.namespace.as_deref().unwrap_or_default();
    // Behind the guard: the answer holds the whole object, which may be one that cannot be decoded.
    let api: Api<Guarded> = Api::namespaced(context.client.clone(), namespace);
    let patch = Patch::Apply(json!({
        "apiVersion": PDAutoscaler::api_version(&()),
        "kind": PDAutoscaler::kind(&()),
        "metadata": { "resourceVersion": object.meta().resource_version },
        "status": status::own(status),
    }));
    let params = PatchParams::apply(crate::NAME).force();
    match within_limit(api.patch_status(&key.name, &params, &patch)).await {
        Ok(_) => {
            context.update(key, |state| {
                state.written_at = Some(Instant::now());
                state.written = object.0.is_err().then(|| status.clone());
            });
            Ok(())
        }
        // Deleted meanwhile: there is no status left to write.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(source) => Err(ReconcileError::Status {
            namespace: namespace.to_owned(),
            name: key.name.clone(),
            source,
        }),
    }
}
