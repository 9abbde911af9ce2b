//! Keeps a serving certificate current: the own one through a Secret, another's from files.
//!
//! Every replica does the same at every interval: read the Secret, ask [`Chain::next`] what it must
//! become, write that if nobody else was faster, make the authorities known through [`Publish`],
//! and only then serve the certificate. There is no leader: the Secret's resource version decides
//! who renews. A replica that cannot reach the API server serves what it has.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio::time::{sleep, timeout};

use crate::{
    certificates::{CertificateError, Chain, Terms},
    readiness::ReadinessHandle,
    tls::{Certificates, TlsError},
};

/// Key of the Secret that holds the state.
const STATE: &str = "state.json";
/// Key of the Secret that holds the bundle, for people.
const BUNDLE: &str = "ca.crt";
/// Time to the next try after a failed one.
const RETRY: Duration = Duration::from_secs(1);
const STEP_LIMIT: Duration = Duration::from_secs(15);

/// Where the serving certificate comes from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Certificates")]
pub struct CertificateArgs {
    /// Certificate chain, PEM, made by somebody else such as cert-manager; read again when it
    /// changes. Without it the program makes its own.
    #[arg(long, value_name = "FILE", requires = "tls_key_file")]
    pub tls_certificate_file: Option<PathBuf>,

    /// Private key of that certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate_file")]
    pub tls_key_file: Option<PathBuf>,

    /// Namespace of this process, where the Secret of its own authority is. pd-webhook's own
    /// configurations must leave it out, for probes are there.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "default"
    )]
    pub namespace: String,

    /// Service that clients call, which the certificate is for; by default of the program's name.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,

    /// Secret that keeps the own authority and certificate; by default the service's name and
    /// `-certificates`.
    #[arg(long, value_name = "NAME")]
    pub certificate_secret: Option<String>,

    /// How long a certificate is valid; it is renewed when two thirds are over.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "90days")]
    pub certificate_validity: Duration,

    /// How long an authority is valid; it is renewed when two thirds are over, and trusted until
    /// its end.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "3650days")]
    pub authority_validity: Duration,

    /// How long a new authority is made known before it signs.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "10m")]
    pub authority_overlap: Duration,

    /// Time between two looks at certificates and Secret.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "30s")]
    pub certificate_interval: Duration,
}

/// Why the certificate is not current.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The API server refused or was not reached.
    #[error("{what}: {source}")]
    Api {
        /// The request.
        what: &'static str,
        /// The answer.
        source: kube::Error,
    },
    /// Nobody would learn of the authority.
    #[error("{0}")]
    Publish(String),
    /// The certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file cannot be read.
    #[error("`{path}` cannot be read: {source}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The API server takes too long.
    #[error("the API server did not answer in {} s", STEP_LIMIT.as_secs())]
    Slow,
}

/// Who has to know the own authorities before a certificate of theirs is served.
pub trait Publish: Send + Sync {
    /// Makes the bundle, PEM, known; cheap where it is known already, for it is called at every
    /// look.
    fn publish(&self, bundle: &str) -> impl Future<Output = Result<(), RotationError>> + Send;
}

/// Clients that people configure, from the Secret.
impl Publish for () {
    async fn publish(&self, _: &str) -> Result<(), RotationError> {
        Ok(())
    }
}

/// Who keeps the certificate current, and where it goes.
#[derive(Clone)]
pub struct Rotation<P> {
    /// The program's name.
    pub owner: &'static str,
    /// The cluster.
    pub client: Client,
    /// Flags.
    pub args: CertificateArgs,
    /// Where the certificate goes.
    pub certificates: Certificates,
    /// When the own certificate ends, seconds since 1970.
    pub ends: CertificateEnds,
    /// Who has to know.
    pub publish: P,
}

/// When the serving certificate of the own authority ends, as a metric.
#[derive(Debug, Clone, Default)]
pub struct CertificateEnds(Gauge);

impl CertificateEnds {
    /// Registers it, under the program's prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "certificate_end_timestamp_seconds",
            "When the serving certificate of the own authority ends, seconds since 1970",
            self.0.clone(),
        );
    }
}

impl<P> std::fmt::Debug for Rotation<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Rotation");
        shown
            .field("args", &self.args)
            .field("namespace", &self.args.namespace)
            .finish_non_exhaustive()
    }
}

impl<P: Publish> Rotation<P> {
    /// Keeps the certificate current until the future is dropped.
    pub async fn keep(self, ready: ReadinessHandle) {
        let mut is_failing = false;
        loop {
            let step = match (&self.args.tls_certificate_file, &self.args.tls_key_file) {
                (Some(certificate), Some(key)) => self.read_files(certificate, key).await,
                _ => match timeout(STEP_LIMIT, self.own()).await {
                    Ok(step) => step,
                    Err(_) => Err(RotationError::Slow),
                },
            };
            let pause = match step {
                Ok(()) => {
                    is_failing = false;
                    ready.set_ready();
                    self.args.certificate_interval
                }
                Err(error) => {
                    if !is_failing {
                        tracing::warn!(%error, "the certificate cannot be kept current");
                    }
                    is_failing = true;
                    if !self.certificates.is_set() {
                        ready.set_waiting(format!("no certificate yet: {error}"));
                    }
                    RETRY.min(self.args.certificate_interval)
                }
            };
            sleep(pause).await;
        }
    }

    async fn read_files(&self, certificate: &Path, key: &Path) -> Result<(), RotationError> {
        let read = async |path: &Path| {
            tokio::fs::read(path)
                .await
                .map_err(|source| RotationError::File {
                    path: path.display().to_string(),
                    source,
                })
        };
        let (certificate, key) = (read(certificate).await?, read(key).await?);
        if self.certificates.set(&certificate, &key)? {
            tracing::info!("certificate read from file");
        }
        Ok(())
    }

    async fn own(&self) -> Result<(), RotationError> {
        let chain = self.current().await?;
        self.publish.publish(&chain.bundle()).await?;
        let (certificate, key) = (&chain.serving.certificate, &chain.serving.key);
        if self
            .certificates
            .set(certificate.as_bytes(), key.as_bytes())?
        {
            tracing::info!(
                ends = chain.serving.ends,
                signed_by = chain.signed_by,
                authorities = chain.authorities.len(),
                "certificate served"
            );
        }
        self.ends.0.set(chain.serving.ends);
        Ok(())
    }

    fn service(&self) -> &str {
        self.args.service.as_deref().unwrap_or(self.owner)
    }

    fn secret_name(&self) -> String {
        let named = self.args.certificate_secret.clone();
        named.unwrap_or_else(|| format!("{}-certificates", self.service()))
    }

    fn terms(&self) -> Terms {
        let (service, namespace) = (self.service(), &self.args.namespace);
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        Terms {
            owner: self.owner.to_owned(),
            names: vec![
                format!("{service}.{namespace}.svc"),
                format!("{service}.{namespace}"),
                service.to_owned(),
                format!("{service}.{namespace}.svc.cluster.local"),
            ],
            authority_seconds: seconds(self.args.authority_validity),
            certificate_seconds: seconds(self.args.certificate_validity),
            overlap_seconds: seconds(self.args.authority_overlap),
        }
    }

    /// The chain that is in the Secret now, renewed if it was due.
    async fn current(&self) -> Result<Chain, RotationError> {
        let api = |what| move |source| RotationError::Api { what, source };
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.args.namespace);
        let name = self.secret_name();
        let secret = secrets
            .get_opt(&name)
            .await
            .map_err(api("the Secret cannot be read"))?;
        let known = secret.as_ref().and_then(stored);
        let now = now();
        let next = match Chain::next(known.as_ref(), &self.terms(), now) {
            // A key that somebody broke: there is nothing to be kept.
            Err(CertificateError::Make(_)) => Some(Chain::new(&self.terms(), now)?),
            next => next?,
        };
        let Some(next) = next else {
            return match known {
                Some(known) => Ok(known),
                None => Ok(Chain::new(&self.terms(), now)?),
            };
        };
        let version = secret
            .as_ref()
            .and_then(|secret| secret.metadata.resource_version.clone());
        let wanted = self.secret(&next, secret);
        let written = match version {
            Some(_) => {
                secrets
                    .replace(&name, &PostParams::default(), &wanted)
                    .await
            }
            None => secrets.create(&PostParams::default(), &wanted).await,
        };
        // A conflict means that another replica was faster: its chain is read at the next try.
        written.map_err(api("the Secret cannot be written"))?;
        tracing::info!(authorities = next.authorities.len(), "certificate renewed");
        Ok(next)
    }

    fn secret(&self, chain: &Chain, old: Option<Secret>) -> Secret {
        let mut secret = old.unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.secret_name()),
                namespace: Some(self.args.namespace.clone()),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/managed-by".to_owned(),
                    self.owner.to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        });
        // Texts and numbers alone: it cannot fail.
        let state = serde_json::to_vec(chain).unwrap_or_default();
        secret.data = Some(BTreeMap::from([
            (STATE.to_owned(), ByteString(state)),
            (BUNDLE.to_owned(), ByteString(chain.bundle().into_bytes())),
        ]));
        secret
    }
}

fn stored(secret: &Secret) -> Option<Chain> {
    let state = secret.data.as_ref()?.get(STATE)?;
    serde_json::from_slice(&state.0).ok()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
