//! A real Prometheus that asks for a client certificate and a password, the controller's client,
//! and an object that brings a login of its own.
//!
//! Each part of the login is left out or wrong once: the server then refuses, and the text for
//! tenants does not say why.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use pd_runtime::prometheus::{Endpoint, Hidden, Login, Material, Owner, Servers, TlsMaterial};
use pd_tests::{
    chart,
    control_plane::eventually,
    prometheus::{Prometheus, PrometheusOptions},
    stage::{Stage, StageError, run_controller},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use serde_json::json;

const PASSWORD: &str = "open sesame";
/// The password, as bcrypt hashes it at its lowest cost but one.
const PASSWORD_HASH: &str = "$2b$05$9dbIR2iiPvJOKQTX57ZqUO/agiwewkrdFbQImLKSY8Ut1cWYmpk.q";

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this machine and its key, PEM.
fn signed(authority: &Issuer, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    parameters.subject_alt_names = vec![SanType::IpAddress(address)];
    parameters.extended_key_usages = vec![purpose];
    let certificate = parameters.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn text(text: &str) -> Material {
    Material::Text(Hidden::from(text.to_owned()))
}

/// A Prometheus that lets in `me` with a certificate of `authority`.
async fn locked(directory: &Path, authority: &Issuer, http_sd_urls: Vec<String>) -> Prometheus {
    let (certificate, key) = signed(authority, ExtendedKeyUsagePurpose::ServerAuth);
    let files = [
        ("server.crt", certificate),
        ("server.key", key),
        ("ca.crt", authority.pem()),
    ];
    for (name, content) in files {
        fs::write(directory.join(name), content).unwrap();
    }
    let web_config = json!({
        "tls_server_config": {
            "cert_file": directory.join("server.crt"),
            "key_file": directory.join("server.key"),
            "client_ca_file": directory.join("ca.crt"),
            "client_auth_type": "RequireAndVerifyClientCert",
        },
        "basic_auth_users": { "me": PASSWORD_HASH },
    });
    let options = PrometheusOptions {
        web_config: Some(web_config),
        http_sd_urls,
        ..PrometheusOptions::default()
    };
    Prometheus::start(&options).await.unwrap()
}

#[tokio::test]
async fn a_login_with_certificate_and_password_works_and_no_part_of_it_can_be_missing() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority();
    let prometheus = locked(directory.path(), &authority, vec![]).await;
    let (certificate, key) = signed(&authority, ExtendedKeyUsagePurpose::ClientAuth);
    let basic = |password: &str| Login::Basic {
        user: "me".to_owned(),
        password: text(password),
    };
    let whole = Endpoint {
        login: basic(PASSWORD),
        tls: TlsMaterial {
            authorities: Some(Material::File(directory.path().join("ca.crt"))),
            identity: Some((text(&certificate), text(&key))),
        },
        ..Endpoint::open(&prometheus.url(), Owner::Operator)
    };
    let servers = Servers::new(Duration::from_secs(10), "pd-tests", "0");
    let values = eventually("an answer", Duration::from_mins(1), || async {
        let answer = servers.query(&whole, "vector(7)").await;
        answer.map_err(|error| error.to_string())
    });
    let (values, warnings) = values.await.unwrap().into_parts();
    assert_eq!((values[0].value, warnings), (7.0, vec![]));

    let mut without_identity = whole.clone();
    without_identity.tls.identity = None;
    let mut without_authority = whole.clone();
    without_authority.tls.authorities = None;
    let wrong = [
        without_identity,
        without_authority,
        Endpoint {
            login: Login::None,
            ..whole.clone()
        },
        Endpoint {
            login: basic("please"),
            ..whole.clone()
        },
    ];
    for endpoint in wrong {
        let error = servers.query(&endpoint, "vector(7)").await.unwrap_err();
        assert_eq!(error.category(), "unreachable", "{error}");
        assert!(!error.for_tenant().contains("127.0.0.1"), "{error}");
    }
}

/// Puts a Secret of `entries` there, lent to the controller.
async fn lend(stage: &Stage, name: &str, entries: &[(&str, &str)]) -> Result<(), StageError> {
    let entries: BTreeMap<&str, &str> = entries.iter().copied().collect();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": { "pdautoscaler.io/prometheus-login": "true" },
        },
        "stringData": entries,
    });
    stage.namespace.apply(&secret.to_string()).await?;
    Ok(())
}

#[tokio::test]
async fn an_object_with_a_login_of_its_own_is_let_in_and_a_new_password_is_used()
-> Result<(), StageError> {
    let stage = Stage::set("own-login").await?;
    stage.deploy(1, 1).await?;
    stage.load(4.0, 500.0, 100.0)?;
    let directory = tempfile::tempdir()?;
    let authority = authority();
    let discovery = vec![stage.emulator.service_discovery_url()];
    let prometheus = locked(directory.path(), &authority, discovery).await;
    let url = prometheus.url();
    let values = json!({
        "watchNamespace": stage.namespace.name(),
        "tenants": { "allowServerUrls": [url], "secretReferences": true },
    });
    let plane = stage.namespace.plane();
    let release = chart::install(plane, stage.namespace.name(), &values).await?;
    let _controller = run_controller(plane, &release, "controller", &[]).await?;
    let source = json!({
        "serverUrl": url,
        "auth": { "secretRef": { "name": "login" } },
        "tls": { "secretRef": { "name": "certificates" } },
    });
    let change = json!({ "metrics": { "source": source } });
    stage.autoscale(&change).await?;

    let available = async |status, reason: &str| {
        let reasons = [reason];
        let condition = stage.until_condition("llama", "MetricsAvailable", status, &reasons);
        condition.await
    };
    let message = available("False", "LoginInvalid").await?;
    assert!(message.contains("`login` is no Secret"), "{message}");

    let (certificate, key) = signed(&authority, ExtendedKeyUsagePurpose::ClientAuth);
    let authorities = authority.pem();
    let certificates = [
        ("ca.crt", authorities.as_str()),
        ("tls.crt", certificate.as_str()),
        ("tls.key", key.as_str()),
    ];
    lend(&stage, "certificates", &certificates).await?;
    lend(
        &stage,
        "login",
        &[("username", "me"), ("password", "please")],
    )
    .await?;
    let message = available("False", "PrometheusUnreachable").await?;
    assert!(!message.contains("please"), "{message}");

    lend(
        &stage,
        "login",
        &[("username", "me"), ("password", PASSWORD)],
    )
    .await?;
    available("True", "AllMetricsAvailable").await?;
    Ok(())
}
