//! Flags that say which Prometheus server is asked, and how it lets this process in.
//!
//! Secrets come from files, which are read again while the process runs: Kubernetes replaces them.
//! An address may hold a user and a password, as many people have it; they leave the address here,
//! so that no log, metric or condition can show them.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use percent_encoding::percent_decode_str;
use reqwest::{
    Url,
    header::{HeaderName, HeaderValue},
};

use super::endpoint::{Endpoint, Hidden, Login, Material, Owner, TlsMaterial};
use crate::args::positive_duration;

/// The flags that say which Prometheus server is asked.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Prometheus")]
pub struct PrometheusArgs {
    /// Prometheus server to ask. A user and password in it are sent as basic authentication.
    #[arg(long, env = "PD_PROMETHEUS_URL", value_name = "URL", value_parser = server, hide_env_values = true)]
    pub prometheus_url: Option<Server>,

    /// Time after which a query counts as failed.
    #[arg(long, default_value = "10s", env = "PD_PROMETHEUS_TIMEOUT", value_parser = positive_duration, value_name = "DURATION")]
    pub prometheus_timeout: Duration,

    /// User of basic authentication.
    #[arg(
        long,
        env = "PD_PROMETHEUS_USERNAME",
        value_name = "NAME",
        requires = "prometheus_password_file"
    )]
    pub prometheus_username: Option<String>,

    /// File with the password of basic authentication; read again when it changes.
    #[arg(
        long,
        env = "PD_PROMETHEUS_PASSWORD_FILE",
        value_name = "FILE",
        requires = "prometheus_username"
    )]
    pub prometheus_password_file: Option<PathBuf>,

    /// File with a bearer token, such as a projected service account's; read again when it changes.
    #[arg(
        long,
        env = "PD_PROMETHEUS_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "prometheus_username"
    )]
    pub prometheus_token_file: Option<PathBuf>,

    /// PEM file with certificates that may vouch for the server, besides the system's.
    #[arg(long, env = "PD_PROMETHEUS_CA_FILE", value_name = "FILE")]
    pub prometheus_ca_file: Option<PathBuf>,

    /// PEM file with this client's certificate.
    #[arg(
        long,
        env = "PD_PROMETHEUS_CERT_FILE",
        value_name = "FILE",
        requires = "prometheus_key_file"
    )]
    pub prometheus_cert_file: Option<PathBuf>,

    /// PEM file with the key of this client's certificate.
    #[arg(
        long,
        env = "PD_PROMETHEUS_KEY_FILE",
        value_name = "FILE",
        requires = "prometheus_cert_file"
    )]
    pub prometheus_key_file: Option<PathBuf>,

    /// Header of every query, such as X-Scope-OrgID=team-a. May be given several times.
    #[arg(long, env = "PD_PROMETHEUS_HEADERS", value_name = "NAME=VALUE", value_parser = header, value_delimiter = ',')]
    pub prometheus_header: Vec<(String, String)>,
}

impl PrometheusArgs {
    /// The server of these flags, if one is named.
    pub fn endpoint(&self) -> Option<Endpoint> {
        let server = self.prometheus_url.clone()?;
        let file = |path: &PathBuf| Material::File(path.clone());
        let user = self.prometheus_username.clone();
        let password = self.prometheus_password_file.as_ref().map(file);
        let login = match (user.zip(password), &self.prometheus_token_file) {
            (Some((user, password)), _) => Login::Basic { user, password },
            (None, Some(token)) => Login::Bearer(file(token)),
            (None, None) => server.login,
        };
        let certificate = self.prometheus_cert_file.as_ref().map(file);
        Some(Endpoint {
            url: server.url,
            login,
            tls: TlsMaterial {
                authorities: self.prometheus_ca_file.as_ref().map(file),
                identity: certificate.zip(self.prometheus_key_file.as_ref().map(file)),
            },
            headers: self.prometheus_header.clone(),
            owner: Owner::Operator,
        })
    }
}

/// A server's address, and the login that was written into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The address without user and password.
    pub url: String,
    /// The login that was part of it.
    pub login: Login,
}

/// The server at `text`.
pub fn server(text: &str) -> Result<Server, String> {
    let remedy =
        "must be http:// or https:// with a host, such as http://prometheus.monitoring:9090";
    // The cause is left out, for it may show a password.
    let mut url = Url::parse(text).map_err(|_| remedy.to_owned())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(remedy.to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have no query and no fragment".to_owned());
    }
    let user = decoded(url.username());
    let login = match url.password() {
        None if user.is_empty() => Login::None,
        password => Login::Basic {
            user,
            password: Material::Text(Hidden::from(decoded(password.unwrap_or_default()))),
        },
    };
    let removed = url.set_username("").and_then(|()| url.set_password(None));
    removed.map_err(|()| remedy.to_owned())?;
    let url = url.as_str().trim_end_matches('/').to_owned();
    Ok(Server { url, login })
}

/// `text` without the percent-encoding that users and passwords have in an address.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn header(text: &str) -> Result<(String, String), String> {
    let remedy = "must be NAME=VALUE, such as X-Scope-OrgID=team-a";
    let (name, value) = text.split_once('=').ok_or(remedy)?;
    let name = HeaderName::try_from(name).map_err(|_| remedy)?;
    HeaderValue::try_from(value).map_err(|_| remedy)?;
    Ok((name.as_str().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        prometheus: PrometheusArgs,
    }

    fn endpoint(flags: &[&str]) -> Result<Option<Endpoint>, clap::Error> {
        let flags = Flags::try_parse_from([&["test"], flags].concat())?;
        Ok(flags.prometheus.endpoint())
    }

    #[rstest]
    #[case::plain("http://p:9090", "http://p:9090")]
    #[case::slash("http://p:9090/", "http://p:9090")]
    #[case::path("https://p/prometheus/", "https://p/prometheus")]
    #[case::login("https://me:s%40crt@p:9090/x", "https://p:9090/x")]
    fn an_address_is_kept_without_its_login(#[case] text: &str, #[case] url: &str) {
        assert_eq!(server(text).unwrap().url, url);
    }

    #[test]
    fn a_login_in_the_address_is_used_and_never_shown() {
        let endpoint = endpoint(&["--prometheus-url", "https://me:s%40crt@p"]);
        let endpoint = endpoint.unwrap().unwrap();
        let Login::Basic { user, password } = &endpoint.login else {
            panic!("{endpoint:?}");
        };
        assert_eq!(user, "me");
        assert_eq!(*password, Material::Text(Hidden::from("s@crt".to_owned())));
        assert!(!format!("{endpoint:?}").contains("s@crt"), "{endpoint:?}");
    }

    #[rstest]
    #[case::scheme("ftp://p")]
    #[case::host("http://")]
    #[case::words("prometheus")]
    #[case::query("http://p?x=1")]
    #[case::fragment("http://me:secret@p#x")]
    fn a_wrong_address_is_refused_without_showing_it(#[case] text: &str) {
        let error = server(text).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    #[rstest]
    #[case::user_without_password(&["--prometheus-username", "me"])]
    #[case::key_without_certificate(&["--prometheus-key-file", "k"])]
    #[case::two_logins(&["--prometheus-username", "me", "--prometheus-password-file", "f", "--prometheus-token-file", "t"])]
    #[case::no_header(&["--prometheus-header", "X-Scope-OrgID"])]
    #[case::header_of_two_lines(&["--prometheus-header", "X-A=b\nc"])]
    fn flags_that_do_not_fit_are_refused(#[case] flags: &[&str]) {
        assert!(endpoint(flags).is_err());
    }

    #[test]
    fn every_way_in_is_taken_from_the_flags() {
        let endpoint = endpoint(&[
            "--prometheus-url",
            "https://p",
            "--prometheus-token-file",
            "token",
            "--prometheus-ca-file",
            "ca",
            "--prometheus-cert-file",
            "cert",
            "--prometheus-key-file",
            "key",
            "--prometheus-header",
            "X-Scope-OrgID=a",
            "--prometheus-header",
            "X-B=c=d",
        ]);
        let endpoint = endpoint.unwrap().unwrap();
        let file = |name: &str| Material::File(PathBuf::from(name));
        assert_eq!(endpoint.login, Login::Bearer(file("token")));
        assert_eq!(endpoint.tls.authorities, Some(file("ca")));
        assert_eq!(endpoint.tls.identity, Some((file("cert"), file("key"))));
        let headers = [("x-scope-orgid", "a"), ("x-b", "c=d")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(endpoint.headers, headers);
    }
}
