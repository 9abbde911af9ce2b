//! Starts pd-scheduler-plugin. Everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use pd_runtime::process::exit_code;
use pd_scheduler_plugin::{
    args::{Args, Command, ExplainArgs},
    control::control,
    explain, preflight,
    serve::serve,
};

#[tokio::main]
async fn main() -> ExitCode {
    match Args::parse().command {
        Command::Explain(args) => explained(&args),
        Command::Control(args) => exit_code(control(*args).await),
        Command::Preflight(args) => preflight::run(&args, &mut std::io::stdout()).await,
        Command::Serve(args) => exit_code(serve(*args).await),
    }
}

fn explained(args: &ExplainArgs) -> ExitCode {
    match explain::run(args, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
