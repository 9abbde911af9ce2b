//! The SLA publisher: taints whose values are measured.
//!
//! Each publisher owns one taint, by key and effect, and touches nothing else. Every interval its
//! query is evaluated, each node is judged by [`decide`], and the most urgent changes are written,
//! as many as the rate allows. A query that fails, is empty or names no node changes nothing. A
//! change and its time are written at once, with the node's version as a precondition, so that
//! neither a restart nor a race with another writer makes it twice.
//!
//! [`config`] is the file, [`answer`] the query's side, [`decide`] the rule, [`node`] what is
//! written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    time::Duration,
};

use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::Patch,
    runtime::events::{Event, EventType},
};
use pd_runtime::prometheus::{Endpoint, QueryError, Sample, Servers};
use tokio::time::sleep;

use self::{
    answer::Readings,
    config::{Config, ConfigError, Publisher},
    decide::{Current, Held, MINUTE, Reading, TaintChange, allowance, decide, most_urgent, within},
    node::{changes_shown, current, last_change, whole_seconds},
};
use super::{
    Context, Term,
    objects::WatchedNode,
    write::{WriteError, WriteOutcome},
};

pub mod answer;
pub mod config;
pub mod decide;
mod node;

/// Failed writes after which a round ends: the next one will know more.
const FAILURES_MAX: usize = 20;
/// Pause before the file is read again while there was never a good one.
const FILE_RETRY: Duration = Duration::from_secs(10);

/// A change that a publisher wants for the node of this name.
type Wanted<'p> = ((&'p Publisher, String), TaintChange);

/// Why the publishers' file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// The answer of the system.
        source: io::Error,
    },
    /// It says something wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

#[derive(Debug)]
struct Publishers<'a> {
    context: &'a Context,
    servers: Servers,
    server: Endpoint,
    config: Option<Config>,
    /// The last report about the file and about each query, so that it is made once.
    reported: BTreeMap<String, String>,
    /// Times of changes that the cache may not show yet.
    recent: Vec<Timestamp>,
    /// Nodes whose last write failed.
    failing: BTreeSet<String>,
}

/// Publishes until the term ends.
pub async fn run(context: &Context, term: &Term) {
    let args = &context.args.prometheus;
    let file = &context.args.publisher.publisher_config;
    let (Some(file), Some(server)) = (file, args.endpoint()) else {
        return;
    };
    let servers = Servers::new(args.prometheus_timeout, crate::NAME, crate::VERSION);
    let mut publishers = Publishers {
        context,
        servers,
        server,
        config: None,
        reported: BTreeMap::new(),
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
        let read = config_of(file);
        self.context.metrics.publisher_config(read.is_ok());
        match read {
            Ok(config) => {
                if self.config.as_ref() != Some(&config) {
                    let publishers = config.publishers.len();
                    tracing::info!(publishers, "publisher configuration in force");
                    self.context.metrics.publishers_forgotten();
                    self.config = Some(config);
                }
                self.reported.remove("");
            }
            Err(error) => {
                self.report("", "PublisherConfigInvalid", error.to_string())
                    .await;
            }
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
                answer = self.servers.query(&self.server, &publisher.query) => answer,
            };
            let answer = answer.map(|answer| answer.into_parts().0);
            if let Some(readings) = self.judge(publisher, answer).await {
                wanted.extend(self.decide(publisher, &readings));
            }
        }
        let allowed = self.allowed(config.max_nodes_per_minute);
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

    /// How many nodes may change now, after the changes that nodes show and those just made.
    fn allowed(&mut self, nodes_per_minute: u32) -> usize {
        let now = Timestamp::now();
        self.recent.retain(|at| within(MINUTE, *at, now));
        let nodes = self.context.nodes.store().state();
        let shown = nodes.iter().flat_map(|node| changes_shown(node));
        let recent: BTreeSet<Timestamp> = self.recent.iter().copied().collect();
        // A change that the cache shows already counts once.
        let times = shown
            .filter(|at| !recent.contains(at))
            .chain(self.recent.iter().copied());
        allowance(nodes_per_minute, times, now)
    }

    /// Makes the first `allowed` changes that can be made. Nodes that failed before come last, so
    /// that they keep nobody waiting.
    async fn make(&mut self, term: &Term, wanted: Vec<Wanted<'_>>, allowed: usize) {
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

    /// The readings of an answer, if it can be used.
    async fn judge(
        &mut self,
        publisher: &Publisher,
        answer: Result<Vec<Sample>, QueryError>,
    ) -> Option<Readings> {
        let name = &publisher.name;
        let is_node = |name: &str| self.context.nodes.get(name, None).is_some();
        match answer::usable(answer, &publisher.node_label, is_node) {
            Ok(readings) => {
                self.context.metrics.publisher_asked(name, "answered");
                self.reported.remove(name);
                Some(readings)
            }
            Err(error) => {
                self.context.metrics.publisher_asked(name, error.as_str());
                let message = format!("publisher `{name}` changes nothing: {error}");
                self.report(name, "PublisherHasNoData", message).await;
                None
            }
        }
    }

    /// The changes that one publisher wants.
    fn decide<'p>(&self, publisher: &'p Publisher, readings: &Readings) -> Vec<Wanted<'p>> {
        let now = Timestamp::now();
        let mut counts = BTreeMap::from(Held::ALL.map(|held| (held.as_str(), 0)));
        let mut wanted = Vec::new();
        for node in self.context.nodes.store().state() {
            if !selects(publisher, &node) {
                continue;
            }
            let name = node.name_any();
            let reading = readings.get(&name).copied().unwrap_or(Reading::None);
            let changed = last_change(publisher, &node);
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
        change: TaintChange,
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
        let word = outcome.as_ref().map_or("failed", |done| done.as_str());
        self.context
            .metrics
            .publisher_changed(&publisher.name, word);
        match outcome {
            Ok(outcome) => {
                self.failing.remove(name);
                if outcome == WriteOutcome::Written {
                    tracing::info!(node = name, change = text, "taint published");
                    self.recent.push(whole_seconds(now));
                    let reason = "TaintValuePublished";
                    self.report_node(&node, EventType::Normal, reason, text)
                        .await;
                } else {
                    tracing::info!(
                        node = name,
                        change = text,
                        outcome = word,
                        "taint not published"
                    );
                }
                matches!(outcome, WriteOutcome::Written | WriteOutcome::DryRun)
            }
            Err(error) => {
                // An event and a warning once, until a write of this node succeeds.
                if self.failing.insert(name.to_owned()) {
                    tracing::warn!(node = name, change = text, %error, "taint cannot be published");
                    let message = format!("{text} cannot be written: {error}");
                    let reason = "TaintValueNotPublished";
                    self.report_node(&node, EventType::Warning, reason, message)
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
        change: TaintChange,
        now: Timestamp,
    ) -> Result<WriteOutcome, WriteError> {
        let api = Api::<WatchedNode>::all(self.context.client.clone());
        let parameters = self.context.patch_params();
        let patch = Patch::Json::<()>(node::patch(publisher, node, change, now));
        let name = node.name_any();
        self.context
            .write(api.patch(&name, &parameters, &patch))
            .await
    }

    /// Reports once, in the log and on the own pod, until it changes.
    async fn report(&mut self, about: &str, reason: &str, message: String) {
        if self.reported.get(about) == Some(&message) {
            return;
        }
        tracing::warn!(reason, "{message}");
        if let Some(pod) = self.context.own_pod() {
            let event = event(EventType::Warning, reason, message.clone());
            self.context.publish(&pod, &event).await;
        }
        self.reported.insert(about.to_owned(), message);
    }

    async fn report_node(
        &self,
        node: &WatchedNode,
        kind: EventType,
        reason: &str,
        message: String,
    ) {
        let about: ObjectReference = node.reference();
        self.context
            .publish(&about, &event(kind, reason, message))
            .await;
    }
}

/// The publishers' file.
fn config_of(file: &Path) -> Result<Config, FileError> {
    let text = fs::read_to_string(file).map_err(|source| FileError::Unreadable {
        path: file.display().to_string(),
        source,
    })?;
    Ok(Config::parse(&text)?)
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
fn described(publisher: &Publisher, change: TaintChange) -> String {
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

fn selects(publisher: &Publisher, node: &WatchedNode) -> bool {
    let labels = node.labels();
    let mut selector = publisher.node_selector.iter();
    selector.all(|(label, value)| labels.get(label) == Some(value))
}
