//! Failures that status cannot report, because it is status that could not be written.
//!
//! Every other failure is part of the outcome and has a condition, an event and a metric. These
//! have the log, a metric by category, and another try.

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Status could not be written.
    #[error("the status of `{namespace}/{name}` cannot be written: {source}")]
    Status {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
        /// The API server's answer.
        source: kube::Error,
    },
    /// A bug ended the report. Holds its words.
    #[error("the report failed, this is a bug: {0}")]
    Panicked(String),
}

impl ReconcileError {
    /// Label of the error metric.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Panicked(_) => "panic",
        }
    }
}
