//! The options of `pd-sim backtest`, refused by name when they make no sense.

use std::path::PathBuf;
use std::time::Duration;

pub use super::range::{Moment, RangeOptions};
use crate::simulate::options::{Output, lead};

/// Options as the user gave them.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "backtest")]
pub struct BacktestOptions {
    /// The PDAutoscaler, as YAML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Address of Prometheus, such as `http://127.0.0.1:9090`
    #[arg(long, value_name = "URL", value_parser = url)]
    pub prometheus: String,
    /// Where its past is
    #[command(flatten)]
    pub range: RangeOptions,
    /// Manifest of a `ConfigMap` that the object's `profileRef` names, as YAML; once for each
    #[arg(long = "config-map", value_name = "FILE")]
    pub config_maps: Vec<PathBuf>,
    /// Scenario file whose `profile` says how fast replicas are, as `pd-sim calibrate` writes it;
    /// without, it is learnt from what was measured
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Time from asking for a replica to its serving, both roles; without, the profile's, or 120s
    #[arg(long, value_name = "TIME", value_parser = lead)]
    pub lead: Option<Duration>,
    /// GPUs of one replica of a role whose `gpusPerReplica` is not set
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub gpus_per_replica: u32,
    /// Seed of the requests that are drawn again; the same seed gives the same result
    #[arg(long, default_value_t = 7, allow_negative_numbers = true)]
    pub seed: u64,
    /// Most decisions in the text; JSON has all
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub decisions: usize,
    /// How to print the result
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: Output,
}

/// The remedy for an https address where TLS is not built in, because the demo has no use for it.
const NO_TLS: &str = "this pd-sim is built without TLS: run `cargo run --release -p pd-sim --features tls -- ...`, or \
                      forward a port of the server and give http://127.0.0.1:PORT";

/// An address of a server.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let plain = text.trim_end_matches('/');
    let host = plain
        .strip_prefix("http://")
        .or_else(|| plain.strip_prefix("https://"));
    if plain.starts_with("https://") && cfg!(not(feature = "tls")) {
        return Err(NO_TLS.to_owned());
    }
    match host {
        Some(host) if !host.is_empty() && !host.contains([' ', '?', '#']) => Ok(plain.to_owned()),
        _ => Err("give http:// or https:// with a host, such as http://127.0.0.1:9090".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scheme_and_a_host() {
        assert_eq!(url("http://a:9090/"), Ok("http://a:9090".to_owned()));
        let secure = url("https://a:9090");
        if cfg!(feature = "tls") {
            assert_eq!(secure, Ok("https://a:9090".to_owned()));
        } else {
            assert!(secure.unwrap_err().contains("--features tls"));
        }
        for bad in ["a:9090", "http://", "ftp://a", "http://a?x"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
