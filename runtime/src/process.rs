//! The start of a process, in the one order that works, and its exit code.
//!
//! [`Process::prepare`] sets up logs first, so that every later step is logged; then signals, so
//! that one during start-up is honoured; then the Kubernetes client. Readiness checks are
//! registered next, and only then [`Process::serve_admin`] answers the kubelet: a check that came
//! later would let the process look ready for a moment.

use std::{fmt::Display, io, process::ExitCode, sync::Arc};

use clap::Args;
use kube::Client;
use prometheus_client::registry::Registry;

use crate::{
    admin::{self, AdminArgs},
    kubernetes::{KubeArgs, KubernetesError},
    metrics,
    readiness::Readiness,
    server::ServerError,
    shutdown::{Ending, Shutdown, ShutdownArgs},
    telemetry::{TelemetryArgs, TelemetryError},
};

/// The flags that every process in a cluster has.
#[derive(Debug, Clone, Args)]
pub struct ProcessArgs {
    /// Kubernetes.
    #[command(flatten)]
    pub kubernetes: KubeArgs,
    /// Probes and metrics.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Shutdown.
    #[command(flatten)]
    pub shutdown: ShutdownArgs,
}

/// Why a process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Logs cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Signals cannot be followed.
    #[error("signals cannot be followed: {0}")]
    Signals(#[from] io::Error),
    /// There is no Kubernetes client.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
}

/// A process that has started: what all its parts share.
pub struct Process {
    /// The signals, the tasks and their end.
    pub shutdown: Shutdown,
    /// The API server.
    pub client: Client,
    /// The readiness checks.
    pub readiness: Readiness,
    name: &'static str,
    version: &'static str,
    admin: AdminArgs,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

impl Process {
    /// Sets up logs, signals and the Kubernetes client of the binary `name` at `version`.
    pub async fn prepare(
        args: &ProcessArgs,
        name: &'static str,
        version: &'static str,
    ) -> Result<Self, StartError> {
        args.telemetry.init()?;
        let shutdown = Shutdown::on_signals(&args.shutdown)?;
        let client = args.kubernetes.client(name, version).await?;
        Ok(Self {
            readiness: Readiness::new(shutdown.stopping()),
            shutdown,
            client,
            name,
            version,
            admin: args.admin.clone(),
        })
    }

    /// Serves probes and metrics: those that every process has, and what `register` adds. Register
    /// all readiness checks before.
    pub async fn serve_admin(
        &self,
        register: impl FnOnce(&mut Registry),
    ) -> Result<(), ServerError> {
        let mut registry = metrics::registry(self.name, self.version);
        register(&mut registry);
        let router = admin::router(self.readiness.clone(), Arc::new(registry));
        admin::serve(&self.admin, router, &self.shutdown).await?;
        Ok(())
    }
}

/// The exit code of a process that ended so, or could not start. Why it could not is written on
/// standard error, with its causes.
pub fn exit_code<E: Display>(ending: Result<Ending, E>) -> ExitCode {
    match ending {
        Ok(ending) if ending.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
