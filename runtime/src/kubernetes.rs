//! The Kubernetes client: where the cluster is, who asks, and how long an answer may take.
//!
//! Owns the construction of the one [`Client`] of a process and the TLS provider under it. It
//! refuses to hide faults: the client's own retries are off, because up to five minutes of silent
//! retrying would keep a reconcile from reporting that the API server is in trouble. Callers
//! requeue, with their own backoff.
//!
//! The read limit bounds the silence on one connection, and lies above the age at which watchers
//! renew their watches, so that only a dead connection meets it. A caller that needs an answer
//! sooner sets a timeout around the call.

use std::{path::PathBuf, time::Duration};

use axum::http::{HeaderValue, Uri, header};
use clap::Args;
use kube::{
    Client, Config,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(295);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The flags that say how to reach the cluster.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubeArgs {
    /// Kubeconfig file. By default KUBECONFIG, then ~/.kube/config, then the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The file of `--kubeconfig` is missing or wrong.
    #[error("kubeconfig `{}` cannot be used: give --kubeconfig a readable file with a current context", path.display())]
    Kubeconfig {
        /// The file asked for.
        path: PathBuf,
        /// The fault.
        source: KubeconfigError,
    },
    /// No configuration was found anywhere.
    #[error("no cluster configuration found: run inside a pod, or give --kubeconfig")]
    Infer(#[from] InferConfigError),
    /// The user agent holds characters that an HTTP header cannot.
    #[error("user agent `{0}` is invalid: use visible ASCII")]
    UserAgent(String),
    /// The configuration holds credentials or certificates that cannot be used.
    #[error("the cluster configuration cannot be used")]
    Client(#[source] kube::Error),
}

/// Makes ring the TLS provider of the process. Calling it again does nothing.
///
/// Any part that opens TLS connections without a Kubernetes client, such as a Prometheus client,
/// calls it first.
pub fn install_crypto_provider() {
    // The only error is that a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The error and its causes as people read them: the API server's message without the whole status
/// around it, others with their causes, for "connection refused" stands behind "request failed".
pub fn error_message(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    with_causes(error)
}

/// The error and what caused it. A cause that the text has already is not repeated.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}

impl KubeArgs {
    /// A client that names itself `<binary>/<version>` to the API server. It connects at its first
    /// request.
    pub async fn client(&self, binary: &str, version: &str) -> Result<Client, KubernetesError> {
        install_crypto_provider();
        let config = self.config(&format!("{binary}/{version}")).await?;
        tracing::info!(server = %config.cluster_url, namespace = config.default_namespace, "cluster chosen");
        Client::try_from(config).map_err(KubernetesError::Client)
    }

    /// A client with the same credentials and authorities for another server, such as a component's
    /// own address.
    pub async fn client_at(
        &self,
        server: Uri,
        binary: &str,
        version: &str,
    ) -> Result<Client, KubernetesError> {
        install_crypto_provider();
        let mut config = self.config(&format!("{binary}/{version}")).await?;
        config.cluster_url = server;
        config.tls_server_name = None;
        Client::try_from(config).map_err(KubernetesError::Client)
    }

    async fn config(&self, user_agent: &str) -> Result<Config, KubernetesError> {
        let mut config = match &self.kubeconfig {
            Some(path) => from_file(path.clone()).await?,
            None => Config::infer().await?,
        };
        let agent = HeaderValue::from_str(user_agent)
            .map_err(|_| KubernetesError::UserAgent(user_agent.to_owned()))?;
        config.headers.push((header::USER_AGENT, agent));
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.write_timeout = Some(WRITE_TIMEOUT);
        config.default_retry = false;
        Ok(config)
    }
}

async fn from_file(path: PathBuf) -> Result<Config, KubernetesError> {
    let loaded = match Kubeconfig::read_from(&path) {
        Ok(file) => Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await,
        Err(error) => Err(error),
    };
    loaded.map_err(|source| KubernetesError::Kubeconfig { path, source })
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, path::Path};

    use super::*;

    const KUBECONFIG: &str = r#"{
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "pd"}}],
        "users": [{"name": "u", "user": {}}]
    }"#;

    #[tokio::test]
    async fn the_given_file_decides_and_the_limits_are_set() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KUBECONFIG).unwrap();
        let args = KubeArgs {
            kubeconfig: Some(file.path().to_owned()),
        };
        let config = args.config("pd-autoscaler/1.2.3").await.unwrap();
        assert_eq!(config.cluster_url, "http://127.0.0.1:1/");
        assert_eq!(config.default_namespace, "pd");
        assert_eq!(config.headers[0].1, "pd-autoscaler/1.2.3");
        assert!(config.read_timeout.is_some() && !config.default_retry);
        assert!(args.client("pd-autoscaler", "1.2.3").await.is_ok());
    }

    #[tokio::test]
    async fn a_missing_file_is_named_with_its_cause() {
        let args = KubeArgs {
            kubeconfig: Some(Path::new("nowhere").to_owned()),
        };
        let error = args.client("pd", "1").await.err().unwrap();
        assert!(error.to_string().contains("`nowhere`"), "{error}");
        assert!(error.source().is_some());
    }
}
