//! Rounds against a server that answers, fails, warns or is silent, in time that is made up.

use std::sync::Mutex;

use futures::future::BoxFuture;
use pd_core::PerRole;
use pd_signals::{engine::VLLM, gateway::EPP, queries::gateway::GatewayScope};

use super::*;
use crate::{
    grouping::{PART, split::Splitter},
    poller::{Ask, Settings, Taken, gateways::Sought},
    prometheus::{Owner, QueryError},
};

/// Fate of a query.
enum Fate {
    Answered,
    Warned,
    Failed(QueryError),
    Unanswered,
}

/// The fate of each query, by its text and number.
type Fates = dyn Fn(&str, usize) -> Fate + Send + Sync;

/// A server that answers with one pod of each role of each of its objects.
struct Server {
    objects: Vec<Key>,
    fate: Box<Fates>,
    asked: Mutex<Vec<(Instant, String)>>,
}

fn too_large() -> QueryError {
    QueryError::TooLarge {
        server: "s".into(),
        owner: Owner::Operator,
        query: "q".into(),
    }
}

fn down() -> QueryError {
    QueryError::Unreachable {
        server: "s".into(),
        owner: Owner::Operator,
        cause: "down".into(),
    }
}

impl Server {
    fn new(fate: impl Fn(&str, usize) -> Fate + Send + Sync + 'static) -> Self {
        Self {
            objects: Vec::new(),
            fate: Box::new(fate),
            asked: Mutex::default(),
        }
    }

    /// How many queries came in the last `span`.
    fn queries_in(&self, span: Duration) -> usize {
        let asked = locked(&self.asked);
        asked.iter().filter(|(at, _)| at.elapsed() < span).count()
    }
}

impl Reader for Server {
    fn read<'a>(
        &'a self,
        _name: &'static str,
        query: &'a str,
        rows: &'a mut Splitter<'_>,
    ) -> BoxFuture<'a, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            let number = {
                let mut asked = locked(&self.asked);
                asked.push((Instant::now(), query.to_owned()));
                asked.len()
            };
            let row = |rows: &mut Splitter<'_>| {
                for key in &self.objects {
                    let namespace = key.namespace.as_deref().unwrap_or_default();
                    let pod = format!("{}-p-7d9f-abcde", key.name);
                    let labels = [(PART, "0"), ("namespace", namespace), ("pod", &pod)];
                    rows.add(&labels, 3.0).unwrap();
                }
            };
            match (self.fate)(query, number) {
                Fate::Answered => row(rows),
                Fate::Warned => {
                    row(rows);
                    return Ok(vec!["a store is away".to_owned()]);
                }
                Fate::Failed(error) => return Err(error),
                Fate::Unanswered => std::future::pending().await,
            }
            Ok(Vec::new())
        })
    }
}

fn poller() -> Poller {
    Poller::new(Settings {
        is_on: true,
        interval: Duration::from_secs(15),
        timeout: Duration::from_secs(10),
        namespace_label: "namespace".into(),
        pod_label: "pod".into(),
        homes: Vec::new(),
    })
}

fn scope(attainment_window: Duration) -> Scope {
    Scope {
        engine: &VLLM,
        prefix: None,
        namespace_label: "namespace".into(),
        pod_label: "pod".into(),
        namespace: "own".into(),
        prefill_pods: "own-p".into(),
        decode_pods: "own-d".into(),
        selectors: Vec::new(),
        window: Duration::from_mins(2),
        attainment_window,
    }
}

/// So many objects, ten in a namespace.
fn objects(count: usize) -> Vec<Key> {
    let key = |number: usize| {
        Key::new(&format!("llama-{number:05}")).within(&format!("ns-{:04}", number / 10))
    };
    (0..count).map(key).collect()
}

fn take(poller: &Poller, key: &Key) -> Taken {
    take_with(poller, key, Duration::from_hours(1))
}

fn take_with(poller: &Poller, key: &Key, attainment_window: Duration) -> Taken {
    let scope = scope(attainment_window);
    let name = &key.name;
    let place = Place {
        namespace: key.namespace.clone().unwrap_or_default(),
        keys: PerRole {
            prefill: format!("{name}-p/"),
            decode: format!("/{name}-d"),
        },
    };
    let ask = Ask {
        scope: &scope,
        place,
        needs_attainment: true,
        attainment_kept: attainment_window / 60,
    };
    poller.take(key, ask)
}

/// How many of `objects` are served, come soon, and are asked about by themselves.
fn taken(poller: &Poller, objects: &[Key]) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    for key in objects {
        match take(poller, key) {
            Taken::Here(here) => counts.0 += usize::from(here.state.is_ok()),
            Taken::Soon(_) => counts.1 += 1,
            Taken::Apart => counts.2 += 1,
        }
    }
    counts
}

/// Makes `steps` while rounds are made.
async fn during(poller: &Poller, server: &Server, steps: impl Future<Output = ()>) {
    tokio::select! {
        () = poller.follow(server, |_| {}) => {}
        () = steps => {}
    }
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[rstest::rstest]
#[case(10, 4)]
#[case(100, 4)]
#[case(1_000, 8)]
#[case(10_000, 52)]
#[tokio::test(start_paused = true)]
async fn queries_of_a_round_are_bounded_whatever_the_number_of_objects(
    #[case] count: usize,
    #[case] most: usize,
) {
    let (poller, server, objects) = (poller(), Server::new(|_, _| Fate::Answered), objects(count));
    during(&poller, &server, async {
        seconds(1).await;
        let (_, soon, alone) = taken(&poller, &objects);
        assert_eq!((soon, alone), (count - 4, 4));
        for _ in 0..8 {
            seconds(15).await;
            let _wanted = taken(&poller, &objects);
            let queries = server.queries_in(Duration::from_secs(15));
            assert!((1..=most).contains(&queries), "{queries}");
        }
        seconds(15).await;
        assert_eq!(taken(&poller, &objects), (count, 0, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_object_gets_its_own_rows_and_the_time_they_were_asked_for_at() {
    let objects = objects(25);
    let mut server = Server::new(|_, _| Fate::Answered);
    server.objects.clone_from(&objects);
    let poller = poller();
    during(&poller, &server, async {
        seconds(1).await;
        let _wanted = taken(&poller, &objects);
        seconds(10).await;
        for key in &objects {
            let Taken::Here(here) = take(&poller, key) else {
                panic!("{key} is not served");
            };
            let state = here.state.unwrap();
            assert_eq!(state.len(), 1, "{state:?}");
            assert_eq!(state[0].label("pod"), format!("{}-p-7d9f-abcde", key.name));
            assert!(here.age > Duration::ZERO && here.age < Duration::from_secs(10));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_rounds_objects_are_asked_about_by_themselves() {
    let objects = objects(10);
    assert_eq!(taken(&poller(), &objects), (0, 0, 10));
    let off = Poller::new(Settings {
        is_on: false,
        ..poller().settings
    });
    let server = Server::new(|_, _| Fate::Answered);
    during(&off, &server, async {
        seconds(1).await;
        assert_eq!(taken(&off, &objects), (0, 0, 10));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn old_answers_are_none() {
    // The second round never ends.
    let server = Server::new(|_, number| {
        if number > 4 {
            Fate::Unanswered
        } else {
            Fate::Answered
        }
    });
    let (poller, objects) = (poller(), objects(10));
    during(&poller, &server, async {
        seconds(1).await;
        let _wanted = taken(&poller, &objects);
        seconds(14).await;
        assert_eq!(taken(&poller, &objects), (10, 0, 0));
        seconds(20).await;
        assert_eq!(taken(&poller, &objects), (0, 6, 4));
        // They do not wait for ever: what does not come is unknown.
        seconds(41).await;
        let last = objects.last().unwrap();
        let _alone = taken(&poller, &objects);
        let Taken::Here(here) = take(&poller, last) else {
            panic!("it still waits");
        };
        assert!(here.state.is_err() && here.wide.is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_unreachable_for_its_objects() {
    let server = Server::new(move |_, _| Fate::Failed(down()));
    let (poller, objects) = (poller(), objects(10));
    during(&poller, &server, async {
        seconds(1).await;
        let _wanted = taken(&poller, &objects);
        seconds(14).await;
        // Whoever was asked about by itself lately is not again in this round.
        for key in &objects {
            let Taken::Here(here) = take(&poller, key) else {
                panic!("{key} waits, or is asked about by itself");
            };
            let (attainment, _) = here.attainment.unwrap();
            for answer in [here.state, here.histograms, here.wide, attainment] {
                assert_eq!(answer.unwrap_err(), down(), "{key}");
            }
        }
    })
    .await;
}

/// The names that a query is about say whether it has the object that spoils it.
fn spoils(query: &str) -> bool {
    let has_namespace = query.contains("ns-0013");
    has_namespace && (query.contains("pod=~\".+\"") || query.contains("llama-00137-p"))
}

#[rstest::rstest]
#[case::too_large(|| Fate::Failed(too_large()), false)]
#[case::a_warning(|| Fate::Warned, true)]
#[case::too_slow(|| Fate::Failed(down()), false)]
#[tokio::test(start_paused = true)]
async fn an_object_that_spoils_the_answer_is_found_and_harms_no_other(
    #[case] fate: fn() -> Fate,
    #[case] is_there: bool,
) {
    let server = Server::new(move |query, _| {
        if spoils(query) {
            fate()
        } else {
            Fate::Answered
        }
    });
    let (poller, objects) = (poller(), objects(300));
    during(&poller, &server, async {
        for _ in 0..14 {
            seconds(15).await;
            let _wanted = taken(&poller, &objects);
            assert!(server.queries_in(Duration::from_secs(15)) <= 60);
        }
        seconds(14).await;
        let mut apart = 0;
        for (key, number) in objects.iter().zip(0..) {
            match take(&poller, key) {
                Taken::Here(here) => {
                    let is_whole = here.state.is_ok() && here.warning.is_none();
                    assert!(is_whole && number != 137, "{number}");
                }
                Taken::Apart => apart = number,
                Taken::Soon(_) => panic!("{number} waits"),
            }
        }
        assert_eq!(apart, 137);
        // Where it may not be asked about by itself, it has no less and no more than it got.
        for _ in 0..4 {
            let _alone = take(&poller, &objects[137]);
        }
        let Taken::Here(here) = take(&poller, &objects[137]) else {
            panic!("it is not there");
        };
        assert_eq!(
            (here.state.is_ok(), here.warning.is_some()),
            (is_there, is_there)
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_not_asked_more() {
    let (poller, objects) = (poller(), objects(300));
    let server = Server::new(|_, _| Fate::Failed(down()));
    during(&poller, &server, async {
        for _ in 0..12 {
            seconds(15).await;
            let _wanted = taken(&poller, &objects);
        }
        assert!(server.queries_in(Duration::from_secs(15)) <= 8);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_no_objects_fault() {
    let (poller, objects) = (poller(), objects(1_500));
    let server = Server::new(|_, _| Fate::Warned);
    during(&poller, &server, async {
        for _ in 0..6 {
            seconds(15).await;
            let _wanted = taken(&poller, &objects);
        }
        seconds(14).await;
        // They are all served, with a word that the answers may not be whole.
        assert_eq!(taken(&poller, &objects), (1_500, 0, 0));
        let Taken::Here(here) = take(&poller, &objects[0]) else {
            panic!("it waits");
        };
        assert!(here.warning.is_some());
        assert!(server.queries_in(Duration::from_secs(15)) <= 16);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_workload_changes_has_no_answers_of_the_other() {
    let (poller, objects) = (poller(), objects(10));
    let server = Server::new(|_, _| Fate::Answered);
    during(&poller, &server, async {
        seconds(1).await;
        let _wanted = taken(&poller, &objects);
        seconds(14).await;
        let scope = scope(Duration::from_hours(1));
        let place = Place {
            namespace: "ns-0000".into(),
            keys: PerRole {
                prefill: "other/".into(),
                decode: "/other".into(),
            },
        };
        for _ in 0..5 {
            let ask = Ask {
                scope: &scope,
                place: place.clone(),
                needs_attainment: false,
                attainment_kept: Duration::from_mins(1),
            };
            let taken = poller.take(&objects[3], ask);
            assert!(!matches!(taken, Taken::Here(_)), "{taken:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_read_whom_nobody_wants() {
    let (poller, objects) = (poller(), objects(10));
    let server = Server::new(|_, _| Fate::Answered);
    during(&poller, &server, async {
        seconds(1).await;
        let _wanted = taken(&poller, &objects);
        seconds(90).await;
        assert_eq!(server.queries_in(Duration::from_secs(30)), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn chunks_are_spread_over_the_time_between_rounds() {
    let (poller, objects) = (poller(), objects(5_000));
    let server = Server::new(|_, _| Fate::Answered);
    during(&poller, &server, async {
        seconds(1).await;
        let _wanted = taken(&poller, &objects);
        seconds(14).await;
        let asked = locked(&server.asked);
        let times: HashSet<Instant> = asked.iter().map(|(at, _)| *at).collect();
        assert!(times.len() >= 8, "{}", times.len());
    })
    .await;
}

/// A window so short that attainment is read whenever it can be.
#[tokio::test(start_paused = true)]
async fn attainment_over_a_short_window_waits_for_its_turn_and_nothing_else_waits_for_it() {
    let (poller, objects) = (poller(), objects(10_000));
    let server = Server::new(|_, _| Fate::Answered);
    let window = Duration::from_mins(5);
    during(&poller, &server, async {
        for turn in 0..12 {
            seconds(15).await;
            let mut oldest = Duration::ZERO;
            let mut others = 0;
            for key in &objects {
                match take_with(&poller, key, window) {
                    Taken::Here(here) => {
                        let (answer, at) = here.attainment.unwrap();
                        assert!(answer.is_ok() && here.state.is_ok());
                        oldest = oldest.max(at.elapsed());
                    }
                    Taken::Soon(_) | Taken::Apart => others += 1,
                }
            }
            assert!(server.queries_in(Duration::from_secs(15)) <= 60);
            if turn > 4 {
                assert_eq!(others, 0, "{turn}");
                assert!(oldest < Duration::from_mins(1), "{oldest:?}");
            }
        }
    })
    .await;
}

fn sought(model: &str) -> Sought {
    let scope = GatewayScope::of(&scope(Duration::from_hours(1)), None, model.into(), &[]);
    Sought::of(&scope, &EPP).unwrap()
}

/// How many gateways of `objects` are served, come soon, and are asked about by themselves.
fn taken_gateways(poller: &Poller, objects: &[Key]) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    for key in objects {
        match poller.take_gateway(key, sought(&format!("Meta/{}", key.name))) {
            Taken::Here(counted) => counts.0 += usize::from(counted.rows.is_ok()),
            Taken::Soon(_) => counts.1 += 1,
            Taken::Apart => counts.2 += 1,
        }
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn gateways_of_many_are_read_by_few_queries_more() {
    let (poller, objects) = (poller(), objects(10_000));
    let server = Server::new(|_, _| Fate::Answered);
    during(&poller, &server, async {
        for _ in 0..6 {
            seconds(15).await;
            let _wanted = (taken(&poller, &objects), taken_gateways(&poller, &objects));
            assert!(server.queries_in(Duration::from_secs(15)) <= 60);
        }
        seconds(14).await;
        assert_eq!(taken(&poller, &objects), (10_000, 0, 0));
        assert_eq!(taken_gateways(&poller, &objects), (10_000, 0, 0));
        // Another model has no counts of the one before.
        let other = poller.take_gateway(&objects[3], sought("other"));
        assert!(!matches!(other, Taken::Here(_)), "{other:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_spoils_the_answer_is_found_and_harms_no_other() {
    let of_gateways = |query: &str| query.contains("llm_d_epp_request_total{");
    let server = Server::new(move |query, _| {
        let has_spoilt = query.contains("ns-0013")
            && (query.contains("model_name=~\".+\"") || query.contains("meta/llama-00137"));
        if of_gateways(query) && has_spoilt {
            Fate::Failed(too_large())
        } else {
            Fate::Answered
        }
    });
    let (poller, objects) = (poller(), objects(300));
    during(&poller, &server, async {
        for _ in 0..16 {
            seconds(15).await;
            let _wanted = (taken(&poller, &objects), taken_gateways(&poller, &objects));
            assert!(server.queries_in(Duration::from_secs(15)) <= 60);
        }
        seconds(14).await;
        assert_eq!(taken(&poller, &objects), (300, 0, 0));
        assert_eq!(taken_gateways(&poller, &objects), (299, 0, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_come_is_unknown_after_a_while() {
    let of_gateways = |query: &str| query.contains("llm_d_epp_request_total{");
    let server = Server::new(move |query, _| {
        if of_gateways(query) {
            Fate::Unanswered
        } else {
            Fate::Answered
        }
    });
    let (poller, objects) = (poller(), objects(10));
    during(&poller, &server, async {
        seconds(1).await;
        let _wanted = taken(&poller, &objects);
        seconds(14).await;
        let _alone = taken_gateways(&poller, &objects);
        seconds(41).await;
        let last = objects.last().unwrap();
        let _alone = taken_gateways(&poller, &objects);
        let Taken::Here(counted) = poller.take_gateway(last, sought("Meta/llama-00009")) else {
            panic!("it still waits");
        };
        assert!(counted.rows.is_err());
    })
    .await;
}
