//! TLS with whatever certificate is current: a listener for axum, and the place where the
//! certificate is put.
//!
//! Connections keep the certificate they began with; each new one gets the newest. Handshakes run
//! beside each other and have a time limit, so that a peer that says nothing holds up nobody.
//! Without a certificate every handshake fails, which readiness shows beforehand.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::serve::Listener;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Finished handshakes that wait for axum.
const BACKLOG: usize = 64;

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain or the key is no PEM.
    #[error("{0} is no PEM: {1}")]
    Pem(&'static str, rustls::pki_types::pem::Error),
    /// The chain is empty.
    #[error("the certificate file has no certificate: put the whole chain there")]
    NoCertificate,
    /// Key and certificate cannot be used together.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The current certificate. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    current: Arc<RwLock<Option<Arc<CertifiedKey>>>>,
}

impl Certificates {
    /// Serves a PEM chain and key from now on, and says whether that is another chain than before.
    pub fn set(&self, chain: &[u8], key: &[u8]) -> Result<bool, TlsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| TlsError::Pem("certificate", error))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Pem("key", error))?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = current
            .as_ref()
            .is_none_or(|current| current.cert != certified.cert);
        *current = Some(Arc::new(certified));
        Ok(changed)
    }

    /// Whether there is a certificate.
    pub fn is_set(&self) -> bool {
        self.read().is_some()
    }

    fn read(&self) -> Option<Arc<CertifiedKey>> {
        // A single assignment is all that is ever written, so a panic elsewhere spoils nothing.
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Settings of a server that resolves each handshake here.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.read()
    }
}

/// A TLS listener. Handshakes end with it.
#[derive(Debug)]
pub struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    /// Accepts connections from `listener` with the certificates' current one.
    pub fn new(listener: TcpListener, certificates: &Certificates) -> Result<Self, TlsError> {
        let acceptor = TlsAcceptor::from(Arc::new(certificates.server_config()?));
        let address = listener
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let (done, ready) = mpsc::channel(BACKLOG);
        tokio::spawn(accept(listener, acceptor, done));
        Ok(Self { address, ready })
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = done.closed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files, most likely: some are closed soon.
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Answers are small and waited for.
        let _ = stream.set_nodelay(true);
        let (acceptor, done) = (acceptor.clone(), done.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
                // Nobody is left to answer if it cannot be handed over.
                Ok(Ok(stream)) => drop(done.send((stream, peer)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
                Err(_) => tracing::debug!(%peer, "handshake took too long"),
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::{Chain, Terms};

    #[test]
    fn a_certificate_is_taken_whole_or_not_at_all() {
        let terms = Terms {
            owner: "pd".to_owned(),
            names: vec!["x.y.svc".to_owned()],
            authority_seconds: 900,
            certificate_seconds: 600,
            overlap_seconds: 60,
        };
        let chain = |now| Chain::new(&terms, now).unwrap().serving;
        let (first, second) = (chain(1_000), chain(2_000));
        let certificates = Certificates::default();
        let set =
            |certificate: &str, key: &str| certificates.set(certificate.as_bytes(), key.as_bytes());
        assert!(set(&first.certificate, &first.key).unwrap());
        assert!(
            !set(&first.certificate, &first.key).unwrap(),
            "the same again"
        );
        assert!(matches!(set("", &first.key), Err(TlsError::NoCertificate)));
        assert!(matches!(
            set(&first.certificate, "x"),
            Err(TlsError::Pem("key", _))
        ));
        assert!(
            set(&first.certificate, &second.key).is_err(),
            "another's key"
        );
        let served = certificates.read().unwrap().cert.clone();
        assert!(set(&second.certificate, &second.key).unwrap());
        assert_ne!(certificates.read().unwrap().cert, served);
    }
}
