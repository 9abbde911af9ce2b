//! Queries about many objects give each what its own queries give, on the data of every engine.
//!
//! In the namespace of each text are two services, and all namespaces have namesakes of both. The
//! controller's own reading of many is compared with its own reading of one, label by label.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use pd_autoscaler::{
    grouping::{split::Splitter, workload},
    poller::{
        read::{Asked, Place, Reader},
        shape::{Kind, Shape},
    },
};
use pd_signals::{
    engine::ENGINES,
    pods::{TargetKind, past_pod_pattern},
};

use super::*;

/// Between both answers windows move on: by a second in ten minutes at most, or they are made
/// again.
const NEAR: f64 = 0.002;

/// Times that both answers are made, for a sample may leave a window between them.
const TRIES: usize = 5;

struct Server {
    servers: Servers,
    endpoint: Endpoint,
}

impl Reader for Server {
    fn read<'a>(
        &'a self,
        name: &'static str,
        query: &'a str,
        rows: &'a mut Splitter<'_>,
    ) -> BoxFuture<'a, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            let query = (name, query);
            self.servers.stream(&self.endpoint, query, rows).await
        })
    }
}

/// The services of each namespace: the kind and name of each role's workload.
const SERVICES: [[(TargetKind, &str); 2]; 2] = [
    [
        (TargetKind::StatefulSet, "llama-p"),
        (TargetKind::StatefulSet, "llama-d"),
    ],
    [
        (TargetKind::Deployment, "llama"),
        (TargetKind::StatefulSet, "llama-p-0"),
    ],
];

/// `case` with a second service, whose workloads' names are like those of the first.
fn doubled(case: &Case) -> Case {
    let mut doubled = case.clone();
    // No name of a namespace has a dot or a capital.
    doubled.name = case.name.replace('.', "-").to_lowercase();
    for (pod, text) in &case.pods {
        let more: &[&str] = match pod.as_str() {
            "llama-p-0" => &[
                "llama-7d9f8b6c5-x2x4z",
                "llama-7d9f8b6c5-24567",
                "llama-p-1",
            ],
            "llama-d-0" => &["llama-p-0-0", "llama-p-0-17"],
            _ => &[],
        };
        let more = more.iter().map(|pod| ((*pod).to_owned(), text.clone()));
        doubled.pods.extend(more);
    }
    doubled
}

fn scope_of(namespace: &str, engine: &'static Engine, service: [(TargetKind, &str); 2]) -> Scope {
    let [prefill_pods, decode_pods] = service.map(|(kind, name)| past_pod_pattern(kind, name));
    Scope {
        prefill_pods,
        decode_pods,
        ..scope(namespace, engine)
    }
}

fn place_of(scope: &Scope, service: [(TargetKind, &str); 2]) -> Place {
    let [(prefill, prefill_name), (decode, decode_name)] = service;
    Place {
        namespace: scope.namespace.clone(),
        keys: PerRole {
            prefill: workload::key(prefill, prefill_name, &scope.prefill_pods).unwrap(),
            decode: workload::key(decode, decode_name, &scope.decode_pods).unwrap(),
        },
    }
}

type Values = BTreeMap<BTreeMap<String, String>, f64>;

async fn own(prometheus: &Prometheus, scope: &Scope, kind: Kind) -> Values {
    let queries = match kind {
        Kind::State => {
            let search = GatewayScope::of(scope, None, String::new(), &[]);
            vec![scope.state_query(), search.query()]
        }
        Kind::Histograms => vec![scope.histogram_query()],
        Kind::Wide => vec![scope.wide_query()],
        Kind::Attainment => vec![scope.attainment_query()],
    };
    let mut values = Values::new();
    for query in queries {
        let samples = answer(prometheus, &query).await.unwrap();
        values.extend(
            samples
                .into_iter()
                .map(|sample| (sample.labels, sample.value)),
        );
    }
    values
}

/// The first difference of both, if there is any.
fn difference(own: &Values, grouped: &Values) -> Option<String> {
    let labels = own.keys().chain(grouped.keys());
    labels.into_iter().find_map(|labels| {
        let (own, grouped) = (own.get(labels), grouped.get(labels));
        let is_same = own.zip(grouped).is_some_and(|(own, grouped)| {
            let is_age = labels.get("signal").is_some_and(|signal| signal == "age");
            let near = if is_age { 5.0 } else { own.abs() * NEAR };
            (own - grouped).abs() <= near || (own.is_nan() && grouped.is_nan())
        });
        (!is_same).then(|| format!("{labels:?}: own {own:?}, grouped {grouped:?}"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_about_many_give_each_what_its_own_queries_give() {
    let texts = cases("engines").into_iter().chain(cases("gateways"));
    let cases: Vec<Case> = texts.map(|case| doubled(&case)).collect();
    let prometheus = served(&cases).await;
    let server = Server {
        servers: Servers::new(Duration::from_secs(30), "pd-tests", "0"),
        endpoint: Endpoint::open(&prometheus.url(), Owner::Operator),
    };
    let mut rows = 0;
    for engine in ENGINES {
        let services = cases.iter().flat_map(|case| {
            SERVICES.map(|service| (scope_of(&case.name, engine, service), service))
        });
        let (scopes, places): (Vec<Scope>, Vec<Place>) = services
            .map(|(scope, service)| {
                let place = place_of(&scope, service);
                (scope, place)
            })
            .unzip();
        let shape = Shape::of(&scopes[0]).unwrap();
        let places: Vec<&Place> = places.iter().collect();
        for (kind, is_named) in Kind::ALL.into_iter().zip([false, true, false, true]) {
            let asked = Asked {
                shape: &shape,
                places: &places,
                is_named,
                homes: &[],
                labels: ("namespace", "pod"),
            };
            let mut last = None;
            for _ in 0..TRIES {
                let reads = asked.read(&server, kind).await;
                last = None;
                for (scope, read) in scopes.iter().zip(reads) {
                    let samples = read.rows.unwrap().samples();
                    assert_eq!(read.warning, None);
                    let count = samples.len();
                    let grouped: Values = samples
                        .into_iter()
                        .map(|sample| (sample.labels, sample.value))
                        .collect();
                    assert_eq!(grouped.len(), count, "a row is there twice");
                    rows += count;
                    let own = own(&prometheus, scope, kind).await;
                    let found = difference(&own, &grouped);
                    last = last.or_else(|| {
                        let of = format!("{} {kind:?} {}", engine.name, scope.namespace);
                        Some(format!("{of}: {}", found?))
                    });
                }
                if last.is_none() {
                    break;
                }
            }
            assert_eq!(last, None);
        }
    }
    assert!(rows > 1_000, "{rows}");
}
