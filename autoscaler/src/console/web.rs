//! The pages over HTTP: routes, the headers that keep them safe, and the limits of one caller.
//!
//! Every route is a read, and there is neither cookie nor login: whoever reaches the port sees
//! everything, so that it is off by default. A browser may load nothing from elsewhere, and no page
//! of elsewhere may show or read these: frames are refused, and so are host names that are not
//! known, by which a foreign page could reach a forwarded port (DNS rebinding).

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    detail,
    frame::{Page, framed},
    json, list,
    query::Query,
    source::Source,
};

static STYLE: &str = include_str!("page.css");
static SCRIPT: &str = include_str!("page.js");
static ICON: &str = include_str!("icon.svg");

/// Pages that are made at the same time: the decisions of the controller go on beside them.
const AT_ONCE: usize = 2;
/// How long a request waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(5);

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// On every answer.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// Everything that requests share.
#[derive(Clone, Debug)]
struct Shared {
    source: Arc<Source>,
    turns: Arc<Semaphore>,
    hosts: Arc<[String]>,
}

/// The routes over `source`. `hosts` are names beside those that [`is_known`] knows by itself.
pub fn router(source: Arc<Source>, hosts: &[String]) -> Router {
    let shared = Shared {
        source,
        turns: Arc::new(Semaphore::new(AT_ONCE)),
        hosts: hosts.iter().map(|host| host.to_lowercase()).collect(),
    };
    Router::new()
        .route("/", get(list_page))
        .route("/pdautoscalers/{namespace}/{name}", get(object_page))
        .route("/api/pdautoscalers", get(list_json))
        .route("/api/pdautoscalers/{namespace}/{name}", get(object_json))
        .route(
            "/console.css",
            get(async || typed("text/css; charset=utf-8", STYLE)),
        )
        .route(
            "/console.js",
            get(async || typed("text/javascript; charset=utf-8", SCRIPT)),
        )
        .route("/favicon.svg", get(async || typed("image/svg+xml", ICON)))
        .fallback(async || {
            let text = "path is not served: begin at /, or at /api/pdautoscalers\n";
            (StatusCode::NOT_FOUND, typed(TEXT, text))
        })
        .method_not_allowed_fallback(async || {
            let text = "method is not GET or HEAD: the console only reads\n";
            let allowed = [(header::ALLOW, "GET, HEAD")];
            (StatusCode::METHOD_NOT_ALLOWED, allowed, typed(TEXT, text))
        })
        .layer(from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

fn typed(kind: &'static str, body: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, kind)], body.into()).into_response()
}

/// Refuses unknown hosts, and puts the headers on every answer.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = match unknown_host(&shared.hosts, &request) {
        Some(host) => {
            let text = format!(
                "host `{host}` is not known here: open the page by the address or name of the Service, or name the host in --console-hosts\n"
            );
            (StatusCode::MISDIRECTED_REQUEST, typed(TEXT, text)).into_response()
        }
        None => next.run(request).await,
    };
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in &HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The host that a request was sent to, if it is not one of ours. Only a browser can be led astray,
/// and it names a host always.
fn unknown_host(hosts: &[String], request: &Request) -> Option<String> {
    let named = request.headers().get(header::HOST);
    let authority = match (request.uri().authority(), named) {
        (Some(authority), _) => authority.as_str().to_owned(),
        (None, Some(host)) => String::from_utf8_lossy(host.as_bytes()).into_owned(),
        (None, None) => return None,
    };
    (!is_known(hosts, &authority)).then_some(authority)
}

/// Whether `authority` is an address, a name without a dot such as localhost, the name of a Service
/// or one of `hosts`. No other page can have such a name.
fn is_known(hosts: &[String], authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.to_lowercase();
    let host = host.trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || !host.contains('.')
        || [".svc", ".svc.cluster.local", ".localhost"]
            .iter()
            .any(|suffix| host.ends_with(suffix))
        || hosts.iter().any(|known| known == host || known == "*")
}

/// The answer that `make` makes, when its turn comes, beside the threads that decide.
async fn in_turn(
    shared: Shared,
    make: impl FnOnce(&Source) -> Response + Send + 'static,
) -> Response {
    let Ok(Ok(turn)) = timeout(TURN_WITHIN, shared.turns.acquire_owned()).await else {
        let text = "too many requests at once: try again\n";
        let later = [(header::RETRY_AFTER, "5")];
        return (StatusCode::SERVICE_UNAVAILABLE, later, typed(TEXT, text)).into_response();
    };
    let response = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        make(&shared.source)
    });
    response.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a page of the console could not be made");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

fn shown(status: StatusCode, source: &Source, query: &Query, page: &Page) -> Response {
    (status, typed(HTML, framed(source, query, page))).into_response()
}

fn encoded(json: serde_json::Result<String>) -> Response {
    match json {
        Ok(json) => typed(JSON, json),
        Err(error) => {
            tracing::error!(%error, "an answer of the console could not be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn list_page(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    in_turn(shared, move |source| {
        let query = Query::of(query.as_deref());
        shown(StatusCode::OK, source, &query, &list::page(source, &query))
    })
    .await
}

async fn object_page(
    State(shared): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    in_turn(shared, move |source| {
        let query = Query::of(query.as_deref());
        if let Some(object) = source.object(&namespace, &name) {
            let page = detail::page(source, &query, &object);
            return shown(StatusCode::OK, source, &query, &page);
        }
        let page = detail::missing(&namespace, &name);
        shown(StatusCode::NOT_FOUND, source, &query, &page)
    })
    .await
}

async fn list_json(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    in_turn(shared, move |source| {
        encoded(json::list(source, &Query::of(query.as_deref())))
    })
    .await
}

async fn object_json(
    State(shared): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    in_turn(shared, move |source| {
        if let Some(object) = source.object(&namespace, &name) {
            return encoded(json::object(source, &object));
        }
        let text = "{\"error\":\"this controller handles no such PDAutoscaler\"}";
        (StatusCode::NOT_FOUND, typed(JSON, text)).into_response()
    })
    .await
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("localhost:8085", true)]
    #[case("127.0.0.1", true)]
    #[case("[::1]:8085", true)]
    #[case("[fd00::1]", true)]
    #[case("pd-autoscaler-console:8085", true)]
    #[case("pd-autoscaler-console.pd-system.svc:8085", true)]
    #[case("pd-autoscaler-console.pd-system.svc.cluster.local.", true)]
    #[case("PD.Example.com", true)]
    #[case("evil.example.com:8085", false)]
    #[case("pd.example.com.evil.org", false)]
    #[case("x.svc.evil.org", false)]
    #[case("127.0.0.1.evil.org", false)]
    #[case("evilsvc.org", false)]
    fn only_names_that_no_stranger_can_have_are_known(#[case] host: &str, #[case] want: bool) {
        let hosts = ["pd.example.com".to_owned()];
        assert_eq!(is_known(&hosts, host), want);
        assert!(is_known(&["*".to_owned()], host));
    }
}
