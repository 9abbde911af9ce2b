//! The emulator's options: which pods are whose, and where to answer.
//!
//! The same struct serves the command line and tests in the same process, so that both have the
//! same defaults. A role is recognised by one label; everything about load and coefficients can be
//! changed later over HTTP.

use std::{net::SocketAddr, str::FromStr};

use clap::Args;
use pd_sim::exposition::Dialect;

/// A label with its value, written `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelValue {
    /// The label's key.
    pub key: String,
    /// The value it must have.
    pub value: String,
}

impl FromStr for LabelValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err(format!("label `{text}` is not of the form key=value")),
        }
    }
}

/// Options of the emulator.
#[derive(Clone, Debug, Args)]
pub struct EmulatorOptions {
    /// Address to answer on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Play the pods of this namespace only; by default of all.
    #[arg(long)]
    pub namespace: Option<String>,
    /// Label of the pods that are prefill workers.
    #[arg(
        long,
        default_value = "llm-d.ai/role=prefill",
        value_name = "KEY=VALUE"
    )]
    pub prefill_label: LabelValue,
    /// Label of the pods that are decode workers.
    #[arg(long, default_value = "llm-d.ai/role=decode", value_name = "KEY=VALUE")]
    pub decode_label: LabelValue,
    /// Further label selector that pods must match, such as one for the leaders of groups.
    #[arg(long)]
    pub selector: Option<String>,
    /// Label of a pod that holds the model's name.
    #[arg(long, default_value = "model", value_name = "KEY")]
    pub model_label: String,
    /// Name of the model if a pod does not say.
    #[arg(long, default_value = "emulated-model")]
    pub model_name: String,
    /// Time from a pod's being Ready to its worker's taking requests, in seconds.
    #[arg(long, default_value_t = 0.0)]
    pub startup_seconds: f64,
    /// Whose metric names to use: `current`, or those of vLLM `0.8.5`.
    #[arg(long, default_value = "current", value_parser = parse_dialect)]
    pub dialect: Dialect,
    /// Seed of all random draws.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Default for EmulatorOptions {
    fn default() -> Self {
        let role = |value: &str| LabelValue {
            key: "llm-d.ai/role".into(),
            value: value.into(),
        };
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            namespace: None,
            prefill_label: role("prefill"),
            decode_label: role("decode"),
            selector: None,
            model_label: "model".into(),
            model_name: "emulated-model".into(),
            startup_seconds: 0.0,
            dialect: Dialect::Current,
            seed: 1,
        }
    }
}

pub(super) fn parse_dialect(text: &str) -> Result<Dialect, String> {
    match text {
        "current" => Ok(Dialect::Current),
        "0.8.5" => Ok(Dialect::V0_8_5),
        _ => Err(format!(
            "dialect `{text}` is unknown: give `current` or `0.8.5`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        options: EmulatorOptions,
    }

    #[test]
    fn the_command_line_and_tests_have_the_same_defaults() {
        let parsed = Arguments::parse_from(["emulator"]).options;
        assert_eq!(
            format!("{parsed:?}"),
            format!("{:?}", EmulatorOptions::default())
        );
    }

    #[test]
    fn labels_need_key_and_value() {
        assert!("a=b".parse::<LabelValue>().is_ok());
        assert!("ab".parse::<LabelValue>().is_err());
        assert!("=b".parse::<LabelValue>().is_err());
    }
}
