//! The series of one role's pods: each engine once, whoever scraped it, under the newest of its
//! names.

use std::time::Duration;

use pd_core::{
    Role,
    signal::{DISPERSION_SPAN, WIDE_WINDOW, name::SignalName},
};

use super::{
    Scope,
    promql::{duration, shortened, tagged, united},
};
use crate::{
    engine::Metric,
    tag::{EDGE, Part, Tag},
};

/// Window of gauges where that of rates is of the usual two minutes or less: long enough to hold
/// two samples at the usual 15 s, short enough to follow.
const GAUGE_WINDOW: Duration = Duration::from_secs(30);

/// The part of the window of rates that gauges are over where that is more: a scrape interval or
/// more.
const GAUGE_PART: u32 = 4;

/// The pods of one role, as series are read from them.
#[derive(Clone, Copy)]
pub(super) struct Pods<'a> {
    pub(super) scope: &'a Scope,
    pub(super) role: Role,
}

impl Pods<'_> {
    fn matchers(self) -> String {
        self.scope.matchers(self.pattern(), |_| true)
    }

    /// The same for series that lack the label of the model, or have another model in it: a matcher
    /// of it would leave out all of them.
    fn matchers_of_any_model(self) -> String {
        let model = self.scope.engine.model_label;
        self.scope.matchers(self.pattern(), |label| label != model)
    }

    fn pattern(&self) -> &str {
        match self.role {
            Role::Prefill => &self.scope.prefill_pods,
            Role::Decode => &self.scope.decode_pods,
        }
    }

    /// `function` of each series of `metric` over `window`.
    pub(super) fn over(self, function: &str, metric: Metric, window: Duration) -> String {
        let window = duration(window);
        let matchers = if metric.foreign {
            self.matchers_of_any_model()
        } else {
            self.matchers()
        };
        self.scope.series(metric, &matchers, |series| {
            format!("{function}({series}[{window}])")
        })
    }

    /// The same, of each engine once, summed.
    pub(super) fn summed(self, function: &str, metric: Metric, window: Duration) -> String {
        let once = |metric: Metric| self.scope.once(&self.over(function, metric, window));
        let choices: Vec<String> = metric.choices().map(once).collect();
        let [only] = choices.as_slice() else {
            // Their series have different labels, so the choice is each pod's.
            let pod = &self.scope.pod_label;
            let by_pod = |choice: &String| format!("sum by ({pod}) ({choice})");
            let by_pod: Vec<String> = choices.iter().map(by_pod).collect();
            return format!("sum({})", united(&by_pod));
        };
        format!("sum({only})")
    }

    /// The parts of the histogram `metric` that `signal` is read from.
    pub(super) fn histogram(
        self,
        signal: SignalName,
        metric: Metric,
        window: Duration,
    ) -> Vec<String> {
        let scope = self.scope;
        let tag = |part: Part| Tag::Signal(signal, part);
        let increase = |suffix| self.increase(metric, suffix, window);
        let buckets = scope.once(&shortened(&increase("_bucket"), EDGE, "le"));
        let total = |suffix| format!("sum({})", scope.once(&increase(suffix)));
        vec![
            tagged(tag(Part::Buckets), &format!("sum by ({EDGE}) ({buckets})")),
            tagged(tag(Part::Count), &total("_count")),
            tagged(tag(Part::Sum), &total("_sum")),
            // No aggregation but the mean gives one of several equal histograms.
            tagged(
                tag(Part::Native),
                &format!("sum({})", scope.each("avg", &increase(""))),
            ),
        ]
    }

    /// The mean of a gauge over a short window, of each engine once; its newest sample where the
    /// short window has none.
    pub(super) fn gauge(self, metric: Metric) -> String {
        let (window, once) = (self.scope.window, |text: &str| self.scope.once(text));
        // A short window of rates says that scrapes come fast, so gauges may follow as fast. In a
        // long one a quarter is a scrape interval or more.
        let short = window.min(GAUGE_WINDOW.max(window / GAUGE_PART));
        let mean = once(&self.over("avg_over_time", metric, short));
        let newest = once(&self.over("last_over_time", metric, window));
        format!("({mean} or {newest})")
    }

    /// Growth of one counter of a histogram. Histograms of two names have edges of their own, so a
    /// pod that has both counts by the newest alone.
    fn increase(self, metric: Metric, suffix: &str, window: Duration) -> String {
        let (window, pod) = (duration(window), &self.scope.pod_label);
        let matchers = self.matchers();
        let growth = |name: &str, suffix: &str| {
            let name = format!("{name}{suffix}");
            let series = self.scope.selector(&name, metric, &matchers);
            format!("increase({series}[{window}])")
        };
        let named = |(older, name): (usize, &&str)| {
            let newer = metric.names.iter().take(older);
            let without = newer.map(|newer| {
                // A native histogram has no count beside it.
                let has = if suffix.is_empty() { "" } else { "_count" };
                format!(" unless on ({pod}) {}", growth(newer, has))
            });
            let without: String = without.collect();
            format!("({}{without})", growth(name, suffix))
        };
        let increases = metric.names.iter().enumerate().map(named);
        united(&increases.collect::<Vec<_>>())
    }

    /// Engines of each pod by two labels of `metric`, which does not have the label of the model.
    pub(super) fn engines_by(self, metric: Metric, labels: [&str; 2]) -> String {
        let (scope, labels) = (self.scope, labels.join(", "));
        let (pod, series_labels) = (&scope.pod_label, scope.series_labels());
        let infos = scope.series(metric, &self.matchers_of_any_model(), |series| series);
        format!("count by ({pod}, {labels}) (max by ({pod}, {series_labels}, {labels}) ({infos}))")
    }

    /// Mean of a counter's growth in a span, and of the squared differences of neighbouring spans,
    /// over the wide window. A slow trend drops out of the differences. Growth is carried from the
    /// samples' own times to the span, or the beat of scrapes would count as burstiness; without a
    /// new sample in a span there is none.
    pub(super) fn dispersion(self, metric: Metric) -> (String, String) {
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
