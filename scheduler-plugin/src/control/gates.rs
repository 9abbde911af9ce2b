//! The preflight, again and again, and its outcome where people look: a condition of every
//! `PDAutoscaler`.
//!
//! The condition has a type and a field manager of its own, so that it and those of the controller
//! do not touch each other: conditions are a list by type. It is written when it says something
//! else, and its transition time is when its status changed. Metrics always have it; the log and an
//! event on the own pod report changes. Without the CRD there is nothing to write to, and nothing
//! is missing.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use pd_runtime::kubernetes::error_message;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Context, Term, write::WriteOutcome};
use crate::preflight::{
    self,
    judge::{Judgement, PreflightVerdict},
};

/// Type of the condition.
pub const CONDITION: &str = "NumericTolerations";
/// Field manager of the condition.
pub const MANAGER: &str = "pd-scheduler-plugin-preflight";

/// Longest message of a condition, characters.
const MESSAGE_MAX: usize = 1_024;
/// Longest note of an event, bytes.
const NOTE_MAX: usize = 1_000;
/// `PDAutoscalers` in one answer of the API server.
const PAGE: u32 = 500;

/// Looks until the term ends.
pub async fn run(context: &Context, term: &Term) {
    let args = &context.args;
    let client = context.client.clone();
    let built = preflight::prober(
        client,
        &args.process.kubernetes,
        &args.probe,
        &args.prometheus,
    )
    .await;
    let prober = match built {
        Ok(prober) => prober,
        Err(error) => {
            tracing::error!(%error, "the preflight cannot look, its condition is not kept");
            return;
        }
    };
    let mut reported = None;
    while !term.stop.is_cancelled() {
        let seen = tokio::select! {
            () = term.stop.cancelled() => break,
            seen = prober.look() => seen,
        };
        match seen {
            Ok(seen) => {
                for (component, seen) in &seen {
                    context.metrics.gate(component.as_str(), seen.gate);
                }
                let judgement = preflight::judged(&seen);
                report(context, &judgement, &mut reported).await;
                publish(context, term, &judgement).await;
            }
            Err(error) => {
                let error = error_message(&error);
                tracing::warn!(error, "the preflight cannot look");
            }
        }
        tokio::select! {
            () = term.stop.cancelled() => {}
            () = sleep(args.preflight_interval) => {}
        }
    }
    context.metrics.gates_forgotten();
}

/// Log and event, when the judgement is another.
async fn report(
    context: &Context,
    judgement: &Judgement,
    reported: &mut Option<(PreflightVerdict, String)>,
) {
    let now = (judgement.verdict, judgement.summary());
    if reported.as_ref() == Some(&now) {
        return;
    }
    let (reason, summary) = (now.0.reason(), &now.1);
    tracing::info!(reason, "{summary}");
    if let Some(pod) = context.own_pod() {
        let broken = now.0 == PreflightVerdict::Broken;
        let type_ = if broken {
            EventType::Warning
        } else {
            EventType::Normal
        };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(summary.chars().take(NOTE_MAX).collect()),
            action: "Preflight".to_owned(),
            secondary: None,
        };
        context.publish(&pod, &event).await;
    }
    *reported = Some(now);
}

fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("pdautoscaler.io", "v1alpha1", "PDAutoscaler");
    ApiResource::from_gvk_with_plural(&kind, "pdautoscalers")
}

/// Writes the condition to every `PDAutoscaler` that has another.
async fn publish(context: &Context, term: &Term, judgement: &Judgement) {
    let api = Api::<DynamicObject>::all_with(context.client.clone(), &resource());
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&parameters).await {
            Ok(page) => page,
            // Without the CRD there is nothing to write to.
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => {
                let error = error_message(&error);
                tracing::warn!(
                    error,
                    "PDAutoscalers cannot be listed, their condition {CONDITION} is out of date"
                );
                context.metrics.condition_written("failed");
                return;
            }
        };
        for object in &page.items {
            if !term.may_write() {
                return;
            }
            write(context, object, judgement).await;
        }
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => parameters = parameters.continue_token(&next),
            None => return,
        }
    }
}

async fn write(context: &Context, object: &DynamicObject, judgement: &Judgement) {
    let Some(condition) = condition(object, judgement, Timestamp::now()) else {
        return;
    };
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let api =
        Api::<DynamicObject>::namespaced_with(context.client.clone(), &namespace, &resource());
    let parameters = PatchParams {
        force: true,
        dry_run: context.args.control.dry_run,
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Apply(applied(&name, &condition));
    let written = context
        .write(api.patch_status(&name, &parameters, &patch))
        .await;
    if let Err(error) = &written {
        tracing::warn!(
            namespace,
            name,
            %error,
            "condition {CONDITION} cannot be written"
        );
    }
    let outcome = written.map_or("failed", WriteOutcome::as_str);
    context.metrics.condition_written(outcome);
}

fn applied(name: &str, condition: &Condition) -> Value {
    json!({
        "apiVersion": "pdautoscaler.io/v1alpha1",
        "kind": "PDAutoscaler",
        "metadata": ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        "status": { "conditions": [condition] },
    })
}

/// The condition to write; nothing if the object has it already.
fn condition(object: &DynamicObject, judgement: &Judgement, now: Timestamp) -> Option<Condition> {
    let conditions = object.data["status"]["conditions"].as_array();
    let before = conditions
        .into_iter()
        .flatten()
        .find(|one| one["type"] == CONDITION)
        .and_then(|one| serde_json::from_value::<Condition>(one.clone()).ok());
    let status = judgement.verdict.status();
    let since = before
        .as_ref()
        .filter(|before| before.status == status)
        .map(|before| before.last_transition_time.clone());
    let condition = Condition {
        type_: CONDITION.to_owned(),
        status: status.to_owned(),
        reason: judgement.verdict.reason().to_owned(),
        message: judgement.summary().chars().take(MESSAGE_MAX).collect(),
        observed_generation: None,
        last_transition_time: since
            .unwrap_or_else(|| Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
    };
    (before.as_ref() != Some(&condition)).then_some(condition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::{
        evidence::Seen,
        judge::{Component, judge},
    };

    fn object(conditions: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
            "metadata": { "name": "a", "namespace": "b" },
            "status": { "conditions": conditions },
        }))
        .unwrap()
    }

    fn judgement(on: bool) -> Judgement {
        judge(|component| match component {
            Component::KubeScheduler => Seen::new(on, "x"),
            _ => Seen::new(true, "x"),
        })
    }

    #[test]
    fn the_condition_is_written_once_and_moves_its_time_with_its_status_only() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let others = json!([{ "type": "Ready", "status": "True", "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
        let first = condition(&object(&others), &judgement(true), at(10)).unwrap();
        assert_eq!(
            (first.status.as_str(), first.reason.as_str()),
            ("True", "Native")
        );
        let written = object(&json!([others[0], first]));
        assert_eq!(condition(&written, &judgement(true), at(20)), None);
        let changed = condition(&written, &judgement(false), at(30)).unwrap();
        assert_eq!(changed.status, "False");
        assert_eq!(changed.last_transition_time, Time(at(30)));
        assert!(
            changed.message.contains("kube-scheduler is off"),
            "{}",
            changed.message
        );
        // Never anything of another's.
        let patch = applied("a", &changed);
        assert_eq!(patch["status"]["conditions"].as_array().unwrap().len(), 1);
        // An object without status is fine.
        let fresh: DynamicObject =
            serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
        assert!(condition(&fresh, &judgement(true), at(1)).is_some());
    }
}
