//! A way to an API server whose watches are late, as a slow network or a busy API server makes
//! them, or are broken.
//!
//! Everything is passed on as it is, with the administrator's rights; what a watch has to say is
//! held back for a set time. So a race between two watchers can be lost on purpose. While watches
//! are [broken](LateWatches::break_watches), those that run are cut, and neither they nor lists of
//! nodes and pods are answered; all else still is.

use std::{path::PathBuf, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Client;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::sleep};

use crate::control_plane::ControlPlane;

/// A proxy that is there until it is dropped.
#[derive(Debug)]
pub struct LateWatches {
    kubeconfig: PathBuf,
    serving: JoinHandle<()>,
    broken: watch::Sender<bool>,
}

#[derive(Clone)]
struct Way {
    client: Client,
    late: Duration,
    broken: watch::Receiver<bool>,
}

impl LateWatches {
    /// Starts the proxy. What a watch says comes `late`.
    pub async fn start(plane: &ControlPlane, late: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let server = format!("http://{}", listener.local_addr()?);
        let (sender, broken) = watch::channel(false);
        let client = plane.client().await?;
        let router = Router::new().fallback(pass).with_state(Way {
            client,
            late,
            broken,
        });
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let kubeconfig = plane.directory().join("kubeconfigs").join("late");
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "late",
            "clusters": [{ "name": "late", "cluster": { "server": server } }],
            "users": [{ "name": "late", "user": {} }],
            "contexts": [{ "name": "late", "context": { "cluster": "late", "user": "late" } }],
        });
        std::fs::write(&kubeconfig, text.to_string())?;
        Ok(Self {
            kubeconfig,
            serving,
            broken: sender,
        })
    }

    /// Breaks the watches of nodes and pods, or repairs them.
    pub fn break_watches(&self, are_broken: bool) {
        self.broken.send_replace(are_broken);
    }

    /// The way: a kubeconfig file.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }
}

impl Drop for LateWatches {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(way): State<Way>, request: Request) -> Response {
    let Way {
        client,
        late,
        mut broken,
    } = way;
    let path = request.uri().path();
    let is_followed = path.ends_with("/nodes") || path.ends_with("/pods");
    if is_followed && request.method() == Method::GET && *broken.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "watches are broken").into_response();
    }
    let is_watch = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    let (mut parts, body) = request.into_parts();
    // The client fills in the server.
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    parts.headers.remove("host");
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    let asked = axum::http::Request::from_parts(parts, kube::client::Body::from(bytes.to_vec()));
    let answer = match client.send(asked).await {
        Ok(answer) => answer,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    let (parts, body) = answer.into_parts();
    let body = Body::new(body).into_data_stream();
    if !is_watch {
        return Response::from_parts(parts, Body::from_stream(body));
    }
    // Held back one by one, each for the whole time, but not one after the other.
    let held = body
        .map_ok(move |bytes| async move {
            sleep(late).await;
            Ok::<_, axum::Error>(bytes)
        })
        .map(move |bytes| async move {
            match bytes {
                Ok(bytes) => bytes.await,
                Err(error) => Err(error),
            }
        })
        .buffered(1024);
    // The sender lives as long as the server; should it not, the watch goes on.
    let cut = async move {
        if broken.wait_for(|broken| *broken).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Response::from_parts(parts, Body::from_stream(held.take_until(cut)))
}
