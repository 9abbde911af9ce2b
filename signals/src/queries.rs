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

pub mod gateway;
mod promql;
mod role_pods;

use std::time::Duration;

use pd_core::{
    Role,
    signal::{
        WIDE_WINDOW,
        name::{Kind, SignalName},
    },
};

use self::{
    promql::{duration, escaped, relabelled, tagged, terms, united},
    role_pods::Pods,
};
use crate::{
    engine::{ENGINES, Engine, Metric, Recipe},
    tag::{METRIC, POD, Part, Tag},
};

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
            self.models(),
        ];
        for &signal in SignalName::ALL {
            match signal.kind() {
                Kind::Sum | Kind::Mean => parts.extend(self.parts(signal, self.window)),
                Kind::UserQuery | Kind::Gateway | Kind::Distribution | Kind::Attainment => {}
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

    /// The parts of `signal` over `window`; none where nothing of the engine gives it.
    fn parts(&self, signal: SignalName, window: Duration) -> Vec<String> {
        let Some(role) = signal.role() else {
            return Vec::new();
        };
        let pods = Pods { scope: self, role };
        let tag = |part: Part| Tag::Signal(signal, part);
        match self.engine.recipe(signal) {
            Recipe::GaugesSum(metrics) => {
                let gauges = terms(metrics.iter().map(|metric| pods.gauge(*metric)));
                vec![self.by_pod(tag(Part::Value), "sum", &gauges)]
            }
            Recipe::GaugeProduct([one, other]) => {
                let product = format!("{} * {}", pods.gauge(one), pods.gauge(other));
                vec![self.by_pod(tag(Part::Value), "sum", &product)]
            }
            // A worker's mean is of the sums over its engines; the mean over workers is the
            // reader's.
            Recipe::GaugeSum(metric) | Recipe::WorkerMean(metric) => {
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
                let most =
                    |metric: &Metric| self.once(&pods.over("max_over_time", *metric, window));
                let most = terms(metrics.iter().map(most));
                vec![tagged(tag(Part::Value), &format!("sum({most})"))]
            }
            Recipe::CounterRate(metric) => {
                vec![tagged(
                    tag(Part::Value),
                    &pods.summed("rate", metric, window),
                )]
            }
            Recipe::CounterShare { parts, whole } => {
                let share = parts.iter().map(|part| pods.summed("rate", *part, window));
                vec![
                    tagged(tag(Part::Share), &format!("sum({})", terms(share))),
                    tagged(tag(Part::Whole), &pods.summed("rate", whole, window)),
                ]
            }
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
            distribution => self.distribution(signal, distribution, window),
        }
    }

    /// The same of a signal that is a distribution; none of another.
    fn distribution(&self, signal: SignalName, recipe: Recipe, window: Duration) -> Vec<String> {
        let Some(role) = signal.role() else {
            return Vec::new();
        };
        let pods = Pods { scope: self, role };
        match recipe {
            Recipe::Histogram(metric) => pods.histogram(signal, metric, window),
            Recipe::HistogramAt(role, metric) => {
                Pods { scope: self, role }.histogram(signal, metric, window)
            }
            Recipe::Lengths {
                histogram,
                tokens,
                requests,
            } => {
                let histogram = histogram.map(|metric| pods.histogram(signal, metric, window));
                let mut parts = histogram.unwrap_or_default();
                for (part, metric) in [(Part::Tokens, tokens), (Part::Requests, requests)] {
                    parts.push(tagged(
                        Tag::Signal(signal, part),
                        &pods.summed("increase", metric, window),
                    ));
                }
                parts
            }
            _ => Vec::new(),
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

    /// The names that exist of the metrics that show an engine and its generation, whatever they
    /// begin with. Those of every engine are looked for: a service may run another one than it did.
    fn generation(&self) -> String {
        // Names of metrics hold no character that RE2 takes for anything else.
        let names = |engine: &&'static Engine| {
            let names = engine.generation.names.iter();
            let names: Vec<&str> = names.map(|name| engine.plain(name)).collect();
            let beginning = engine.prefix.trim_end_matches([':', '_']);
            format!("{beginning}[:_]({})", names.join("|"))
        };
        let engines: Vec<String> = ENGINES.iter().map(names).collect();
        let found = format!(
            "count by (__name__) ({{__name__=~\"[a-zA-Z0-9_:]*({})\",{}}})",
            engines.join("|"),
            self.both_roles()
        );
        tagged(Tag::Generation, &relabelled(&found, METRIC, "__name__"))
    }

    /// The models that the pods serve.
    fn models(&self) -> String {
        let (matchers, metric) = (self.both_roles(), self.engine.presence);
        let model = self.engine.model_label;
        let found = self.series(metric, &matchers, |series| series);
        let models = format!("count by ({model}) ({found})");
        tagged(Tag::Models, &relabelled(&models, METRIC, model))
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
    /// name. Metrics that count instead of it are others.
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
        queries_of(&VLLM)
    }

    fn queries_of(engine: &'static Engine) -> [String; 5] {
        let scope = Scope { engine, ..scope() };
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
        for engine in ENGINES {
            let text = queries_of(engine).concat();
            for &signal in SignalName::ALL {
                let metrics = engine.recipe(signal).metrics();
                let choices = metrics.iter().flat_map(Metric::choices);
                for name in choices.flat_map(|metric| metric.names) {
                    assert!(text.contains(name), "{} {signal:?}: {name}", engine.name);
                }
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
