//! What makes a pass fail as a whole. Everything else is an outcome that status tells.

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Who else scales the targets could not be read.
    #[error("the autoscalers of namespace `{namespace}` cannot be read: {source}")]
    Contention {
        /// The namespace.
        namespace: String,
        /// What happened.
        source: kube::Error,
    },
    /// Status could not be written.
    #[error("the status of `{namespace}/{name}` cannot be written: {source}")]
    Status {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
        /// What happened.
        source: kube::Error,
    },
}

impl Error {
    /// Label of the error metric.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Contention { .. } => "contention",
            Self::Status { .. } => "status",
        }
    }
}
