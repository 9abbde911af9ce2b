//! How long an answer of the API server may take.
//!
//! The client itself waits for minutes, because its watches are quiet for as long. A reconcile that
//! waited so long would neither decide nor report why it does not.

use std::time::Duration;

use http::Request;
use tokio::time::timeout;

/// Longest time for one answer: far above what a loaded API server takes, and short enough that the
/// fault is in the status within a minute.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The API server ends a write of replicas so long after its arrival, whoever still waits for it: a
/// write of a process that is gone cannot come after that.
pub const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// There was no answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", ANSWER_WITHIN.as_secs())]
struct NoAnswer;

/// The answer to a request, or an error when it takes too long. A write that takes too long may
/// still have been made; the next reconcile reads the object before it writes again.
pub async fn within_limit<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    match timeout(ANSWER_WITHIN, request).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(Box::new(NoAnswer))),
    }
}

/// A write that the API server ends within [`WRITE_WITHIN`]; it has parameters already.
pub fn ending(mut request: Request<Vec<u8>>) -> Result<Request<Vec<u8>>, kube::Error> {
    let limited = format!("{}&timeout={}s", request.uri(), WRITE_WITHIN.as_secs());
    *request.uri_mut() = limited
        .parse()
        .map_err(|error: http::uri::InvalidUri| kube::Error::HttpError(error.into()))?;
    Ok(request)
}
