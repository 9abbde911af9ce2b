//! Starts pd-autoscaler. Everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use pd_autoscaler::{args::Args, run::run};
use pd_runtime::process::exit_code;

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Args::parse()).await)
}
