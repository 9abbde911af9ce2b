//! Candidates against an API server in memory that keeps one Lease as the real one does: with a
//! resource version, conflicts, and refusals on demand. Time is tokio's paused clock, so nothing
//! here really waits.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use clap::Parser;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::*;
use crate::shutdown::Ending;

#[derive(Debug, Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    mood: Mood,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Mood {
    #[default]
    Well,
    Failing,
    Hanging,
    /// Writes are done and never answered.
    Deaf,
}

#[derive(Debug, Clone, Default)]
struct FakeApi(Arc<Mutex<Server>>);

impl FakeApi {
    fn client(&self) -> Client {
        const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/pd-system/leases";
        let router = Router::new()
            .route(LEASES, axum::routing::post(Self::write))
            .route(&format!("{LEASES}/pd"), get(Self::read).put(Self::write))
            .with_state(self.clone());
        let service = tower::service_fn(move |request| {
            let router = router.clone();
            async move {
                tower::ServiceExt::<_>::oneshot(router, request).await as Result<_, Infallible>
            }
        });
        Client::new(service, "pd-system")
    }

    fn set_mood(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    fn mood(&self) -> Mood {
        self.0.lock().unwrap().mood
    }

    fn spec(&self, field: &str) -> Value {
        self.0.lock().unwrap().lease.as_ref().unwrap()["spec"][field].clone()
    }

    fn store(&self, mut lease: Value) -> Value {
        let mut server = self.0.lock().unwrap();
        server.version += 1;
        lease["metadata"]["resourceVersion"] = json!(server.version.to_string());
        server.lease = Some(lease.clone());
        lease
    }

    async fn read(State(api): State<Self>) -> Response {
        match api.mood() {
            Mood::Failing => return refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Mood::Hanging => std::future::pending().await,
            Mood::Well | Mood::Deaf => {}
        }
        let lease = api.0.lock().unwrap().lease.clone();
        lease.map_or_else(
            || refuse(StatusCode::NOT_FOUND, "NotFound"),
            |lease| Json(lease).into_response(),
        )
    }

    async fn write(State(api): State<Self>, Json(lease): Json<Value>) -> Response {
        match api.mood() {
            Mood::Failing => return refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Mood::Hanging => std::future::pending().await,
            Mood::Well | Mood::Deaf => {}
        }
        let present = api.0.lock().unwrap().lease.clone();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        match &present {
            Some(_) if version(&lease).is_null() => {
                return refuse(StatusCode::CONFLICT, "AlreadyExists");
            }
            Some(present) if version(present) != version(&lease) => {
                return refuse(StatusCode::CONFLICT, "Conflict");
            }
            None if !version(&lease).is_null() => return refuse(StatusCode::NOT_FOUND, "NotFound"),
            _ => {}
        }
        let stored = api.store(lease);
        if api.mood() == Mood::Deaf {
            std::future::pending::<()>().await;
        }
        Json(stored).into_response()
    }
}

fn refuse(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    leader: LeaderArgs,
}

fn args(flags: &[&str]) -> LeaderArgs {
    Cli::parse_from(["pd"].iter().chain(flags)).leader
}

/// A replica that stands for election, and its shutdown.
fn replica(api: &FakeApi, name: &str) -> (watch::Receiver<Leadership>, Shutdown) {
    let shutdown = Shutdown::new(Duration::from_secs(25));
    let flags = [
        "--leader-election-namespace",
        "pd-system",
        "--leader-election-identity",
        name,
    ];
    let election = LeaderElection::new(api.client(), &args(&flags), "pd").unwrap();
    (election.run(&shutdown), shutdown)
}

/// The time until `leadership` says that its replica leads, or no longer does.
async fn time_until(leadership: &mut watch::Receiver<Leadership>, leads: bool) -> Duration {
    let started = Instant::now();
    let wait = leadership.wait_for(|now| matches!(now, Leadership::Leading { .. }) == leads);
    drop(
        timeout(Duration::from_mins(2), wait)
            .await
            .unwrap()
            .unwrap(),
    );
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_first_of_two_replicas_leads_and_the_other_follows_it() {
    let api = FakeApi::default();
    let (mut a, _) = replica(&api, "a");
    assert_eq!(time_until(&mut a, true).await, Duration::ZERO);
    let (b, _) = replica(&api, "b");
    sleep(Duration::from_mins(5)).await;
    assert!(a.borrow().is_leader());
    assert_eq!(
        *b.borrow(),
        Leadership::Following {
            leader: Some("a".into())
        }
    );
    assert_eq!(api.spec("leaseTransitions"), 0);
    assert!(
        !a.has_changed().unwrap(),
        "a renewal is no change of leadership"
    );
}

#[tokio::test(start_paused = true)]
async fn replicas_that_start_together_elect_exactly_one() {
    let api = FakeApi::default();
    let replicas: Vec<_> = ["a", "b", "c", "d"].map(|name| replica(&api, name)).into();
    for _ in 0..100 {
        sleep(Duration::from_secs(1)).await;
        let leaders = replicas
            .iter()
            .filter(|(leadership, _)| leadership.borrow().is_leader());
        assert_eq!(leaders.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_at_shutdown_hands_over_within_a_retry_period() {
    let api = FakeApi::default();
    let (mut a, shutdown) = replica(&api, "a");
    time_until(&mut a, true).await;
    let (mut b, _) = replica(&api, "b");
    sleep(Duration::from_mins(1)).await;

    let stopping = shutdown.stopping();
    let work = a.clone();
    shutdown.spawn("work", async move {
        stopping.cancelled().await;
        sleep(Duration::from_secs(15)).await;
        assert!(
            work.borrow().is_leader(),
            "the lease is kept while work drains"
        );
    });
    shutdown.trigger();
    assert_eq!(shutdown.wait().await, Ending::Drained);
    assert_eq!(*a.borrow(), Leadership::Following { leader: None });
    assert!(time_until(&mut b, true).await <= Duration::from_millis(2_400));
    assert_eq!(api.spec("holderIdentity"), "b");
    assert_eq!(api.spec("leaseTransitions"), 1);
}

#[rstest]
#[case::failing(Mood::Failing)]
#[case::hanging(Mood::Hanging)]
#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_steps_down_at_the_deadline_and_resumes(#[case] mood: Mood) {
    let api = FakeApi::default();
    let (mut a, _) = replica(&api, "a");
    time_until(&mut a, true).await;
    sleep(Duration::from_millis(60_500)).await;
    api.set_mood(mood);
    let took = time_until(&mut a, false).await;
    assert!(
        (Duration::from_secs(8)..=Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );

    sleep(Duration::from_secs(30)).await;
    api.set_mood(Mood::Well);
    assert!(time_until(&mut a, true).await <= Duration::from_secs(10));
    assert_eq!(api.spec("leaseTransitions"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_once_its_lease_has_run_out() {
    let api = FakeApi::default();
    let (mut b, _) = {
        let mut lease =
            json!({"metadata": {"name": "pd", "namespace": "pd-system", "labels": {"keep": "me"}}});
        lease["spec"] =
            json!({"holderIdentity": "dead", "leaseDurationSeconds": 15, "leaseTransitions": 6});
        api.store(lease);
        replica(&api, "b")
    };
    let took = time_until(&mut b, true).await.as_secs_f64();
    assert!((15.0..17.5).contains(&took), "{took}");
    assert_eq!(api.spec("leaseTransitions"), 7);
    let labels = api.0.lock().unwrap().lease.as_ref().unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels, json!({"keep": "me"}));
}

#[tokio::test(start_paused = true)]
async fn a_stolen_lease_ends_the_term_at_the_next_renewal() {
    let api = FakeApi::default();
    let (mut a, _) = replica(&api, "a");
    time_until(&mut a, true).await;
    let mut lease = api.0.lock().unwrap().lease.clone().unwrap();
    lease["spec"]["holderIdentity"] = json!("thief");
    api.store(lease);
    assert!(time_until(&mut a, false).await <= Duration::from_secs(2));
    assert_eq!(
        *a.borrow(),
        Leadership::Following {
            leader: Some("thief".into())
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_deleted_or_annotated_lease_does_not_disturb_its_leader() {
    let api = FakeApi::default();
    let (mut a, _) = replica(&api, "a");
    time_until(&mut a, true).await;
    let mut lease = api.0.lock().unwrap().lease.clone().unwrap();
    lease["metadata"]["annotations"] = json!({"by": "hand"});
    api.store(lease);
    sleep(Duration::from_secs(20)).await;
    api.0.lock().unwrap().lease = None;
    sleep(Duration::from_secs(20)).await;
    assert!(a.borrow().is_leader());
    assert!(!a.has_changed().unwrap());
    assert_eq!(api.spec("holderIdentity"), "a");
}

#[tokio::test(start_paused = true)]
async fn a_term_won_without_an_answer_is_released_at_shutdown() {
    let api = FakeApi::default();
    api.set_mood(Mood::Deaf);
    let (a, shutdown) = replica(&api, "a");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(api.spec("holderIdentity"), "a");
    assert!(!a.borrow().is_leader());
    api.set_mood(Mood::Well);
    shutdown.trigger();
    assert_eq!(shutdown.wait().await, Ending::Drained);
    assert_eq!(api.spec("holderIdentity"), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn without_election_the_process_leads_and_asks_nobody() {
    let api = FakeApi::default();
    let shutdown = Shutdown::new(Duration::from_secs(25));
    let election =
        LeaderElection::new(api.client(), &args(&["--leader-elect=false"]), "pd").unwrap();
    let leadership = election.run(&shutdown);
    sleep(Duration::from_hours(1)).await;
    assert!(leadership.borrow().is_leader());
    assert!(api.0.lock().unwrap().lease.is_none());
    shutdown.trigger();
    assert_eq!(shutdown.wait().await, Ending::Drained);
}

#[tokio::test(start_paused = true)]
async fn leadership_ends_by_the_clock_even_before_it_is_withdrawn() {
    let until = Some(Instant::now() + Duration::from_secs(10));
    let leadership = Leadership::Leading {
        since: Instant::now(),
        until,
    };
    assert!(leadership.is_leader());
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(!leadership.is_leader());
}

#[rstest]
#[case::default(&[], true)]
#[case::bare(&["--leader-elect"], true)]
#[case::on(&["--leader-elect=true"], true)]
#[case::off(&["--leader-elect=false"], false)]
fn leader_election_is_on_unless_switched_off(#[case] flags: &[&str], #[case] elects: bool) {
    assert_eq!(args(flags).leader_elect, elects);
}

#[tokio::test]
async fn flags_that_do_not_fit_are_refused() {
    let client = FakeApi::default().client();
    let short = args(&["--leader-election-lease-duration", "5s"]);
    let error = LeaderElection::new(client.clone(), &short, "pd").unwrap_err();
    assert!(
        matches!(
            error,
            LeaderError::Timing(TimingError::LeaseTooShort { .. })
        ),
        "{error}"
    );
    let nameless = args(&["--leader-election-identity", ""]);
    assert!(matches!(
        LeaderElection::new(client, &nameless, "pd"),
        Err(LeaderError::IdentityEmpty)
    ));
}
