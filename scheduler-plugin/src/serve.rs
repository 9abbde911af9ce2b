//! `pd-scheduler-plugin serve`: HTTP and a node cache around the pure extender.
//!
//! Only status 200 is an answer to the scheduler. Before the nodes are listed every call gets 503,
//! for an extender that guesses is worse than one that is waited for. A body that is no call gets
//! 400 and says what is wrong; a filter call that is well-formed and cannot be served (whole nodes
//! instead of names) is answered with `Error`, which the scheduler shows in the pod's event.
//! Answers have a Content-Length, so that the scheduler can keep its connections.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use pd_runtime::{
    post_only::PostOnly,
    process::Process,
    rotation::Rotation,
    server::{self, Endpoint},
    shutdown::Ending,
    tls::Certificates,
};
use serde_json::json;

use crate::{
    args::ServeArgs,
    extender::{self, Answered, CallError, Kind, Margin},
    metrics::Metrics,
    nodes::{NodeCache, Nodes},
};

/// Largest body, bytes: 15,000 long names are 4 MiB at most, and a pod 1.5 MiB.
const BODY_MAX: usize = 8 << 20;

/// Runs until a signal ends it.
pub async fn serve(args: ServeArgs) -> anyhow::Result<Ending> {
    let process = Process::prepare(&args.process, crate::NAME, crate::VERSION).await?;
    let nodes_ready = process.readiness.register("nodes");
    let metrics = Arc::new(Metrics::default());
    process
        .serve_admin(|registry| metrics.register(registry))
        .await?;
    let Process {
        shutdown,
        client,
        readiness,
        ..
    } = process;
    let cache = NodeCache::default();
    let certificates = args.extender.tls.then(Certificates::default);
    if let Some(certificates) = &certificates {
        let rotation = Rotation {
            owner: crate::NAME,
            client: client.clone(),
            args: args.certificates,
            certificates: certificates.clone(),
            ends: metrics.certificate_ends.clone(),
            publish: (),
        };
        let ready = readiness.register("certificate");
        shutdown.spawn_until_stopped("certificate", rotation.keep(ready));
    }
    let endpoint = Endpoint {
        name: "extender",
        address: args.extender.extender_address,
        flag: "--extender-address",
    };
    let app = router(cache.clone(), args.extender.prefer_margin, metrics);
    server::serve(&endpoint, app, certificates.as_ref(), &shutdown).await?;
    shutdown.spawn_until_stopped("nodes", async move {
        cache.follow(client, nodes_ready).await;
    });
    Ok(shutdown.wait().await)
}

#[derive(Debug, Clone)]
struct Extender {
    cache: NodeCache,
    prefer: Margin,
    metrics: Arc<Metrics>,
}

/// The extender's routes.
pub fn router(cache: NodeCache, prefer: Margin, metrics: Arc<Metrics>) -> Router {
    let extender = Extender {
        cache,
        prefer,
        metrics,
    };
    let routes = Router::new()
        .route("/filter", post(filter))
        .route("/prioritize", post(prioritize));
    let edge = PostOnly {
        body_max: BODY_MAX,
        caller: "the scheduler posts its calls",
        paths: "set filterVerb: filter and prioritizeVerb: prioritize",
        refuse: fault,
    };
    edge.around(routes).with_state(extender)
}

async fn filter(State(extender): State<Extender>, body: Result<Bytes, BytesRejection>) -> Response {
    extender.answer("filter", body, |body, nodes, _| {
        extender::filter(body, nodes)
    })
}

async fn prioritize(
    State(extender): State<Extender>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    extender.answer("prioritize", body, |body, nodes, prefer| {
        extender::prioritize(body, nodes, prefer)
    })
}

impl Extender {
    fn answer<F>(&self, verb: &'static str, body: Result<Bytes, BytesRejection>, ask: F) -> Response
    where
        F: FnOnce(&[u8], &Nodes, Margin) -> Result<Answered, CallError>,
    {
        let started = Instant::now();
        let nodes = self.cache.read();
        let known = nodes.as_ref().map_or(0, Nodes::len);
        let (outcome, response) = match (body, nodes.as_ref()) {
            (Err(rejection), _) => ("bad", rejected(&rejection)),
            (Ok(_), None) => {
                let message = "the nodes are not listed yet: ask again when /readyz says so";
                ("unready", fault(StatusCode::SERVICE_UNAVAILABLE, message))
            }
            (Ok(body), Some(nodes)) => match ask(&body, nodes, self.prefer) {
                Ok(answered) => (outcome(answered.kind), json_body(answered.body)),
                Err(error @ CallError::NoNames) if verb == "filter" => {
                    ("bad", json_body(extender::filter_error(&error.to_string())))
                }
                Err(error) => ("bad", fault(StatusCode::BAD_REQUEST, &error.to_string())),
            },
        };
        drop(nodes);
        self.metrics.called(verb, outcome, started.elapsed(), known);
        response
    }
}

const fn outcome(kind: Kind) -> &'static str {
    match kind {
        Kind::Unmanaged => "passed",
        Kind::Managed => "judged",
        Kind::Broken => "refused",
    }
}

fn json_body(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn rejected(rejection: &BytesRejection) -> Response {
    let status = rejection.status();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let message = format!(
            "body is larger than {BODY_MAX} bytes: set nodeCacheCapable: true, so that names are sent instead of nodes"
        );
        return fault(status, &message);
    }
    fault(
        status,
        &format!("body cannot be read: {}", rejection.body_text()),
    )
}

fn fault(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "Error": message }))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use pd_tolerations::{Effect, Taint};
    use rstest::rstest;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;

    const CALL: &str = r#"{"Pod":{"spec":{"tolerations":[{"key":"sla","operator":"Gt","value":"900"}]}},"Nodes":null,"NodeNames":["a","b"]}"#;

    fn synced() -> NodeCache {
        let cache = NodeCache::default();
        let mut nodes = Nodes::default();
        for (name, value) in [("a", "950"), ("b", "800")] {
            let taint = Taint::new("sla", value, Effect::NoSchedule);
            nodes.set(name.to_owned(), vec![taint]);
        }
        cache.replace(nodes);
        cache
    }

    async fn ask(cache: NodeCache, method: &str, path: &str, body: String) -> (StatusCode, Value) {
        let router = router(cache, Margin::Most, Arc::default());
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::from(body)).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn calls_are_answered_once_the_nodes_are_known() {
        let (status, answer) = ask(synced(), "POST", "/filter", CALL.to_owned()).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(answer["NodeNames"], json!(["a"]));
        let (status, answer) = ask(synced(), "POST", "/prioritize", CALL.to_owned()).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(answer, json!([{ "Host": "a", "Score": 10 }]));
        for path in ["/filter", "/prioritize"] {
            let (status, answer) = ask(NodeCache::default(), "POST", path, CALL.to_owned()).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer["Error"].as_str().unwrap().contains("not listed yet"));
        }
    }

    #[rstest]
    #[case::no_json("POST", "/filter", "{", 400, "EOF")]
    #[case::no_json_to_score("POST", "/prioritize", "{", 400, "EOF")]
    #[case::another_method("GET", "/filter", "", 405, "not POST")]
    #[case::another_path("POST", "/bind", "{}", 404, "`/bind`")]
    #[case::whole_nodes("POST", "/filter", r#"{"Pod":{},"Nodes":{}}"#, 200, "nodeCacheCapable")]
    #[case::whole_nodes_to_score(
        "POST",
        "/prioritize",
        r#"{"Pod":{},"Nodes":{}}"#,
        400,
        "nodeCacheCapable"
    )]
    #[tokio::test]
    async fn bad_calls_get_a_status_and_a_message(
        #[case] method: &str,
        #[case] path: &str,
        #[case] body: &str,
        #[case] status: u16,
        #[case] says: &str,
    ) {
        let (got, answer) = ask(synced(), method, path, body.to_owned()).await;
        assert_eq!(got.as_u16(), status);
        assert!(answer["Error"].as_str().unwrap().contains(says), "{answer}");
    }

    #[tokio::test]
    async fn a_body_too_large_is_refused_with_the_cause() {
        let (status, answer) = ask(synced(), "POST", "/filter", " ".repeat(BODY_MAX + 1)).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(
            answer["Error"]
                .as_str()
                .unwrap()
                .contains("nodeCacheCapable")
        );
    }
}
