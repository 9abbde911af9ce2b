//! The login for a server that an object names, from Secrets of its namespace.
//!
//! Who may create a PDAutoscaler may not therefore read Secrets: a Secret must say by a label that
//! it is for this use, or the controller would carry any Secret to any server. Secrets are read
//! again every minute, so that a steady reconcile reads none.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, ResourceExt as _, runtime::reflector::ObjectRef};
use pd_api::v1alpha1::{MetricsSource, PDAutoscaler, SourceSecret};
use pd_runtime::prometheus::{Endpoint, Hidden, Login, Material, QueryError, TlsMaterial};
use tokio::time::Instant;

use crate::{answer::within_limit, context::Context};

/// The label by which a Secret is lent to the controller.
pub const LOGIN_LABEL: &str = "pdautoscaler.io/prometheus-login";

/// How long a Secret counts as read.
const SECRETS_KEPT: Duration = Duration::from_mins(1);

/// The login for a source as last read.
#[derive(Clone, Debug)]
pub struct CachedLogin {
    source: MetricsSource,
    endpoint: Endpoint,
    read_at: Instant,
}

/// The server of `source` with everything that is needed to be let in.
pub async fn endpoint(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    source: &MetricsSource,
) -> Result<Endpoint, QueryError> {
    let cached = context.read(key, |state| state.login.clone());
    let fresh = cached.filter(|cached| {
        cached.source == *source && cached.read_at.elapsed() < SECRETS_KEPT
    });
    if let Some(cached) = fresh {
        return Ok(cached.endpoint);
    }
    let mut endpoint = context.tenancy.server(&source.server_url)?;
    let headers = source.headers.0.iter();
    endpoint.headers = headers.map(|(k, v)| (k.clone(), v.clone())).collect();
    if let Some(auth) = &source.auth {
        let secret = Lent::read(context, key, "auth", auth).await?;
        endpoint.login = secret.login()?;
    }
    if let Some(tls) = &source.tls {
        let secret = Lent::read(context, key, "tls", tls).await?;
        endpoint.tls = secret.tls()?;
    }
    let login = CachedLogin {
        source: source.clone(),
        endpoint: endpoint.clone(),
        read_at: Instant::now(),
    };
    context.update(key, |state| state.login = Some(login));
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
    ) -> Result<Self, QueryError> {
        let mut lent = Self {
            field: match field {
                "auth" => "spec.metrics.source.auth.secretRef.name",
                _ => "spec.metrics.source.tls.secretRef.name",
            },
            name: &secret.secret_ref.name,
            data: BTreeMap::new(),
        };
        if !context.tenancy.allow_secret_references {
            return Err(lent.refused("is not allowed: ask the operator for --allow-secret-references"));
        }
        let namespace = key.namespace.as_deref().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
        let found = match within_limit(secrets.get_opt(lent.name)).await {
            Ok(found) => found,
            Err(error) => return Err(lent.refused(&format!("cannot be read: {error}"))),
        };
        // One text for both, for whether another Secret exists is nobody's business.
        let found = found.filter(|found| {
            found.labels().get(LOGIN_LABEL).map(String::as_str) == Some("true")
        });
        let Some(found) = found else {
            let remedy = format!("is no Secret with the label {LOGIN_LABEL}: \"true\"; create or label it");
            return Err(lent.refused(&remedy));
        };
        lent.data = found.data.unwrap_or_default();
        Ok(lent)
    }

    fn refused(&self, remedy: &str) -> QueryError {
        QueryError::NotAllowed {
            field: self.field,
            value: self.name.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, QueryError> {
        let Some(bytes) = self.data.get(key) else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes.0.clone());
        let text = text.map_err(|_| self.refused(&format!("holds no text at the key {key}")))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    fn login(&self) -> Result<Login, QueryError> {
        let hidden = |text: String| Material::Text(Hidden::from(text));
        match (self.text("token")?, self.text("username")?, self.text("password")?) {
            (Some(token), None, None) => Ok(Login::Bearer(hidden(token))),
            (None, Some(user), Some(password)) => Ok(Login::Basic {
                user,
                password: hidden(password),
            }),
            _ => Err(self.refused("must have the keys username and password, or token alone")),
        }
    }

    fn tls(&self) -> Result<TlsMaterial, QueryError> {
        let hidden = |text: String| Material::Text(Hidden::from(text));
        let authorities = self.text("ca.crt")?.map(hidden);
        let (certificate, key) = (self.text("tls.crt")?, self.text("tls.key")?);
        if certificate.is_some() != key.is_some() {
            return Err(self.refused("must have both of the keys tls.crt and tls.key, or none"));
        }
        Ok(TlsMaterial {
            authorities,
            identity: certificate.map(hidden).zip(key.map(hidden)),
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn lent(keys: &[&str]) -> Lent<'static> {
        let value = |key: &&str| ((*key).to_owned(), ByteString(format!("{key} value\n").into_bytes()));
        Lent {
            field: "field",
            name: "login",
            data: keys.iter().map(value).collect(),
        }
    }

    #[rstest]
    #[case(&["token"], true)]
    #[case(&["username", "password"], true)]
    #[case(&["username"], false)]
    #[case(&["token", "username", "password"], false)]
    #[case(&[], false)]
    fn a_login_is_one_of_two(#[case] keys: &[&str], #[case] good: bool) {
        assert_eq!(lent(keys).login().is_ok(), good);
    }

    #[rstest]
    #[case(&[], true)]
    #[case(&["ca.crt"], true)]
    #[case(&["ca.crt", "tls.crt", "tls.key"], true)]
    #[case(&["tls.crt"], false)]
    #[case(&["tls.key"], false)]
    fn a_client_certificate_comes_with_its_key(#[case] keys: &[&str], #[case] good: bool) {
        assert_eq!(lent(keys).tls().is_ok(), good);
    }

    #[test]
    fn a_line_end_is_no_part_of_a_password() {
        let login = lent(&["username", "password"]).login().unwrap();
        let expected = Login::Basic {
            user: "username value".to_owned(),
            password: Material::Text(Hidden::from("password value".to_owned())),
        };
        assert_eq!(login, expected);
    }
}
