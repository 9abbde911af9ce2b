//! The `pd-sim` command: plays services under the real decision code, without a cluster.
//!
//! Nothing is decided here; subcommands live in the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pd_sim::demo;

/// Play prefill/decode services under the decision code of PDAutoscaler, without a cluster
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a real-shaped day in a minute, live on a local page, and leave a report behind
    Demo(demo::options::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Demo(options) = Cli::parse().command;
    match demo::run(options).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
