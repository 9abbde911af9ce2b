//! Servers that lie, flood, redirect and stay silent, and logins as they arrive.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body as HttpBody, Bytes},
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response as HttpResponse},
};
use rstest::rstest;
use tokio::net::TcpListener;

use super::*;

const ONE_VALUE: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1,"2.5"]}]}}"#;

/// A server that answers every request by `answer`, and the address it has.
async fn serve<R: IntoResponse>(
    answer: impl Fn(Request) -> R + Clone + Send + Sync + 'static,
) -> String {
    let app = Router::new().fallback(move |request: Request| {
        let answer = answer(request).into_response();
        async move { answer }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

fn servers() -> Servers {
    Servers::new(Duration::from_secs(5), "test", "0")
}

async fn ask(endpoint: &Endpoint) -> Result<Answer<Sample>, QueryError> {
    servers().query(endpoint, "up").await
}

async fn ask_operators(url: &str) -> Result<Answer<Sample>, QueryError> {
    ask(&Endpoint::open(url, Owner::Operator)).await
}

fn tenants(url: &str, is_host_allowed: bool) -> Endpoint {
    Endpoint::open(url, Owner::Tenant { is_host_allowed })
}

#[tokio::test]
async fn a_native_histogram_is_read_beside_numbers() {
    let histogram = r#"{"metric":{"pod":"b"},"histogram":[1,{"count":"40","sum":"1.2","buckets":[[0,"0.01","0.02","10"],[0,"0.02","0.04","30"]]}]}"#;
    let body = ONE_VALUE.replace(r#"[{"metric""#, &format!(r#"[{histogram},{{"metric""#));
    let url = serve(move |_| body.clone()).await;
    let answer = ask_operators(&url).await.unwrap();
    assert_eq!(answer.values.len(), 1);
    let [histogram] = answer.histograms.as_slice() else {
        panic!("one histogram")
    };
    assert_eq!((histogram.count, histogram.sum), (40.0, 1.2));
    assert_eq!(histogram.buckets, [(0.02, 10.0), (0.04, 30.0)]);
    assert_eq!(histogram.labels["pod"], "b");
}

#[rstest]
#[case::of_thanos("No StoreAPIs matched for this query", 1)]
#[case::of_samples_left_out("PromQL warning: a mix of histograms and floats", 1)]
#[case::a_remark_on_the_style("PromQL info: metric might not be a counter", 0)]
#[tokio::test]
async fn a_remark_on_the_style_of_a_query_is_no_warning(#[case] text: &str, #[case] count: usize) {
    let body = ONE_VALUE.replace(r#""status""#, &format!(r#""warnings":["{text}"],"status""#));
    let url = serve(move |_| body.clone()).await;
    let answer = ask_operators(&url).await.unwrap();
    assert_eq!(answer.warnings.len(), count);
}

#[tokio::test]
async fn an_answer_is_read_with_its_warnings() {
    let body = ONE_VALUE.replace(
        r#""status""#,
        r#""warnings":["a store is down"],"infos":["i"],"status""#,
    );
    let url = serve(move |_| body.clone()).await;
    let (values, warnings) = ask_operators(&url).await.unwrap().into_parts();
    assert_eq!(values.len(), 1);
    assert_eq!((values[0].label("pod"), values[0].value), ("a", 2.5));
    assert_eq!(warnings, ["a store is down"]);
}

#[rstest]
#[case::html("<html>metadata token: s3cret</html>", "unreachable")]
#[case::empty("", "unreachable")]
#[case::other_json(r#"{"access_token":"s3cret"}"#, "unreachable")]
#[case::no_data(r#"{"status":"success"}"#, "unreachable")]
#[case::wrong_values(
    r#"{"status":"success","data":{"resultType":"vector","result":["s3cret"]}}"#,
    "unreachable"
)]
#[case::text(
    r#"{"status":"success","data":{"resultType":"string","result":[1,"s3cret"]}}"#,
    "not_a_vector"
)]
#[case::timeout(
    r#"{"status":"error","errorType":"timeout","error":"s3cret"}"#,
    "unreachable"
)]
#[case::parse(
    r#"{"status":"error","errorType":"bad_data","error":"s3cret"}"#,
    "refused"
)]
#[case::execution(
    r#"{"status":"error","errorType":"execution","error":"s3cret"}"#,
    "refused"
)]
#[tokio::test]
async fn a_tenant_never_reads_what_a_server_of_its_own_says(
    #[case] body: &'static str,
    #[case] category: &str,
) {
    let url = serve(move |_| body).await;
    let error = ask(&tenants(&url, true)).await.unwrap_err();
    assert_eq!(error.category(), category);
    assert!(
        !error.for_tenant().contains("s3cret"),
        "{}",
        error.for_tenant()
    );
}

#[tokio::test]
async fn the_operators_server_may_say_why_a_text_is_no_query_and_nothing_else() {
    let answer =
        |kind: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"s3cret"}}"#);
    for (kind, shown) in [
        ("bad_data", true),
        ("execution", false),
        ("internal", false),
    ] {
        let body = answer(kind);
        let url = serve(move |_| (StatusCode::BAD_REQUEST, body.clone())).await;
        let error = ask_operators(&url).await.unwrap_err();
        assert!(
            error.to_string().contains("s3cret"),
            "the log shows it: {error}"
        );
        assert_eq!(error.for_tenant().contains("s3cret"), shown, "{kind}");
        assert!(!error.for_tenant().contains(&url), "{}", error.for_tenant());
    }
}

/// A body of `chunks` pieces of a mebibyte, sent without its length.
fn endless(chunks: usize) -> HttpResponse {
    let chunk = Bytes::from(vec![b' '; 1 << 20]);
    let chunks =
        futures::stream::iter((0..chunks).map(move |_| Ok::<_, Infallible>(chunk.clone())));
    HttpBody::from_stream(chunks).into_response()
}

#[tokio::test]
async fn a_body_ends_at_its_limit_whatever_its_length_says() {
    let url = serve(|_| endless(usize::MAX)).await;
    let error = ask_operators(&url).await.unwrap_err();
    assert_eq!(error.category(), "too_large");
    let announced = || ([(header::CONTENT_LENGTH, "629145600")], endless(600)).into_response();
    let url = serve(move |_| announced()).await;
    assert_eq!(
        ask_operators(&url).await.unwrap_err().category(),
        "too_large"
    );
}

#[tokio::test]
async fn an_answer_of_many_small_samples_is_too_large() {
    let sample = r#"{"metric":{},"value":[0,"0"]}"#;
    let samples = vec![sample; answer::SAMPLES_MAX + 1].join(",");
    let body =
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{samples}]}}}}"#);
    let url = serve(move |_| body.clone()).await;
    assert_eq!(
        ask_operators(&url).await.unwrap_err().category(),
        "too_large"
    );
}

#[tokio::test]
async fn tenants_that_use_up_their_memory_leave_the_operators() {
    let servers = servers();
    let body = format!(
        "{}{ONE_VALUE}",
        " ".repeat(answer::BODY_BYTES_MAX - ONE_VALUE.len())
    );
    let url = serve(move |_| body.clone()).await;
    let mine = tenants(&url, true);
    let held = servers.query(&mine, "up").await.unwrap();
    let blocked = servers.query(&mine, "up").await.unwrap_err();
    assert_eq!(blocked.category(), "unreachable", "{blocked}");
    let operators = Endpoint::open(&url, Owner::Operator);
    assert_eq!(
        servers.query(&operators, "up").await.unwrap().values.len(),
        1
    );
    drop(held.into_parts());
    assert_eq!(servers.query(&mine, "up").await.unwrap().values.len(), 1);
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let asked = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&asked);
    let target = serve(move |_| {
        *counted.lock().unwrap() += 1;
        ONE_VALUE
    })
    .await;
    for status in [301, 302, 307, 308] {
        let location = target.clone();
        let url = serve(move |_| {
            let status = StatusCode::from_u16(status).unwrap();
            (
                status,
                Redirect::temporary(&location)
                    .into_response()
                    .into_parts()
                    .0
                    .headers,
            )
        })
        .await;
        assert_eq!(
            ask_operators(&url).await.unwrap_err().category(),
            "unreachable"
        );
    }
    assert_eq!(*asked.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_tenants_server_has_no_local_address() {
    let asked = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&asked);
    let url = serve(move |_| {
        *counted.lock().unwrap() += 1;
        ONE_VALUE
    })
    .await;
    let port = url.rsplit_once(':').unwrap().1;
    let hosts = [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "127.1",
        "0x7f000001",
        "2130706433",
    ];
    for host in hosts {
        let endpoint = tenants(&format!("http://{host}:{port}"), false);
        let error = ask(&endpoint).await.unwrap_err();
        assert_eq!(error.category(), "unreachable", "{host}");
    }
    assert_eq!(*asked.lock().unwrap(), 0);
    assert!(ask(&tenants(&url, true)).await.is_ok());
}

#[tokio::test]
async fn a_query_that_a_proxy_finds_too_long_is_at_fault_itself_but_not_before_tenants() {
    for status in [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::URI_TOO_LONG] {
        let url = serve(move |_| (status, "<html>too large</html>")).await;
        let error = ask_operators(&url).await.unwrap_err();
        assert!(error.is_query_at_fault(), "{error}");
        assert!(error.to_string().contains("too long"), "{error}");
        let error = ask(&tenants(&url, true)).await.unwrap_err();
        assert_eq!(error.category(), "unreachable");
    }
}

#[tokio::test]
async fn refused_silent_and_wrong_servers_read_the_same_to_tenants() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let closed: SocketAddr = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let wrong = serve(|_| (StatusCode::FORBIDDEN, "no")).await;
    let servers = Servers::new(Duration::from_millis(200), "test", "0");
    let mut texts = Vec::new();
    for url in [silent, format!("http://{closed}"), wrong] {
        let error = servers.query(&tenants(&url, true), "up").await.unwrap_err();
        texts.push(error.for_tenant().replace(&url, "URL"));
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

/// The authorization that a server gets, and what is configured for it.
#[tokio::test]
async fn the_login_is_sent_and_read_again_from_its_file() {
    tokio::time::pause();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let store = Arc::clone(&seen);
    let url = serve(move |request: Request| {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        store
            .lock()
            .unwrap()
            .push((header("authorization"), header("x-scope-orgid")));
        ONE_VALUE
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "first\n").unwrap();
    let endpoint = Endpoint {
        login: Login::Bearer(Material::File(file.clone())),
        headers: vec![("x-scope-orgid".to_owned(), "a".to_owned())],
        ..Endpoint::open(&url, Owner::Operator)
    };
    let servers = servers();
    tokio::time::resume();
    servers.query(&endpoint, "up").await.unwrap();
    fs::write(&file, "second").unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    servers.query(&endpoint, "up").await.unwrap();
    let basic = Endpoint {
        login: Login::Basic {
            user: "Aladdin".to_owned(),
            password: Material::Text(Hidden::from("open sesame".to_owned())),
        },
        ..Endpoint::open(&url, Owner::Operator)
    };
    servers.query(&basic, "up").await.unwrap();
    let some = |text: &str| Some(text.to_owned());
    let expected = [
        (some("Bearer first"), some("a")),
        (some("Bearer second"), some("a")),
        // The example of RFC 7617.
        (some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), None),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_missing_file_is_named_to_the_operator_alone() {
    let endpoint = Endpoint {
        login: Login::Bearer(Material::File("/nowhere/token".into())),
        ..Endpoint::open("http://127.0.0.1:9", Owner::Operator)
    };
    let error = ask(&endpoint).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/token"), "{error}");
    assert!(!error.for_tenant().contains("nowhere"));
}

#[test]
fn failures_of_a_login_are_among_the_categories() {
    let (field, secret) = ("auth", "login".to_owned());
    let errors = [
        QueryError::LoginInvalid {
            field,
            secret: secret.clone(),
            remedy: "is empty".to_owned(),
        },
        QueryError::LoginUnreadable {
            field,
            secret,
            cause: "forbidden".to_owned(),
        },
    ];
    for error in errors {
        let category = error.category();
        assert!(QueryError::CATEGORIES.contains(&category), "{category}");
    }
}
