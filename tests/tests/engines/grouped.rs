//! Queries about many objects give each what its own queries give, on the data of every engine.
//!
//! In the namespace of each text are two services, and all namespaces have namesakes of both. The
//! controller's own reading of many is compared with its own reading of one, label by label.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use pd_autoscaler::{
    grouping::{
        Names,
        gateway::{comparable, of_gateway},
        split::{Directory, Splitter},
        workload,
    },
    poller::{
        read::{Asked, Place, Reader},
        shape::{Kind, Shape},
    },
};
use pd_signals::{
    engine::ENGINES,
    gateway::{GATEWAYS, Gateway},
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

impl Server {
    fn of(prometheus: &Prometheus) -> Self {
        Self {
            servers: Servers::new(Duration::from_secs(30), "pd-tests", "0"),
            endpoint: Endpoint::open(&prometheus.url(), Owner::Operator),
        }
    }
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

fn values(samples: Vec<Sample>) -> Values {
    let count = samples.len();
    let samples = samples.into_iter();
    let values: Values = samples
        .map(|sample| (sample.labels, sample.value))
        .collect();
    assert_eq!(values.len(), count, "a row is there twice");
    values
}

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
        values.extend(self::values(samples));
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

/// Whatever is decoded of answers does not depend on the order of their samples, which differs.
fn assert_the_order_is_of_no_account(scope: &Scope, [state, histograms, wide]: [&Values; 3]) {
    let read = |is_turned: bool| {
        let samples = |values: &Values| {
            let samples = values.iter().map(|(labels, value)| Sample {
                labels: labels.clone(),
                value: *value,
            });
            let mut samples: Vec<Sample> = samples.collect();
            if is_turned {
                samples.reverse();
            }
            Ok::<_, QueryError>(samples)
        };
        let answers = Answers {
            partial: false,
            state: samples(state),
            histograms: samples(histograms),
            wide: samples(wide),
            attainment: Ok(Vec::new()),
            overrides: Overrides::default(),
        };
        let ready = ["llama-p-0".to_owned(), "llama-d-0".to_owned()];
        let ready = PerRole {
            prefill: &ready[..1],
            decode: &ready[1..],
        };
        signals(&answers, ready, scope, Duration::from_mins(2))
    };
    // Sums may differ in their last digit by their order.
    let (one, other) = (read(false), read(true));
    for name in SignalName::ALL {
        let (one, other) = (number(&one, *name), number(&other, *name));
        let is_same = match (one, other) {
            (Some(one), Some(other)) => (one - other).abs() <= one.abs() * 1e-9,
            (one, other) => one == other,
        };
        assert!(is_same, "{} {name:?}: {one:?}, {other:?}", scope.namespace);
    }
    assert_eq!(one.coverage, other.coverage);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_of_an_answer_is_the_same_in_any_order() {
    let cases: Vec<Case> = cases("engines").iter().map(doubled).collect();
    let prometheus = served(&cases).await;
    for case in &cases {
        for engine in ENGINES {
            let scope = scope(&case.name, engine);
            let state = own(&prometheus, &scope, Kind::State).await;
            let histograms = own(&prometheus, &scope, Kind::Histograms).await;
            let wide = own(&prometheus, &scope, Kind::Wide).await;
            assert_the_order_is_of_no_account(&scope, [&state, &histograms, &wide]);
        }
    }
}

/// The counts of `gateway` for each of `places`, a namespace and a model, by one query.
async fn counted(
    server: &Server,
    scope: &GatewayScope,
    gateway: &'static Gateway,
    places: &[(&str, &str)],
    homes: &[String],
) -> Vec<Values> {
    let grouped = of_gateway(scope, gateway).unwrap();
    let mut directory = Directory::with_homes(homes);
    for (namespace, model) in places {
        directory.add_served(namespace, &comparable(model).unwrap());
    }
    let text = grouped.text(&Names {
        namespaces: &directory.namespaces(),
        homes,
        keys: &[],
        models: &[],
    });
    let parts = grouped.parts.clone().into();
    let mut splitter = Splitter::new(&directory, parts, ("namespace", "pod"));
    let warnings = server.read("many", &text.unwrap(), &mut splitter).await;
    assert_eq!(warnings.unwrap(), [""; 0]);
    let splits = splitter.finish();
    splits.iter().map(|split| values(split.samples())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_about_the_gateways_of_many_gives_each_what_its_own_gives() {
    let cases: Vec<Case> = cases("gateways").iter().map(doubled).collect();
    let prometheus = served(&cases).await;
    let server = Server::of(&prometheus);
    let names = cases.iter().map(|case| case.name.as_str());
    let models = ["Meta/Llama", "meta/llama", "another"];
    let places: Vec<(&str, &str)> = names.flat_map(|name| models.map(|m| (name, m))).collect();
    let mut rows = 0;
    // A gateway in a namespace of its own serves everybody.
    for homes in [vec![], vec![cases[0].name.clone()]] {
        for gateway in GATEWAYS {
            let of = |(namespace, model): (&str, &str)| {
                let workers = scope(namespace, &VLLM);
                GatewayScope::of(&workers, Some(gateway), model.to_owned(), &homes)
            };
            let mut last = None;
            for _ in 0..TRIES {
                last = None;
                let all = counted(&server, &of(places[0]), gateway, &places, &homes).await;
                for (place, grouped) in places.iter().zip(all) {
                    rows += grouped.len();
                    let own = answer(&prometheus, &of(*place).counts(gateway)).await;
                    let found = difference(&values(own.unwrap()), &grouped);
                    last = last.or_else(|| Some(format!("{} {place:?}: {}", gateway.name, found?)));
                }
                if last.is_none() {
                    break;
                }
            }
            assert_eq!(last, None);
        }
    }
    assert!(rows > 500, "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_about_many_give_each_what_its_own_queries_give() {
    let texts = cases("engines").into_iter().chain(cases("gateways"));
    let cases: Vec<Case> = texts.map(|case| doubled(&case)).collect();
    let prometheus = served(&cases).await;
    let server = Server::of(&prometheus);
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
                    assert_eq!(read.warning, None);
                    let grouped = values(read.rows.unwrap().samples());
                    rows += grouped.len();
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
