//! Connections to one server, made again when its secrets change.
//!
//! No redirect is followed: a server that is asked answers itself, and credentials go nowhere else.

use std::{fmt, time::Duration};

use prometheus_http_query::Client;
use reqwest::{
    Certificate, Identity, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use tokio::time::Instant;

use super::{
    address::{RemoteOnly, is_local},
    endpoint::{Endpoint, Login, MaterialError, Owner},
};

/// How long secrets are used before their files are read again.
const SECRETS_KEPT: Duration = Duration::from_secs(10);

/// Why a server cannot even be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    /// A file with a secret is missing.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// A certificate or key is wrong.
    #[error("the {what} is no PEM: {source}")]
    Pem {
        what: &'static str,
        source: reqwest::Error,
    },
    /// A password, token or header holds characters that HTTP cannot carry.
    #[error("the {0} holds characters that an HTTP header cannot")]
    Header(&'static str),
    /// The address leads to this machine, its link or a metadata service.
    #[error("the address is local")]
    Local,
    /// The address is none.
    #[error("the address cannot be used: {0}")]
    Address(String),
    /// The client cannot be built.
    #[error("the client cannot be built: {0}")]
    Client(reqwest::Error),
}

/// Settings that all connections share.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) timeout: Duration,
    pub(super) user_agent: String,
}

/// A client with the headers that let it in.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) headers: HeaderMap,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.client.base_url().as_str())
            .finish_non_exhaustive()
    }
}

/// The connection to one server, and when it was last looked after.
#[derive(Debug, Default)]
pub(super) struct Connector {
    connection: Option<Connection>,
    tls: Option<TlsTexts>,
    read_at: Option<Instant>,
}

/// The texts that certificates are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TlsTexts {
    authorities: Option<String>,
    identity: Option<String>,
}

impl Connector {
    /// The connection to `endpoint` with its secrets as they are now.
    pub(super) async fn connect(
        &mut self,
        endpoint: &Endpoint,
        settings: &Settings,
    ) -> Result<Connection, SetupError> {
        let fresh = self.read_at.is_some_and(|at| at.elapsed() < SECRETS_KEPT);
        if let Some(connection) = self.connection.as_ref().filter(|_| fresh) {
            return Ok(connection.clone());
        }
        let headers = headers(endpoint).await?;
        let tls = tls_texts(endpoint).await?;
        let client = match (&self.connection, &self.tls) {
            (Some(connection), Some(before)) if *before == tls => connection.client.clone(),
            _ => client(endpoint, settings, &tls)?,
        };
        let connection = Connection { client, headers };
        self.connection = Some(connection.clone());
        self.tls = Some(tls);
        self.read_at = Some(Instant::now());
        Ok(connection)
    }
}

async fn tls_texts(endpoint: &Endpoint) -> Result<TlsTexts, MaterialError> {
    let authorities = match &endpoint.tls.authorities {
        Some(text) => Some(text.read().await?),
        None => None,
    };
    let identity = match &endpoint.tls.identity {
        Some((certificate, key)) => {
            let certificate = certificate.read().await?;
            Some(format!("{certificate}\n{}", key.read().await?))
        }
        None => None,
    };
    Ok(TlsTexts {
        authorities,
        identity,
    })
}

fn client(endpoint: &Endpoint, settings: &Settings, tls: &TlsTexts) -> Result<Client, SetupError> {
    let mut builder = reqwest::Client::builder()
        .timeout(settings.timeout)
        .connect_timeout(settings.timeout)
        .redirect(redirect::Policy::none())
        .user_agent(&settings.user_agent);
    if let (Owner::Tenant { is_host_allowed }, url) = (endpoint.owner, &endpoint.url) {
        // A proxy would resolve names where they are not checked.
        builder = builder.no_proxy();
        if !is_host_allowed {
            if has_local_host(url)? {
                return Err(SetupError::Local);
            }
            builder = builder.dns_resolver(RemoteOnly);
        }
    }
    let pem = |what| move |source| SetupError::Pem { what, source };
    if let Some(authorities) = &tls.authorities {
        let certificates = Certificate::from_pem_bundle(authorities.as_bytes());
        builder = builder.tls_certs_merge(certificates.map_err(pem("CA certificate"))?);
    }
    if let Some(identity) = &tls.identity {
        let identity = Identity::from_pem(identity.as_bytes());
        builder = builder.identity(identity.map_err(pem("client certificate or its key"))?);
    }
    let http = builder.build().map_err(SetupError::Client)?;
    Client::from(http, &endpoint.url).map_err(|error| SetupError::Address(error.to_string()))
}

/// Whether the host of `url` is written as a local address: names are checked when they resolve.
fn has_local_host(url: &str) -> Result<bool, SetupError> {
    let url = Url::parse(url).map_err(|error| SetupError::Address(error.to_string()))?;
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(host.parse().is_ok_and(is_local))
}

async fn headers(endpoint: &Endpoint) -> Result<HeaderMap, SetupError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &endpoint.headers {
        let name = HeaderName::try_from(name).map_err(|_| SetupError::Header("header's name"))?;
        let value = HeaderValue::try_from(value).map_err(|_| SetupError::Header("header"))?;
        headers.append(name, value);
    }
    let mut value = match &endpoint.login {
        Login::None => return Ok(headers),
        Login::Basic { user, password } => {
            let password = password.read().await?;
            basic(user, password.trim_end_matches(['\r', '\n']))
        }
        Login::Bearer(token) => format!("Bearer {}", token.read().await?.trim()),
    }
    .parse::<HeaderValue>()
    .map_err(|_| SetupError::Header("login"))?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(headers)
}

/// The header of basic authentication, RFC 7617.
fn basic(user: &str, password: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
