//! The Prometheus servers that are asked, and what can go wrong there.
//!
//! The client library stays inside this module. An answer is a list of samples with labels; a
//! failure is either the server's (unreachable, slow, overloaded) or the query's (Prometheus
//! refuses it), which must not be confused: users can fix only one of them. Servers that tenants
//! name are not trusted: not with memory, not with the way to other addresses, and not with words
//! that end in somebody's status.

mod address;
mod answer;
mod args;
mod client;
mod endpoint;
mod error;
mod stream;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_http_query::Client;
use reqwest::{Response, header::HeaderMap};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use self::{
    answer::{Body, Pool, Unusable},
    client::{Connection, Connector, Settings, SetupError},
};
pub use self::{
    args::{PrometheusArgs, Server, server},
    endpoint::{Endpoint, Hidden, Login, Material, Owner, TlsMaterial},
    error::QueryError,
    stream::{RowLabels, RowValue, Rows},
};
use crate::kubernetes::install_crypto_provider;

/// How long the client of a server that nobody asks is kept.
const UNUSED_KEPT: Duration = Duration::from_mins(10);

/// A value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The value; may be NaN or infinite.
    pub value: f64,
}

impl Sample {
    /// The value of a label, empty when it has none: as Prometheus means it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// A native histogram with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeHistogram {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Upper edge of each bucket and the observations in it, edges rising.
    pub buckets: Vec<(f64, f64)>,
}

/// The values of one set of labels over a range.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Unix time in seconds and value; the value may be NaN or infinite.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// The value of a label, empty when it has none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Points of a range, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First point, Unix time in seconds.
    pub first_unix: i64,
    /// Last point at most, Unix time in seconds.
    pub last_unix: i64,
    /// Time between points.
    pub step: Duration,
}

/// Values as a server gave them, with the memory they take.
#[derive(Debug)]
pub struct Answer<T> {
    /// The values.
    pub values: Vec<T>,
    /// Native histograms beside the values.
    pub histograms: Vec<NativeHistogram>,
    /// The server's reasons why they may not be whole, such as a store that did not answer.
    pub warnings: Vec<String>,
    memory: Option<OwnedSemaphorePermit>,
}

impl<T> Answer<T> {
    /// The values and warnings. The memory counts as free from now on.
    pub fn into_parts(self) -> (Vec<T>, Vec<String>) {
        drop(self.memory);
        (self.values, self.warnings)
    }
}

/// Clients by server, made when first asked for and dropped when nobody asks any more.
#[derive(Debug)]
pub struct Servers {
    settings: Settings,
    clients: Mutex<HashMap<Endpoint, Used>>,
    operators: Pool,
    tenants: Pool,
}

/// A client and its last use.
#[derive(Debug)]
struct Used {
    connector: Arc<tokio::sync::Mutex<Connector>>,
    at: Instant,
}

impl Servers {
    /// Servers whose answers are waited for at most `timeout`, and which see that `binary` at
    /// `version` asks.
    pub fn new(timeout: Duration, binary: &str, version: &str) -> Self {
        install_crypto_provider();
        Self {
            settings: Settings {
                timeout,
                user_agent: format!("{binary}/{version}"),
            },
            clients: Mutex::default(),
            operators: Pool::default(),
            tenants: Pool::default(),
        }
    }

    /// The values of `query` now.
    pub async fn query(
        &self,
        endpoint: &Endpoint,
        query: &str,
    ) -> Result<Answer<Sample>, QueryError> {
        let body = self.body(endpoint, |client, headers| {
            let mut asked = client.query(query);
            for (name, value) in headers {
                asked = asked.header(name, value);
            }
            asked.post_raw()
        });
        let answer = body.await.and_then(Body::instant);
        answer.map_err(|cause| QueryError::new(endpoint, query, cause))
    }

    /// The values of `query` at the points of `range`.
    pub async fn query_range(
        &self,
        endpoint: &Endpoint,
        query: &str,
        range: Range,
    ) -> Result<Answer<Series>, QueryError> {
        let (first, last) = (range.first_unix, range.last_unix);
        let body = self.body(endpoint, |client, headers| {
            let mut asked = client.query_range(query, first, last, range.step.as_secs_f64());
            for (name, value) in headers {
                asked = asked.header(name, value);
            }
            asked.post_raw()
        });
        let answer = body.await.and_then(Body::range);
        answer.map_err(|cause| QueryError::new(endpoint, query, cause))
    }

    /// The body of the answer to what `send` sends.
    async fn body<F>(
        &self,
        endpoint: &Endpoint,
        send: impl FnOnce(&Client, &HeaderMap) -> F,
    ) -> Result<Body, Unusable>
    where
        F: Future<Output = Result<Response, prometheus_http_query::Error>>,
    {
        let pool = match endpoint.owner {
            Owner::Operator => &self.operators,
            Owner::Tenant { .. } => &self.tenants,
        };
        let limit = self.settings.timeout;
        // Around everything: waiting for memory must end too.
        timeout(limit, async {
            let connection = self.connection(endpoint).await?;
            let answer = send(&connection.client, &connection.headers).await;
            pool.read(answer.map_err(Unusable::Unsent)?).await
        })
        .await
        .unwrap_or(Err(Unusable::Late(limit)))
    }

    /// Hands the values of `query` now to `rows` while they arrive, and gives the server's reasons
    /// why they may not be whole. They count only when this has ended well. Errors call the query
    /// `name`, for its own text is long and about many.
    pub async fn stream(
        &self,
        endpoint: &Endpoint,
        (name, query): (&str, &str),
        rows: &mut (impl Rows + Send + ?Sized),
    ) -> Result<Vec<String>, QueryError> {
        let limit = self.settings.timeout;
        let streamed = timeout(limit, async {
            let connection = self.connection(endpoint).await?;
            let mut asked = connection.client.query(query);
            for (name, value) in &connection.headers {
                asked = asked.header(name, value);
            }
            let answer = asked.post_raw().await.map_err(Unusable::Unsent)?;
            stream::read(answer, rows).await
        });
        let warnings = streamed.await.unwrap_or(Err(Unusable::Late(limit)));
        warnings.map_err(|cause| QueryError::new(endpoint, name, cause))
    }

    /// The connection to `endpoint` with its secrets as they are now.
    async fn connection(&self, endpoint: &Endpoint) -> Result<Connection, SetupError> {
        let connector = self.connector(endpoint);
        let mut connector = connector.lock().await;
        connector.connect(endpoint, &self.settings).await
    }

    fn connector(&self, endpoint: &Endpoint) -> Arc<tokio::sync::Mutex<Connector>> {
        let now = Instant::now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = clients.get_mut(endpoint) {
            used.at = now;
            return Arc::clone(&used.connector);
        }
        // A new server is rare, so that looking at all of them then costs nothing.
        clients.retain(|_, used| now.duration_since(used.at) < UNUSED_KEPT);
        let connector = Arc::default();
        let used = Used {
            connector: Arc::clone(&connector),
            at: now,
        };
        clients.insert(endpoint.clone(), used);
        connector
    }
}

#[cfg(test)]
mod tests;
