//! A way to an API server whose watches are late, as a slow network or a busy API server makes them.
//!
//! Everything is passed on as it is, with the administrator's rights; what a watch has to say is held back for a set time.
//! So a race between two watchers can be lost on purpose.

use std::{path::PathBuf, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Client;
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

use crate::control_plane::ControlPlane;

/// A proxy that is there until it is dropped.
#[derive(Debug)]
pub struct LateWatches {
    kubeconfig: PathBuf,
    serving: JoinHandle<()>,
}

impl LateWatches {
    /// Starts the proxy. What a watch says comes `late`.
    pub async fn start(plane: &ControlPlane, late: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let server = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .fallback(pass)
            .with_state((plane.client().await?, late));
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
        })
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

async fn pass(State((client, late)): State<(Client, Duration)>, request: Request) -> Response {
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
    Response::from_parts(parts, Body::from_stream(held))
}
