//! Logins for a server of an object's own: Secrets that are missing, not lent, wrong, rotated or
//! unreadable, and that never show what they hold.
//!
//! Nothing listens at the server's address: the scenarios end where the first query would begin.

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::{Arc, Mutex, Once},
};

use axum::http::Method;
use kube::runtime::reflector::ObjectRef;
use pd_api::v1alpha1::MetricsSource;
use pd_autoscaler::{context::Context, observe::login, prometheus::QueryError};
use pd_runtime::prometheus::{Hidden, Login, Material};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    api_server::{Fault, NAMESPACE},
    stage::Stage,
};

const SERVER: &str = "http://127.0.0.1:9";
const FLAGS: [&str; 2] = [
    "--allow-server-urls=http://127.0.0.1:9",
    "--allow-secret-references",
];
const PASSWORD: &str = "xyzzy-plugh";

fn lent() -> Value {
    json!({ "pdautoscaler.io/prometheus-login": "true" })
}

fn source() -> Value {
    json!({ "serverUrl": SERVER, "auth": { "secretRef": { "name": "login" } } })
}

/// A stage on which `llama` names the Secret `login`, `seconds` after a controller with `flags`
/// started.
async fn stage(flags: &[&str], seconds: u64, prepare: impl FnOnce(&Stage)) -> Stage {
    let (stage, start) = Stage::new();
    stage.server.edit("llama", |object| {
        object["spec"]["metrics"] = json!({ "source": source() });
    });
    prepare(&stage);
    start.controller_with(flags);
    stage.wait(seconds).await;
    stage
}

fn assert_metrics_fail(stage: &Stage, expected: &str, words: &str) {
    let (holds, reason, message) = stage.server.condition("llama", "MetricsAvailable");
    assert_eq!((holds.as_str(), reason.as_str()), ("False", expected));
    assert!(message.contains(words), "{message}");
    let events = stage.server.events("llama");
    assert!(events.iter().any(|event| event == expected), "{events:?}");
    stage.assert_the_other_is_served();
}

#[rstest]
#[case::missing(None)]
#[case::not_lent(Some(json!({})))]
#[case::lent_to_somebody_else(Some(json!({ "pdautoscaler.io/prometheus-login": "false" })))]
#[tokio::test(start_paused = true)]
async fn a_secret_that_is_not_lent_is_as_one_that_is_not_there(#[case] labels: Option<Value>) {
    let stage = stage(&FLAGS, 2, |stage| {
        if let Some(labels) = &labels {
            let data = [("username", "me"), ("password", PASSWORD)];
            stage.server.put_secret("login", labels, &data);
        }
    })
    .await;
    let words = "spec.metrics.source.auth.secretRef.name `login` is no Secret with the label pdautoscaler.io/prometheus-login: \"true\"";
    assert_metrics_fail(&stage, "LoginInvalid", words);
    // Its owner lends it, and the next reconcile uses it.
    let data = [("token", "t")];
    stage.server.put_secret("login", &lent(), &data);
    stage.wait(20).await;
    assert_metrics_fail(&stage, "PrometheusUnreachable", "spec.metrics.source");
}

#[rstest]
#[case::misspelt(&[("passwd", PASSWORD), ("username", "me")], "username and password, or token alone")]
#[case::both(&[("token", PASSWORD), ("username", "me"), ("password", PASSWORD)], "token alone")]
#[case::empty(&[], "username and password")]
#[case::no_header(&[("token", "xyzzy-plugh\nsecond")], "at the key token")]
#[tokio::test(start_paused = true)]
async fn a_secret_with_wrong_keys_says_which_are_right(
    #[case] data: &[(&str, &str)],
    #[case] words: &str,
) {
    let stage = stage(&FLAGS, 2, |stage| {
        stage.server.put_secret("login", &lent(), data);
    })
    .await;
    assert_metrics_fail(&stage, "LoginInvalid", words);
    assert!(!stage.server.everything_shown().contains(PASSWORD));
}

#[tokio::test(start_paused = true)]
async fn without_the_operators_flag_no_secret_is_read() {
    let stage = stage(&FLAGS[..1], 60, |stage| {
        stage
            .server
            .put_secret("login", &lent(), &[("token", PASSWORD)]);
    })
    .await;
    let words = "ask the operator for --allow-secret-references";
    assert_metrics_fail(&stage, "SourceNotAllowed", words);
    assert_eq!(stage.server.secrets_read(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_allowed_has_no_secret_read_for_it() {
    let stage = stage(&FLAGS[1..], 20, |stage| {
        stage
            .server
            .put_secret("login", &lent(), &[("token", PASSWORD)]);
    })
    .await;
    assert_metrics_fail(&stage, "SourceNotAllowed", "--allow-server-urls");
    assert_eq!(stage.server.secrets_read(), [""; 0]);
}

#[rstest]
#[case("../../other/secrets/login")]
#[case("other/login")]
#[case("login?namespace=other")]
#[tokio::test(start_paused = true)]
async fn no_name_leads_to_a_secret_of_another_namespace(#[case] name: &str) {
    let stage = stage(&FLAGS, 2, |stage| {
        stage.server.edit("llama", |object| {
            object["spec"]["metrics"]["source"]["auth"]["secretRef"]["name"] = name.into();
        });
    })
    .await;
    assert_eq!(stage.server.condition("llama", "Ready").1, "SpecInvalid");
    assert_eq!(stage.server.secrets_read(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_in_the_reference_counts_for_nothing() {
    let stage = stage(&FLAGS, 2, |stage| {
        stage.server.edit("llama", |object| {
            let reference = &mut object["spec"]["metrics"]["source"]["auth"]["secretRef"];
            reference["namespace"] = "other".into();
        });
    })
    .await;
    let path = format!("GET /api/v1/namespaces/{NAMESPACE}/secrets/login");
    assert_eq!(stage.server.secrets_read(), [path]);
}

#[tokio::test(start_paused = true)]
async fn steady_reconciles_read_a_secret_once_a_minute() {
    let stage = stage(&FLAGS, 50, |stage| {
        stage.server.put_secret("login", &lent(), &[("token", "t")]);
    })
    .await;
    assert_eq!(stage.server.secrets_read().len(), 1);
    stage.wait(30).await;
    assert_eq!(stage.server.secrets_read().len(), 2);
}

/// The login as `context` finds it now.
async fn login_of(context: &Context) -> Result<Login, QueryError> {
    let source: MetricsSource = serde_json::from_value(source()).unwrap();
    let key = ObjectRef::new("llama").within(NAMESPACE);
    let endpoint = login::endpoint(context, &key, &source).await?;
    assert_eq!(endpoint.url, SERVER);
    Ok(endpoint.login)
}

fn bearer(token: &str) -> Login {
    Login::Bearer(Material::Text(Hidden::from(token.to_owned())))
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_is_used_within_a_minute_and_one_that_is_taken_back_no_longer() {
    let (stage, start) = Stage::new();
    let context = start.context(&FLAGS);
    stage
        .server
        .put_secret("login", &lent(), &[("token", "first")]);
    assert_eq!(login_of(&context).await, Ok(bearer("first")));
    stage
        .server
        .put_secret("login", &lent(), &[("token", "second")]);
    stage.wait(61).await;
    assert_eq!(login_of(&context).await, Ok(bearer("second")));
    stage
        .server
        .put_secret("login", &json!({}), &[("token", "second")]);
    stage.wait(61).await;
    let error = login_of(&context).await.unwrap_err();
    assert_eq!(error.category(), "login_invalid");
    // And it stays so when the API server falls silent: nothing is kept of it.
    stage
        .server
        .break_at(Method::GET, "/secrets/", Fault::Code(500));
    let error = login_of(&context).await.unwrap_err();
    assert_eq!(error.category(), "login_unreadable");
}

#[rstest]
#[case::internal(Fault::Code(500), true)]
#[case::unavailable(Fault::Code(503), true)]
#[case::too_many_requests(Fault::TooManyRequests(60), true)]
#[case::garbage(Fault::Garbage, true)]
#[case::forbidden(Fault::Code(403), false)]
#[tokio::test(start_paused = true)]
async fn a_login_outlives_a_fault_of_the_api_server_and_not_its_refusal(
    #[case] fault: Fault,
    #[case] outlives: bool,
) {
    let (stage, start) = Stage::new();
    let context = start.context(&FLAGS);
    stage.server.put_secret("login", &lent(), &[("token", "t")]);
    assert_eq!(login_of(&context).await, Ok(bearer("t")));
    stage.server.break_at(Method::GET, "/secrets/", fault);
    stage.wait(61).await;
    let login = login_of(&context).await;
    if outlives {
        assert_eq!(login, Ok(bearer("t")));
    } else {
        assert_eq!(login.unwrap_err().category(), "login_unreadable");
    }
}

/// A log that a test reads.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    /// The log of the test that runs on this thread.
    static LOG: RefCell<Log> = RefCell::default();
}

/// Has the events of this thread written to `log`. One subscriber serves every thread, for those
/// that come and go with their tests switch events of each other off.
fn log_to(log: &Log) {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(|| LOG.with_borrow(Log::clone))
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    LOG.set(log.clone());
}

#[rstest]
#[case::good(&[("username", "adventurer"), ("password", PASSWORD)])]
#[case::token(&[("token", PASSWORD)])]
#[case::colon(&[("username", "adventurer:xyzzy-plugh"), ("password", PASSWORD)])]
#[case::wrong_keys(&[("token", PASSWORD), ("password", PASSWORD)])]
#[case::no_header(&[("token", "xyzzy-plugh adventurer")])]
#[tokio::test(start_paused = true)]
async fn what_a_secret_holds_is_shown_to_nobody(#[case] data: &[(&str, &str)]) {
    let log = Log::default();
    log_to(&log);
    let stage = stage(&FLAGS, 20, |stage| {
        stage.server.put_secret("login", &lent(), data);
    })
    .await;
    let shown = stage.server.everything_shown();
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("metrics are missing"), "{logged}");
    for secret in [PASSWORD, "adventurer", "eHl6enktcGx1Z2g"] {
        assert!(!shown.contains(secret), "status or event holds {secret}");
        assert!(!logged.contains(secret), "the log holds {secret}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_says_so_without_the_controllers_rights() {
    let stage = stage(&FLAGS, 2, |stage| {
        stage
            .server
            .break_at(Method::GET, "/secrets/", Fault::Code(403));
    })
    .await;
    assert_metrics_fail(&stage, "LoginUnreadable", "the operator finds the cause");
    let (_, _, message) = stage.server.condition("llama", "MetricsAvailable");
    assert!(!message.contains("broken on purpose"), "{message}");
}
