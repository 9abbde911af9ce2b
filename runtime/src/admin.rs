//! The admin server: `/livez`, `/readyz` and `/metrics` over plain HTTP, for the kubelet and
//! Prometheus.
//!
//! Owns the three answers. `/livez` says only that the process still answers: tying it to a
//! dependency would make the kubelet restart a healthy process because something else is down.
//! `/readyz` shows the [`Readiness`] checks, with status 503 while any of them waits. It refuses to
//! change anything: all routes are reads, so the port needs no authentication.
//!
//! The server is a service of the [`Shutdown`]: it answers until the work has drained.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use clap::Args;
use prometheus_client::{encoding::text, registry::Registry};

use crate::{
    readiness::Readiness,
    server::{self, Endpoint, ServerError},
    shutdown::Shutdown,
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The flags of the admin server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Admin server")]
pub struct AdminArgs {
    /// Address that serves /livez, /readyz and /metrics. Port 0 takes a free port, which is logged.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)))]
    pub admin_address: SocketAddr,
}

/// The routes, to serve as they are or to merge with a binary's own pages.
pub fn router(readiness: Readiness, metrics: Arc<Registry>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(async move || readyz(&readiness)))
        .route("/metrics", get(async move || exposition(&metrics)))
}

/// Serves `router` until the shutdown has drained, and returns the address it listens on.
pub async fn serve(
    args: &AdminArgs,
    router: Router,
    shutdown: &Shutdown,
) -> Result<SocketAddr, ServerError> {
    let endpoint = Endpoint {
        name: "admin server",
        address: args.admin_address,
        flag: "--admin-address",
    };
    server::serve(&endpoint, router, None, shutdown).await
}

fn readyz(readiness: &Readiness) -> Response {
    let report = readiness.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

fn exposition(metrics: &Registry) -> Response {
    let mut body = String::new();
    match text::encode(&mut body, metrics) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt as _;

    use super::*;
    use crate::metrics;

    async fn get_path(router: &Router, path: &str) -> (StatusCode, String, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let kind = response.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    fn fixture() -> (Router, Readiness) {
        let readiness = Readiness::new(CancellationToken::new());
        let registry = Arc::new(metrics::registry("pd-autoscaler", "1.2.3"));
        (router(readiness.clone(), registry), readiness)
    }

    #[tokio::test]
    async fn livez_answers_while_nothing_is_ready() {
        let (router, readiness) = fixture();
        readiness.register("caches-synced");
        let (status, _, body) = get_path(&router, "/livez").await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "ok\n"));
    }

    #[tokio::test]
    async fn readyz_lists_what_is_still_waiting() {
        let (router, readiness) = fixture();
        let caches = readiness.register("caches-synced");
        readiness.register("crd").set_ready();
        caches.set_waiting("pods: 403 Forbidden");

        let (status, kind, body) = get_path(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(kind, "application/json");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&body).unwrap(),
            serde_json::json!({
                "ready": false,
                "checks": {
                    "caches-synced": {"state": "waiting", "reason": "pods: 403 Forbidden"},
                    "crd": {"state": "ready"},
                },
            })
        );

        caches.set_ready();
        assert_eq!(get_path(&router, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_openmetrics_text() {
        let (router, _) = fixture();
        let (status, kind, body) = get_path(&router, "/metrics").await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, OPENMETRICS));
        assert!(
            body.contains("pd_build_info{binary=\"pd-autoscaler\",version=\"1.2.3\"} 1\n"),
            "{body}"
        );
        assert!(body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn a_free_port_is_taken_and_served_until_the_work_has_drained() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let readiness = Readiness::new(shutdown.stopping());
        let router = router(readiness, Arc::new(Registry::default()));
        let args = AdminArgs {
            admin_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        let address = serve(&args, router, &shutdown).await.unwrap();
        assert_ne!(address.port(), 0);

        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        shutdown.spawn("work", async move { finished.await.unwrap() });
        assert!(ask(address).await.starts_with("HTTP/1.0 200"));
        shutdown.trigger();
        assert!(ask(address).await.starts_with("HTTP/1.0 503"));
        finish.send(()).unwrap();
        assert!(shutdown.wait().await.is_clean());
        assert!(TcpStream::connect(address).await.is_err());
    }

    async fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /readyz HTTP/1.0\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_taken_address_is_refused_with_a_remedy() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let args = AdminArgs {
            admin_address: taken.local_addr().unwrap(),
        };
        let shutdown = Shutdown::new(Duration::ZERO);
        let message = serve(&args, Router::new(), &shutdown)
            .await
            .unwrap_err()
            .to_string();
        assert!(message.contains("--admin-address"), "{message}");
    }
}
