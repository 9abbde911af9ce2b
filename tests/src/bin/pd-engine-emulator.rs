//! `pd-engine-emulator`: plays the prefill and decode pods of a cluster as vLLM engines.
//!
//! A thin process around [`Emulator`]. It prints the address it answers on as one line of JSON and
//! runs until it is told to stop.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use kube::Client;
use pd_tests::{
    control_plane::{config_from, install_crypto_provider},
    emulator::{Emulator, EmulatorOptions},
};
use tokio::signal::unix::{SignalKind, signal};

/// Plays the prefill and decode pods of a cluster as vLLM engines under a stated load.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Kubeconfig file. By default KUBECONFIG, then ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    options: EmulatorOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pd-engine-emulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    install_crypto_provider();
    let client = match &arguments.kubeconfig {
        Some(file) => Client::try_from(config_from(file).await?)?,
        None => Client::try_default()
            .await
            .context("no cluster found: give --kubeconfig")?,
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut emulator = Emulator::start(client, arguments.options)
        .await
        .context("cannot listen on the address of --listen")?;
    println!("{}", serde_json::json!({ "url": emulator.url() }));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = emulator.stopped() => anyhow::bail!("the emulator stopped by itself"),
    }
    Ok(())
}
