//! The engines' series at a Prometheus server: the query, and what its answer says.
//!
//! A server is asked once for the metric that every worker of an engine has, by namespace and pod.
//! Without these labels nobody knows whose a series is, which is the first thing that goes
//! wrong. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pd_signals::engine::ENGINES;
use serde_json::Value;

/// The pods of each namespace that a server has engines' series of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Pods by namespace.
    pub pods: BTreeMap<String, BTreeSet<String>>,
    /// Whether there are series without namespace or pod.
    pub unlabelled: bool,
}

impl Series {
    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty() && !self.unlabelled
    }

    /// The series of `answer`, each a set of labels.
    pub fn of<'a>(
        labels: impl IntoIterator<Item = &'a BTreeMap<String, String>>,
        namespace_label: &str,
        pod_label: &str,
    ) -> Self {
        let mut series = Self::default();
        for labels in labels {
            let label = |name: &str| labels.get(name).filter(|value| !value.is_empty());
            match (label(namespace_label), label(pod_label)) {
                (Some(namespace), Some(pod)) => {
                    let pods = series.pods.entry(namespace.clone()).or_default();
                    pods.insert(pod.clone());
                }
                _ => series.unlabelled = true,
            }
        }
        series
    }
}

/// The query for the series of every engine.
pub fn query(namespace_label: &str, pod_label: &str) -> String {
    let names: Vec<&str> = ENGINES
        .iter()
        .flat_map(|engine| engine.presence.names.iter().copied())
        .collect();
    format!(
        "count by ({namespace_label}, {pod_label}) ({{__name__=~\"{}\"}})",
        names.join("|")
    )
}

/// The labels of an instant query's answer as the HTTP API gives it.
pub fn labels(answer: &Value) -> Result<Vec<BTreeMap<String, String>>, String> {
    if answer["status"] != "success" {
        let error = answer["error"]
            .as_str()
            .unwrap_or("it is no answer of Prometheus");
        return Err(error.to_owned());
    }
    let results = answer["data"]["result"].as_array().into_iter().flatten();
    let labels = results.map(|result| {
        let metric = result["metric"].as_object().into_iter().flatten();
        metric
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect()
    });
    Ok(labels.collect())
}

/// Namespace, `scheme:name:port` and path of the Service that an address inside the cluster names,
/// for the API server's proxy; nothing for another address.
pub fn service(url: &str) -> Option<(String, String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{}", path.trim_end_matches('/'))),
        None => (rest, String::new()),
    };
    let path = if path == "/" { String::new() } else { path };
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port.to_owned()),
        None => (
            authority,
            if scheme == "https" { "443" } else { "80" }.to_owned(),
        ),
    };
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let of_cluster = labels.next().is_none_or(|third| third == "svc");
    let is_address = host
        .split('.')
        .all(|label| label.bytes().all(|b| b.is_ascii_digit()));
    let prefix = if scheme == "https" { "https:" } else { "" };
    (of_cluster && !is_address)
        .then(|| (namespace.to_owned(), format!("{prefix}{name}:{port}"), path))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::short("http://prometheus.monitoring:9090", Some(("monitoring", "prometheus:9090", "")))]
    #[case::whole("http://p.m.svc.cluster.local:9090/", Some(("m", "p:9090", "")))]
    #[case::path("https://thanos.m.svc/select/0/prometheus", Some(("m", "https:thanos:443", "/select/0/prometheus")))]
    #[case::elsewhere("https://prometheus.example.com", None)]
    #[case::address("http://10.0.0.1:9090", None)]
    #[case::one_label("http://localhost:9090", None)]
    fn services_of_the_cluster_are_reached_through_the_api_server(
        #[case] url: &str,
        #[case] want: Option<(&str, &str, &str)>,
    ) {
        let found = service(url);
        let got = found
            .as_ref()
            .map(|(one, two, three)| (one.as_str(), two.as_str(), three.as_str()));
        assert_eq!(got, want);
    }

    #[test]
    fn the_query_names_the_presence_of_every_engine() {
        let query = query("namespace", "pod");
        for engine in ENGINES {
            assert!(
                engine
                    .presence
                    .names
                    .iter()
                    .all(|name| query.contains(name)),
                "{query}"
            );
        }
        assert!(query.starts_with("count by (namespace, pod) ("), "{query}");
    }

    #[test]
    fn series_without_labels_are_nobodys() {
        let answer = json!({ "status": "success", "data": { "resultType": "vector", "result": [
            { "metric": { "namespace": "a", "pod": "p-1" }, "value": [0, "1"] },
            { "metric": { "namespace": "a", "pod": "p-2" }, "value": [0, "1"] },
            { "metric": { "namespace": "a" }, "value": [0, "1"] } ] } });
        let series = Series::of(&labels(&answer).unwrap(), "namespace", "pod");
        assert_eq!(series.pods["a"].len(), 2);
        assert!(series.unlabelled && !series.is_empty());
        assert!(Series::default().is_empty());
    }

    #[test]
    fn an_error_of_the_server_is_its_own_words() {
        let answer = json!({ "status": "error", "error": "too many samples" });
        assert_eq!(labels(&answer).unwrap_err(), "too many samples");
    }
}
