//! The `pd-sim` command: plays services under the real decision code, without a cluster.
//!
//! Nothing is decided here; subcommands live in the library.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pd_sim::{compare, demo, policy, simulate};

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
    /// Play a request trace and print attainment, GPU-hours and the clairvoyant bound
    Simulate(simulate::options::Options),
    /// Play policies x traces x lead times on all cores: table, JSON, CSV, HTML report
    Compare(compare::options::Options),
    /// Decide as a process: one JSON snapshot per line in, one decision per line out
    Policy(policy::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let error = match Cli::parse().command {
        Command::Demo(options) => match demo::run(options).await {
            Ok(_) => return ExitCode::SUCCESS,
            Err(error) => error.to_string(),
        },
        Command::Simulate(options) => match simulate::run(&options) {
            Ok(text) => {
                // Whoever closed the pipe does not want to read it.
                let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
                return ExitCode::SUCCESS;
            }
            Err(error) => error.to_string(),
        },
        Command::Compare(options) => match compare::run(&options) {
            Ok(text) => {
                let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
                return ExitCode::SUCCESS;
            }
            Err(error) => error.to_string(),
        },
        Command::Policy(options) => {
            match policy::run(&options, std::io::stdin().lock(), std::io::stdout().lock()) {
                Ok(()) => return ExitCode::SUCCESS,
                Err(error) => error.to_string(),
            }
        }
    };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
