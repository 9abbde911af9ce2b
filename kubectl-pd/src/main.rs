//! The `kubectl-pd` command, which kubectl calls as `kubectl pd`.

use std::{io, process::ExitCode};

use clap::Parser as _;
use kubectl_pd::{args::Cli, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run::run(cli, &mut io::stdout().lock()).await {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error}");
            error.exit().into()
        }
    }
}
