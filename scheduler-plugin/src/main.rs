//! Starts pd-scheduler-plugin. Everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use pd_scheduler_plugin::{
    args::{Args, Command},
    control::control,
    explain, preflight,
    serve::serve,
};

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().command {
        // Its messages are whole, while those of `serve` have their causes behind them.
        Command::Explain(args) => explain::run(&args, &mut std::io::stdout().lock())
            .map(|()| true)
            .map_err(|error| anyhow::Error::msg(error.to_string())),
        Command::Control(args) => control(*args).await.map(|ending| ending.is_clean()),
        Command::Preflight(args) => return preflight::run(&args, &mut std::io::stdout()).await,
        Command::Serve(args) => serve(*args).await.map(|ending| ending.is_clean()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
