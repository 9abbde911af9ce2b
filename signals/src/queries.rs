//! Every PromQL text that is sent, made from the recipes of an engine's catalogue.
//!
//! Four queries a reconcile, however many signals: each unites its parts with `or`, every part
//! under a label that says what it is. Gauges are by pod, because what a pod that is gone last
//! said must be dropped; rates and distributions are summed, because what it served was served.
//!
//! Each engine counts once. Before anything is summed, series are reduced to the labels that
//! separate engines and parts of a metric, so that a pair of Prometheus servers behind one address,
//! two jobs that scrape the same port, or two ports of one engine do not double the load. The
//! bounds of buckets are reduced to their shortest spelling before, for pipelines spell them
//! differently.
//!
//! A histogram is asked for in both forms: classic, and native, which a server may have alone.
//!
//! During a rolling upgrade a renamed metric is there under both names; `new or old` picks per
//! series, which is per pod.

mod promql;

use std::time::Duration;

use pd_core::{
    Role,
    signal::{
        DISPERSION_SPAN, WIDE_WINDOW,
        name::{Kind, SignalName},
    },
};

use self::promql::{duration, escaped, relabelled, shortened, united};
use crate::{
    engine::{Engine, Metric, Recipe},
    tag::{EDGE, METRIC, POD, Part, TAG, Tag},
};

/// Window of gauges where that of rates is of the usual two minutes or less: long enough to hold
/// two samples at the usual 15 s, short enough to follow.
const GAUGE_WINDOW: Duration = Duration::from_secs(30);

/// Scrape intervals in the window of rates, at least.
const INTERVALS: u32 = 4;

/// The windows that follow from how often workers are scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Window of rates and latency histograms.
    pub rates: Duration,
    /// Age from which a worker's newest sample is stale.
    pub age_max: Duration,
}

impl Windows {
    /// Those that were set, wider where a scrape every `interval` needs it: four scrapes for a
    /// rate, and one and a half until a sample is stale, so that one may be late. Nothing is as
    /// wide as to look further back than the wide window, unless it was set so.
    #[must_use]
    pub fn stretched(self, interval: Option<Duration>) -> Self {
        let interval = interval.unwrap_or_default();
        let rates = (interval * INTERVALS).min(WIDE_WINDOW);
        Self {
            rates: self.rates.max(rates),
            age_max: self.age_max.max(interval + interval / 2),
        }
    }
}

/// Signals that a past load is rebuilt from, beside distributions.
const LOAD: [SignalName; 2] = [
    SignalName::PrefillCompletionRate,
    SignalName::PrefixHitShare,
];

/// Whose series a query is about, and over what window.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The engine that both roles run.
    pub engine: &'static Engine,
    /// Beginning of the engine's metrics' names, where it is not the usual one.
    pub prefix: Option<String>,
    /// Label that holds the namespace.
    pub namespace_label: String,
    /// Label that holds the pod.
    pub pod_label: String,
    /// The namespace.
    pub namespace: String,
    /// Anchored RE2 for names of prefill pods.
    pub prefill_pods: String,
    /// Anchored RE2 for names of decode pods.
    pub decode_pods: String,
    /// Further `(label, value)` matchers.
    pub selectors: Vec<(String, String)>,
    /// Window of rates and latency histograms, at least four scrape intervals.
    pub window: Duration,
    /// Window of the attainment histograms.
    pub attainment_window: Duration,
}

impl Scope {
    /// Gauges and counters: who was scraped when, queues, KV caches, request and token rates.
    pub fn state_query(&self) -> String {
        let mut parts = vec![
            self.age(),
            self.seen(),
            self.generation(),
            self.samples(),
            self.addresses(),
        ];
        for &signal in SignalName::ALL {
            match signal.kind() {
                Kind::Sum | Kind::Mean => parts.extend(self.parts(signal, self.window)),
                Kind::UserQuery | Kind::Distribution | Kind::Attainment => {}
            }
        }
        united(&parts)
    }

    /// Latency and length distributions over the window of rates.
    pub fn histogram_query(&self) -> String {
        self.distributions(Kind::Distribution, self.window)
    }

    /// The same over the wide window.
    pub fn wide_query(&self) -> String {
        self.distributions(Kind::Distribution, self.window.max(WIDE_WINDOW))
    }

    /// Distributions over the attainment window.
    pub fn attainment_query(&self) -> String {
        self.distributions(Kind::Attainment, self.attainment_window)
    }

    /// Workers that were scraped, requests that finished, and prefix hits. Beside
    /// [`Scope::histogram_query`] it is all that a past load is rebuilt from.
    pub fn load_query(&self) -> String {
        let mut parts = Vec::from(Role::ALL.map(|role| self.workers(role)));
        for signal in LOAD {
            parts.extend(self.parts(signal, self.window));
        }
        united(&parts)
    }

    fn distributions(&self, kind: Kind, window: Duration) -> String {
        let of_kind = SignalName::ALL
            .iter()
            .filter(|signal| signal.kind() == kind);
        let parts: Vec<String> = of_kind
            .flat_map(|&signal| self.parts(signal, window))
            .collect();
        united(&parts)
    }

    /// The parts of `signal` over `window`; none where the user's own query gives it.
    fn parts(&self, signal: SignalName, window: Duration) -> Vec<String> {
        let Some(role) = signal.role() else {
            return Vec::new();
        };
        let pods = Pods { scope: self, role };
        let tag = |part: Part| Tag::Signal(signal, part);
        match self.engine.recipe(signal) {
            Recipe::GaugeSum(metric) => {
                vec![self.by_pod(tag(Part::Value), "sum", &pods.gauge(metric))]
            }
            Recipe::GaugeMean(metric) => {
                vec![self.by_pod(tag(Part::Value), "avg", &pods.gauge(metric))]
            }
            Recipe::GaugeGrowth(metric) | Recipe::GaugeShrinkage(metric) => {
                let growth = self.once(&pods.over("deriv", metric, window));
                vec![self.by_pod(tag(Part::Value), "sum", &growth)]
            }
            Recipe::GaugePeak(metrics) => {
                // Each at its own time, so the sum may be more than there were at once.
                let most = |metric: &Metric| pods.summed("max_over_time", *metric, window);
                let most: Vec<String> = metrics.iter().map(most).collect();
                vec![tagged(tag(Part::Value), &format!("({})", most.join(" + ")))]
            }
            Recipe::CounterRate(metric) => {
                vec![tagged(
                    tag(Part::Value),
                    &pods.summed("rate", metric, window),
                )]
            }
            Recipe::CounterShare { part, whole } => vec![
                tagged(tag(Part::Share), &pods.summed("rate", part, window)),
                tagged(tag(Part::Whole), &pods.summed("rate", whole, window)),
            ],
            Recipe::CounterDispersion(metric) => {
                let (mean, squared_change) = pods.dispersion(metric);
                vec![
                    tagged(tag(Part::Mean), &mean),
                    tagged(tag(Part::SquaredChange), &squared_change),
                ]
            }
            Recipe::LabelProduct { metric, labels } => {
                vec![self.under_pod(tag(Part::Value), &pods.engines_by(metric, labels))]
            }
            Recipe::Histogram(metric) => {
                let increase = |suffix| pods.increase(metric, suffix, window);
                let buckets = self.once(&shortened(&increase("_bucket"), EDGE, "le"));
                let total = |suffix| format!("sum({})", self.once(&increase(suffix)));
                vec![
                    tagged(tag(Part::Buckets), &format!("sum by ({EDGE}) ({buckets})")),
                    tagged(tag(Part::Count), &total("_count")),
                    tagged(tag(Part::Sum), &total("_sum")),
                    // No aggregation but the mean gives one of several equal histograms.
                    tagged(
                        tag(Part::Native),
                        &format!("sum({})", self.each("avg", &increase(""))),
                    ),
                ]
            }
            Recipe::UserQuery => Vec::new(),
        }
    }

    /// Seconds since the newest sample of each pod; of several servers the one that scraped last
    /// says.
    fn age(&self) -> String {
        let (matchers, metric) = (self.both_roles(), self.engine.presence);
        let ages = self.series(metric, &matchers, |series| {
            format!("time() - timestamp({series})")
        });
        self.by_pod(Tag::Age, "max", &self.each("min", &ages))
    }

    fn seen(&self) -> String {
        let (matchers, metric) = (self.both_roles(), self.engine.presence);
        let wide = duration(WIDE_WINDOW);
        let counts = self.series(metric, &matchers, |series| {
            format!("count_over_time({series}[{wide}])")
        });
        self.by_pod(Tag::Seen, "max", &self.once(&counts))
    }

    /// Most samples of a series within the wide window, of those that were there at its start.
    fn samples(&self) -> String {
        let (matchers, metric) = (self.both_roles(), self.engine.presence);
        let wide = duration(WIDE_WINDOW);
        let counts = self.series(metric, &matchers, |series| {
            format!("(count_over_time({series}[{wide}]) and {series} offset {wide})")
        });
        tagged(Tag::Samples, &format!("max({counts})"))
    }

    /// Addresses at which an engine is scraped, by pod, where one is at several.
    fn addresses(&self) -> String {
        let (matchers, metric) = (self.both_roles(), self.engine.presence);
        let found = self.series(metric, &matchers, |series| series);
        let (pod, series_labels) = (&self.pod_label, self.series_labels());
        let engines = format!("{pod}, {series_labels}");
        let addresses = format!("count by ({engines}, job, instance) ({found})");
        let several = format!("max by ({pod}) (count by ({engines}) ({addresses})) > 1");
        self.under_pod(Tag::Addresses, &several)
    }

    /// The names that exist of the metric that shows the engine's generation, whatever they begin
    /// with.
    fn generation(&self) -> String {
        let engine = self.engine;
        let plain = |name: &&'static str| name.strip_prefix(engine.prefix).unwrap_or(name);
        let names: Vec<&str> = engine.generation.names.iter().map(plain).collect();
        // Names of metrics hold no character that RE2 takes for anything else.
        let found = format!(
            "count by (__name__) ({{__name__=~\"[a-zA-Z0-9_:]*{}[:_]({})\",{}}})",
            engine.prefix.trim_end_matches(':'),
            names.join("|"),
            self.both_roles()
        );
        tagged(Tag::Generation, &relabelled(&found, METRIC, "__name__"))
    }

    /// Pods that were scraped within the window: without one, those that have gone would count for
    /// another five minutes where the server did not see them go.
    fn workers(&self, role: Role) -> String {
        let pods = Pods { scope: self, role };
        let seen = pods.over("last_over_time", self.engine.presence, self.window);
        let pod = &self.pod_label;
        tagged(
            Tag::Workers(role),
            &format!("count(count by ({pod}) ({seen}))"),
        )
    }

    /// `expression`, which has each engine once, by pod, its engines joined by `aggregate`, under
    /// the common pod label, tagged.
    fn by_pod(&self, tag: Tag, aggregate: &str, expression: &str) -> String {
        self.under_pod(
            tag,
            &format!("{aggregate} by ({}) ({expression})", self.pod_label),
        )
    }

    fn under_pod(&self, tag: Tag, by_pod: &str) -> String {
        tagged(tag, &relabelled(by_pod, POD, &self.pod_label))
    }

    /// `expression` with one series for each of the engines' own, whoever scraped it.
    fn once(&self, expression: &str) -> String {
        self.each("max", expression)
    }

    /// The same with those of several scrapes joined by `aggregate`.
    fn each(&self, aggregate: &str, expression: &str) -> String {
        format!(
            "{aggregate} by ({}, {}) ({expression})",
            self.pod_label,
            self.series_labels()
        )
    }

    /// `of` the series of each name of `metric`, united, so that a series counts by its newest
    /// name.
    fn series(&self, metric: Metric, matchers: &str, of: impl Fn(String) -> String) -> String {
        let named = |name: &&str| of(self.selector(name, metric, matchers));
        let parts: Vec<String> = metric.names.iter().map(named).collect();
        united(&parts)
    }

    /// The series of one name of `metric`, as this object's metrics are spelt.
    fn selector(&self, name: &str, metric: Metric, matchers: &str) -> String {
        let engine = self.engine;
        let spelt = match (&self.prefix, name.strip_prefix(engine.prefix)) {
            (Some(prefix), Some(rest)) => format!("{prefix}{rest}"),
            _ => name.to_owned(),
        };
        match metric.matcher {
            None => format!("{spelt}{{{matchers}}}"),
            Some((label, value)) => {
                format!("{spelt}{{{matchers},{label}=\"{}\"}}", escaped(value))
            }
        }
    }

    fn series_labels(&self) -> String {
        self.engine.series_labels.join(", ")
    }

    fn both_roles(&self) -> String {
        self.matchers(
            &format!("{}|{}", self.prefill_pods, self.decode_pods),
            |_| true,
        )
    }

    /// Matchers of `pods`, with those of the selectors whose label is `kept`.
    fn matchers(&self, pods: &str, kept: impl Fn(&str) -> bool) -> String {
        let namespace = (&self.namespace_label, "=", self.namespace.as_str());
        let pods = (&self.pod_label, "=~", pods);
        let selectors = self.selectors.iter().filter(|(label, _)| kept(label));
        let selectors = selectors.map(|(label, value)| (label, "=", value.as_str()));
        let all: Vec<String> = [namespace, pods]
            .into_iter()
            .chain(selectors)
            .map(|(label, operator, value)| format!("{label}{operator}\"{}\"", escaped(value)))
            .collect();
        all.join(",")
    }
}

/// The pods of one role, as series are read from them.
#[derive(Clone, Copy)]
struct Pods<'a> {
    scope: &'a Scope,
    role: Role,
}

impl Pods<'_> {
    fn matchers(self) -> String {
        self.scope.matchers(self.pattern(), |_| true)
    }

    fn pattern(&self) -> &str {
        match self.role {
            Role::Prefill => &self.scope.prefill_pods,
            Role::Decode => &self.scope.decode_pods,
        }
    }

    /// `function` of each series of `metric` over `window`.
    fn over(self, function: &str, metric: Metric, window: Duration) -> String {
        let window = duration(window);
        self.scope.series(metric, &self.matchers(), |series| {
            format!("{function}({series}[{window}])")
        })
    }

    /// The same, of each engine once, summed.
    fn summed(self, function: &str, metric: Metric, window: Duration) -> String {
        format!(
            "sum({})",
            self.scope.once(&self.over(function, metric, window))
        )
    }

    /// The mean of a gauge over a short window, of each engine once; its newest sample where the
    /// short window has none.
    fn gauge(self, metric: Metric) -> String {
        let (window, once) = (self.scope.window, |text: &str| self.scope.once(text));
        // A short window of rates says that scrapes come fast, so gauges may follow as fast. In a
        // long one a quarter is a scrape interval or more.
        let short = window.min(GAUGE_WINDOW.max(window / INTERVALS));
        let mean = once(&self.over("avg_over_time", metric, short));
        let newest = once(&self.over("last_over_time", metric, window));
        format!("({mean} or {newest})")
    }

    /// Growth of one counter of a histogram.
    fn increase(self, metric: Metric, suffix: &str, window: Duration) -> String {
        let window = duration(window);
        let matchers = self.matchers();
        let named = |name: &&str| {
            let name = format!("{name}{suffix}");
            let series = self.scope.selector(&name, metric, &matchers);
            format!("increase({series}[{window}])")
        };
        let increases: Vec<String> = metric.names.iter().map(named).collect();
        united(&increases)
    }

    /// Engines of each pod by two labels of `metric`, which does not have the label of the model.
    fn engines_by(self, metric: Metric, labels: [&str; 2]) -> String {
        let (scope, labels) = (self.scope, labels.join(", "));
        let (pod, series_labels) = (&scope.pod_label, scope.series_labels());
        // A matcher of a label that a series lacks would leave out all of them.
        let model = scope.engine.model_label;
        let matchers = scope.matchers(self.pattern(), |label| label != model);
        let infos = scope.series(metric, &matchers, |series| series);
        format!("count by ({pod}, {labels}) (max by ({pod}, {series_labels}, {labels}) ({infos}))")
    }

    /// Mean of a counter's growth in a span, and of the squared differences of neighbouring spans,
    /// over the wide window. A slow trend drops out of the differences. Growth is carried from the
    /// samples' own times to the span, or the beat of scrapes would count as burstiness; without a
    /// new sample in a span there is none.
    fn dispersion(self, metric: Metric) -> (String, String) {
        let span = DISPERSION_SPAN.as_secs();
        let (pod, series_labels) = (&self.scope.pod_label, self.scope.series_labels());
        let matchers = self.matchers();
        let back = |spans: u64| match spans {
            0 => String::new(),
            spans => format!(" offset {}s", spans * span),
        };
        let counted = |spans: u64| {
            let growth = self.scope.series(metric, &matchers, |series| {
                let last = format!("{series}{}", back(spans));
                let first = format!("{series}{}", back(spans + 1));
                format!(
                    "clamp_min({last} - {first}, 0) / ((timestamp({last}) - timestamp({first})) > 0)"
                )
            });
            format!("sum(avg by ({pod}, {series_labels}) ({growth})) * {span}")
        };
        let over = format!("{}:{span}s", duration(WIDE_WINDOW));
        let (now, before) = (counted(0), counted(1));
        (
            format!("avg_over_time(({now})[{over}])"),
            format!("avg_over_time(((({now}) - ({before})) ^ 2)[{over}])"),
        )
    }
}

fn tagged(tag: Tag, expression: &str) -> String {
    format!("label_replace({expression}, \"{TAG}\", \"{tag}\", \"\", \"\")")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::VLLM;

    fn scope() -> Scope {
        Scope {
            engine: &VLLM,
            prefix: None,
            namespace_label: "namespace".into(),
            pod_label: "pod".into(),
            namespace: "inference".into(),
            prefill_pods: "llama-p-[a-z0-9]+".into(),
            decode_pods: "llama-d-[0-9]+".into(),
            selectors: vec![("model_name".into(), "a\"b\\c".into())],
            window: Duration::from_mins(2),
            attainment_window: Duration::from_hours(1),
        }
    }

    fn queries() -> [String; 5] {
        let scope = scope();
        [
            scope.state_query(),
            scope.histogram_query(),
            scope.wide_query(),
            scope.attainment_query(),
            scope.load_query(),
        ]
    }

    #[test]
    fn values_of_users_cannot_leave_their_quotes() {
        for query in queries() {
            assert!(query.contains(r#"model_name="a\"b\\c""#), "{query}");
        }
    }

    #[test]
    fn every_signal_is_queried_under_all_names_of_its_metrics() {
        let text = queries().concat();
        for &signal in SignalName::ALL {
            let metrics = VLLM.recipe(signal).metrics();
            for name in metrics.iter().flat_map(|metric| metric.names) {
                assert!(text.contains(name), "{signal:?}: {name}");
            }
        }
    }

    #[test]
    fn the_size_of_kv_caches_is_queried_without_the_model_name_they_lack() {
        let state = scope().state_query();
        let (_, config) = state.split_once("vllm:cache_config_info{").unwrap();
        let (matchers, _) = config.split_once('}').unwrap();
        assert!(matchers.contains("pod=~") && !matchers.contains("model_name"));
    }

    #[test]
    fn an_own_prefix_is_that_of_every_metric_and_of_nothing_else() {
        for prefix in ["kserve_vllm:", "vllm_"] {
            let scope = Scope {
                prefix: Some(prefix.into()),
                selectors: vec![("model_name".into(), "vllm:llama".into())],
                ..scope()
            };
            let text = scope.state_query() + &scope.histogram_query() + &scope.load_query();
            let own = text.replace("\"vllm:llama\"", "");
            assert!(text.contains("model_name=\"vllm:llama\""));
            let plain = own.replace(prefix, "");
            assert!(!plain.contains("vllm:"), "{plain}");
        }
    }

    /// Scrape intervals of 15, 30, 60 and 120 s under the default settings.
    #[rstest::rstest]
    #[case::usual(15, 120, 90, 30)]
    #[case::half_a_minute(30, 120, 90, 30)]
    #[case::a_minute(60, 240, 90, 60)]
    #[case::two_minutes(120, 480, 180, 120)]
    #[case::as_slow_as_a_lookup_reaches(300, 600, 450, 150)]
    fn windows_follow_the_scrape_interval(
        #[case] interval: u64,
        #[case] rates: u64,
        #[case] age_max: u64,
        #[case] gauge: u64,
    ) {
        let seconds = Duration::from_secs;
        let set = Windows {
            rates: seconds(120),
            age_max: seconds(90),
        };
        let windows = set.stretched(Some(seconds(interval)));
        let want = Windows {
            rates: seconds(rates),
            age_max: seconds(age_max),
        };
        assert_eq!(windows, want);
        assert_eq!(set.stretched(None), set);
        let scope = Scope {
            window: windows.rates,
            ..scope()
        };
        let state = scope.state_query();
        let (_, of_gauge) = state
            .split_once("avg_over_time(vllm:num_requests_waiting{")
            .unwrap();
        let (_, window) = of_gauge.split_once("}[").unwrap();
        assert!(window.starts_with(&format!("{gauge}000ms]")), "{window}");
    }

    #[test]
    fn an_address_is_no_identity() {
        for query in queries() {
            let places: Vec<_> = query.match_indices("instance").collect();
            let addresses = usize::from(query.contains("\"addresses\""));
            assert_eq!(places.len(), addresses, "{query}");
        }
    }
}
