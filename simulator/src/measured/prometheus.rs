//! Range queries to a Prometheus server, over plain HTTP or, with the feature `tls`, over TLS.
//!
//! A blocking client without a runtime, because one past is read once, query by query, and because
//! whoever only watches the demo must not build an HTTP stack for it. A failure is either the
//! server's (unreachable, slow, overloaded) or the query's (Prometheus refuses it), which users
//! must be able to tell apart.

use std::collections::BTreeMap;
use std::time::Duration;

use pd_signals::Sample;
use serde::Deserialize;
use thiserror::Error;

/// Most bytes of an answer: 300 steps of all histograms of a large service take a few megabytes.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// The error types that blame the query; all others blame the server.
const QUERY_AT_FAULT: [&str; 2] = ["bad_data", "execution"];

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
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
        /// The server's message.
        cause: String,
    },
}

/// Points of a range, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// First point, Unix time in seconds.
    pub(super) first_unix: i64,
    /// Last point at most, Unix time in seconds.
    pub(super) last_unix: i64,
    /// Time between points.
    pub(super) step: Duration,
}

/// The values of one set of labels over a range.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Series {
    /// Labels.
    #[serde(rename = "metric")]
    pub(super) labels: BTreeMap<String, String>,
    /// Unix time in seconds, and the value as text.
    #[serde(rename = "values", default)]
    points: Vec<(f64, String)>,
    /// Unix time in seconds, and a native histogram.
    #[serde(default)]
    histograms: Vec<(f64, Native)>,
}

/// A native histogram, its numbers as text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Native {
    count: String,
    sum: String,
    /// Rule of the edges, lower edge, upper edge, observations.
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

impl Series {
    /// The series, its native histograms as series of their pieces.
    fn in_pieces(self) -> Vec<Self> {
        if self.histograms.is_empty() {
            return vec![self];
        }
        let number = |text: &str| text.parse().unwrap_or(f64::NAN);
        let mut pieces: BTreeMap<BTreeMap<String, String>, Vec<(f64, String)>> = BTreeMap::new();
        for (at, native) in &self.histograms {
            let buckets = native.buckets.iter();
            let buckets: Vec<(f64, f64)> = buckets
                .map(|(_, _, edge, count)| (number(edge), number(count)))
                .collect();
            let (count, sum) = (number(&native.count), number(&native.sum));
            for sample in Sample::of_native(&self.labels, count, sum, &buckets) {
                let points = pieces.entry(sample.labels).or_default();
                points.push((*at, sample.value.to_string()));
            }
        }
        let piece = |(labels, points)| Self {
            labels,
            points,
            histograms: Vec::new(),
        };
        pieces.into_iter().map(piece).collect()
    }

    /// Unix time in seconds and value; the value may be NaN or infinite.
    pub(super) fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let value = |text: &str| text.parse().unwrap_or(f64::NAN);
        self.points.iter().map(move |(at, text)| (*at, value(text)))
    }
}

/// An answer of the HTTP API.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success {
        data: Data,
    },
    Error {
        #[serde(rename = "errorType")]
        kind: String,
        error: String,
    },
}

#[derive(Debug, Deserialize)]
struct Data {
    result: Vec<Series>,
}

/// A Prometheus server.
#[derive(Debug)]
pub(super) struct Server {
    address: String,
    agent: ureq::Agent,
}

impl Server {
    /// The server at `address`, whose answers are waited for at most `timeout`.
    pub(super) fn new(address: &str, timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            // A refusal has a status and a body that says why.
            .http_status_as_error(false)
            .user_agent(concat!("pd-sim/", env!("CARGO_PKG_VERSION")));
        #[cfg(feature = "tls")]
        let config = config.tls_config(
            ureq::tls::TlsConfig::builder()
                .root_certs(ureq::tls::RootCerts::PlatformVerifier)
                .build(),
        );
        Self {
            address: address.to_owned(),
            agent: config.build().new_agent(),
        }
    }

    /// The values of `query` at the points of `range`.
    pub(super) fn query_range(&self, query: &str, range: Range) -> Result<Vec<Series>, QueryError> {
        let unreachable = |cause: String| QueryError::Unreachable {
            server: self.address.clone(),
            cause,
        };
        let asked = self
            .agent
            .post(format!("{}/api/v1/query_range", self.address))
            .send_form([
                ("query", query),
                ("start", &range.first_unix.to_string()),
                ("end", &range.last_unix.to_string()),
                ("step", &range.step.as_secs_f64().to_string()),
            ]);
        let mut answer = asked.map_err(|error| unreachable(error.to_string()))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let text = body
            .read_to_string()
            .map_err(|error| unreachable(error.to_string()))?;
        match serde_json::from_str(&text) {
            Ok(Answer::Success { data }) => {
                let series = data.result.into_iter();
                Ok(series.flat_map(Series::in_pieces).collect())
            }
            Ok(Answer::Error { kind, error }) if QUERY_AT_FAULT.contains(&kind.as_str()) => {
                Err(QueryError::Refused {
                    server: self.address.clone(),
                    query: query.to_owned(),
                    cause: error,
                })
            }
            Ok(Answer::Error { error, .. }) => Err(unreachable(error)),
            // A proxy, or another server altogether.
            Err(error) => Err(unreachable(format!(
                "status {status} with a body that is no answer of Prometheus ({error})"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use rstest::rstest;

    use super::*;

    /// The first bytes of a request to a server that answers with `status` and `body`, and what the
    /// client makes of it.
    fn asked(status: &str, body: &str) -> (String, Result<Vec<Series>, QueryError>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut piece) = (String::new(), [0; 4_096]);
            while !request.contains("step=60") {
                let count = stream.read(&mut piece).unwrap();
                request += std::str::from_utf8(&piece[..count]).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        let range = Range {
            first_unix: 60,
            last_unix: 120,
            step: Duration::from_mins(1),
        };
        let server = Server::new(&address, Duration::from_secs(20));
        let got = server.query_range("up{a=\"b\"}", range);
        (serving.join().unwrap(), got)
    }

    #[test]
    fn a_range_is_asked_for_and_read() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"signal":"tpot","le":"0.1"},"values":[[60,"1.5"],[120.5,"NaN"],[180,"+Inf"]]}]}}"#;
        let (request, got) = asked("200 OK", body);
        assert!(
            request.starts_with("POST /api/v1/query_range HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.ends_with("query=up%7Ba%3D%22b%22%7D&start=60&end=120&step=60"),
            "{request}"
        );
        let series = got.unwrap().remove(0);
        assert_eq!(series.labels["le"], "0.1");
        let points: Vec<_> = series.points().collect();
        assert_eq!(points[0], (60.0, 1.5));
        assert!(points[1].1.is_nan() && points[2] == (180.0, f64::INFINITY));
    }

    #[test]
    fn a_past_of_native_histograms_is_read_piece_by_piece() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"signal":"tpot_native"},"histograms":[
                [60,{"count":"4","sum":"1","buckets":[[0,"0.1","0.2","1"],[0,"0.2","0.4","3"]]}],
                [120,{"count":"2","sum":"1","buckets":[[0,"0.2","0.4","2"]]}]]}]}}"#;
        let (_, got) = asked("200 OK", body);
        let series = got.unwrap();
        let of = |name: &str, value: &str| {
            let found = series
                .iter()
                .find(|series| series.labels.get(name).is_some_and(|is| is == value));
            found.unwrap().points().collect::<Vec<_>>()
        };
        assert_eq!(of("native", "count"), [(60.0, 4.0), (120.0, 2.0)]);
        assert_eq!(of("edge", "0.2"), [(60.0, 1.0)]);
        assert_eq!(of("edge", "0.4"), [(60.0, 4.0), (120.0, 2.0)]);
    }

    #[rstest]
    #[case::query(
        "400 Bad Request",
        r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#,
        "refuses the query `up{a=\"b\"}`: parse error"
    )]
    #[case::server(
        "503 Service Unavailable",
        r#"{"status":"error","errorType":"timeout","error":"too slow"}"#,
        "does not answer: too slow"
    )]
    #[case::proxy("502 Bad Gateway", "<html>", "does not answer: status 502 Bad Gateway")]
    fn a_failure_says_whose_it_is(#[case] status: &str, #[case] body: &str, #[case] message: &str) {
        let failure = asked(status, body).1.unwrap_err().to_string();
        assert!(failure.contains(message), "{failure}");
    }
}
