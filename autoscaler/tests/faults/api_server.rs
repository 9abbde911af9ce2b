//! An API server in memory that fails on request.
//!
//! It holds PDAutoscalers, Deployments and their pods, answers what the controller asks of it as
//! the real one would, shows watchers changes, and remembers every request. A fault answers
//! instead of it, for as long as it is set.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{Method, Request, Response, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, channel::mpsc};
use kube::{Client, client::Body as KubeBody};
use pd_autoscaler::NAME;
use pd_runtime::leader::Leadership;
use pd_systems::victims::DELETION_COST;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The namespace of every object.
pub(crate) const NAMESPACE: &str = "ns";

/// The path of all PDAutoscalers.
pub(crate) const AUTOSCALERS: &str = "/apis/pdautoscaler.io/v1alpha1/pdautoscalers";

/// An answer in place of the server's own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A Status with this code.
    Code(u16),
    /// A Status with code 429 and so many seconds of Retry-After.
    TooManyRequests(u32),
    /// No answer at all.
    Silence,
    /// The server's own answer, late.
    Late(Duration),
    /// A body that is no JSON.
    Garbage,
    /// The server's own answer, and another process leads from here on.
    LeadershipLost,
}

/// Where a fault strikes: method, and part of path and query.
type Place = (Method, String);

#[derive(Debug, Default)]
struct State {
    autoscalers: BTreeMap<String, Value>,
    deployments: BTreeMap<String, Value>,
    checkpoints: BTreeMap<String, Value>,
    secrets: BTreeMap<String, Value>,
    horizontal: Vec<Value>,
    quotas: Vec<Value>,
    faults: Vec<(Place, Fault, Option<u32>)>,
    /// KEDA's objects; none while KEDA is not installed.
    scaled_objects: Option<Vec<Value>>,
    /// Those who watch a resource, by its plural.
    watchers: Vec<(String, mpsc::UnboundedSender<Value>)>,
    scale_writes: Vec<(String, i64, i64)>,
    /// Deletion costs of pods, and who wrote them.
    costs: BTreeMap<String, (String, String)>,
    /// The placement group of all pods.
    group: Option<String>,
    events: Vec<(String, String)>,
    notes: Vec<String>,
    requests: Vec<String>,
    version: u64,
}

/// The server.
#[derive(Clone, Debug)]
pub(crate) struct ApiServer {
    state: Arc<Mutex<State>>,
    leadership: watch::Sender<Leadership>,
}

impl ApiServer {
    /// A server without objects. `leadership` is where it strikes with [`Fault::LeadershipLost`].
    pub(crate) fn new(leadership: watch::Sender<Leadership>) -> Self {
        let state = Arc::default();
        Self { state, leadership }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, NAMESPACE)
    }

    /// Adds a PDAutoscaler.
    pub(crate) fn add(&self, object: Value) {
        let name = text(&object["metadata"]["name"]);
        self.state().autoscalers.insert(name, object);
    }

    /// Adds a Deployment with `replicas`, all of them ready.
    pub(crate) fn deploy(&self, name: &str, replicas: i64) {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": name, "namespace": NAMESPACE, "uid": name, "resourceVersion": "1" },
            "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } }, "template": {} },
        });
        self.state().deployments.insert(name.to_owned(), deployment);
    }

    /// Changes a Deployment, as its user would.
    pub(crate) fn edit_deployment(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        if let Some(deployment) = state.deployments.get_mut(name) {
            change(deployment);
            let deployment = deployment.clone();
            state.show("deployments", "MODIFIED", &deployment);
        }
    }

    /// Deletes a Deployment and its pods.
    pub(crate) fn undeploy(&self, name: &str) {
        let mut state = self.state();
        for pod in state.pods_of(name) {
            state.show("pods", "DELETED", &pod);
        }
        if let Some(deployment) = state.deployments.remove(name) {
            state.show("deployments", "DELETED", &deployment);
        }
    }

    /// Installs KEDA, which scales a Deployment.
    pub(crate) fn add_scaled_object(&self, deployment: &str) {
        self.state().scaled_objects = Some(vec![json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": { "name": "scaled", "namespace": NAMESPACE, "resourceVersion": "1" },
            "spec": { "scaleTargetRef": { "name": deployment } },
        })]);
    }

    /// Somebody gives the first pod of a Deployment a deletion cost; gives the pod.
    pub(crate) fn mark_first_pod(&self, deployment: &str, cost: &str, manager: &str) -> String {
        let mut state = self.state();
        let pod = text(&state.pods_of(deployment)[0]["metadata"]["name"]);
        state.set_cost(&pod, Some(cost), manager);
        pod
    }

    /// The deletion cost of a pod.
    pub(crate) fn cost(&self, pod: &str) -> Option<String> {
        let state = self.state();
        state.costs.get(pod).map(|(cost, _)| cost.clone())
    }

    /// Ends every watch under way.
    pub(crate) fn end_watches(&self) {
        self.state().watchers.clear();
    }

    /// Replaces a PDAutoscaler by what `change` makes of it, as its user would; watchers see it.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        if let Some(object) = state.autoscalers.get_mut(name) {
            change(object);
        }
        state.publish(name);
    }

    /// Another process writes an object, and no watcher has seen it yet.
    pub(crate) fn write_unseen(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        state.version += 1;
        let version = (100 + state.version).to_string();
        if let Some(object) = state.autoscalers.get_mut(name) {
            change(object);
            object["metadata"]["resourceVersion"] = version.into();
        }
    }

    /// A PDAutoscaler as it is.
    pub(crate) fn autoscaler(&self, name: &str) -> Value {
        self.state().autoscalers[name].clone()
    }

    /// The memory that is kept of a PDAutoscaler; null without any.
    pub(crate) fn checkpoint(&self, name: &str) -> Value {
        let state = self.state();
        state.checkpoints.get(name).cloned().unwrap_or_default()
    }

    /// Puts a checkpoint there, whoever wrote it.
    pub(crate) fn put_checkpoint(&self, name: &str, spec: &Value) {
        let checkpoint = json!({
            "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscalerCheckpoint",
            "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec,
        });
        self.state().keep(name, checkpoint);
    }

    /// Puts a Secret there, lent to the controller if it carries the label.
    pub(crate) fn put_secret(&self, name: &str, labels: &Value, data: &[(&str, &str)]) {
        let coded = |&(key, text): &(&str, &str)| (key.to_owned(), STANDARD.encode(text).into());
        let data: serde_json::Map<String, Value> = data.iter().map(coded).collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "data": data,
            "metadata": { "name": name, "namespace": NAMESPACE, "labels": labels },
        });
        self.state().secrets.insert(name.to_owned(), secret);
    }

    /// Everything that tenants may read: objects with their status, and events.
    pub(crate) fn everything_shown(&self) -> String {
        let state = self.state();
        format!(
            "{:?} {:?} {:?}",
            state.autoscalers, state.checkpoints, state.notes
        )
    }

    /// Kubernetes's own autoscaler scales a Deployment too.
    pub(crate) fn add_horizontal(&self, deployment: &str) {
        self.state().horizontal.push(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": "hpa", "namespace": NAMESPACE },
            "spec": { "maxReplicas": 3, "scaleTargetRef": {
                "apiVersion": "apps/v1", "kind": "Deployment", "name": deployment } },
        }));
    }

    /// All pods are in this placement group.
    pub(crate) fn set_group(&self, name: &str) {
        self.state().group = Some(name.to_owned());
    }

    /// The namespace may have `hard` GPUs, of which `used` exist.
    pub(crate) fn set_quota(&self, hard: u32, used: u32) {
        let of = |gpus: u32| json!({ "requests.nvidia.com/gpu": gpus.to_string() });
        self.state().quotas = vec![json!({
            "metadata": { "name": "gpus", "namespace": NAMESPACE },
            "spec": { "hard": of(hard) }, "status": { "hard": of(hard), "used": of(used) },
        })];
    }

    /// Somebody else scales a Deployment.
    pub(crate) fn scale_by_hand(&self, name: &str, replicas: i64) {
        self.state().set_replicas(name, replicas);
    }

    /// From now on `fault` answers requests of `method` whose path and query contain `place`.
    pub(crate) fn break_at(&self, method: Method, place: &str, fault: Fault) {
        let place = (method, place.to_owned());
        self.state().faults.push((place, fault, None));
    }

    /// As [`Self::break_at`], for one request.
    pub(crate) fn break_once(&self, method: Method, place: &str, fault: Fault) {
        let place = (method, place.to_owned());
        self.state().faults.push((place, fault, Some(1)));
    }

    /// Ends all faults.
    pub(crate) fn repair(&self) {
        self.state().faults.clear();
    }

    /// Replicas of a Deployment.
    pub(crate) fn replicas(&self, name: &str) -> i64 {
        let replicas = &self.state().deployments[name]["spec"]["replicas"];
        replicas.as_i64().unwrap_or(-1)
    }

    /// Every write of replicas: name, from, to.
    pub(crate) fn scale_writes(&self) -> Vec<(String, i64, i64)> {
        self.state().scale_writes.clone()
    }

    /// State, reason and message of a condition; empty when the object has none.
    pub(crate) fn condition(&self, name: &str, kind: &str) -> (String, String, String) {
        let state = self.state();
        let conditions = state.autoscalers[name]["status"]["conditions"].as_array();
        let found = conditions
            .into_iter()
            .flatten()
            .find(|one| one["type"] == kind);
        let of = |field: &str| found.map_or_else(String::new, |one| text(&one[field]));
        (of("status"), of("reason"), of("message"))
    }

    /// Reasons of the events about an object.
    pub(crate) fn events(&self, name: &str) -> Vec<String> {
        let state = self.state();
        let events = state.events.iter().filter(|(about, _)| about == name);
        events.map(|(_, reason)| reason.clone()).collect()
    }

    /// Paths of all requests for Secrets.
    pub(crate) fn secrets_read(&self) -> Vec<String> {
        let state = self.state();
        let of_secrets = state
            .requests
            .iter()
            .filter(|line| line.contains("/secrets"));
        of_secrets.cloned().collect()
    }

    /// How many requests had `part` in their method and path.
    pub(crate) fn requests(&self, part: &str) -> usize {
        self.lines(part).len()
    }

    /// Method and path of the requests that had `part` in them.
    pub(crate) fn lines(&self, part: &str) -> Vec<String> {
        let state = self.state();
        let lines = state.requests.iter();
        lines.filter(|line| line.contains(part)).cloned().collect()
    }

    async fn answer(&self, request: Request<KubeBody>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let place = head.uri.to_string();
        let body = body.collect_bytes().await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        self.state()
            .requests
            .push(format!("{} {place}", head.method));
        match self.fault(&head.method, &place) {
            None => {}
            Some(Fault::Code(code)) => return status(code, None),
            Some(Fault::TooManyRequests(seconds)) => return status(429, Some(seconds)),
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Late(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::Garbage) => return respond(200, "{\"kind\": "),
            Some(Fault::LeadershipLost) => {
                let leader = Some("another".to_owned());
                self.leadership
                    .send_replace(Leadership::Following { leader });
            }
        }
        if place.contains("watch=true") {
            return self.watch(path.rsplit('/').next().unwrap_or_default());
        }
        self.own_answer(&head.method, &path, &body)
    }

    /// The fault that strikes, if one does; one that was set for one request is gone then.
    fn fault(&self, method: &Method, place: &str) -> Option<Fault> {
        let faults = &mut self.state().faults;
        let at = faults
            .iter()
            .position(|((of, part), _, _)| of == method && place.contains(part.as_str()))?;
        let fault = faults[at].1;
        if let Some(left) = &mut faults[at].2 {
            *left -= 1;
            if *left == 0 {
                faults.remove(at);
            }
        }
        Some(fault)
    }

    fn watch(&self, resource: &str) -> Response<Body> {
        let (sender, changes) = mpsc::unbounded();
        let mut state = self.state();
        state.watchers.push((resource.to_owned(), sender));
        let lines =
            changes.map(|change: Value| Ok::<_, Infallible>(Bytes::from(format!("{change}\n"))));
        Response::new(Body::from_stream(lines))
    }

    fn own_answer(&self, method: &Method, path: &str, body: &Value) -> Response<Body> {
        let mut state = self.state();
        let parts: Vec<&str> = path.rsplit('/').collect();
        match (method, parts.as_slice()) {
            (&Method::GET, ["pdautoscalers", ..]) => {
                let items: Vec<Value> = state.autoscalers.values().cloned().collect();
                list("pdautoscaler.io/v1alpha1", "PDAutoscalerList", &items)
            }
            (&Method::GET, [name, "pdautoscalercheckpoints", ..]) => {
                match state.checkpoints.get(*name) {
                    Some(found) => respond(200, found.to_string()),
                    None => status(404, None),
                }
            }
            (&Method::POST, ["pdautoscalercheckpoints", ..]) => {
                let name = text(&body["metadata"]["name"]);
                state.keep(&name, body.clone())
            }
            (&Method::PATCH, [name, "pdautoscalercheckpoints", ..]) => {
                let mut found = state.checkpoints.get(*name).cloned().unwrap_or_default();
                if found["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
                    return status(409, None);
                }
                found["spec"] = body["spec"].clone();
                state.keep(name, found)
            }
            (&Method::GET, [name, "pdautoscalers", ..]) => match state.autoscalers.get(*name) {
                Some(found) => respond(200, found.to_string()),
                None => status(404, None),
            },
            (&Method::GET, ["horizontalpodautoscalers", ..]) => {
                let items = &state.horizontal;
                list("autoscaling/v2", "HorizontalPodAutoscalerList", items)
            }
            (&Method::GET, ["resourcequotas", ..]) => {
                list("v1", "ResourceQuotaList", &state.quotas)
            }
            (&Method::GET, ["scaledobjects", ..]) => match &state.scaled_objects {
                Some(items) => list("keda.sh/v1alpha1", "ScaledObjectList", items),
                None => status(404, None),
            },
            (&Method::GET, [name, "secrets", ..]) => match state.secrets.get(*name) {
                Some(found) => respond(200, found.to_string()),
                None => status(404, None),
            },
            (&Method::GET, ["pods", ..]) => list("v1", "PodList", &state.pods()),
            (&Method::PATCH, [name, "pods", ..]) => state.mark(name, body),
            (&Method::GET, ["deployments", ..]) => {
                let items: Vec<Value> = state.deployments.values().cloned().collect();
                list("apps/v1", "DeploymentList", &items)
            }
            (&Method::GET, ["statefulsets", ..]) => list("apps/v1", "StatefulSetList", &[]),
            (&Method::GET, ["scale", name, "deployments", ..]) => state.scale(name),
            (&Method::PATCH, ["scale", name, "deployments", ..]) => state.write_scale(name, body),
            (&Method::PATCH, ["status", name, "pdautoscalers", ..]) => {
                state.write_status(name, body)
            }
            (&Method::POST, ["events", ..]) => {
                let about = text(&body["regarding"]["name"]);
                state.events.push((about, text(&body["reason"])));
                state.notes.push(text(&body["note"]));
                respond(201, body.to_string())
            }
            // A repeated event counts up.
            (&Method::PATCH, [_, "events", ..]) => respond(200, body.to_string()),
            _ => status(404, None),
        }
    }
}

impl State {
    /// A pod gets the cost of the patch.
    fn mark(&mut self, name: &str, patch: &Value) -> Response<Body> {
        let cost = patch["metadata"]["annotations"][DELETION_COST].as_str();
        self.set_cost(name, cost, NAME);
        let mut pods = self.pods().into_iter();
        match pods.find(|pod| pod["metadata"]["name"] == name) {
            Some(pod) => respond(200, pod.to_string()),
            None => status(404, None),
        }
    }

    /// Ready pods of every Deployment.
    fn pods(&self) -> Vec<Value> {
        let names = self.deployments.keys();
        names.flat_map(|name| self.pods_of(name)).collect()
    }

    /// Ready pods of a Deployment.
    fn pods_of(&self, name: &str) -> Vec<Value> {
        let Some(deployment) = self.deployments.get(name) else {
            return Vec::new();
        };
        let count = deployment["spec"]["replicas"].as_i64().unwrap_or(0);
        let pod = |index: i64| {
            let pod = format!("{name}-7d9f8b-{index:05}");
            let cost = self.costs.get(&pod);
            let annotations = cost.map(|(cost, _)| json!({ DELETION_COST: cost }));
            let fields = cost.map(|(_, manager)| {
                let field = json!({ format!("f:{DELETION_COST}"): {} });
                json!([{ "manager": manager, "operation": "Update", "apiVersion": "v1",
                    "fieldsType": "FieldsV1", "fieldsV1": { "f:metadata": { "f:annotations": field } } }])
            });
            let mut labels = json!({ "app": name });
            if let Some(group) = &self.group {
                labels["pdautoscaler.io/placement-group"] = group.clone().into();
            }
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": pod, "namespace": NAMESPACE, "annotations": annotations, "managedFields": fields,
                    "resourceVersion": "1", "labels": labels, "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{name}-7d9f8b"),
                        "uid": "1", "controller": true }],
                },
                "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
            })
        };
        (0..count).map(pod).collect()
    }

    fn scale(&self, name: &str) -> Response<Body> {
        let Some(deployment) = self.deployments.get(name) else {
            return status(404, None);
        };
        let scale = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": { "name": name, "namespace": NAMESPACE, "resourceVersion": "1" },
            "spec": { "replicas": deployment["spec"]["replicas"] },
        });
        respond(200, scale.to_string())
    }

    fn write_scale(&mut self, name: &str, patch: &Value) -> Response<Body> {
        let Some(deployment) = self.deployments.get(name) else {
            return status(404, None);
        };
        let before = deployment["spec"]["replicas"].as_i64().unwrap_or(0);
        let after = patch["spec"]["replicas"].as_i64().unwrap_or(-1);
        self.set_replicas(name, after);
        self.scale_writes.push((name.to_owned(), before, after));
        self.scale(name)
    }

    /// Sets the replicas of a Deployment, whose pods come and go at once.
    fn set_replicas(&mut self, name: &str, replicas: i64) {
        let before = self.pods_of(name);
        let Some(deployment) = self.deployments.get_mut(name) else {
            return;
        };
        deployment["spec"]["replicas"] = replicas.into();
        let deployment = deployment.clone();
        self.show("deployments", "MODIFIED", &deployment);
        let after = self.pods_of(name);
        for pod in after.iter().filter(|pod| !before.contains(pod)) {
            self.show("pods", "ADDED", pod);
        }
        for pod in before.iter().filter(|pod| !after.contains(pod)) {
            self.show("pods", "DELETED", pod);
        }
    }

    /// Writes or removes the deletion cost of a pod.
    fn set_cost(&mut self, pod: &str, cost: Option<&str>, manager: &str) {
        match cost {
            Some(cost) => {
                let written = (cost.to_owned(), manager.to_owned());
                self.costs.insert(pod.to_owned(), written);
            }
            None => drop(self.costs.remove(pod)),
        }
        let changed = self.pods().into_iter();
        for pod in changed.filter(|changed| changed["metadata"]["name"] == pod) {
            self.show("pods", "MODIFIED", &pod);
        }
    }

    /// Shows a change to those who watch `resource`.
    fn show(&mut self, resource: &str, kind: &str, object: &Value) {
        let change = json!({ "type": kind, "object": object });
        self.watchers.retain(|(watched, watcher)| {
            watched != resource || watcher.unbounded_send(change.clone()).is_ok()
        });
    }

    fn write_status(&mut self, name: &str, patch: &Value) -> Response<Body> {
        let Some(object) = self.autoscalers.get_mut(name) else {
            return status(404, None);
        };
        let version = &patch["metadata"]["resourceVersion"];
        if *version != object["metadata"]["resourceVersion"] {
            return status(409, None);
        }
        object["status"] = patch["status"].clone();
        self.publish(name);
        respond(200, self.autoscalers[name].to_string())
    }

    fn keep(&mut self, name: &str, mut checkpoint: Value) -> Response<Body> {
        self.version += 1;
        checkpoint["metadata"]["resourceVersion"] = (100 + self.version).to_string().into();
        self.checkpoints.insert(name.to_owned(), checkpoint.clone());
        respond(200, checkpoint.to_string())
    }

    /// Gives an object its next version and shows it to watchers.
    fn publish(&mut self, name: &str) {
        self.version += 1;
        let Some(object) = self.autoscalers.get_mut(name) else {
            return;
        };
        object["metadata"]["resourceVersion"] = (100 + self.version).to_string().into();
        let object = object.clone();
        self.show("pdautoscalers", "MODIFIED", &object);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn respond(code: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    response
}

fn list(api_version: &str, kind: &str, items: &[Value]) -> Response<Body> {
    let list = json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "resourceVersion": "1" }, "items": items,
    });
    respond(200, list.to_string())
}

/// A failure as the API server words it.
fn status(code: u16, retry_after: Option<u32>) -> Response<Body> {
    let reason = StatusCode::from_u16(code).unwrap_or_default();
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
        "reason": reason.canonical_reason().unwrap_or_default().replace(' ', ""),
        "message": format!("broken on purpose with {code}"),
        "details": retry_after.map(|seconds| json!({ "retryAfterSeconds": seconds })),
    });
    let mut response = respond(code, body.to_string());
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
