//! The server: HTTPS around the pure admission, and all the parts put together.
//!
//! A review gets 200 whatever the verdict, for the verdict is in the answer. What is no review gets
//! 400 with what is wrong. After the signal to stop, readiness is gone at once and calls are
//! answered for the linger time, until the API server has stopped sending them.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use pd_runtime::{
    post_only::PostOnly, process::Process, rotation::Rotation, server, shutdown::Ending,
    tls::Certificates,
};
use pd_tolerations::mirror::Margin;

use crate::{
    admission::{self, Answered, ReviewError, Rewriting},
    args::Args,
    claims::Claims,
    configurations::Configurations,
    feature_gate::{self, FeatureGate},
    metrics::Metrics,
    scope,
};

/// Largest body, bytes: an object is at most 3 MiB, and an update brings two.
const BODY_MAX: usize = 16 << 20;

/// Runs until a signal ends it.
pub async fn serve(args: Args) -> anyhow::Result<Ending> {
    let process = Process::prepare(&args.process, crate::NAME, crate::VERSION).await?;
    let gate_ready = process.readiness.register("gate");
    let certificate_ready = process.readiness.register("certificate");
    let metrics = Arc::new(Metrics::default());
    process
        .serve_admin(|registry| metrics.register(registry))
        .await?;
    let Process {
        shutdown, client, ..
    } = process;

    let (gate, certificates) = (FeatureGate::default(), Certificates::default());
    let (claims, index_writer) = Claims::new();
    let wanted = claims.wanted();
    let preferred = args.webhook.prefer_margin.margin();
    let app = router(gate.clone(), preferred, claims, metrics.clone());
    let endpoint = server::Endpoint {
        name: "webhook",
        address: args.webhook.webhook_address,
        flag: "--webhook-address",
    };
    server::serve(&endpoint, app, Some(&certificates), &shutdown).await?;

    let webhook = args.webhook;
    let namespace = args.certificates.namespace.clone();
    shutdown.spawn_until_stopped("claims", index_writer.follow(client.clone()));
    let scope = scope::keep(client.clone(), webhook.configuration.clone(), wanted);
    shutdown.spawn_until_stopped("scope", scope);
    let rotation = Rotation {
        owner: crate::NAME,
        client: client.clone(),
        args: args.certificates,
        certificates,
        ends: metrics.certificate_ends.clone(),
        publish: Configurations {
            client: client.clone(),
            name: webhook.configuration,
        },
    };
    shutdown.spawn_until_stopped("certificate", rotation.keep(certificate_ready));
    let watch = feature_gate::watch(
        gate,
        webhook.gate,
        client,
        namespace,
        webhook.probe_interval,
        gate_ready,
        metrics,
    );
    shutdown.spawn_until_stopped("gate", watch);
    let stopping = shutdown.stopping();
    shutdown.spawn("linger", async move {
        stopping.cancelled().await;
        tokio::time::sleep(webhook.linger).await;
    });
    Ok(shutdown.wait().await)
}

#[derive(Debug, Clone)]
struct Webhook {
    gate: FeatureGate,
    preferred: Option<Margin>,
    claims: Claims,
    metrics: Arc<Metrics>,
}

/// The webhook's routes. `preferred` says which nodes new pods prefer by margin, if any.
pub fn router(
    gate: FeatureGate,
    preferred: Option<Margin>,
    claims: Claims,
    metrics: Arc<Metrics>,
) -> Router {
    let webhook = Webhook {
        gate,
        preferred,
        claims,
        metrics,
    };
    let routes = Router::new()
        .route("/mutate", post(mutate))
        .route("/hold", post(hold))
        .route("/validate", post(validate));
    let edge = PostOnly {
        body_max: BODY_MAX,
        caller: "the API server posts its reviews",
        paths: "use /mutate, /hold or /validate",
        refuse: fault,
    };
    edge.around(routes).with_state(webhook)
}

async fn mutate(State(webhook): State<Webhook>, body: Result<Bytes, BytesRejection>) -> Response {
    let rewriting = Rewriting {
        gate: webhook.gate.read(),
        preferred: webhook.preferred,
    };
    let claims = webhook.claims.clone();
    webhook.answer("mutate", body.as_ref().map(|body| &**body), |body| {
        admission::mutate(body, rewriting, &claims)
    })
}

async fn hold(State(webhook): State<Webhook>, body: Result<Bytes, BytesRejection>) -> Response {
    let claims = webhook.claims.clone();
    webhook.answer("hold", body.as_ref().map(|body| &**body), |body| {
        admission::hold(body, &claims)
    })
}

async fn validate(State(webhook): State<Webhook>, body: Result<Bytes, BytesRejection>) -> Response {
    let claims = webhook.claims.clone();
    webhook.answer("validate", body.as_ref().map(|body| &**body), |body| {
        admission::validate(body, &claims)
    })
}

impl Webhook {
    fn answer<F>(
        &self,
        name: &'static str,
        body: Result<&[u8], &BytesRejection>,
        review: F,
    ) -> Response
    where
        F: FnOnce(&[u8]) -> Result<Answered, ReviewError>,
    {
        let started = Instant::now();
        let (outcome, response) = match body.map(review) {
            Err(rejection) => (
                "bad",
                fault(
                    rejection.status(),
                    &format!("body cannot be read: {}", rejection.body_text()),
                ),
            ),
            Ok(Err(error)) => ("bad", fault(StatusCode::BAD_REQUEST, &error.to_string())),
            Ok(Ok(answered)) => {
                let kind = [(header::CONTENT_TYPE, "application/json")];
                (
                    answered.outcome.as_str(),
                    (kind, answered.body).into_response(),
                )
            }
        };
        self.metrics.reviewed(name, outcome, started.elapsed());
        response
    }
}

fn fault(status: StatusCode, message: &str) -> Response {
    (status, format!("{message}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use pd_tolerations::Comparison;
    use rstest::rstest;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(method: &str, path: &str, body: String) -> (StatusCode, String) {
        let (claims, _index_writer) = Claims::new();
        let gate = FeatureGate::fixed(Comparison::Off);
        let router = router(gate, None, claims, Arc::default());
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::from(body)).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[rstest]
    #[case::no_json("POST", "/mutate", "{", 400, "no AdmissionReview")]
    #[case::no_request(
        "POST",
        "/validate",
        r#"{"apiVersion":"admission.k8s.io/v1"}"#,
        400,
        "`request` is missing"
    )]
    #[case::another_method("GET", "/mutate", "", 405, "not POST")]
    #[case::another_path("POST", "/convert", "{}", 404, "`/convert`")]
    #[tokio::test]
    async fn bad_calls_get_a_status_and_a_message(
        #[case] method: &str,
        #[case] path: &str,
        #[case] body: &str,
        #[case] status: u16,
        #[case] says: &str,
    ) {
        let (got, answer) = ask(method, path, body.to_owned()).await;
        assert_eq!(got.as_u16(), status);
        assert!(answer.contains(says), "{answer}");
    }

    #[tokio::test]
    async fn reviews_are_answered_whatever_the_verdict_and_only_if_small_enough() {
        let review = r#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","operation":"CREATE","kind":{"group":"","kind":"Pod"},"object":{"spec":{"tolerations":3}}}}"#;
        let (status, answer) = ask("POST", "/mutate", review.to_owned()).await;
        assert_eq!(status, StatusCode::OK);
        assert!(answer.contains(r#""allowed":false"#), "{answer}");
        let (status, _) = ask("POST", "/mutate", " ".repeat(BODY_MAX + 1)).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
