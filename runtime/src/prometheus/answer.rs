//! An answer's body, read and decoded within limits of size, number and memory.
//!
//! A server may send anything: a body without end, a gigabyte of series, a page of a proxy. The
//! body is counted while it arrives and dropped at its limit. All answers of one kind of owner
//! share a bound on memory, which an answer holds a part of for as long as its samples live.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prometheus_http_query::response::{RangeVector, Sample as Point};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Answer, NativeHistogram, Sample, Series, client::SetupError};

/// Largest body of an answer. A service of a hundred workers, each with some three hundred series
/// of some two hundred bytes, fills 6 MiB.
pub(super) const BODY_BYTES_MAX: usize = 16 << 20;
/// Most samples of an answer. They are more than fit into the largest body of a real server.
pub(super) const SAMPLES_MAX: usize = 200_000;
/// Memory of an answer for each byte of its body: the body itself, and at most four times as much
/// for its labels as separate texts.
const MEMORY_PER_BYTE: usize = 5;
/// Memory that all answers of one kind of owner may take together: one of the largest and some of
/// usual size.
const MEMORY_BYTES_MAX: usize = 128 << 20;
/// The unit in which memory is counted.
const UNIT_BYTES: usize = 1 << 10;
/// Beginning of a remark on the style of a query, which says nothing of its answer. Servers before
/// Prometheus 3 list it among the warnings.
const REMARK: &str = "PromQL info";
/// Most characters kept of a text that a server sent.
const TEXT_CHARS_MAX: usize = 300;

/// Why a body holds no values.
#[derive(Debug)]
pub(super) enum Unusable {
    /// The server cannot even be asked.
    Setup(SetupError),
    /// The query did not get there.
    Unsent(prometheus_http_query::Error),
    /// It was not whole within this time.
    Late(Duration),
    /// It is larger than [`BODY_BYTES_MAX`], or holds more than [`SAMPLES_MAX`] samples.
    TooLarge,
    /// It did not arrive.
    Broken(reqwest::Error),
    /// It is none of Prometheus's answers.
    Unknown(StatusCode),
    /// The server failed to answer, in its words.
    Failed(String),
    /// The query cannot be parsed, in the server's words.
    NotParsed(String),
    /// The query failed while it was evaluated, in the server's words.
    NotEvaluated(String),
    /// It holds another kind of values than was asked for.
    Kind(&'static str),
}

/// Memory for the answers of one kind of owner.
#[derive(Debug, Clone)]
pub(super) struct Pool(Arc<Semaphore>);

impl Default for Pool {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MEMORY_BYTES_MAX / UNIT_BYTES)))
    }
}

impl Pool {
    /// The body of `response` with the memory it may take, or the reason why there is none.
    pub(super) async fn read(&self, mut response: Response) -> Result<Body, Unusable> {
        let status = response.status();
        let announced = response.content_length().unwrap_or(0);
        if announced > BODY_BYTES_MAX as u64 {
            return Err(Unusable::TooLarge);
        }
        let mut body = Body {
            status,
            bytes: Vec::new(),
            memory: None,
        };
        while let Some(chunk) = response.chunk().await.map_err(Unusable::Broken)? {
            let length = body.bytes.len() + chunk.len();
            if length > BODY_BYTES_MAX {
                return Err(Unusable::TooLarge);
            }
            self.extend(&mut body.memory, length).await;
            body.bytes.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Takes as much memory as a body of `length` bytes needs, waiting for others to end.
    async fn extend(&self, held: &mut Option<OwnedSemaphorePermit>, length: usize) {
        let units = (length * MEMORY_PER_BYTE).div_ceil(UNIT_BYTES);
        let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lacks = u32::try_from(units.saturating_sub(has)).unwrap_or(u32::MAX);
        // It fails only when the semaphore is closed, which nobody does.
        let Ok(more) = Arc::clone(&self.0).acquire_many_owned(lacks).await else {
            return;
        };
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
    }
}

/// A whole body within its limits.
#[derive(Debug)]
pub(super) struct Body {
    status: StatusCode,
    bytes: Vec<u8>,
    memory: Option<OwnedSemaphorePermit>,
}

/// An answer of Prometheus's HTTP API, its values not decoded yet.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    status: String,
    #[serde(borrow)]
    data: Option<Data<'a>>,
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    result_type: String,
    #[serde(borrow)]
    result: &'a RawValue,
}

/// An instant value with its labels: a number or a native histogram. The client library knows none
/// of the latter.
#[derive(Deserialize)]
struct Item {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    value: Option<Point>,
    #[serde(default)]
    histogram: Option<(f64, Native)>,
}

/// Buckets of a histogram: the upper edge of each, and the observations in it.
type Buckets = Vec<(f64, f64)>;

/// A native histogram, its numbers in words.
#[derive(Deserialize)]
pub(super) struct Native {
    count: String,
    sum: String,
    /// Rule of the edges, lower edge, upper edge, observations.
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

impl Native {
    /// Its count, its sum and, for each bucket, the upper edge and the observations in it.
    pub(super) fn numbers(&self) -> Option<(f64, f64, Buckets)> {
        let number = |text: &String| text.parse::<f64>().ok();
        let buckets = self.buckets.iter();
        let buckets = buckets.map(|(_, _, edge, count)| number(edge).zip(number(count)));
        let buckets = buckets.collect::<Option<_>>()?;
        Some((number(&self.count)?, number(&self.sum)?, buckets))
    }
}

impl Body {
    /// A whole body of `bytes`, which take no part of the memory of answers.
    pub(super) const fn whole(status: StatusCode, bytes: Vec<u8>) -> Self {
        Self {
            status,
            bytes,
            memory: None,
        }
    }

    /// The values at one moment.
    pub(super) fn instant(self) -> Result<Answer<Sample>, Unusable> {
        let Answer {
            values,
            warnings,
            memory,
            ..
        } = self.decode(|data| {
            let text = data.result.get();
            match data.result_type.as_str() {
                "vector" => {
                    let items: Vec<Item> = serde_json::from_str(text).ok()?;
                    items
                        .into_iter()
                        .map(instant)
                        .collect::<Option<Vec<_>>>()
                        .map(Ok)
                }
                "scalar" => {
                    let value: Point = serde_json::from_str(text).ok()?;
                    let labels = BTreeMap::new();
                    let value = value.value();
                    Some(Ok(vec![Instant::Number(Sample { labels, value })]))
                }
                other => Some(Err(kind(other))),
            }
        })?;
        let mut answer = Answer {
            values: Vec::with_capacity(values.len()),
            histograms: Vec::new(),
            warnings,
            memory,
        };
        for value in values {
            match value {
                Instant::Number(sample) => answer.values.push(sample),
                Instant::Histogram(histogram) => answer.histograms.push(histogram),
            }
        }
        Ok(answer)
    }

    /// The values over a range.
    pub(super) fn range(self) -> Result<Answer<Series>, Unusable> {
        self.decode(|data| {
            if data.result_type != "matrix" {
                return Some(Err(kind(&data.result_type)));
            }
            let values: Vec<RangeVector> = serde_json::from_str(data.result.get()).ok()?;
            Some(Ok(values.into_iter().map(series).collect()))
        })
    }

    fn decode<T>(
        self,
        values: impl FnOnce(&Data<'_>) -> Option<Result<Vec<T>, &'static str>>,
    ) -> Result<Answer<T>, Unusable> {
        let unknown = || Unusable::Unknown(self.status);
        let envelope: Envelope<'_> = serde_json::from_slice(&self.bytes).map_err(|_| unknown())?;
        let data = match (envelope.status.as_str(), envelope.data) {
            ("success", Some(data)) => data,
            ("error", _) => {
                return Err(refusal(
                    envelope.error_type.as_deref(),
                    envelope.error.as_deref(),
                ));
            }
            _ => return Err(unknown()),
        };
        let values = values(&data).ok_or_else(unknown)?.map_err(Unusable::Kind)?;
        if values.len() > SAMPLES_MAX {
            return Err(Unusable::TooLarge);
        }
        Ok(Answer {
            values,
            histograms: Vec::new(),
            warnings: envelope
                .warnings
                .iter()
                .filter(|text| !text.starts_with(REMARK))
                .map(|text| shortened(text))
                .collect(),
            memory: self.memory,
        })
    }
}

/// The failure of an error type as Prometheus names it, after `web/api/v1/api.go`.
fn refusal(kind: Option<&str>, message: Option<&str>) -> Unusable {
    let message = shortened(message.unwrap_or_default());
    match kind {
        Some("bad_data") => Unusable::NotParsed(message),
        Some("execution") => Unusable::NotEvaluated(message),
        _ => Unusable::Failed(message),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn kind(kind: &str) -> &'static str {
    match kind {
        "vector" => "instant values",
        "scalar" => "a number",
        "matrix" => "a range",
        "string" => "a text",
        _ => "values of an unknown kind",
    }
}

/// One value of an instant.
enum Instant {
    Number(Sample),
    Histogram(NativeHistogram),
}

/// The value of `item`; nothing if it is neither a number nor a histogram.
fn instant(item: Item) -> Option<Instant> {
    let labels = item.metric;
    if let Some(point) = item.value {
        let value = point.value();
        return Some(Instant::Number(Sample { labels, value }));
    }
    let (_, native) = item.histogram?;
    let (count, sum, buckets) = native.numbers()?;
    Some(Instant::Histogram(NativeHistogram {
        labels,
        count,
        sum,
        buckets,
    }))
}

fn series(range: RangeVector) -> Series {
    let (labels, samples) = range.into_inner();
    let point = |sample: Point| (sample.timestamp(), sample.value());
    Series {
        labels: labels.into_iter().collect(),
        points: samples.into_iter().map(point).collect(),
    }
}
