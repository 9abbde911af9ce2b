//! Two services on an API server that fails on request, the controller at work on both, and a clock
//! that moves only when a test says so.
//!
//! Both services have one prefill replica where two are the minimum, and `llama` has six decode
//! replicas where four are the maximum: the controller wants to add one and to remove some, without
//! any metrics. `other` is the bystander whom no fault of `llama` may harm.

use std::{cell::Cell, sync::Arc, time::Duration};

use k8s_openapi::jiff;
use kube::Api;
use pd_autoscaler::{
    args::Args, context::Context, controller, metrics::Metrics, placement::question::Ask,
};
use pd_runtime::leader::Leadership;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, advance},
};

use crate::api_server::{ApiServer, NAMESPACE};

/// Everything that a scenario needs.
pub(crate) struct Stage {
    /// The API server.
    pub(crate) server: ApiServer,
    metrics: Arc<Metrics>,
}

thread_local! {
    /// The moment at which this test's clock stands at [`EPOCH_SECONDS`].
    static START: Instant = Instant::now();
    /// Whether the next look at the clock panics.
    static BROKEN: Cell<bool> = const { Cell::new(false) };
}

/// From now on the clock panics, or no longer.
pub(crate) fn break_clock(broken: bool) {
    BROKEN.set(broken);
}

/// Time of day at the start of a test, seconds since 1970.
const EPOCH_SECONDS: i64 = 1_700_000_000;

/// The time of day, as far as the paused clock of the runtime has come.
fn clock() -> jiff::Timestamp {
    assert!(!BROKEN.get(), "the clock is broken");
    let elapsed = START.with(Instant::elapsed);
    let start = jiff::Timestamp::from_second(EPOCH_SECONDS).unwrap();
    start.saturating_add(elapsed).unwrap()
}

/// A PDAutoscaler of the workloads `NAME-prefill` and `NAME-decode`.
fn autoscaler(name: &str) -> Value {
    let role = |role: &str, least: u32, most: u32| {
        json!({
            "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": format!("{name}-{role}") },
            "minReplicas": least, "maxReplicas": most,
        })
    };
    json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": name, "generation": 1, "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "prefill": role("prefill", 2, 8), "decode": role("decode", 1, 4),
            "objective": { "ttft": { "target": "1s" }, "tpot": { "target": "50ms" } },
        },
    })
}

impl Stage {
    /// A stage whose controller has not started yet, so that faults can be set.
    pub(crate) fn new() -> (Self, Start) {
        let leading = Leadership::Leading {
            since: Instant::now(),
            until: None,
        };
        let (sender, leadership) = watch::channel(leading);
        let server = ApiServer::new(sender);
        for (name, prefill, decode) in [("llama", 1, 6), ("other", 1, 2)] {
            server.add(autoscaler(name));
            server.deploy(&format!("{name}-prefill"), prefill);
            server.deploy(&format!("{name}-decode"), decode);
        }
        let metrics = Arc::new(Metrics::default());
        let start = Start {
            server: server.clone(),
            metrics: Arc::clone(&metrics),
            leadership,
        };
        (Self { server, metrics }, start)
    }

    /// A stage with faults set by `faults`, `seconds` after the controller started.
    pub(crate) async fn after(seconds: u64, faults: impl FnOnce(&ApiServer)) -> Self {
        let (stage, start) = Self::new();
        faults(&stage.server);
        start.controller();
        stage.wait(seconds).await;
        stage
    }

    /// A second process, not started yet, which leads too.
    pub(crate) fn another_process(&self) -> Start {
        let leading = Leadership::Leading {
            since: Instant::now(),
            until: None,
        };
        Start {
            server: self.server.clone(),
            metrics: Arc::new(Metrics::default()),
            leadership: watch::channel(leading).1,
        }
    }

    /// Lets `seconds` go by, one after the other, so that every timer fires in its order.
    pub(crate) async fn wait(&self, seconds: u64) {
        for _ in 0..seconds {
            // Between two seconds every task runs until it waits for time or for the test.
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            advance(Duration::from_secs(1)).await;
        }
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    /// The value of a counter with its labels, 0 when it has no series.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// The bystander is served as if nothing had happened.
    pub(crate) fn assert_the_other_is_served(&self) {
        assert_eq!(self.server.replicas("other-prefill"), 2);
        assert_eq!(self.server.replicas("other-decode"), 2);
        assert_eq!(self.server.condition("other", "TargetResolved").0, "True");
    }

    /// Nothing of `llama` was removed.
    pub(crate) fn assert_nothing_is_scaled_down(&self) {
        let lowered: Vec<_> = self
            .server
            .scale_writes()
            .into_iter()
            .filter(|(_, from, to)| to < from)
            .collect();
        assert!(lowered.is_empty(), "{lowered:?}");
    }

    /// `llama` reports `reason`: as its Ready condition, as an event, and as a metric.
    pub(crate) fn assert_reported(&self, reason: &str) {
        let (state, found, message) = self.server.condition("llama", "Ready");
        assert_eq!(
            (state.as_str(), found.as_str()),
            ("False", reason),
            "{message}"
        );
        let events = self.server.events("llama");
        assert!(events.iter().any(|event| event == reason), "{events:?}");
        let series = format!("pd_autoscaler_reconciles_total{{reason=\"{reason}\"}}");
        assert!(self.metric(&series) >= 1, "{series}");
    }

    /// Ends all faults; `seconds` later everything is applied.
    pub(crate) async fn assert_it_recovers_within(&self, seconds: u64) {
        self.server.repair();
        self.wait(seconds).await;
        self.assert_all_is_applied();
    }

    /// Both services are as their bounds want them, or on the way.
    pub(crate) fn assert_all_is_applied(&self) {
        assert_eq!(self.server.replicas("llama-prefill"), 2);
        assert!(self.server.replicas("llama-decode") < 6);
        assert_eq!(self.server.condition("llama", "TargetResolved").0, "True");
        self.assert_the_other_is_served();
    }
}

/// The controller, not started yet.
pub(crate) struct Start {
    server: ApiServer,
    metrics: Arc<Metrics>,
    leadership: watch::Receiver<Leadership>,
}

impl Start {
    /// Starts the controller.
    pub(crate) fn controller(self) {
        self.controller_with(&[]);
    }

    /// Starts the controller, which has `ask` to say whether there is room for pods.
    pub(crate) fn controller_asking(self, ask: Ask) {
        let client = self.server.client();
        let mut context = self.context(&[]);
        context.room = Some(ask);
        tokio::spawn(controller::run(
            Arc::new(context),
            Api::all(client),
            std::future::pending(),
        ));
    }

    /// Starts the controller with `flags`.
    pub(crate) fn controller_with(self, flags: &[&str]) {
        let client = self.server.client();
        tokio::spawn(controller::run(
            Arc::new(self.context(flags)),
            Api::all(client),
            std::future::pending(),
        ));
    }

    /// The context of a controller with `flags` at its start.
    pub(crate) fn context(self, flags: &[&str]) -> Context {
        let line = ["pd-autoscaler"].iter().chain(flags);
        let args = <Args as clap::Parser>::try_parse_from(line).unwrap();
        let client = self.server.client();
        let mut context = Context::new(
            client,
            args.decisions,
            args.selection,
            args.metrics,
            args.tenancy,
            self.metrics,
            self.leadership,
        );
        context.clock = clock;
        context
    }
}
