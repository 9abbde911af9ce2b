//! The command line of pd-webhook. What belongs to one pod is in the pod, not here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::{Args as ClapArgs, Parser, ValueEnum};
use pd_runtime::{process::ProcessArgs, rotation::CertificateArgs};
use pd_tolerations::mirror::Margin;

/// Numeric SLA tolerations at admission.
#[derive(Debug, Clone, Parser)]
#[command(name = crate::NAME, version)]
pub struct Args {
    /// The webhook.
    #[command(flatten)]
    pub webhook: WebhookArgs,
    /// Certificates.
    #[command(flatten)]
    pub certificates: CertificateArgs,
    /// Kubernetes, probes, logs and shutdown.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// Whether the API server takes `Gt` and `Lt` by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GateMode {
    /// Ask it, again and again.
    Auto,
    /// It does: nothing is rewritten.
    Native,
    /// It does not: everything is rewritten.
    Rewrite,
}

/// Which nodes new pods with numeric tolerations prefer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PreferMargin {
    /// Those whose value may worsen most before the pod must go.
    Most,
    /// Those that are just good enough, which keeps the others free.
    Least,
    /// None: preferred node affinity stays as it is.
    None,
}

impl PreferMargin {
    /// The margin to prefer; nothing if no preference is written.
    pub const fn margin(self) -> Option<Margin> {
        match self {
            Self::Most => Some(Margin::Most),
            Self::Least => Some(Margin::Least),
            Self::None => None,
        }
    }
}

/// How the webhook answers.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Webhook")]
pub struct WebhookArgs {
    /// Address that serves /mutate and /validate over TLS. Port 0 takes a free port, which is
    /// logged.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9443)))]
    pub webhook_address: SocketAddr,

    /// Whether the API server takes Gt and Lt (feature gate `TaintTolerationComparisonOperators`).
    #[arg(long, value_enum, default_value = "auto")]
    pub gate: GateMode,

    /// Which nodes new pods with numeric tolerations prefer, by preferred node affinity on mirrored
    /// labels: those with the most SLA margin, those with the least, or none.
    #[arg(long, env = "PD_PREFER_MARGIN", value_enum, default_value = "most")]
    pub prefer_margin: PreferMargin,

    /// Time between two probes of the gate.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "30s")]
    pub probe_interval: Duration,

    /// Mutating and validating webhook configuration that get the own authority, both of this name.
    #[arg(long, value_name = "NAME", default_value = "pd-webhook")]
    pub configuration: String,

    /// How long calls are answered after the signal to stop, while the API server still learns of
    /// it.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "8s")]
    pub linger: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_parse_and_defaults_are_valid() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
        let args = Args::try_parse_from([crate::NAME]).unwrap();
        assert!(args.certificates.tls_certificate_file.is_none());
        let alone = [crate::NAME, "--tls-certificate-file=x"];
        assert!(Args::try_parse_from(alone).is_err());
    }
}
