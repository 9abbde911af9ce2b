//! One write to the API server, and what became of it: every controller makes its writes through
//! here, so that limits, conflicts and dry runs mean the same everywhere.

use std::time::Duration;

use pd_runtime::kubernetes::error_message;
use tokio::time::timeout;

use strum::IntoStaticStr;

use super::Context;

/// How long the API server may take for one write.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// The outcome of a write that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum WriteOutcome {
    /// It was made.
    Written,
    /// It was the API server's dry run.
    DryRun,
    /// Somebody else changed the object in between.
    Conflict,
    /// The object is gone.
    Gone,
}

impl WriteOutcome {
    /// Its word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why it is not known that a write was made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server refused it, or was not reached.
    #[error("{}", error_message(.0))]
    Api(kube::Error),
    /// The API server takes too long.
    #[error("no answer in {} s", WRITE_LIMIT.as_secs())]
    NoAnswer,
}

impl Context {
    /// Makes a write, which must name `--dry-run` among its parameters.
    pub(super) async fn write<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<WriteOutcome, WriteError> {
        match timeout(WRITE_LIMIT, request).await {
            Ok(Ok(_)) if self.args.control.dry_run => Ok(WriteOutcome::DryRun),
            Ok(Ok(_)) => Ok(WriteOutcome::Written),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(WriteOutcome::Conflict),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(WriteOutcome::Gone),
            Ok(Err(error)) => Err(WriteError::Api(error)),
            Err(_) => Err(WriteError::NoAnswer),
        }
    }
}
