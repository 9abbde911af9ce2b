//! The Prometheus servers that are asked, and what can go wrong there.
//!
//! The client library stays inside this file. An answer is a list of samples with labels; a failure
//! is either the server's (unreachable, slow, overloaded) or the query's (Prometheus refuses it),
//! which must not be confused: users can fix only one of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
    time::Duration,
};

use clap::Args;
use prometheus_http_query::{
    Client, Error as ClientError, error::PrometheusErrorType, response::Data,
};

use crate::{
    args::positive_duration,
    kubernetes::{install_crypto_provider, with_causes},
};

/// The flags that say which Prometheus server is asked.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Prometheus")]
pub struct PrometheusArgs {
    /// Prometheus server to ask.
    #[arg(long, env = "PD_PROMETHEUS_URL", value_name = "URL")]
    pub prometheus_url: Option<String>,

    /// Time after which a query counts as failed.
    #[arg(long, default_value = "10s", env = "PD_PROMETHEUS_TIMEOUT", value_parser = positive_duration, value_name = "DURATION")]
    pub prometheus_timeout: Duration,
}

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

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The server cannot be reached, or does not answer in time or properly.
    #[error("prometheus at `{server}` does not answer: {cause}")]
    Unreachable {
        /// The server's address.
        server: String,
        /// The cause.
        cause: String,
    },
    /// The server refuses the query.
    #[error("prometheus at `{server}` refuses the query `{query}`: {cause}")]
    Refused {
        /// The server's address.
        server: String,
        /// The query.
        query: String,
        /// The server's reason.
        cause: String,
    },
    /// The server answers with something that is no list of values.
    #[error("the query `{query}` gives {got}, which is not what it was asked for")]
    NotAVector {
        /// The query.
        query: String,
        /// The kind of answer.
        got: &'static str,
    },
    /// No server is configured.
    #[error("no prometheus server is known: {remedy}")]
    NoServer {
        /// The remedy.
        remedy: &'static str,
    },
}

impl QueryError {
    /// Label of the error metric.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::NotAVector { .. } => "not_a_vector",
            Self::NoServer { .. } => "no_server",
        }
    }

    /// Whether the query itself must be fixed, rather than the server.
    pub const fn is_query_at_fault(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NotAVector { .. })
    }
}

/// Clients by server address, made when first asked for.
pub struct Servers {
    http: reqwest::Client,
    clients: Mutex<HashMap<String, Client>>,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Servers").finish_non_exhaustive()
    }
}

impl Servers {
    /// Servers whose answers are waited for at most `timeout`, and which see that `binary` at
    /// `version` asks.
    pub fn new(timeout: Duration, binary: &str, version: &str) -> Result<Self, reqwest::Error> {
        install_crypto_provider();
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout)
            .user_agent(format!("{binary}/{version}"))
            .build()?;
        Ok(Self {
            http,
            clients: Mutex::default(),
        })
    }

    /// The values of `query` now.
    pub async fn query(&self, server: &str, query: &str) -> Result<Vec<Sample>, QueryError> {
        let client = self.client(server)?;
        let answer = client.query(query).post().await;
        let (data, _) = answer
            .map_err(|error| query_error(server, query, &error))?
            .into_inner();
        match data {
            Data::Vector(vector) => Ok(vector.into_iter().map(sample).collect()),
            Data::Scalar(scalar) => Ok(vec![Sample {
                labels: BTreeMap::new(),
                value: scalar.value(),
            }]),
            Data::Matrix(_) => Err(QueryError::NotAVector {
                query: query.to_owned(),
                got: "a range",
            }),
        }
    }

    /// The values of `query` at the points of `range`.
    pub async fn query_range(
        &self,
        server: &str,
        query: &str,
        range: Range,
    ) -> Result<Vec<Series>, QueryError> {
        let client = self.client(server)?;
        let (first, last) = (range.first_unix, range.last_unix);
        let asked = client.query_range(query, first, last, range.step.as_secs_f64());
        let answer = asked.post().await;
        let (data, _) = answer
            .map_err(|error| query_error(server, query, &error))?
            .into_inner();
        let got = match data {
            Data::Matrix(matrix) => return Ok(matrix.into_iter().map(series).collect()),
            Data::Vector(_) => "instant values",
            Data::Scalar(_) => "a number",
        };
        Err(QueryError::NotAVector {
            query: query.to_owned(),
            got,
        })
    }

    fn client(&self, server: &str) -> Result<Client, QueryError> {
        let mut clients = self
            .clients
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(client) = clients.get(server) {
            return Ok(client.clone());
        }
        let client = Client::from(self.http.clone(), server)
            .map_err(|error| unreachable(server, &error.to_string()))?;
        clients.insert(server.to_owned(), client.clone());
        Ok(client)
    }
}

fn sample(vector: prometheus_http_query::response::InstantVector) -> Sample {
    let (labels, sample) = vector.into_inner();
    Sample {
        labels: labels.into_iter().collect(),
        value: sample.value(),
    }
}

fn series(range: prometheus_http_query::response::RangeVector) -> Series {
    let (labels, samples) = range.into_inner();
    let point =
        |sample: prometheus_http_query::response::Sample| (sample.timestamp(), sample.value());
    Series {
        labels: labels.into_iter().collect(),
        points: samples.into_iter().map(point).collect(),
    }
}

fn unreachable(server: &str, cause: &str) -> QueryError {
    QueryError::Unreachable {
        server: server.to_owned(),
        cause: cause.to_owned(),
    }
}

fn query_error(server: &str, query: &str, error: &ClientError) -> QueryError {
    match error {
        ClientError::Prometheus(refusal)
            if matches!(
                refusal.error_type(),
                PrometheusErrorType::BadData | PrometheusErrorType::Execution
            ) =>
        {
            QueryError::Refused {
                server: server.to_owned(),
                query: query.to_owned(),
                cause: refusal.message().to_owned(),
            }
        }
        other => unreachable(server, &with_causes(other)),
    }
}
