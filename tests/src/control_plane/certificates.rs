//! The cluster's own certificate authority and what it signs.
//!
//! One serving certificate for loopback serves all components, because they all run on this host.
//! Users are client certificates: the common name is the user, the organization is its group.
//! Everything lives as long as the cluster's directory, so validity periods and revocation do not
//! matter.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Why a certificate or kubeconfig could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The certificate could not be written.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The authority, with the files the components read.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// A client certificate and its key, PEM.
#[derive(Debug, Clone)]
pub(super) struct ClientCertificate {
    /// The certificate.
    pub(super) certificate: String,
    /// The private key.
    pub(super) key: String,
}

impl Authority {
    /// Makes the authority, the serving certificate and the service-account keys in `directory`.
    pub(super) fn create(directory: &Path) -> Result<Self, CertificateError> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(DnType::CommonName, "pd-cluster");
        parameters.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        let authority = Self {
            issuer,
            directory: directory.to_owned(),
        };
        fs::create_dir_all(directory).map_err(|source| CertificateError::Io {
            path: directory.to_owned(),
            source,
        })?;
        authority.write("ca.crt", &authority.certificate())?;

        let names = [
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default.svc",
            "10.96.0.1",
        ];
        let mut serving = CertificateParams::new(names.map(str::to_owned))?;
        serving
            .distinguished_name
            .push(DnType::CommonName, "pd-cluster serving");
        serving.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        authority.write(
            "serving.crt",
            &serving.signed_by(&key, &authority.issuer)?.pem(),
        )?;
        authority.write("serving.key", &key.serialize_pem())?;

        let service_accounts = KeyPair::generate()?;
        authority.write("service-accounts.key", &service_accounts.serialize_pem())?;
        authority.write("service-accounts.pub", &service_accounts.public_key_pem())?;
        Ok(authority)
    }

    /// The authority's certificate, PEM.
    pub(super) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// The path of one of the files of [`Self::create`].
    pub(super) fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    /// A client certificate for a user, in a group or in none.
    pub(super) fn client(
        &self,
        user: &str,
        group: Option<&str>,
    ) -> Result<ClientCertificate, CertificateError> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            parameters
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?.pem();
        Ok(ClientCertificate {
            certificate,
            key: key.serialize_pem(),
        })
    }

    /// Writes a file beside the authority's own.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), CertificateError> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(|source| CertificateError::Io { path, source })
    }
}
