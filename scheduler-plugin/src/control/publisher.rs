//! The SLA publisher: taints whose values are measured.
//!
//! Each publisher owns one taint, by key and effect, and touches nothing else. Every interval its query is evaluated, each
//! node is judged by [`decide`], and the most urgent changes are written, as many as the rate allows. A query that fails, is
//! empty or names no node changes nothing. A change and its time are written at once, with the node's version as a
//! precondition, so that neither a restart nor a race with another writer makes it twice.
//!
//! Only the value of a taint is replaced, at its place in the list: `timeAdded` says since when a key is on the node, which
//! another value does not change. It is set when a `NoExecute` taint is added.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::Patch,
    runtime::events::{Event, EventType},
};
use pd_runtime::prometheus::{Sample, Servers};
use pd_tolerations::{Effect, canonical_int64};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use self::{
    config::{ANNOTATION_PREFIX, Config, Publisher},
    decide::{Change, Current, Held, MINUTE, Reading, allowance, decide, most_urgent, within},
};
use super::{Context, Term, objects::WatchedNode};

pub mod config;
pub mod decide;

/// How long the API server may take for one change.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Failed writes after which a round ends: the next one will know more.
const FAILURES_MAX: usize = 20;
/// Most times that an annotation keeps.
const TIMES_MAX: usize = 16;
/// Pause before the file is read again while there was never a good one.
const FILE_RETRY: Duration = Duration::from_secs(10);

/// What was found for one publisher.
type Readings = BTreeMap<String, Reading>;

#[derive(Debug)]
struct Publishers<'a> {
    context: &'a Context,
    servers: Servers,
    server: &'a str,
    config: Option<Config>,
    /// What was last told about the file and about each query, so that it is told once.
    told: BTreeMap<String, String>,
    /// Times of changes that the cache may not show yet.
    recent: Vec<Timestamp>,
    /// Nodes whose last write failed.
    failing: BTreeSet<String>,
}

/// Publishes until the term ends.
pub async fn run(context: &Context, term: &Term) {
    let args = &context.args.prometheus;
    let file = &context.args.publisher.publisher_config;
    let (Some(file), Some(server)) = (file, &args.prometheus_url) else {
        return;
    };
    let servers = match Servers::new(args.prometheus_timeout, crate::NAME, crate::VERSION) {
        Ok(servers) => servers,
        Err(error) => {
            tracing::error!(%error, "the HTTP client for Prometheus cannot be built, nothing is published");
            return;
        }
    };
    let mut publishers = Publishers {
        context,
        servers,
        server,
        config: None,
        told: BTreeMap::new(),
        recent: Vec::new(),
        failing: BTreeSet::new(),
    };
    while !term.stop.is_cancelled() {
        publishers.read(file).await;
        publishers.round(term).await;
        let pause = publishers
            .config
            .as_ref()
            .map_or(FILE_RETRY, |config| config.interval);
        tokio::select! {
            () = term.stop.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
    context.metrics.publishers_forgotten();
}

impl Publishers<'_> {
    /// Reads the file; one that cannot be used leaves the last good one in force.
    async fn read(&mut self, file: &Path) {
        let read = fs::read_to_string(file)
            .map_err(|error| format!("{} cannot be read: {error}", file.display()))
            .and_then(|text| Config::parse(&text).map_err(|error| error.to_string()));
        self.context.metrics.publisher_config(read.is_ok());
        match read {
            Ok(config) => {
                if self.config.as_ref() != Some(&config) {
                    let publishers = config.publishers.len();
                    tracing::info!(publishers, "publisher configuration in force");
                    self.context.metrics.publishers_forgotten();
                    self.config = Some(config);
                }
                self.told.remove("");
            }
            Err(error) => self.tell("", "PublisherConfigInvalid", error).await,
        }
    }

    /// One evaluation of everything.
    async fn round(&mut self, term: &Term) {
        let Some(config) = self.config.clone() else {
            return;
        };
        let mut wanted = Vec::new();
        for publisher in &config.publishers {
            let answer = tokio::select! {
                () = term.stop.cancelled() => return,
                answer = self.servers.query(self.server, &publisher.query) => answer,
            };
            let answer = answer.map_err(|error| (error.category(), error.to_string()));
            if let Some(readings) = self.judge(publisher, answer).await {
                wanted.extend(self.decide(publisher, &readings));
            }
        }
        let now = Timestamp::now();
        self.recent.retain(|at| within(MINUTE, *at, now));
        let nodes = self.context.nodes.store().state();
        let shown = nodes.iter().flat_map(|node| changes_shown(node));
        let known: BTreeSet<Timestamp> = self.recent.iter().copied().collect();
        let times = shown
            .filter(|at| !known.contains(at))
            .chain(self.recent.iter().copied());
        let allowed = allowance(config.max_nodes_per_minute, times, now);
        if wanted.len() > allowed {
            tracing::info!(
                wanted = wanted.len(),
                allowed,
                "more changes than allowed, the rest waits"
            );
        }
        self.make(term, most_urgent(wanted, usize::MAX), allowed)
            .await;
    }

    /// Makes the first `allowed` changes that can be made. Nodes that failed before come last, so that they keep nobody
    /// waiting.
    async fn make(
        &mut self,
        term: &Term,
        wanted: Vec<((&Publisher, String), Change)>,
        allowed: usize,
    ) {
        let (failing, others): (Vec<_>, Vec<_>) = wanted
            .into_iter()
            .partition(|((_, node), _)| self.failing.contains(node));
        let (mut made, mut failures) = (0, 0);
        for ((publisher, node), change) in others.into_iter().chain(failing) {
            if made >= allowed || failures >= FAILURES_MAX {
                return;
            }
            if self.change(term, publisher, &node, change).await {
                made += 1;
            } else {
                failures += 1;
            }
        }
    }

    /// Whether an answer can be used.
    async fn judge(
        &mut self,
        publisher: &Publisher,
        answer: Result<Vec<Sample>, (&'static str, String)>,
    ) -> Option<Readings> {
        let names = |name: &str| self.context.nodes.get(name, None).is_some();
        let judged = answer.and_then(|samples| {
            if samples.is_empty() {
                return Err(("empty", "the query gives no values".to_owned()));
            }
            let readings = readings(&samples, &publisher.node_label);
            if readings.keys().any(|name| names(name)) {
                return Ok(readings);
            }
            let label = &publisher.node_label;
            let message = format!(
                "the query gives {} values, and label `{label}` of none is the name of a node: set nodeLabel, or use label_replace",
                samples.len()
            );
            Err(("unmatched", message))
        });
        let name = &publisher.name;
        match judged {
            Ok(readings) => {
                self.context.metrics.publisher_asked(name, "answered");
                self.told.remove(name);
                Some(readings)
            }
            Err((outcome, message)) => {
                self.context.metrics.publisher_asked(name, outcome);
                let message = format!("publisher `{name}` changes nothing: {message}");
                self.tell(name, "PublisherHasNoData", message).await;
                None
            }
        }
    }

    /// The changes that one publisher wants.
    fn decide<'p>(
        &self,
        publisher: &'p Publisher,
        readings: &Readings,
    ) -> Vec<((&'p Publisher, String), Change)> {
        let now = Timestamp::now();
        let mut counts = BTreeMap::from(Held::ALL.map(|held| (held.as_str(), 0)));
        let mut wanted = Vec::new();
        for node in self.context.nodes.store().state() {
            if !selects(publisher, &node) {
                continue;
            }
            let name = node.name_any();
            let reading = readings.get(&name).copied().unwrap_or(Reading::None);
            let changed = changed(publisher, &node);
            let state = match decide(
                &publisher.rules,
                current(publisher, &node),
                changed,
                reading,
                now,
            ) {
                Ok(change) => {
                    wanted.push(((publisher, name), change));
                    "changing"
                }
                Err(held) => held.as_str(),
            };
            *counts.entry(state).or_insert(0) += 1;
        }
        counts.entry("changing").or_insert(0);
        for (state, count) in counts {
            self.context
                .metrics
                .publisher_nodes(&publisher.name, state, count);
        }
        wanted
    }

    /// Makes one change, and returns whether that succeeded.
    async fn change(
        &mut self,
        term: &Term,
        publisher: &Publisher,
        name: &str,
        change: Change,
    ) -> bool {
        let Some(node) = self
            .context
            .nodes
            .get(name, None)
            .filter(|_| term.may_write())
        else {
            return false;
        };
        let now = Timestamp::now();
        let outcome = self.write(publisher, &node, change, now).await;
        let text = described(publisher, change);
        let metrics = &self.context.metrics;
        match outcome {
            Ok(word) => {
                metrics.publisher_changed(&publisher.name, word);
                self.failing.remove(name);
                if word == "written" {
                    tracing::info!(node = name, change = text, "taint published");
                    self.recent.push(seconds(now));
                    let reason = "TaintValuePublished";
                    self.tell_node(&node, EventType::Normal, reason, text).await;
                } else {
                    tracing::info!(
                        node = name,
                        change = text,
                        outcome = word,
                        "taint not published"
                    );
                }
                word == "written" || word == "dry_run"
            }
            Err(error) => {
                metrics.publisher_changed(&publisher.name, "failed");
                if self.failing.insert(name.to_owned()) {
                    tracing::warn!(
                        node = name,
                        change = text,
                        error,
                        "taint cannot be published"
                    );
                    let message = format!("{text} cannot be written: {error}");
                    let reason = "TaintValueNotPublished";
                    self.tell_node(&node, EventType::Warning, reason, message)
                        .await;
                }
                false
            }
        }
    }

    async fn write(
        &self,
        publisher: &Publisher,
        node: &WatchedNode,
        change: Change,
        now: Timestamp,
    ) -> Result<&'static str, String> {
        let patch = patch(publisher, node, change, now);
        let patch = serde_json::from_value(patch).map_err(|error| error.to_string())?;
        let api = Api::<WatchedNode>::all(self.context.client.clone());
        let parameters = self.context.patch_params();
        let patch = Patch::Json::<()>(patch);
        let name = node.name_any();
        match timeout(WRITE_LIMIT, api.patch(&name, &parameters, &patch)).await {
            Ok(Ok(_)) if parameters.dry_run => Ok("dry_run"),
            Ok(Ok(_)) => Ok("written"),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok("conflict"),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok("gone"),
            Ok(Err(error)) => Err(crate::words(&error)),
            Err(_) => Err(format!("no answer in {} s", WRITE_LIMIT.as_secs())),
        }
    }

    /// Tells once, in the log and on the own pod, until it changes.
    async fn tell(&mut self, about: &str, reason: &str, message: String) {
        if self.told.get(about) == Some(&message) {
            return;
        }
        tracing::warn!(reason, "{message}");
        if let Some(pod) = self.context.own_pod() {
            let event = event(EventType::Warning, reason, message.clone());
            self.context.tell(&pod, &event).await;
        }
        self.told.insert(about.to_owned(), message);
    }

    async fn tell_node(&self, node: &WatchedNode, kind: EventType, reason: &str, message: String) {
        let about: ObjectReference = node.reference();
        self.context
            .tell(&about, &event(kind, reason, message))
            .await;
    }
}

fn event(type_: EventType, reason: &str, message: String) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(message),
        action: "PublishTaint".to_owned(),
        secondary: None,
    }
}

/// A change as people read it.
fn described(publisher: &Publisher, change: Change) -> String {
    let (key, effect, name) = (&publisher.key, &publisher.effect, &publisher.name);
    let from = match change.from {
        Current::Missing => "none".to_owned(),
        Current::NoNumber => "no number".to_owned(),
        Current::Number(number) => number.to_string(),
    };
    format!(
        "taint {key}:{effect} from {from} to {} by publisher {name}",
        change.to
    )
}

/// The values by node name.
fn readings(samples: &[Sample], label: &str) -> Readings {
    let mut readings = Readings::new();
    for sample in samples {
        readings
            .entry(sample.label(label).to_owned())
            .and_modify(|reading| *reading = Reading::Several)
            .or_insert(Reading::One(sample.value));
    }
    readings
}

fn selects(publisher: &Publisher, node: &WatchedNode) -> bool {
    let labels = node.labels();
    let mut selector = publisher.node_selector.iter();
    selector.all(|(label, value)| labels.get(label) == Some(value))
}

/// Where the publisher's taint is in the list.
fn position(publisher: &Publisher, node: &WatchedNode) -> Option<usize> {
    let mut taints = node.taints().iter();
    taints.position(|taint| (&taint.key, &taint.effect) == (&publisher.key, &publisher.effect))
}

fn current(publisher: &Publisher, node: &WatchedNode) -> Current {
    let Some(index) = position(publisher, node) else {
        return Current::Missing;
    };
    match canonical_int64(&node.taints()[index].value) {
        Ok(number) => Current::Number(number),
        Err(_) => Current::NoNumber,
    }
}

/// When the publisher last changed the node.
fn changed(publisher: &Publisher, node: &WatchedNode) -> Option<Timestamp> {
    times(node.annotations().get(&publisher.annotation())?).last()
}

/// When publishers changed the node, as far as it matters.
fn changes_shown(node: &WatchedNode) -> Vec<Timestamp> {
    let annotations = node.annotations().iter();
    annotations
        .filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX))
        .flat_map(|(_, text)| times(text))
        .collect()
}

/// The times in an annotation; others' texts have none.
fn times(text: &str) -> impl Iterator<Item = Timestamp> {
    text.split(' ').filter_map(|at| at.parse().ok())
}

/// The annotation after a change at `now`: its time, after those that still count for the rate.
fn noted(publisher: &Publisher, node: &WatchedNode, now: Timestamp) -> String {
    let before = node.annotations().get(&publisher.annotation());
    let mut noted: Vec<Timestamp> = before
        .into_iter()
        .flat_map(|text| times(text))
        .filter(|at| within(MINUTE, *at, now))
        .chain([seconds(now)])
        .collect();
    noted.drain(..noted.len().saturating_sub(TIMES_MAX));
    let texts: Vec<String> = noted.iter().map(Timestamp::to_string).collect();
    texts.join(" ")
}

/// Whole seconds, as Kubernetes writes times.
fn seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The JSON patch that makes a change to a node as it was seen.
fn patch(publisher: &Publisher, node: &WatchedNode, change: Change, now: Timestamp) -> Value {
    let add = |path: String, value: Value| json!({ "op": "add", "path": path, "value": value });
    let at = seconds(now).to_string();
    let mut operations = vec![json!({
        "op": "replace", "path": "/metadata/resourceVersion", "value": node.metadata.resource_version,
    })];
    if let Some(index) = position(publisher, node) {
        let path = format!("/spec/taints/{index}/value");
        operations.push(add(path, json!(change.to.to_string())));
    } else {
        let mut taint = publisher.taint(change.to);
        taint.time_added = (taint.effect == Effect::NoExecute).then(|| at.clone());
        operations.push(if node.taints().is_empty() {
            add("/spec/taints".to_owned(), json!([taint]))
        } else {
            add("/spec/taints/-".to_owned(), json!(taint))
        });
    }
    let annotation = publisher.annotation();
    let noted = noted(publisher, node, now);
    operations.push(if node.metadata.annotations.is_some() {
        let path = annotation.replace('~', "~0").replace('/', "~1");
        add(format!("/metadata/annotations/{path}"), json!(noted))
    } else {
        add(
            "/metadata/annotations".to_owned(),
            json!({ annotation: noted }),
        )
    });
    Value::Array(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher() -> Publisher {
        let text = "publishers: [{name: p, key: sla, effect: NoExecute, query: up}]";
        Config::parse(text).unwrap().publishers.remove(0)
    }

    fn node(extra: &Value) -> WatchedNode {
        let mut node = json!({ "metadata": { "name": "n", "resourceVersion": "7" } });
        node["spec"] = extra["spec"].clone();
        if extra["annotated"] == json!(true) {
            node["metadata"]["annotations"] = json!({ "a": "b" });
        }
        serde_json::from_value(node).unwrap()
    }

    fn patched(extra: &Value) -> Value {
        let change = Change {
            from: Current::Missing,
            to: 950,
        };
        let now = "2026-01-01T00:00:00.25Z".parse().unwrap();
        let mut patch = patch(&publisher(), &node(extra), change, now);
        assert_eq!(patch[0]["value"], "7");
        patch.as_array_mut().unwrap().remove(0);
        patch
    }

    #[test]
    fn a_known_taint_keeps_its_place_and_everything_but_its_value() {
        let taints = json!({ "spec": { "taints": [
            { "key": "sla", "value": "1", "effect": "NoSchedule" },
            { "key": "sla", "value": "900", "effect": "NoExecute", "timeAdded": "2025-01-01T00:00:00Z" },
        ] }, "annotated": true });
        assert_eq!(current(&publisher(), &node(&taints)), Current::Number(900));
        assert_eq!(
            patched(&taints),
            json!([
                { "op": "add", "path": "/spec/taints/1/value", "value": "950" },
                { "op": "add", "path": "/metadata/annotations/publisher.pdautoscaler.io~1p", "value": "2026-01-01T00:00:00Z" },
            ])
        );
    }

    #[test]
    fn a_new_taint_says_since_when_and_others_stay() {
        let taint = json!({ "key": "sla", "value": "950", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z" });
        let alone = patched(&json!({ "spec": {} }));
        assert_eq!(
            alone[0],
            json!({ "op": "add", "path": "/spec/taints", "value": [taint] })
        );
        assert_eq!(alone[1]["path"], "/metadata/annotations");
        let beside = json!({ "spec": { "taints": [{ "key": "sla", "value": "1", "effect": "NoSchedule" }] } });
        assert_eq!(current(&publisher(), &node(&beside)), Current::Missing);
        assert_eq!(
            patched(&beside)[0],
            json!({ "op": "add", "path": "/spec/taints/-", "value": taint })
        );
    }

    #[test]
    fn times_are_kept_while_they_count_for_the_rate() {
        let mut node = node(&json!({ "spec": {} }));
        let annotation = publisher().annotation();
        let text = "2026-01-01T00:00:00Z 2026-01-01T00:01:30Z";
        node.metadata.annotations = Some(BTreeMap::from([(annotation, text.to_owned())]));
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        assert_eq!(
            noted(&publisher(), &node, now),
            "2026-01-01T00:01:30Z 2026-01-01T00:02:00Z"
        );
        assert_eq!(changes_shown(&node).len(), 2);
        let last = changed(&publisher(), &node).unwrap();
        assert_eq!(last.to_string(), "2026-01-01T00:01:30Z");
    }

    #[test]
    fn values_are_found_by_the_label_and_two_for_a_node_are_none() {
        let sample = |node: &str, value| Sample {
            labels: BTreeMap::from([("node".to_owned(), node.to_owned())]),
            value,
        };
        let samples = [sample("a", 1.0), sample("b", 2.0), sample("b", 2.0)];
        let readings = readings(&samples, "node");
        assert_eq!(readings["a"], Reading::One(1.0));
        assert_eq!(readings["b"], Reading::Several);
    }
}
