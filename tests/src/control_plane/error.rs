//! Faults of a control plane, in words a developer can act on.
//!
//! A component that ends or does not become ready is reported with the last lines of its log,
//! because the directory with the log is gone by the time the message is read.

use std::{io, path::PathBuf};

use super::certificates::CertificateError;
use crate::{
    supervisor::SupervisorError,
    tools::{ToolsError, VersionError},
};

/// Why a control plane, or something asked of it, failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// The Kubernetes version asked for cannot be read.
    #[error("PD_KUBERNETES_VERSION is wrong: {0}")]
    Version(#[from] VersionError),
    /// A program is missing and cannot be built.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// Processes cannot be supervised.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// Certificates or kubeconfigs cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A file cannot be used.
    #[error("cannot use the cluster's files")]
    Io(#[from] io::Error),
    /// A component ended when it should run.
    #[error("`{name}` ended ({status}); the end of its log:\n{log}")]
    Ended {
        /// The component.
        name: String,
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// A component did not become ready in time.
    #[error(
        "`{name}` was not ready after {seconds} s (last answer: {answer}); the end of its log:\n{log}"
    )]
    NotReady {
        /// The component.
        name: String,
        /// How long was waited, in seconds.
        seconds: u64,
        /// Its last answer when asked.
        answer: String,
        /// The last lines of its log.
        log: String,
    },
    /// The component is not part of this control plane, or is not running.
    #[error("`{0}` is not running in this control plane")]
    NotRunning(&'static str),
    /// An awaited condition did not come about.
    #[error("still waiting for {awaited} after {seconds} s; last seen: {seen}")]
    Timeout {
        /// The awaited state.
        awaited: String,
        /// How long was waited, in seconds.
        seconds: u64,
        /// The state at the end.
        seen: String,
    },
    /// Something did not stay as it had to.
    #[error("{held} no longer after {seconds:.1} s; seen: {seen}")]
    Broken {
        /// The state that had to last.
        held: String,
        /// How long it lasted, in seconds.
        seconds: f64,
        /// The state that was seen instead.
        seen: String,
    },
    /// A client could not be made from the kubeconfig.
    #[error("cannot make a client for the API server")]
    Client(#[from] kube::config::KubeconfigError),
    /// The API server refused.
    #[error("the API server refused")]
    Api(#[from] kube::Error),
    /// A command line tool failed.
    #[error("`{command}` failed ({status}):\n{stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// Its standard error.
        stderr: String,
    },
    /// A command line tool could not be started.
    #[error("`{}` could not be started", program.display())]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A task was cancelled.
    #[error("a task of the control plane was cancelled")]
    Cancelled(#[from] tokio::task::JoinError),
}
