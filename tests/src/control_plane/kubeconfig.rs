//! Kubeconfig files: how components, tests and people reach the API server, and as whom.
//!
//! Written as JSON, which every YAML reader takes. Certificates are referred to by absolute path,
//! so a kubeconfig can be handed to any process on this host as long as the cluster lives.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::certificates::{Authority, CertificateError};

/// How a kubeconfig's user proves who it is.
pub(super) enum Credential<'a> {
    /// A client certificate for this group, made for the occasion.
    Group(Option<&'a str>),
    /// A bearer token.
    Token(&'a str),
}

/// Writes `kubeconfigs/USER` for a user and gives its path.
pub(super) fn write(
    authority: &Authority,
    directory: &Path,
    server: &str,
    user: &str,
    credential: &Credential<'_>,
) -> Result<PathBuf, CertificateError> {
    let name = user.replace(':', "-");
    let secrets = match credential {
        Credential::Token(token) => json!({ "token": token }),
        Credential::Group(group) => {
            let client = authority.client(user, *group)?;
            let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
            authority.write(&certificate, &client.certificate)?;
            authority.write(&key, &client.key)?;
            json!({
                "client-certificate": authority.path(&certificate),
                "client-key": authority.path(&key),
            })
        }
    };
    let path = directory.join("kubeconfigs").join(&name);
    let failed = |source| CertificateError::Io {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(directory.join("kubeconfigs")).map_err(failed)?;
    let text = document(&authority.path("ca.crt"), server, &name, &secrets).to_string();
    std::fs::write(&path, text).map_err(failed)?;
    Ok(path)
}

fn document(certificate_authority: &str, server: &str, user: &str, secrets: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "pd-cluster",
            "cluster": { "server": server, "certificate-authority": certificate_authority },
        }],
        "users": [{ "name": user, "user": secrets }],
        "contexts": [{
            "name": "pd-cluster",
            "context": { "cluster": "pd-cluster", "user": user },
        }],
        "current-context": "pd-cluster",
    })
}
