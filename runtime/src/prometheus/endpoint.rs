//! A Prometheus server with everything that is needed to be let in, and on whose word it is asked.
//!
//! Whoever owns the process names one server and is trusted. Others name servers too, and those are
//! reached with care: not at this machine's own addresses, and without believing their texts.

use std::{fmt, io, path::PathBuf};

/// A server, and how to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address, without user and password.
    pub url: String,
    /// Who asks.
    pub login: Login,
    /// Certificates.
    pub tls: TlsMaterial,
    /// Headers of every query.
    pub headers: Vec<(String, String)>,
    /// On whose word it is asked.
    pub owner: Owner,
}

impl Endpoint {
    /// The server at `url`, which asks for no login, on the word of `owner`.
    pub fn open(url: &str, owner: Owner) -> Self {
        Self {
            url: url.to_owned(),
            login: Login::None,
            tls: TlsMaterial::default(),
            headers: Vec::new(),
            owner,
        }
    }
}

/// On whose word a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Whoever runs this process.
    Operator,
    /// Somebody else.
    Tenant {
        /// Whether the operator allows this very host, whatever its address.
        is_host_allowed: bool,
    },
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Login {
    /// Anybody.
    #[default]
    None,
    /// A user with a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Material,
    },
    /// The holder of a token.
    Bearer(Material),
}

/// Certificates of a connection, all PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsMaterial {
    /// Certificates that may vouch for the server, besides the system's.
    pub authorities: Option<Material>,
    /// The client's certificate and its key.
    pub identity: Option<(Material, Material)>,
}

/// A text that is secret, or at least came with secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Material {
    /// The content of a file, which may change.
    File(PathBuf),
    /// The text itself.
    Text(Hidden),
}

impl Material {
    /// The text as it is now.
    pub(super) async fn read(&self) -> Result<String, MaterialError> {
        match self {
            Self::Text(text) => Ok(text.0.clone()),
            Self::File(path) => {
                tokio::fs::read_to_string(path)
                    .await
                    .map_err(|source| MaterialError {
                        path: path.clone(),
                        source,
                    })
            }
        }
    }
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be read: {source}", path.display())]
pub(super) struct MaterialError {
    path: PathBuf,
    source: io::Error,
}

/// A text that debugging does not show.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Hidden(String);

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}
