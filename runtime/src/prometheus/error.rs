//! Failures of a query, in two versions: with everything that is known, for whoever runs
//! this process, and with what anybody may know, for the status of an object.
//!
//! A tenant may learn whether its own query can be parsed. It may not learn what answers at an
//! address, whether refused or silent, for that would make the process a scanner of its network;
//! nor the words of a server, which hold other tenants' labels or the body of any web page.

use reqwest::StatusCode;

use super::{
    answer::{BODY_BYTES_MAX, SAMPLES_MAX, Unusable},
    client::SetupError,
    endpoint::{Endpoint, Owner},
};
use crate::kubernetes::with_causes;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The server cannot be reached, or does not answer in time or properly.
    #[error("prometheus at `{server}` does not answer: {cause}")]
    Unreachable {
        /// The server's address.
        server: String,
        /// On whose word it was asked.
        owner: Owner,
        /// The cause.
        cause: String,
    },
    /// The server's answer is larger than this process takes.
    #[error(
        "prometheus at `{server}` answers more than {} MiB or {SAMPLES_MAX} samples to `{query}`: narrow the query with spec.metrics.selectors",
        BODY_BYTES_MAX >> 20
    )]
    TooLarge {
        /// The server's address.
        server: String,
        /// On whose word it was asked.
        owner: Owner,
        /// The query.
        query: String,
    },
    /// The server refuses the query.
    #[error("prometheus at `{server}` refuses the query `{query}`: {cause}")]
    Refused {
        /// The server's address.
        server: String,
        /// On whose word it was asked.
        owner: Owner,
        /// The query.
        query: String,
        /// Whether it was refused before it saw any data, so that the reason is about its text.
        is_unparsed: bool,
        /// The server's reason.
        cause: String,
    },
    /// The server answers with something that is no list of values.
    #[error("the query `{query}` gives {got}, which is not what it was asked for")]
    NotAVector {
        /// The query.
        query: String,
        /// The kind of answer.
        got: &'static str,
    },
    /// The server says that its answer is not whole.
    #[error("prometheus at `{server}` does not answer for all that it should know: {cause}")]
    Partial {
        /// The server's address.
        server: String,
        /// The server's warning.
        cause: String,
    },
    /// The query of an object cannot be sent.
    #[error("{field} `{query}` {cause}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// The query.
        query: String,
        /// The fault and its remedy.
        cause: String,
    },
    /// The operator does not allow what an object asks for.
    #[error("{field} `{value}` {remedy}")]
    NotAllowed {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The fault and its remedy.
        remedy: String,
    },
    /// A Secret that an object names holds no login.
    #[error("{field} `{secret}` {remedy}")]
    LoginInvalid {
        /// The field.
        field: &'static str,
        /// The Secret's name.
        secret: String,
        /// The fault and its remedy, without any content of the Secret.
        remedy: String,
    },
    /// A Secret that an object names cannot be read now.
    #[error("{field} `{secret}` cannot be read: {cause}")]
    LoginUnreadable {
        /// The field.
        field: &'static str,
        /// The Secret's name.
        secret: String,
        /// The API server's reason.
        cause: String,
    },
    /// No server is configured.
    #[error("no prometheus server is known: {remedy}")]
    NoServer {
        /// The remedy.
        remedy: &'static str,
    },
}

impl QueryError {
    pub(super) fn new(endpoint: &Endpoint, query: &str, cause: Unusable) -> Self {
        let Endpoint { url, owner, .. } = endpoint;
        let (server, owner, query) = (url.clone(), *owner, query.to_owned());
        let unreachable = |cause| Self::Unreachable {
            server: url.clone(),
            owner,
            cause,
        };
        let refused = |is_unparsed, cause| Self::Refused {
            server: url.clone(),
            owner,
            query: query.clone(),
            is_unparsed,
            cause,
        };
        match cause {
            Unusable::TooLarge => Self::TooLarge {
                server,
                owner,
                query,
            },
            Unusable::Kind(got) => Self::NotAVector { query, got },
            Unusable::NotParsed(cause) => refused(true, cause),
            Unusable::NotEvaluated(cause) => refused(false, cause),
            Unusable::Late(limit) => {
                unreachable(format!("there is no whole answer within {limit:?}"))
            }
            Unusable::Setup(error) => unreachable(with_causes(&error)),
            Unusable::Unsent(error) => unreachable(with_causes(&error)),
            Unusable::Broken(error) => unreachable(with_causes(&error)),
            // Whatever stands before the server takes no text as long as this. A tenant may not
            // know that something does.
            Unusable::Unknown(
                status @ (StatusCode::PAYLOAD_TOO_LARGE | StatusCode::URI_TOO_LONG),
            ) if matches!(owner, Owner::Operator) => {
                let cause = format!("the query is too long, by HTTP status {}", status.as_u16());
                refused(false, cause)
            }
            Unusable::Unknown(status) => unreachable(format!(
                "its answer, with HTTP status {}, is none of Prometheus's",
                status.as_u16()
            )),
            Unusable::Failed(message) => unreachable(message),
        }
    }

    /// Every [`Self::category`].
    pub const CATEGORIES: [&'static str; 10] = [
        "unreachable",
        "too_large",
        "refused",
        "invalid",
        "not_a_vector",
        "partial",
        "not_allowed",
        "login_invalid",
        "login_unreadable",
        "no_server",
    ];

    /// Label of the error metric, one of [`Self::CATEGORIES`].
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::TooLarge { .. } => "too_large",
            Self::Refused { .. } => "refused",
            Self::Invalid { .. } => "invalid",
            Self::NotAVector { .. } => "not_a_vector",
            Self::Partial { .. } => "partial",
            Self::NotAllowed { .. } => "not_allowed",
            Self::LoginInvalid { .. } => "login_invalid",
            Self::LoginUnreadable { .. } => "login_unreadable",
            Self::NoServer { .. } => "no_server",
        }
    }

    /// Whether the query itself must be fixed, rather than the server.
    pub const fn is_query_at_fault(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::Invalid { .. }
                | Self::NotAVector { .. }
                | Self::TooLarge { .. }
        )
    }

    /// The text for the object that the query was for, which its namespace reads.
    pub fn for_tenant(&self) -> String {
        match self {
            Self::Unreachable { server, owner, .. } => match owner {
                Owner::Operator => "the controller's prometheus does not answer: its operator finds the cause in the controller's log".to_owned(),
                Owner::Tenant { .. } => format!("prometheus at `{server}` gives no usable answer: check spec.metrics.source, and ask the operator whether the controller may and can reach it"),
            },
            Self::TooLarge { query, .. } => format!(
                "the answer to `{query}` has more than {} MiB or {SAMPLES_MAX} samples: narrow it with spec.metrics.selectors",
                BODY_BYTES_MAX >> 20
            ),
            Self::Refused {
                owner: Owner::Operator,
                query,
                is_unparsed: true,
                cause,
                ..
            } => format!("prometheus cannot parse the query `{query}`: {cause}"),
            Self::Refused { query, .. } => format!(
                "prometheus refuses the query `{query}`: try it there to see why"
            ),
            // The words of the server may name other tenants.
            Self::Partial { .. } => "prometheus says that its answer is not whole, as when a store behind it does not answer".to_owned(),
            // The API server names the controller's own account and rights.
            Self::LoginUnreadable { field, secret, .. } => format!(
                "{field} `{secret}` cannot be read: the operator finds the cause in the controller's log"
            ),
            Self::Invalid { .. }
            | Self::NotAVector { .. }
            | Self::NotAllowed { .. }
            | Self::LoginInvalid { .. }
            | Self::NoServer { .. } => self.to_string(),
        }
    }
}

impl From<SetupError> for Unusable {
    fn from(error: SetupError) -> Self {
        Self::Setup(error)
    }
}
