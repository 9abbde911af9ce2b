//! The one query about the gateway before a service: which one is there, and what it counts.
//!
//! It has a part that looks for every gateway and, once one is known, the parts of that one. A
//! process counts once, whoever scrapes it, and of a metric's names each process counts by the
//! first that it has.

use std::time::Duration;

use pd_core::signal::{WIDE_WINDOW, name::SignalName};

use super::{
    Scope,
    promql::{duration, escaped, relabelled, shortened, tagged, terms, united},
};
use crate::{
    engine::Metric,
    gateway::{FirstToken, GATEWAYS, Gateway},
    pods::literal_pattern,
    tag::{EDGE, METRIC, Part, Tag},
};

/// Label of a range counter that holds the range.
pub(crate) const RANGE: &str = "bucket";

/// The parts of a query that a way to tag them and a window make.
type PartsOf<'a> = dyn Fn(&dyn Fn(Part) -> Tag, Duration) -> Vec<String> + 'a;

/// Whose series of which gateway a query is about.
#[derive(Clone, Debug)]
pub struct GatewayScope {
    /// The gateway, if one is known.
    pub gateway: Option<&'static Gateway>,
    /// Label that holds the namespace.
    pub namespace_label: String,
    /// Label that holds the pod.
    pub pod_label: String,
    /// Namespaces in which a gateway of the service may run.
    pub namespaces: Vec<String>,
    /// The model as its engines name it. Gateways may write it in another case.
    pub model: String,
    /// Window of rates and latency histograms.
    pub window: Duration,
    /// Window of the attainment histogram.
    pub attainment_window: Duration,
}

impl GatewayScope {
    /// The gateway of the model `model` of the service of `scope`, in its namespace or in one of
    /// `shared`.
    pub fn of(
        scope: &Scope,
        gateway: Option<&'static Gateway>,
        model: String,
        shared: &[String],
    ) -> Self {
        let mut namespaces = vec![scope.namespace.clone()];
        namespaces.extend(shared.iter().cloned());
        Self {
            gateway,
            namespace_label: scope.namespace_label.clone(),
            pod_label: scope.pod_label.clone(),
            namespaces,
            model,
            window: scope.window,
            attainment_window: scope.attainment_window,
        }
    }

    /// Which gateways there are and, of the one that is known, arrivals and time to the first token
    /// over all windows.
    pub fn query(&self) -> String {
        let mut parts = vec![self.found()];
        if let Some(gateway) = self.gateway {
            parts.push(self.counts(gateway));
        }
        united(&parts)
    }

    /// Arrivals and time to the first token at `gateway` over all windows.
    pub fn counts(&self, gateway: &Gateway) -> String {
        let mut parts = vec![self.arrivals(gateway)];
        parts.extend(self.first_token(gateway));
        united(&parts)
    }

    fn found(&self) -> String {
        let names: Vec<&str> = GATEWAYS
            .iter()
            .flat_map(|gateway| gateway.names())
            .collect();
        let namespaces = self.namespaces();
        let found = format!(
            "count by (__name__) ({{__name__=~\"{}\",{namespaces}}})",
            names.join("|")
        );
        tagged(Tag::Gateway, &relabelled(&found, METRIC, "__name__"))
    }

    fn arrivals(&self, gateway: &Gateway) -> String {
        let pod = &self.pod_label;
        let by_pod = |metric: &Metric| {
            let choices = self.choices(gateway, *metric, "rate", "", self.window);
            let by_pod = choices
                .iter()
                .map(|choice| format!("sum by ({pod}) ({choice})"));
            united(&by_pod.collect::<Vec<_>>())
        };
        let summands = terms(gateway.arrivals.iter().map(by_pod));
        let value = Tag::Signal(SignalName::GatewayArrivalRate, Part::Value);
        tagged(value, &format!("sum({summands})"))
    }

    fn first_token(&self, gateway: &Gateway) -> Vec<String> {
        let wide = self.window.max(WIDE_WINDOW);
        let recent = |part| Tag::Signal(SignalName::GatewayTtft, part);
        let over_wide = |part| Tag::Wide(SignalName::GatewayTtft, part);
        let attained = |part| Tag::Signal(SignalName::GatewayTtftAttainment, part);
        let windows: [(&dyn Fn(Part) -> Tag, Duration); 3] = [
            (&recent, self.window),
            (&over_wide, wide),
            (&attained, self.attainment_window),
        ];
        let over_windows = |of: &PartsOf<'_>| {
            let parts = windows.iter().flat_map(|(tag, window)| of(*tag, *window));
            parts.collect::<Vec<_>>()
        };
        match gateway.first_token {
            FirstToken::Histogram(metric) => {
                over_windows(&|tag, window| self.histogram(gateway, metric, tag, window))
            }
            FirstToken::OfStreams {
                histogram,
                unstreamed,
                all,
            } => {
                let mut parts =
                    over_windows(&|tag, window| self.histogram(gateway, histogram, tag, window));
                let longest = self.attainment_window.max(wide);
                for (part, metric) in [(Part::Share, unstreamed), (Part::Whole, all)] {
                    let total = self.total(gateway, metric, "", longest);
                    parts.push(tagged(recent(part), &total));
                }
                parts
            }
            FirstToken::Ranges(metric) => over_windows(&|tag, window| {
                let ranges = self.grouped(gateway, metric, "", window, Some(RANGE));
                vec![tagged(tag(Part::Ranges), &ranges)]
            }),
            FirstToken::Absent => Vec::new(),
        }
    }

    fn histogram(
        &self,
        gateway: &Gateway,
        metric: Metric,
        tag: &dyn Fn(Part) -> Tag,
        window: Duration,
    ) -> Vec<String> {
        let total = |suffix| self.total(gateway, metric, suffix, window);
        let buckets = self.grouped(gateway, metric, "_bucket", window, Some(EDGE));
        vec![
            tagged(tag(Part::Buckets), &buckets),
            tagged(tag(Part::Count), &total("_count")),
            tagged(tag(Part::Sum), &total("_sum")),
        ]
    }

    fn total(&self, gateway: &Gateway, metric: Metric, suffix: &str, window: Duration) -> String {
        self.grouped(gateway, metric, suffix, window, None)
    }

    /// Growth of `metric` in `window`, summed; by `label`, if one is given.
    fn grouped(
        &self,
        gateway: &Gateway,
        metric: Metric,
        suffix: &str,
        window: Duration,
        label: Option<&str>,
    ) -> String {
        let choices = self.choices(gateway, metric, "increase", suffix, window);
        let by = label.map_or(String::new(), |label| format!(" by ({label})"));
        format!("sum{by} ({})", united(&choices))
    }

    /// `function` over `window` of each name of `metric`, of processes without the names before it,
    /// each process once. Processes in two namespaces may have one name, and one may write a model
    /// in two ways.
    fn choices(
        &self,
        gateway: &Gateway,
        metric: Metric,
        function: &str,
        suffix: &str,
        window: Duration,
    ) -> Vec<String> {
        let window = duration(window);
        let (namespace, pod) = (&self.namespace_label, &self.pod_label);
        let process = format!("{namespace}, {pod}, {}", gateway.model_label);
        let labels = gateway.series_labels.join(", ");
        let mut before: Vec<String> = Vec::new();
        let mut choices = Vec::new();
        let named = metric
            .choices()
            .flat_map(|choice| choice.names.iter().map(move |name| (choice, *name)));
        for (choice, name) in named {
            let matchers = self.matchers(gateway, choice.matcher);
            let of_name = format!("{function}({name}{suffix}{{{matchers}}}[{window}])");
            let of_name = if suffix == "_bucket" {
                shortened(&of_name, EDGE, "le")
            } else {
                of_name
            };
            let once = format!("max by ({process}, {EDGE}, {labels}) ({of_name})");
            choices.push(format!("({once}{})", before.concat()));
            // Whatever label it has: a process that has a newer name is not read by an older one.
            let count = if suffix.is_empty() { "" } else { "_count" };
            let any = format!("{name}{count}{{{}}}", self.matchers(gateway, None));
            before.push(format!(" unless on ({process}) {any}"));
        }
        choices
    }

    fn namespaces(&self) -> String {
        let names: Vec<String> = self
            .namespaces
            .iter()
            .map(|name| literal_pattern(name))
            .collect();
        let label = &self.namespace_label;
        format!("{label}=~\"{}\"", escaped(&names.join("|")))
    }

    fn matchers(&self, gateway: &Gateway, own: Option<(&str, &str)>) -> String {
        let model = in_any_case(&[&self.model]);
        let label = gateway.model_label;
        let mut all = format!("{},{label}=~\"{model}\"", self.namespaces());
        if let Some((label, value)) = own {
            all.extend([",", label, "=\"", &escaped(value), "\""]);
        }
        all
    }
}

/// RE2, as PromQL quotes it, for `models` in any case.
pub fn in_any_case(models: &[&str]) -> String {
    let models = models.iter().map(|model| literal_pattern(model));
    escaped(&format!("(?i:{})", models.collect::<Vec<_>>().join("|")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(gateway: Option<&'static Gateway>) -> GatewayScope {
        GatewayScope {
            gateway,
            namespace_label: "namespace".into(),
            pod_label: "pod".into(),
            namespaces: vec!["inference".into(), "aibrix-system".into()],
            model: "Meta/Llama-3.1\"}".into(),
            window: Duration::from_mins(2),
            attainment_window: Duration::from_hours(1),
        }
    }

    #[test]
    fn every_selector_is_confined_to_the_namespaces_and_but_for_the_search_to_the_model() {
        for gateway in GATEWAYS {
            let query = scope(Some(gateway)).query();
            let namespaces = query
                .matches("namespace=~\"inference|aibrix-system\"")
                .count();
            let selectors = query.matches('{').count();
            assert_eq!(namespaces, selectors, "{query}");
            let model = r#"=~"(?i:Meta/Llama-3\\.1\\\"\\})""#;
            assert_eq!(query.matches(model).count(), selectors - 1, "{query}");
        }
    }

    #[test]
    fn without_a_gateway_there_is_one_part_that_looks_for_all() {
        let query = scope(None).query();
        for name in GATEWAYS.iter().flat_map(|gateway| gateway.names()) {
            assert!(query.contains(name), "{name}");
        }
        assert_eq!(query.matches('{').count(), 1);
    }

    #[test]
    fn an_older_name_is_read_of_processes_without_the_newer_one() {
        let query = scope(Some(&crate::gateway::EPP)).query();
        let older = "rate(inference_objective_request_total{";
        let (_, behind) = query.split_once(older).unwrap();
        let (_, behind) = behind.split_once(')').unwrap();
        assert!(
            behind.contains("unless on (namespace, pod, model_name) llm_d_epp_request_total{"),
            "{query}"
        );
    }
}
