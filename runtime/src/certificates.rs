//! A server's own authority and serving certificate, as a state machine without I/O.
//!
//! [`Chain`] is all there is to keep: authorities, oldest first, and one serving certificate.
//! [`Chain::next`] says what it must become at a time. Nothing is ever trusted and untrusted at
//! once: a new authority is in the bundle for the overlap before it signs anything, and an old one
//! stays until its end, so that every certificate any replica may still serve is trusted by every
//! client that reads the bundle late. Renewal is at two thirds of a validity.
//!
//! Times are seconds since 1970. A chain that cannot be used (another name, broken PEM) is made
//! again as a whole.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Clocks of other machines may be behind by this much, seconds.
const CLOCK_SKEW: i64 = 300;

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The library failed.
    #[error("certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// A validity ends where time does.
    #[error("validity of {0} s is too long: choose at most a few decades")]
    Validity(i64),
}

/// The purpose of certificates, and how long they last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Whose authority it is: the program's name.
    pub owner: String,
    /// DNS names of the server.
    pub names: Vec<String>,
    /// Validity of an authority, seconds.
    pub authority_seconds: i64,
    /// Validity of a serving certificate, seconds.
    pub certificate_seconds: i64,
    /// How long an authority is known before it signs, seconds.
    pub overlap_seconds: i64,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// Common name of the subject.
    pub subject: String,
    /// When it was made.
    pub made: i64,
    /// When it ends.
    pub ends: i64,
}

impl Credential {
    /// Whether two thirds of its life are over.
    fn is_due(&self, now: i64) -> bool {
        let life = self.ends.saturating_sub(self.made);
        now >= self.made.saturating_add(life / 3 * 2) || now < self.made.saturating_sub(CLOCK_SKEW)
    }
}

/// The authorities and the serving certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// Oldest first; the last one is the newest.
    pub authorities: Vec<Credential>,
    /// The certificate that is served.
    pub serving: Credential,
    /// Common name of the authority that signed it.
    pub signed_by: String,
    /// The names it is for.
    pub names: Vec<String>,
}

impl Chain {
    /// A chain made from nothing.
    pub fn new(terms: &Terms, now: i64) -> Result<Self, CertificateError> {
        let authority = authority(terms, now)?;
        let serving = serving(&authority, terms, now)?;
        Ok(Self {
            signed_by: authority.subject.clone(),
            authorities: vec![authority],
            serving,
            names: terms.names.clone(),
        })
    }

    /// The state that the chain must take at `now`; nothing if it may stay. `known` is what was
    /// kept, if it could be read.
    pub fn next(
        known: Option<&Self>,
        terms: &Terms,
        now: i64,
    ) -> Result<Option<Self>, CertificateError> {
        let Some(known) = known.filter(|known| known.authorities.iter().any(|one| one.ends > now))
        else {
            return Self::new(terms, now).map(Some);
        };
        let mut chain = known.clone();
        chain.authorities.retain(|authority| authority.ends > now);
        if chain
            .authorities
            .last()
            .is_none_or(|newest| newest.is_due(now))
        {
            chain.authorities.push(authority(terms, now)?);
        }
        let is_known =
            |authority: &&Credential| now >= authority.made.saturating_add(terms.overlap_seconds);
        let mut newest_first = chain.authorities.iter().rev();
        let signer = newest_first
            .find(is_known)
            .or_else(|| chain.authorities.first());
        if let Some(signer) = signer {
            let stale = chain.signed_by != signer.subject
                || chain.names != terms.names
                || chain.serving.is_due(now);
            if stale {
                chain.serving = serving(signer, terms, now)?;
                chain.signed_by.clone_from(&signer.subject);
                chain.names.clone_from(&terms.names);
            }
        }
        Ok((chain != *known).then_some(chain))
    }

    /// All authorities, PEM: what the API server has to trust.
    pub fn bundle(&self) -> String {
        self.authorities
            .iter()
            .map(|authority| authority.certificate.as_str())
            .collect()
    }
}

fn authority(terms: &Terms, now: i64) -> Result<Credential, CertificateError> {
    let subject = format!("{} authority {now}", terms.owner);
    let ends = now.saturating_add(terms.authority_seconds);
    let key = KeyPair::generate()?;
    let mut parameters = authority_parameters(&subject);
    lasting(&mut parameters, now, ends)?;
    let pem = key.serialize_pem();
    let issuer = CertifiedIssuer::self_signed(parameters, key)?;
    Ok(Credential {
        certificate: issuer.pem(),
        key: pem,
        subject,
        made: now,
        ends,
    })
}

fn serving(
    authority: &Credential,
    terms: &Terms,
    now: i64,
) -> Result<Credential, CertificateError> {
    // It must not outlive what it is trusted by.
    let ends = now
        .saturating_add(terms.certificate_seconds)
        .min(authority.ends);
    let subject = terms.names.first().cloned().unwrap_or_default();
    let mut parameters = CertificateParams::new(terms.names.clone())?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, &subject);
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    lasting(&mut parameters, now, ends)?;
    let issuer = Issuer::new(
        authority_parameters(&authority.subject),
        KeyPair::from_pem(&authority.key)?,
    );
    let key = KeyPair::generate()?;
    Ok(Credential {
        certificate: parameters.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
        subject,
        made: now,
        ends,
    })
}

fn authority_parameters(subject: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, subject);
    parameters.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    parameters
}

fn lasting(
    parameters: &mut CertificateParams,
    made: i64,
    ends: i64,
) -> Result<(), CertificateError> {
    let at = |seconds: i64| {
        OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|_| CertificateError::Validity(ends.saturating_sub(made)))
    };
    parameters.not_before = at(made.saturating_sub(CLOCK_SKEW))?;
    parameters.not_after = at(ends)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn terms() -> Terms {
        Terms {
            owner: "pd".to_owned(),
            names: vec!["pd.system.svc".to_owned()],
            authority_seconds: 300 * DAY,
            certificate_seconds: 30 * DAY,
            overlap_seconds: DAY,
        }
    }

    #[test]
    fn nothing_changes_before_it_is_due() {
        let chain = Chain::new(&terms(), 0).unwrap();
        assert_eq!(Chain::next(Some(&chain), &terms(), 19 * DAY).unwrap(), None);
        let renewed = Chain::next(Some(&chain), &terms(), 20 * DAY)
            .unwrap()
            .unwrap();
        assert_eq!(renewed.authorities, chain.authorities);
        assert_ne!(renewed.serving.certificate, chain.serving.certificate);
    }

    #[test]
    fn every_certificate_is_trusted_for_the_whole_overlap_before_and_after() {
        let mut chain = Chain::new(&terms(), 0).unwrap();
        let mut history = vec![(0, chain.clone())];
        for day in 1..700 {
            if let Some(next) = Chain::next(Some(&chain), &terms(), day * DAY).unwrap() {
                chain = next;
                history.push((day, chain.clone()));
            }
            assert!(
                chain.serving.ends > day * DAY && chain.authorities.len() <= 3,
                "day {day}"
            );
        }
        let authorities = history.iter().map(|(_, chain)| &chain.signed_by);
        assert!(authorities.collect::<std::collections::BTreeSet<_>>().len() >= 3);
        for pair in history.windows(2) {
            let ((_, before), (day, after)) = (&pair[0], &pair[1]);
            let trusts = |chain: &Chain, signer: &str| {
                chain
                    .authorities
                    .iter()
                    .any(|authority| authority.subject == signer)
            };
            // A reader of the old bundle meets the new certificate, and a replica with the old one
            // a new bundle.
            assert!(trusts(before, &after.signed_by), "day {day}");
            assert!(trusts(after, &before.signed_by), "day {day}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_made_again() {
        let chain = Chain::new(&terms(), 0).unwrap();
        let mut renamed = terms();
        renamed.names = vec!["other.system.svc".to_owned()];
        let next = Chain::next(Some(&chain), &renamed, DAY).unwrap().unwrap();
        assert_eq!(
            (&next.names, &next.authorities),
            (&renamed.names, &chain.authorities)
        );
        let late = Chain::next(Some(&chain), &terms(), 400 * DAY)
            .unwrap()
            .unwrap();
        assert_ne!(late.authorities, chain.authorities);
        assert!(Chain::next(None, &terms(), 0).unwrap().is_some());
        let mut endless = terms();
        endless.authority_seconds = i64::MAX;
        assert!(
            Chain::new(&endless, 0)
                .unwrap_err()
                .to_string()
                .contains("too long")
        );
    }

    #[test]
    fn the_state_survives_as_json() {
        let chain = Chain::new(&terms(), 7).unwrap();
        let text = serde_json::to_string(&chain).unwrap();
        assert_eq!(serde_json::from_str::<Chain>(&text).unwrap(), chain);
        assert_eq!(chain.bundle().matches("BEGIN CERTIFICATE").count(), 1);
    }
}
