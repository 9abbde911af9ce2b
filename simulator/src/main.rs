//! The `pd-sim` command: plays services under the real decision code, without a cluster.
//!
//! Nothing is decided here; subcommands live in the library.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pd_sim::{backtest, calibrate, compare, demo, policy, replay, simulate, sweep};

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
    Demo(demo::options::DemoOptions),
    /// Play a request trace and print attainment, GPU-hours and the clairvoyant bound
    Simulate(simulate::options::SimulateOptions),
    /// Play policies x traces x lead times on all cores: table, JSON, CSV, HTML report
    Compare(compare::options::CompareOptions),
    /// Play one policy over a grid of one or two parameters on all cores: table, JSON, CSV, HTML
    /// report
    Sweep(sweep::options::SweepOptions),
    /// Replay the past that a Prometheus remembers with a PDAutoscaler
    Backtest(backtest::options::BacktestOptions),
    /// How far the simulator is from what was observed, and a profile that is nearer
    Calibrate(calibrate::options::CalibrateOptions),
    /// Decide as a process: one JSON snapshot per line in, one decision per line out
    Policy(policy::PolicyOptions),
    /// Decide again on a recording and print where the decision differs
    Replay(replay::ReplayOptions),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo(options) => match demo::run(options).await {
            Ok(_) => Ok(String::new()),
            Err(error) => Err(error.to_string()),
        },
        Command::Simulate(options) => simulate::run(&options).map_err(|error| error.to_string()),
        Command::Compare(options) => compare::run(&options).map_err(|error| error.to_string()),
        Command::Sweep(options) => sweep::run(&options).map_err(|error| error.to_string()),
        Command::Backtest(options) => backtest::run(&options).map_err(|error| error.to_string()),
        Command::Calibrate(options) => calibrate::run(&options).map_err(|error| error.to_string()),
        Command::Policy(options) => {
            let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
            policy::run(&options, input, output)
                .map(|()| String::new())
                .map_err(|error| error.to_string())
        }
        Command::Replay(options) => replay::run(&options).map_err(|error| error.to_string()),
    };
    match done {
        Ok(text) => {
            if !text.is_empty() {
                // Whoever closed the pipe does not want to read it.
                let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
