//! Waiting: for a component to say that it is ready, and for any other condition.
//!
//! Tests wait on conditions with a deadline, never for a time. A component that ends while it is
//! waited for fails at once, with its log, instead of at the deadline.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use super::{ControlPlane, error::ControlPlaneError};
use crate::supervisor::Process;

/// How often a condition is looked at. Short, because start-up time is the sum of these waits.
const INTERVAL: Duration = Duration::from_millis(40);

/// Waits until `url` answers with success.
pub(crate) async fn wait_ready(
    process: &Process,
    url: &str,
    authority: Option<&str>,
    timeout: Duration,
) -> Result<(), ControlPlaneError> {
    super::install_crypto_provider();
    let mut builder = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .no_proxy();
    builder = match authority.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes())) {
        Some(Ok(certificate)) => builder.tls_certs_only([certificate]),
        _ => builder.tls_certs_only([]),
    };
    let client = builder.build();
    let started = Instant::now();
    loop {
        let response = match &client {
            Ok(client) => client.get(url).send().await,
            Err(error) => {
                return Err(ControlPlaneError::Io(std::io::Error::other(
                    error.to_string(),
                )));
            }
        };
        let answer = match response {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => response.status().to_string(),
            Err(error) => format!("{error:?}"),
        };
        let name = process.spec().name.clone();
        if let Some(status) = process.exit_status() {
            return Err(ControlPlaneError::Ended {
                name,
                status,
                log: process.log_tail(),
            });
        }
        if started.elapsed() > timeout {
            let seconds = timeout.as_secs();
            return Err(ControlPlaneError::NotReady {
                name,
                seconds,
                answer,
                log: process.log_tail(),
            });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Waits until `probe` gives `Ok`; its `Err` says in words what it saw instead, and is part of the
/// error after the timeout.
pub async fn eventually<T, Probe, Answer>(
    awaited: &str,
    timeout: Duration,
    mut probe: Probe,
) -> Result<T, ControlPlaneError>
where
    Probe: FnMut() -> Answer,
    Answer: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(seen) if started.elapsed() > timeout => {
                return Err(ControlPlaneError::Timeout {
                    awaited: awaited.to_owned(),
                    seconds: timeout.as_secs(),
                    seen,
                });
            }
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// Waits until the CRD `name` is served.
pub async fn until_served(plane: &ControlPlane, name: &str) -> Result<(), ControlPlaneError> {
    let crd = format!("crd/{name}");
    let wait = ["wait", "--for=condition=Established", &crd, "--timeout=30s"];
    // kubectl fails where there is no condition yet.
    let is_served = async || {
        let served = plane.kubectl(&wait).await;
        served.map(drop).map_err(|error| error.to_string())
    };
    eventually(&crd, Duration::from_mins(1), is_served).await
}

/// Looks again and again for the time of `span` and gives the first `Err` of `probe`, which says in
/// words what it saw. For what must not happen: a single look at the end would miss what came and
/// went.
pub async fn throughout<Probe, Answer>(
    held: &str,
    span: Duration,
    mut probe: Probe,
) -> Result<(), ControlPlaneError>
where
    Probe: FnMut() -> Answer,
    Answer: Future<Output = Result<(), String>>,
{
    let started = Instant::now();
    loop {
        let elapsed = started.elapsed();
        if let Err(seen) = probe().await {
            return Err(ControlPlaneError::Broken {
                held: held.to_owned(),
                seconds: elapsed.as_secs_f64(),
                seen,
            });
        }
        if elapsed >= span {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
