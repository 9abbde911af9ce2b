//! A server between the controller and Prometheus that fails on request.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use pd_tests::stage::StageError;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// How the server fails.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It does not.
    None,
    /// It takes queries and does not answer.
    Silence,
    /// It refuses every query, as one that loads too many samples.
    Refusal,
    /// It leaves out every second row, and says that a store is away.
    Partial,
    /// It refuses queries that read the pods of the workload of this name, or those of all.
    Spoilt(String),
}

#[derive(Clone)]
struct Between {
    upstream: String,
    fault: Arc<Mutex<Fault>>,
    client: reqwest::Client,
}

/// The server.
#[derive(Debug)]
pub(crate) struct Proxy {
    url: String,
    fault: Arc<Mutex<Fault>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A server that does not fail yet, before the Prometheus at `upstream`.
    pub(crate) async fn before(upstream: &str) -> Result<Self, StageError> {
        let fault = Arc::new(Mutex::new(Fault::None));
        let between = Between {
            upstream: upstream.to_owned(),
            fault: Arc::clone(&fault),
            client: reqwest::Client::new(),
        };
        let router = Router::new()
            .route("/api/v1/query", post(answer))
            .with_state(between);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(async move {
            let _ended = axum::serve(listener, router).await;
        });
        Ok(Self { url, fault, task })
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Fails by `fault` from now on.
    pub(crate) fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(between): State<Between>, form: String) -> Response {
    let fault = between
        .fault
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let query = query_of(&form);
    match fault {
        Fault::Silence => std::future::pending().await,
        Fault::Refusal => return refused(),
        Fault::Spoilt(workload) if spoils(&query, &workload) => return refused(),
        Fault::None | Fault::Partial | Fault::Spoilt(_) => {}
    }
    let answer = between
        .client
        .post(format!("{}/api/v1/query", between.upstream))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await;
    let Ok(answer) = answer else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
    let body = match (fault, serde_json::from_str(&body)) {
        (Fault::Partial, Ok(answer)) => without_every_second_row(answer).to_string(),
        _ => body,
    };
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The field `query` of a form.
fn query_of(form: &str) -> String {
    let url = reqwest::Url::parse(&format!("http://form/?{form}"));
    let fields = url.iter().flat_map(reqwest::Url::query_pairs);
    let mut queries = fields.filter(|(name, _)| name == "query");
    queries
        .next()
        .map_or_else(String::new, |(_, query)| query.into_owned())
}

fn spoils(query: &str, workload: &str) -> bool {
    query.contains(workload) || query.contains("pod=~\".+\"")
}

fn refused() -> Response {
    let words = "query processing would load too many samples into memory";
    let body = json!({ "status": "error", "errorType": "execution", "error": words });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::UNPROCESSABLE_ENTITY, kind, body.to_string()).into_response()
}

fn without_every_second_row(mut answer: Value) -> Value {
    if let Some(rows) = answer["data"]["result"].as_array_mut() {
        let mut is_kept = false;
        rows.retain(|_| {
            is_kept = !is_kept;
            is_kept
        });
    }
    answer["warnings"] = json!(["a store is away"]);
    answer
}
