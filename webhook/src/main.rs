//! Starts pd-webhook. Everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use pd_runtime::process::exit_code;
use pd_webhook::{args::Args, serve::serve};

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(serve(Args::parse()).await)
}
