//! Logging: one subscriber for the process, on standard error, in JSON unless a person asks for
//! text.
//!
//! Owns the format and the filter of log lines, and the flags that choose them. It refuses to
//! decide what is worth logging, and it writes to no file: the container runtime collects standard
//! error, and standard output stays free for what a command prints on purpose.
//!
//! Every field of an event becomes a top-level JSON key, so that a query needs no knowledge of this
//! program.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// The Kubernetes client logs each failed request as an error before it returns it; whoever
/// receives it says more, once, and at the level it deserves.
const DEFAULT_FILTER: &str = "info,kube_client::client::builder=off";

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line, for collectors.
    Json,
    /// One human-readable line per event, coloured on a terminal.
    Text,
}

/// The logging flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct TelemetryArgs {
    /// Shape of the log lines on standard error.
    #[arg(long, env = "PD_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,

    /// Which events to log: a level, or directives such as `info,kube=warn,pd_core=debug`.
    #[arg(long, env = "PD_LOG_FILTER", default_value = DEFAULT_FILTER)]
    pub log_filter: String,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error(
        "log filter `{filter}` is invalid ({source}): use a level such as `info`, or directives such as `info,kube=warn`"
    )]
    Filter {
        /// The filter as the user wrote it.
        filter: String,
        /// The part that the parser rejected.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process already has a subscriber.
    #[error("logging is already set up: call init once, at the start of main")]
    AlreadySet,
}

impl TelemetryArgs {
    /// Installs the subscriber for the whole process. Call it once, first thing in `main`.
    pub fn init(&self) -> Result<(), TelemetryError> {
        // A failed write to a closed standard error must not become a panic of the logging thread.
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(self.filter()?)
            .with_writer(io::stderr)
            .log_internal_errors(false);
        let installed = match self.log_format {
            LogFormat::Json => {
                let json = subscriber.json().flatten_event(true).with_span_list(false);
                tracing::subscriber::set_global_default(json.finish())
            }
            LogFormat::Text => {
                let text = subscriber.with_ansi(io::stderr().is_terminal());
                tracing::subscriber::set_global_default(text.finish())
            }
        };
        installed.map_err(|_| TelemetryError::AlreadySet)
    }

    fn filter(&self) -> Result<EnvFilter, TelemetryError> {
        EnvFilter::builder()
            .parse(&self.log_filter)
            .map_err(|source| TelemetryError::Filter {
                filter: self.log_filter.clone(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        telemetry: TelemetryArgs,
    }

    #[test]
    fn logs_are_json_at_info_unless_told_otherwise() {
        let cli = Cli::parse_from(["pd"]);
        assert_eq!(cli.telemetry.log_format, LogFormat::Json);
        let filter = cli.telemetry.filter().unwrap();
        assert_eq!(filter.max_level_hint(), Some(LevelFilter::INFO));
    }

    #[test]
    fn a_bad_filter_is_refused_with_the_value_and_a_remedy() {
        let cli = Cli::parse_from(["pd", "--log-filter", "kube=loud"]);
        let message = cli.telemetry.filter().unwrap_err().to_string();
        assert!(
            message.contains("`kube=loud`") && message.contains("use a level"),
            "{message}"
        );
    }
}
