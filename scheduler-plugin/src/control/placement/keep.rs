//! Keeps the groups of PDAutoscalers, their pods' membership, and the condition that says how it
//! is.
//!
//! The decisions are pure, in [`made`](super::made) and [`join`](super::join); here are the looks
//! at the caches and the requests. Nothing is done while a watch fails, for a PDAutoscaler that is
//! not seen is not one that is gone. Each request names the version that was seen, so that one that
//! was made already changes nothing.

use std::{collections::HashMap, time::Duration};

use json_patch::PatchOperation;
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::{Event, EventType},
};
use pd_api::v1alpha1::{PDAutoscaler, PlacementGroup};
use pd_runtime::leader::Term;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    act::{api, as_seen, at},
    autoscaler::{PlacingAutoscaler, maker},
    caches::Caches,
    join::{Asking, PodChange, change, patch},
    made::{CONDITION, GroupRequest, Made, MadeReason, conditions, decide},
    objects::PlacementPod,
};
use crate::control::{
    Context,
    write::{WriteError, WriteOutcome},
};

/// Field manager of the condition.
pub const MANAGER: &str = "pd-scheduler-plugin-placement";
/// Shortest time between two looks. Pods of a rollout come and go within tenths of a second.
const PAUSE: Duration = Duration::from_millis(500);
/// A look is made so often even if nothing changes: a request may have failed.
const INTERVAL: Duration = Duration::from_secs(10);
/// Longest note of an event, bytes.
const NOTE_MAX: usize = 1_000;

/// Keeps groups until the term ends.
pub async fn run(context: &Context, caches: &Caches, term: &Term) {
    let mut keeping = Keeping {
        context,
        caches,
        states: HashMap::new(),
    };
    let (mut autoscalers, mut groups) = (caches.autoscalers.changes(), caches.groups.changes());
    let (mut pods, mut next) = (caches.pods.changes(), Instant::now());
    let mut earliest = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = term.stop.cancelled() => break,
            () = sleep_until(next) => {
                keeping.look(term).await;
                earliest = Instant::now() + PAUSE;
                next = Instant::now() + INTERVAL;
            }
            _ = autoscalers.next() => next = next.min(earliest.max(Instant::now())),
            _ = groups.next() => next = next.min(earliest.max(Instant::now())),
            _ = pods.next() => next = next.min(earliest.max(Instant::now())),
        }
    }
    context.metrics.placement.forget_autoscalers();
}

struct Keeping<'a> {
    context: &'a Context,
    caches: &'a Caches,
    /// The state of each PDAutoscaler as it was last reported.
    states: HashMap<String, MadeReason>,
}

impl Keeping<'_> {
    async fn look(&mut self, term: &Term) {
        let caches = self.caches;
        let is_unseen = caches.autoscalers.failing_since().is_some()
            || self.context.pods.failing_since().is_some();
        if is_unseen || caches.failing().is_some() {
            return;
        }
        let objects = caches.autoscalers.store().state();
        let mut counts = HashMap::new();
        let mut known = HashMap::new();
        for object in &objects {
            if !term.may_write() {
                return;
            }
            let namespace = object.namespace().unwrap_or_default();
            let found = caches.groups.get(&object.name_any(), Some(&namespace));
            let made = decide(object, found.as_ref());
            if let Some((reason, _)) = &made.state {
                *counts.entry(*reason).or_default() += 1;
                known.insert(key(object), *reason);
            }
            self.carry_out(object, made).await;
        }
        self.states = known;
        self.context.metrics.placement.autoscalers(&counts);
        let asking = Asking::of(&objects);
        self.join(&asking, term).await;
        self.leave(&asking, term).await;
    }

    async fn carry_out(&self, object: &PlacingAutoscaler, made: Made) {
        let mut state = made.state;
        if let Some(request) = &made.request {
            let (verb, sent) = self.send(request).await;
            if let Err(error) = &sent {
                let message = format!(
                    "PlacementGroup `{}` cannot be written, and is tried again: {error}",
                    object.name_any()
                );
                state = state.map(|_| (MadeReason::GroupUnwritten, message));
            }
            self.note(verb, &object.metadata, &sent);
        }
        let Some(conditions) = conditions(object, state.as_ref(), Timestamp::now()) else {
            return;
        };
        let sent = self.write_condition(object, &conditions).await;
        let is_written = matches!(sent, Ok(WriteOutcome::Written));
        self.note("condition", &object.metadata, &sent);
        let Some((reason, message)) = state.filter(|_| is_written) else {
            return;
        };
        let is_news = self.states.get(&key(object)) != Some(&reason);
        if is_news && (reason.is_fault() || reason == MadeReason::GroupMade) {
            let event = event(reason, &message);
            self.context.publish(&object.reference(), &event).await;
        }
    }

    async fn send(
        &self,
        request: &GroupRequest,
    ) -> (&'static str, Result<WriteOutcome, WriteError>) {
        let context = self.context;
        let groups =
            |group: &PlacementGroup| -> Api<PlacementGroup> { api(context, group.namespace()) };
        match request {
            GroupRequest::Create(group) => {
                let params = PostParams {
                    dry_run: context.args.control.dry_run,
                    field_manager: Some(crate::NAME.to_owned()),
                };
                let groups = groups(group);
                let sent = context.write(groups.create(&params, group)).await;
                ("create_group", sent)
            }
            GroupRequest::Update(group, spec) => {
                let version = group.resource_version().unwrap_or_default();
                let mut patch = Vec::from(as_seen(group.uid().unwrap_or_default(), version));
                patch.push(at(&["spec"], json!(spec)));
                let patch = Patch::Json::<()>(json_patch::Patch(patch));
                let (groups, params) = (groups(group), context.patch_params());
                let name = group.name_any();
                let sent = context.write(groups.patch(&name, &params, &patch)).await;
                ("update_group", sent)
            }
            GroupRequest::Delete(group) => {
                let delete = DeleteParams {
                    dry_run: context.args.control.dry_run,
                    preconditions: Some(Preconditions {
                        uid: group.uid(),
                        resource_version: group.resource_version(),
                    }),
                    ..DeleteParams::default()
                };
                let groups = groups(group);
                let sent = context
                    .write(groups.delete(&group.name_any(), &delete))
                    .await;
                ("delete_group", sent)
            }
        }
    }

    async fn write_condition(
        &self,
        object: &PlacingAutoscaler,
        conditions: &[Condition],
    ) -> Result<WriteOutcome, WriteError> {
        let objects: Api<PlacingAutoscaler> = api(self.context, object.namespace());
        let patch = json!({
            "apiVersion": PDAutoscaler::api_version(&()),
            "kind": PDAutoscaler::kind(&()),
            // One that was made again under its name has another.
            "metadata": { "uid": object.uid() },
            "status": { "conditions": conditions },
        });
        let params = PatchParams {
            force: true,
            dry_run: self.context.args.control.dry_run,
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Apply(&patch);
        let name = object.name_any();
        self.context
            .write(objects.patch_status(&name, &params, &patch))
            .await
    }

    /// Pods of before join the groups that there are.
    async fn join(&self, asking: &Asking, term: &Term) {
        if asking.is_empty() {
            return;
        }
        for pod in self.context.pods.store().state() {
            let has_ended = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
            let Some(PodChange::Join(source)) = change(&pod.metadata, asking) else {
                continue;
            };
            if has_ended || !self.has_group(&pod.metadata, &source) {
                continue;
            }
            if !term.may_write() {
                return;
            }
            let joins = PodChange::Join(source);
            if let Some(patch) = patch(&pod.metadata, &[], &joins) {
                self.change_pod("join", &pod.metadata, patch).await;
            }
        }
    }

    /// Whether the group of a source is there and its own: else a pod would join another's.
    fn has_group(&self, pod: &ObjectMeta, source: &str) -> bool {
        let (name, _) = source.split_once('/').unwrap_or((source, ""));
        let group = self.caches.groups.get(name, pod.namespace.as_deref());
        group.is_some_and(|group| maker(&group).is_some_and(|owner| owner.name == name))
    }

    /// Pods whose PDAutoscaler does not ask any more wait for nobody.
    async fn leave(&self, asking: &Asking, term: &Term) {
        for pod in self.caches.pods.store().state() {
            let is_ours = pod.source().is_some() && !pod.has_ended();
            if !is_ours || change(&pod.metadata, asking) != Some(PodChange::Leave) {
                continue;
            }
            if !term.may_write() {
                return;
            }
            let gates = gates(&pod);
            if let Some(patch) = patch(&pod.metadata, &gates, &PodChange::Leave) {
                self.change_pod("leave", &pod.metadata, patch).await;
            }
        }
    }

    async fn change_pod(&self, verb: &'static str, pod: &ObjectMeta, patch: Vec<PatchOperation>) {
        let pods: Api<Pod> = api(self.context, pod.namespace.clone());
        let patch = Patch::Json::<()>(json_patch::Patch(patch));
        let name = pod.name.clone().unwrap_or_default();
        let params = self.context.patch_params();
        let sent = self.context.write(pods.patch(&name, &params, &patch)).await;
        self.note(verb, pod, &sent);
    }

    fn note(
        &self,
        verb: &'static str,
        about: &ObjectMeta,
        sent: &Result<WriteOutcome, WriteError>,
    ) {
        let (namespace, name) = (about.namespace.as_deref(), about.name.as_deref());
        let word = match sent {
            Ok(outcome) => outcome.as_str(),
            Err(error) => {
                tracing::warn!(%error, verb, namespace, name, "a request for a PDAutoscaler's placement failed");
                "failed"
            }
        };
        self.context.metrics.placement.acted(verb, word);
    }
}

fn key(object: &PlacingAutoscaler) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{namespace}/{}", object.name_any())
}

fn gates(pod: &PlacementPod) -> Vec<Value> {
    let gates = pod.spec["schedulingGates"].as_array();
    gates.cloned().unwrap_or_default()
}

fn event(reason: MadeReason, message: &str) -> Event {
    Event {
        type_: if reason.is_fault() {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: reason.as_str().to_owned(),
        note: Some(message.chars().take(NOTE_MAX).collect()),
        action: CONDITION.to_owned(),
        secondary: None,
    }
}
