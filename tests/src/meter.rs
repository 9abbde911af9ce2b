//! Measures a running process: processor time, memory, and its own histograms.
//!
//! For measurements, which read the same number before and after and tell the difference. Quantiles
//! of a histogram are the upper edge of the bucket they fall into: never better than the truth.

use std::{process::ExitCode, time::Duration};

use prometheus_parse::{Sample, Scrape, Value as Sampled};
use serde_json::Value;

use crate::{control_plane::eventually, supervisor::Process};

/// How long a program may take until it tells where its metrics are.
const ADDRESS_WITHIN: Duration = Duration::from_secs(40);

/// How a program that measures ends: well if the bar was met, and with the error told if there was
/// one.
pub fn ending(program: &str, met: anyhow::Result<bool>) -> ExitCode {
    match met {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Processor time that a process has had so far, ms.
pub fn processor_ms(process: &Process) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid()?)).ok()?;
    // The name, in parentheses, may have spaces; user and system time are the 12th and 13th field
    // after it.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    // Linux counts in hundredths of a second on every machine that Kubernetes runs on.
    Some(ticks * 10.0)
}

/// Memory of a process, MiB: what it has now, and the most that it ever had.
pub fn resident_mib(process: &Process) -> Option<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()?)).ok()?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some((kib("VmRSS:")? / 1024.0, kib("VmHWM:")? / 1024.0))
}

/// The page of a process's metrics, at the address that it logged.
pub async fn metrics(process: &Process) -> anyhow::Result<Page> {
    let address = eventually("the admin address", ADDRESS_WITHIN, async || {
        let log = process.log();
        let line = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["message"] == "admin server listens");
        let address = line.and_then(|line| line["address"].as_str().map(str::to_owned));
        address.ok_or_else(|| process.log_tail())
    })
    .await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client
        .get(format!("http://{address}/metrics"))
        .send()
        .await?;
    Page::parse(&answer.error_for_status()?.text().await?)
}

/// A page of metrics in Prometheus' text format.
#[derive(Debug)]
pub struct Page(Scrape);

impl Page {
    /// Reads a page.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().map(|line| Ok(plain_name(line)));
        Ok(Self(Scrape::parse(lines)?))
    }

    /// The value of the first series of `name` that has all of `labels`; nothing if none has, or if
    /// it is a histogram.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        match self.sample(name, labels)?.value {
            Sampled::Counter(value) | Sampled::Gauge(value) | Sampled::Untyped(value) => {
                Some(value)
            }
            Sampled::Histogram(_) | Sampled::Summary(_) => None,
        }
    }

    /// The histogram `name` with all of `labels`. One that is not there is empty.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        let buckets = match self.sample(name, labels).map(|sample| &sample.value) {
            Some(Sampled::Histogram(counts)) => counts
                .iter()
                .map(|bucket| (bucket.less_than, bucket.count))
                .collect(),
            _ => Vec::new(),
        };
        let sum = self.value(&format!("{name}_sum"), labels).unwrap_or(0.0);
        Histogram { buckets, sum }
    }

    fn sample(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Sample> {
        self.0.samples.iter().find(|sample| {
            sample.metric == plain_name(name)
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(label) == Some(*value))
        })
    }
}

/// `line` with the name's colons as underscores: engines use colons, and the library reads none.
fn plain_name(line: &str) -> String {
    let end = line.find(['{', ' ']).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    format!("{}{rest}", name.replace(':', "_"))
}

/// A histogram: upper edges, seconds, each with the count of what is not above it, and the sum,
/// seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: f64,
}

impl Histogram {
    /// The observations made after `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let earlier = |edge: f64| {
            let same = before
                .buckets
                .iter()
                .find(|(other, _)| edge.total_cmp(other).is_eq());
            same.map_or(0.0, |(_, count)| *count)
        };
        let buckets = self.buckets.iter();
        Self {
            buckets: buckets
                .map(|(edge, count)| (*edge, count - earlier(*edge)))
                .collect(),
            sum: self.sum - before.sum,
        }
    }

    /// How many were counted.
    pub fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// Their mean, seconds; NaN of none.
    pub fn mean(&self) -> f64 {
        self.sum / self.count()
    }

    /// The upper edge of the bucket of the quantile (0 to 1), seconds; infinite if it is in none.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let wanted = self.count() * quantile;
        let bucket = self.buckets.iter().find(|(_, count)| *count >= wanted);
        bucket.map_or(f64::INFINITY, |(edge, _)| *edge)
    }
}

/// The quantile (0 to 1) of `times`, which are sorted; zero of none.
pub fn quantile(times: &[Duration], quantile: f64) -> Duration {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list of thousands"
    )]
    let place = (times.len().saturating_sub(1) as f64 * quantile.clamp(0.0, 1.0)).round() as usize;
    times.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "counts, and edges as they were read")]
    fn quantiles_of_what_came_since_are_upper_edges() {
        let page = |few: u32, all: u32, sum: f64| {
            format!(
                "# TYPE t histogram\nt_sum{{w=\"a\"}} {sum}\nt_bucket{{le=\"0.1\",w=\"a\"}} {few}\nt_bucket{{le=\"+Inf\",w=\"a\"}} {all}\nt_bucket{{le=\"0.1\",w=\"b\"}} 9\n"
            )
        };
        let read = |page: &str| Page::parse(page).unwrap().histogram("t", &[("w", "a")]);
        let since = read(&page(105, 110, 3.0)).since(&read(&page(10, 10, 1.0)));
        assert_eq!((since.count(), since.mean()), (100.0, 0.02));
        assert_eq!(since.quantile(0.95), 0.1);
        assert_eq!(since.quantile(0.96), f64::INFINITY);
        let empty = Page::parse("").unwrap().histogram("t", &[]);
        assert_eq!(empty.count(), 0.0);
        assert_eq!(read(&page(1, 2, 1.0)).since(&empty), read(&page(1, 2, 1.0)));
    }

    #[test]
    fn quantiles_of_times_are_one_of_them() {
        let times: Vec<Duration> = (1..=101).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(51));
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(100));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
