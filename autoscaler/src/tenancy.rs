//! Bounds on what the owner of a PDAutoscaler may have the controller ask, and whom.
//!
//! The controller reaches servers and reads series that the owners of objects may not. It lends
//! them neither: a server that an object names must be on the operator's list, and an object's own
//! PromQL sees the series of the object's namespace alone, unless the operator says otherwise.

mod confine;

use clap::{ArgAction, Args, ValueEnum};
use globset::{Glob, GlobBuilder, GlobMatcher};
use pd_runtime::prometheus::{Endpoint, Owner, QueryError};

pub use self::confine::{ConfineError, confine};

/// Remedy for a server that is not on the list.
const SERVER_REMEDY: &str = "is not allowed: leave it out to use the controller's own server, or ask the operator to add it to --allow-server-urls";
/// Remedy for PromQL where none is allowed.
const QUERY_REMEDY: &str =
    "is not allowed: the operator runs the controller with --object-queries=Refused";

/// The requests that owners of PDAutoscalers may make.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Tenants")]
pub struct TenancyArgs {
    /// Prometheus servers that objects may name in spec.metrics.source.serverUrl, as globs such as
    /// `http://prometheus.*.svc:9090`, in which * stands for any text. May be given several times.
    /// None when not given. A host that is not spelt out may not lead to loopback, link-local and
    /// metadata addresses.
    #[arg(long, env = "PD_ALLOW_SERVER_URLS", value_name = "GLOB", value_delimiter = ',', value_parser = server_glob)]
    pub allow_server_urls: Vec<ServerGlob>,

    /// Let objects name Secrets of their namespace, labelled pdautoscaler.io/prometheus-login:
    /// "true", with the login for a server of their own. Needs the right to read Secrets.
    #[arg(
        long, action = ArgAction::Set, env = "PD_ALLOW_SECRET_REFERENCES", value_name = "BOOL",
        default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true
    )]
    pub allow_secret_references: bool,

    /// The series that PromQL of objects may read on the controller's own server:
    /// spec.metrics.overrides and spec.scaleToZero.wakeSignal.
    #[arg(
        long,
        default_value = "Namespace",
        env = "PD_OBJECT_QUERIES",
        value_enum
    )]
    pub object_queries: ObjectQueries,
}

/// The series that PromQL of an object may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum ObjectQueries {
    /// Series of the object's namespace: every selector is confined to it.
    Namespace,
    /// Every series of the server.
    All,
    /// Nothing.
    Refused,
}

/// A pattern of servers.
#[derive(Debug, Clone)]
pub struct ServerGlob {
    matcher: GlobMatcher,
    is_host_literal: bool,
}

fn server_glob(text: &str) -> Result<ServerGlob, String> {
    let glob: Result<Glob, _> = GlobBuilder::new(text).literal_separator(false).build();
    let glob = glob.map_err(|error| error.to_string())?;
    let (_, rest) = text
        .split_once("://")
        .ok_or("must begin with http:// or https://, such as http://prometheus.*.svc:9090")?;
    let host = rest.split('/').next().unwrap_or_default();
    // The port may vary: `http://localhost:*` spells the host out.
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    Ok(ServerGlob {
        matcher: glob.compile_matcher(),
        is_host_literal: !host.contains(['*', '?', '[', '{']),
    })
}

impl TenancyArgs {
    /// The server at `url`, which an object names.
    pub fn server(&self, url: &str) -> Result<Endpoint, QueryError> {
        let matching = || {
            let globs = self.allow_server_urls.iter();
            globs.filter(|glob| glob.matcher.is_match(url))
        };
        if matching().next().is_none() {
            return Err(QueryError::NotAllowed {
                field: "spec.metrics.source.serverUrl",
                value: url.to_owned(),
                remedy: SERVER_REMEDY.to_owned(),
            });
        }
        let is_host_allowed = matching().any(|glob| glob.is_host_literal);
        Ok(Endpoint::open(url, Owner::Tenant { is_host_allowed }))
    }

    /// The query to send for an object's own `query`, given in `field`. On a server of its own an
    /// object may ask everything.
    pub fn query(
        &self,
        field: &'static str,
        query: &str,
        owner: Owner,
        namespace: (&str, &str),
    ) -> Result<String, QueryError> {
        match (self.object_queries, owner) {
            (ObjectQueries::Refused, _) => Err(QueryError::NotAllowed {
                field,
                value: query.to_owned(),
                remedy: QUERY_REMEDY.to_owned(),
            }),
            (ObjectQueries::All, _) | (_, Owner::Tenant { .. }) => Ok(query.to_owned()),
            (ObjectQueries::Namespace, Owner::Operator) => {
                let (label, namespace) = namespace;
                confine(query, label, namespace).map_err(|error| QueryError::Invalid {
                    field,
                    query: query.to_owned(),
                    cause: error.to_string(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn tenancy(globs: &[&str], object_queries: ObjectQueries) -> TenancyArgs {
        TenancyArgs {
            allow_server_urls: globs
                .iter()
                .map(|glob| server_glob(glob).unwrap())
                .collect(),
            allow_secret_references: false,
            object_queries,
        }
    }

    #[rstest]
    #[case::nothing_is_allowed_unasked(&[], "http://prometheus:9090", None)]
    #[case::listed(&["http://prometheus:9090"], "http://prometheus:9090", Some(true))]
    #[case::another(&["http://prometheus:9090"], "http://prometheus:9091", None)]
    #[case::longer(&["http://prometheus:9090"], "http://prometheus:9090.evil", None)]
    #[case::namespaces(&["http://prometheus.*.svc:9090"], "http://prometheus.a.svc:9090", Some(false))]
    #[case::everything(&["*://*"], "http://169.254.169.254/latest", Some(false))]
    #[case::any_port(&["http://localhost:*"], "http://localhost:8005", Some(true))]
    #[case::any_path(&["https://p/*"], "https://p/a/b", Some(true))]
    #[case::second(&["http://a", "http://b"], "http://b", Some(true))]
    fn servers_of_objects_are_those_on_the_list(
        #[case] globs: &[&str],
        #[case] url: &str,
        #[case] is_host_allowed: Option<bool>,
    ) {
        let server = tenancy(globs, ObjectQueries::Namespace).server(url);
        let owner = server.ok().map(|endpoint| endpoint.owner);
        let expected = is_host_allowed.map(|is_host_allowed| Owner::Tenant { is_host_allowed });
        assert_eq!(owner, expected);
    }

    #[rstest]
    #[case(ObjectQueries::Namespace, Owner::Operator, Some("up{ns=\"a\"}"))]
    #[case(ObjectQueries::Namespace, Owner::Tenant { is_host_allowed: false }, Some("up"))]
    #[case(ObjectQueries::All, Owner::Operator, Some("up"))]
    #[case(ObjectQueries::Refused, Owner::Operator, None)]
    #[case(ObjectQueries::Refused, Owner::Tenant { is_host_allowed: true }, None)]
    fn own_queries_read_what_the_operator_lets_them(
        #[case] mode: ObjectQueries,
        #[case] owner: Owner,
        #[case] sent: Option<&str>,
    ) {
        let query = tenancy(&[], mode).query("ttft", "up", owner, ("ns", "a"));
        assert_eq!(query.ok().as_deref(), sent);
    }

    #[rstest]
    #[case("prometheus:9090")]
    #[case("http://[")]
    fn a_pattern_that_can_match_nothing_is_refused(#[case] glob: &str) {
        assert!(server_glob(glob).is_err());
    }
}
