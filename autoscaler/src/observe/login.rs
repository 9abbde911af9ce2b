//! The login for a server that an object names, from Secrets of its namespace.
//!
//! Who may create a PDAutoscaler may not therefore read Secrets: a Secret must say by a label that
//! it is for this use, or the controller would carry any Secret to any server. No text of this file
//! holds anything of a Secret but its name. Secrets are read again every minute, so that most
//! reconciles read none. A Secret that is gone or no longer lent ends the login at the next read;
//! an API server that does not answer ends nothing.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, ResourceExt as _, runtime::reflector::ObjectRef};
use pd_api::v1alpha1::{MetricsSource, PDAutoscaler, SourceSecret};
use pd_runtime::prometheus::{Endpoint, Hidden, Login, Material, QueryError, TlsMaterial};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    answer::within_limit,
    context::{CachedLogin, Context},
};

/// The label by which a Secret is lent to the controller.
pub const LOGIN_LABEL: &str = "pdautoscaler.io/prometheus-login";

/// How long a Secret counts as read: a rotated password is used within this time, and a steady
/// reconcile mostly reads none.
const SECRETS_KEPT: Duration = Duration::from_mins(1);

const AUTH: &str = "spec.metrics.source.auth.secretRef.name";
const TLS: &str = "spec.metrics.source.tls.secretRef.name";

/// The server of `source` with everything that is needed to be let in.
pub async fn endpoint(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    source: &MetricsSource,
) -> Result<Endpoint, QueryError> {
    let mut endpoint = context.tenancy.server(&source.server_url)?;
    let headers = source.headers.0.iter();
    endpoint.headers = headers.map(|(k, v)| (k.clone(), v.clone())).collect();
    if source.auth.is_none() && source.tls.is_none() {
        return Ok(endpoint);
    }
    let cached = context.read(key, |state| state.login.clone());
    let cached = cached.filter(|cached| cached.source == *source);
    if let Some(cached) = &cached
        && cached.read_at.elapsed() < SECRETS_KEPT
    {
        return Ok(cached.endpoint.clone());
    }
    match with_secrets(context, key, source, endpoint).await {
        Ok(endpoint) => {
            let login = CachedLogin {
                source: source.clone(),
                endpoint: endpoint.clone(),
                read_at: Instant::now(),
            };
            context.update(key, |state| state.login = Some(login));
            Ok(endpoint)
        }
        Err(Unlent::Unanswered(error)) => {
            // The server knows this login; whether the API server answers does not change that.
            warn!(%error, namespace = key.namespace, name = key.name, "the login is as last read");
            cached.map(|cached| cached.endpoint).ok_or(error)
        }
        Err(Unlent::Refused(error)) => {
            context.update(key, |state| state.login = None);
            Err(error)
        }
    }
}

/// Why a Secret gives no login.
#[derive(Debug)]
enum Unlent {
    /// The API server does not say.
    Unanswered(QueryError),
    /// There is none for this object.
    Refused(QueryError),
}

/// `endpoint` with what the Secrets of `source` hold.
async fn with_secrets(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    source: &MetricsSource,
    mut endpoint: Endpoint,
) -> Result<Endpoint, Unlent> {
    if let Some(auth) = &source.auth {
        let secret = Lent::read(context, key, AUTH, auth).await?;
        endpoint.login = secret.login().map_err(Unlent::Refused)?;
    }
    if let Some(tls) = &source.tls {
        let secret = Lent::read(context, key, TLS, tls).await?;
        endpoint.tls = secret.tls().map_err(Unlent::Refused)?;
    }
    Ok(endpoint)
}

/// The content of a Secret that its owner lends.
struct Lent<'a> {
    field: &'static str,
    name: &'a str,
    data: BTreeMap<String, ByteString>,
}

impl<'a> Lent<'a> {
    async fn read(
        context: &Context,
        key: &ObjectRef<PDAutoscaler>,
        field: &'static str,
        secret: &'a SourceSecret,
    ) -> Result<Self, Unlent> {
        let name = &secret.secret_ref.name;
        if !context.tenancy.allow_secret_references {
            return Err(Unlent::Refused(QueryError::NotAllowed {
                field,
                value: name.clone(),
                remedy: "is not allowed: ask the operator for --allow-secret-references".to_owned(),
            }));
        }
        let namespace = key.namespace.as_deref().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
        let found = within_limit(secrets.get_opt(name)).await;
        let found = found.map_err(|error| {
            let is_refusal = matches!(&error, kube::Error::Api(answer) if answer.code == 403);
            let error = QueryError::LoginUnreadable {
                field,
                secret: name.clone(),
                cause: error.to_string(),
            };
            // A right that was taken away is an answer.
            if is_refusal {
                Unlent::Refused(error)
            } else {
                Unlent::Unanswered(error)
            }
        })?;
        let found = found.filter(|found| {
            let label = found.labels().get(LOGIN_LABEL);
            label.is_some_and(|label| label == "true")
        });
        let mut lent = Self {
            field,
            name,
            data: BTreeMap::new(),
        };
        let Some(found) = found else {
            // One text for both, for whether another Secret exists is nobody's business.
            let remedy = format!(
                "is no Secret with the label {LOGIN_LABEL}: \"true\"; create it, or set the label"
            );
            return Err(Unlent::Refused(lent.invalid(remedy)));
        };
        lent.data = found.data.unwrap_or_default();
        Ok(lent)
    }

    fn invalid(&self, remedy: impl Into<String>) -> QueryError {
        QueryError::LoginInvalid {
            field: self.field,
            secret: self.name.to_owned(),
            remedy: remedy.into(),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, QueryError> {
        let Some(bytes) = self.data.get(key) else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes.0.clone());
        let text =
            text.map_err(|_| self.invalid(format!("holds no UTF-8 text at the key {key}")))?;
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        if text.is_empty() {
            return Err(self.invalid(format!("holds nothing at the key {key}")));
        }
        Ok(Some(text))
    }

    fn login(&self) -> Result<Login, QueryError> {
        let keys = (
            self.text("token")?,
            self.text("username")?,
            self.text("password")?,
        );
        match keys {
            (Some(token), None, None) => {
                if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(self
                        .invalid("holds characters at the key token that an HTTP header cannot"));
                }
                Ok(Login::Bearer(hidden(token)))
            }
            (None, Some(user), Some(_)) if user.contains(':') => {
                Err(self.invalid("holds a colon at the key username, which ends a user's name"))
            }
            (None, Some(user), Some(password)) => Ok(Login::Basic {
                user,
                password: hidden(password),
            }),
            _ => Err(self.invalid("must have the keys username and password, or token alone")),
        }
    }

    fn tls(&self) -> Result<TlsMaterial, QueryError> {
        let authorities = self.pem("ca.crt", "CERTIFICATE")?;
        let certificate = self.pem("tls.crt", "CERTIFICATE")?;
        let key = self.pem("tls.key", "PRIVATE KEY")?;
        if certificate.is_some() != key.is_some() {
            return Err(self.invalid("must have both of the keys tls.crt and tls.key, or none"));
        }
        if authorities.is_none() && certificate.is_none() {
            return Err(self.invalid("must have the key ca.crt, or tls.crt and tls.key"));
        }
        Ok(TlsMaterial {
            authorities,
            identity: certificate.zip(key),
        })
    }

    /// The PEM at `key`, which must have a part of the kind `label`.
    fn pem(&self, key: &str, label: &str) -> Result<Option<Material>, QueryError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let has_part = text.lines().any(|line| {
            line.starts_with("-----BEGIN ") && line.ends_with(&format!("{label}-----"))
        });
        if !has_part {
            return Err(self.invalid(format!("holds no PEM of a {label} at the key {key}")));
        }
        Ok(Some(hidden(text)))
    }
}

fn hidden(text: String) -> Material {
    Material::Text(Hidden::from(text))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn lent(data: &[(&str, &str)]) -> Lent<'static> {
        let value =
            |&(key, text): &(&str, &str)| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
        Lent {
            field: "field",
            name: "login",
            data: data.iter().map(value).collect(),
        }
    }

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";

    #[rstest]
    #[case(&[("token", "t.o-k_en")], "")]
    #[case(&[("username", "me"), ("password", "p: w")], "")]
    #[case(&[("username", "me")], "must have the keys username and password")]
    #[case(&[("password", "p")], "must have the keys username and password")]
    #[case(&[("token", "t"), ("username", "me"), ("password", "p")], "or token alone")]
    #[case(&[("passwd", "p")], "must have the keys")]
    #[case(&[], "must have the keys")]
    #[case(&[("token", "\n")], "holds nothing at the key token")]
    #[case(&[("token", "two\nlines")], "characters at the key token")]
    #[case(&[("username", "m:e"), ("password", "p")], "a colon at the key username")]
    fn a_login_is_a_password_or_a_token(#[case] data: &[(&str, &str)], #[case] fault: &str) {
        let text = lent(data).login().err().map(|error| error.to_string());
        assert_eq!(text.is_some(), !fault.is_empty());
        assert!(text.unwrap_or_default().contains(fault));
    }

    #[rstest]
    #[case(&[("ca.crt", CERTIFICATE)], "")]
    #[case(&[("tls.crt", CERTIFICATE), ("tls.key", KEY)], "")]
    #[case(&[("ca.crt", CERTIFICATE), ("tls.crt", CERTIFICATE), ("tls.key", KEY)], "")]
    #[case(&[], "must have the key ca.crt")]
    #[case(&[("tls.crt", CERTIFICATE)], "both of the keys")]
    #[case(&[("ca.crt", CERTIFICATE), ("tls.key", KEY)], "both of the keys")]
    #[case(&[("ca.crt", "AAAA")], "no PEM of a CERTIFICATE at the key ca.crt")]
    #[case(&[("tls.crt", KEY), ("tls.key", KEY)], "no PEM of a CERTIFICATE at the key tls.crt")]
    #[case(&[("tls.crt", CERTIFICATE), ("tls.key", CERTIFICATE)], "at the key tls.key")]
    fn certificates_are_pem_and_a_clients_own_comes_with_its_key(
        #[case] data: &[(&str, &str)],
        #[case] fault: &str,
    ) {
        let text = lent(data).tls().err().map(|error| error.to_string());
        assert_eq!(text.is_some(), !fault.is_empty());
        assert!(text.unwrap_or_default().contains(fault));
    }

    #[test]
    fn a_line_end_is_no_part_of_a_password() {
        let login = lent(&[("username", "me\n"), ("password", "open sesame\r\n")]).login();
        let expected = Login::Basic {
            user: "me".to_owned(),
            password: hidden("open sesame".to_owned()),
        };
        assert_eq!(login, Ok(expected));
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_their_key_alone() {
        let mut lent = lent(&[("username", "me")]);
        let bytes = ByteString(vec![0xff, b's', b'e', b'c', b'r', b'e', b't']);
        lent.data.insert("password".to_owned(), bytes);
        let text = lent.login().unwrap_err().to_string();
        assert_eq!(
            text,
            "field `login` holds no UTF-8 text at the key password"
        );
    }
}
