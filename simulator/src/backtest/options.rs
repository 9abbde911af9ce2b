//! The options of `pd-sim backtest`, refused by name when they make no sense.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::simulate::options::{Output, lead, timeout};

/// What the user asked for.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "backtest")]
pub struct Options {
    /// The PDAutoscaler, as YAML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Address of Prometheus, such as `http://127.0.0.1:9090`
    #[arg(long, value_name = "URL", value_parser = url)]
    pub prometheus: String,
    /// Begin: a date such as 2026-05-14T00:00:00Z, or so long ago, such as 7d
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = moment)]
    pub from: Moment,
    /// End: the same
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = moment)]
    pub to: Moment,
    /// Length of a step, whole seconds; without, 1m up to a day, 5m up to two weeks, 15m beyond
    #[arg(long, value_name = "TIME", value_parser = step)]
    pub step: Option<Duration>,
    /// Namespace of the service; without, the object's, or `default`
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Label of the namespace in Prometheus
    #[arg(long, value_name = "LABEL", default_value = "namespace")]
    pub namespace_label: String,
    /// Label of the pod in Prometheus
    #[arg(long, value_name = "LABEL", default_value = "pod")]
    pub pod_label: String,
    /// Scenario file whose `profile` says how fast replicas are, as `pd-sim calibrate` writes it; without, it is
    /// learnt from what was measured
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Time from asking for a replica to its serving, both roles; without, the profile's, or 120s
    #[arg(long, value_name = "TIME", value_parser = lead)]
    pub lead: Option<Duration>,
    /// GPUs of one replica of a role whose `gpusPerReplica` is not set
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub gpus_per_replica: u32,
    /// Seed of the requests that are drawn anew; the same seed gives the same result
    #[arg(long, default_value_t = 7, allow_negative_numbers = true)]
    pub seed: u64,
    /// Longest time for one answer of Prometheus
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    pub timeout: Duration,
    /// Most decisions in the text; JSON has all
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub decisions: usize,
    /// How to print the result
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: Output,
}

/// A moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Unix time in seconds.
    At(i64),
    /// So long before now.
    Ago(Duration),
}

/// A moment as users write it.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(Moment::Ago(span));
    }
    let at: Option<SystemTime> = humantime::parse_rfc3339_weak(text).ok();
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .map(Moment::At)
        .ok_or_else(|| {
            "give a date such as 2026-05-14T00:00:00Z, or how long ago, such as 7d".to_owned()
        })
}

/// A step of range queries.
pub(crate) fn step(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|step| step.subsec_nanos() == 0)
        .filter(|step| (Duration::from_secs(10)..=Duration::from_hours(6)).contains(step))
        .ok_or_else(|| "give whole seconds with a unit, such as 60s, from 10s to 6h".to_owned())
}

/// An address of a server.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let plain = text.trim_end_matches('/');
    let host = plain
        .strip_prefix("http://")
        .or_else(|| plain.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains([' ', '?', '#']) => Ok(plain.to_owned()),
        _ => Err("give http:// or https:// with a host, such as http://127.0.0.1:9090".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_or_spans() {
        assert_eq!(moment("7d"), Ok(Moment::Ago(Duration::from_hours(168))));
        assert_eq!(moment("1970-01-01T00:01:00Z"), Ok(Moment::At(60)));
        assert!(moment("yesterday").unwrap_err().contains("7d"));
    }

    #[test]
    fn addresses_have_a_scheme_and_a_host() {
        assert_eq!(url("http://a:9090/"), Ok("http://a:9090".to_owned()));
        for bad in ["a:9090", "http://", "ftp://a", "http://a?x"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
