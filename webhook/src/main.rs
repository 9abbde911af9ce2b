//! Starts pd-webhook. Everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use pd_webhook::{args::Args, serve::serve};

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Args::parse()).await {
        Ok(ending) if ending.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
