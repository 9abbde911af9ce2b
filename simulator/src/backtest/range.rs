//! Which stretch of the past is read from Prometheus, and under which labels: what `backtest` and
//! `calibrate` have in common.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::simulate::options::timeout;

/// Where in Prometheus the service's past is.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "range")]
pub struct RangeOptions {
    /// Begin: a date such as 2026-05-14T00:00:00Z, or so long ago; without, 7d for backtest and 1d
    /// for calibrate
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<Moment>,
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
    /// Longest time for one answer of Prometheus
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    pub timeout: Duration,
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
fn moment(text: &str) -> Result<Moment, String> {
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
fn step(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|step| step.subsec_nanos() == 0)
        .filter(|step| (Duration::from_secs(10)..=Duration::from_hours(6)).contains(step))
        .ok_or_else(|| "give whole seconds with a unit, such as 60s, from 10s to 6h".to_owned())
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
}
