//! A server that others call: axum behind plain HTTP or TLS, until the work has drained.
//!
//! It owns the listener and nothing of what is answered. As a service of the [`Shutdown`] it
//! answers for as long as any work goes on, so that a caller who has not heard of the shutdown yet
//! is not left alone.

use std::{io, net::SocketAddr};

use axum::Router;
use tokio::net::TcpListener;

use crate::{
    shutdown::Shutdown,
    tls::{Certificates, TlsError, TlsListener},
};

/// Where to listen, and how to call that.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// The name of the server in logs and errors.
    pub name: &'static str,
    /// Its address; port 0 takes a free port, which is logged.
    pub address: SocketAddr,
    /// The flag that the address came from.
    pub flag: &'static str,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error(
        "{} address `{}` cannot be listened on ({source}): choose another with {}, or port 0",
        endpoint.name, endpoint.address, endpoint.flag
    )]
    Listen {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// The answer of the system.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Serves `router` until the shutdown has drained, over TLS if there are certificates, and returns
/// the address it listens on.
pub async fn serve(
    endpoint: &Endpoint,
    router: Router,
    certificates: Option<&Certificates>,
    shutdown: &Shutdown,
) -> Result<SocketAddr, ServerError> {
    let fault = |source| ServerError::Listen {
        endpoint: *endpoint,
        source,
    };
    let listener = TcpListener::bind(endpoint.address).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let (name, drained) = (endpoint.name, shutdown.drained().cancelled_owned());
    tracing::info!(%address, tls = certificates.is_some(), "{name} listens");
    let failed = move |done: io::Result<()>| {
        if let Err(error) = done {
            tracing::error!(%error, "{name} failed");
        }
    };
    if let Some(certificates) = certificates {
        let listener = TlsListener::new(listener, certificates)?;
        let server = axum::serve(listener, router).with_graceful_shutdown(drained);
        shutdown.spawn_service(name, async move { failed(server.await) });
    } else {
        let server = axum::serve(listener, router).with_graceful_shutdown(drained);
        shutdown.spawn_service(name, async move { failed(server.await) });
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_refused_with_a_remedy() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = Endpoint {
            name: "extender",
            address: taken.local_addr().unwrap(),
            flag: "--extender-address",
        };
        let shutdown = Shutdown::new(Duration::ZERO);
        let refused = serve(&endpoint, Router::new(), None, &shutdown).await;
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("--extender-address"), "{message}");
    }
}
