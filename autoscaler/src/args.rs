//! Flags of pd-autoscaler. They are about the process; settings of one service are in its
//! PDAutoscaler.

use std::{net::SocketAddr, time::Duration};

use clap::{ArgAction, Args as ClapArgs, Parser};
use pd_runtime::{args::positive_duration, leader::LeaderArgs, process::ProcessArgs, prometheus};
use reqwest::Url;

use crate::{placement::http::url, selection::SelectionArgs, tenancy::TenancyArgs};

/// Scales the prefill and decode workloads of LLM services together.
#[derive(Debug, Clone, Parser)]
#[command(name = crate::NAME, version)]
pub struct Args {
    /// Decisions and where they come from.
    #[command(flatten)]
    pub decisions: DecisionArgs,
    /// Which PDAutoscalers are handled.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Metrics and where they come from.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// The requests that owners of PDAutoscalers may make.
    #[command(flatten)]
    pub tenancy: TenancyArgs,
    /// The page for people.
    #[command(flatten)]
    pub console: ConsoleArgs,
    /// Leader election.
    #[command(flatten)]
    pub leader: LeaderArgs,
    /// Kubernetes, probes, logs and shutdown.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// When to decide, and for whom.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Decisions")]
pub struct DecisionArgs {
    /// Time between two decisions about one PDAutoscaler, at most 5m.
    #[arg(long, default_value = "15s", env = "PD_INTERVAL", value_parser = interval, value_name = "DURATION")]
    pub interval: Duration,

    /// Most time between two writes of a status in which only measured numbers change.
    #[arg(long, default_value = "60s", env = "PD_STATUS_INTERVAL", value_parser = positive_duration, value_name = "DURATION")]
    pub status_interval: Duration,

    /// Least time between two writes of an object's memory, which the next leader goes on with.
    #[arg(long, default_value = "60s", env = "PD_CHECKPOINT_INTERVAL", value_parser = positive_duration, value_name = "DURATION")]
    pub checkpoint_interval: Duration,

    /// Namespace whose PDAutoscalers are handled; all namespaces when not given.
    #[arg(long, env = "PD_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    pub watch_namespace: Option<String>,

    /// PDAutoscalers that are reconciled at the same time.
    #[arg(long, default_value_t = 32, env = "PD_CONCURRENCY", value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,

    /// PDAutoscalers of one namespace that are reconciled at the same time, so that slow servers of
    /// one leave the others their turn.
    #[arg(long, default_value_t = 8, env = "PD_NAMESPACE_CONCURRENCY", value_parser = clap::value_parser!(u16).range(1..))]
    pub namespace_concurrency: u16,

    /// Address of the service of pd-scheduler-plugin's --what-if-address, which says whether more
    /// replicas of a PlacementGroup have places, such as `http://pd-control:8082`. Nobody is asked
    /// when not given.
    #[arg(long, env = "PD_PLACEMENT_URL", value_parser = url, value_name = "URL")]
    pub placement_url: Option<Url>,
}

/// The default Prometheus server, and how its series are labelled.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Prometheus")]
pub struct MetricsArgs {
    /// The server for PDAutoscalers that name none in spec.metrics.source.
    #[command(flatten)]
    pub server: prometheus::PrometheusArgs,

    /// Window of rates and latency histograms; wider where it would be less than four scrape
    /// intervals.
    #[arg(long, default_value = "2m", env = "PD_METRICS_WINDOW", value_parser = positive_duration, value_name = "DURATION")]
    pub metrics_window: Duration,

    /// Age from which a worker's newest sample counts as stale; more where scrapes are further
    /// apart.
    #[arg(long, default_value = "90s", env = "PD_METRICS_AGE_MAX", value_parser = positive_duration, value_name = "DURATION")]
    pub metrics_age_max: Duration,

    /// Label that holds the pod's namespace.
    #[arg(long, default_value = "namespace", env = "PD_NAMESPACE_LABEL", value_parser = label_name, value_name = "LABEL")]
    pub namespace_label: String,

    /// Label that holds the pod's name.
    #[arg(long, default_value = "pod", env = "PD_POD_LABEL", value_parser = label_name, value_name = "LABEL")]
    pub pod_label: String,

    /// Namespaces of gateways that serve every namespace, such as aibrix-system: their series of a
    /// model are read for the PDAutoscalers whose pods serve it. None when not given.
    #[arg(
        long,
        env = "PD_GATEWAY_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub gateway_namespaces: Vec<String>,

    /// Read the PDAutoscalers that use the controller's own server together, by at most 60 queries
    /// every 15s however many they are.
    #[arg(
        long, action = ArgAction::Set, env = "PD_GROUPED_QUERIES", value_name = "BOOL",
        default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true
    )]
    pub grouped_queries: bool,
}

/// The flags of the console.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Console")]
pub struct ConsoleArgs {
    /// Address that serves the web console, which only reads. Off when not given: whoever reaches
    /// it sees all PDAutoscalers, and there is no login. Port 0 takes a free port, which is logged.
    #[arg(long, env = "PD_CONSOLE_ADDRESS", value_name = "ADDRESS")]
    pub console_address: Option<SocketAddr>,

    /// Host names under which browsers reach the console, such as that of an Ingress; `*` takes
    /// all. Addresses, names without a dot and names of Services are always taken.
    #[arg(
        long,
        env = "PD_CONSOLE_HOSTS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub console_hosts: Vec<String>,
}

/// Decisions further apart than five minutes are as far apart as the default stabilization window,
/// and no forecast reaches from one to the next.
fn interval(text: &str) -> Result<Duration, String> {
    let span = positive_duration(text)?;
    if span <= Duration::from_mins(5) {
        Ok(span)
    } else {
        Err("must be at most 5m".to_owned())
    }
}

fn label_name(text: &str) -> Result<String, String> {
    let mut bytes = text.bytes();
    let starts_well = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if starts_well && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        Ok(text.to_owned())
    } else {
        Err("must be a Prometheus label name, such as pod".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_parse_and_defaults_are_valid() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
        let args = Args::try_parse_from(["pd-autoscaler"]).unwrap();
        assert_eq!(args.decisions.interval, Duration::from_secs(15));
        assert!(
            args.console.console_address.is_none(),
            "off unless asked for"
        );
    }

    #[test]
    fn bad_flags_are_refused_by_name() {
        for (flag, value) in [
            ("--interval", "0s"),
            ("--interval", "soon"),
            ("--interval", "301s"),
            ("--controller-class", "Blue"),
            ("--object-selector", "team in a"),
            ("--pod-label", "a-b"),
            ("--placement-url", "pd-control"),
            ("--console-address", "8085"),
        ] {
            let error = Args::try_parse_from(["pd-autoscaler", flag, value]).unwrap_err();
            assert!(error.to_string().contains(flag), "{error}");
        }
    }
}
