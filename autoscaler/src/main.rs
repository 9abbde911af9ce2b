//! Starts pd-autoscaler. Everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use pd_autoscaler::{args::Args, run::run};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let ending = run(Args::parse()).await?;
    Ok(if ending.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
