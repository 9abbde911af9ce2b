//! The authorities that an image trusts: Mozilla's, from the package that `Cargo.lock` pins.
//!
//! Those of the machine that builds would differ from one to the next. They count where Prometheus
//! is behind a public certificate and no authority is given.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Where Go's, OpenSSL's and our programs look first.
pub const PATH: &str = "etc/ssl/certs/ca-certificates.crt";

/// Columns of a PEM text: RFC 7468.
const PEM_COLUMNS: usize = 64;

/// All authorities as one PEM text.
pub fn bundle() -> String {
    let mut text = String::new();
    for certificate in TLS_SERVER_ROOT_CERTS {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        for (at, letter) in encoded.chars().enumerate() {
            if at > 0 && at % PEM_COLUMNS == 0 {
                text.push('\n');
            }
            text.push(letter);
        }
        // Writing to a text cannot fail.
        let _ = writeln!(text, "\n-----END CERTIFICATE-----");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_authority_is_in_the_bundle_whole() {
        let bundle = bundle();
        let blocks: Vec<&str> = bundle
            .split("-----BEGIN CERTIFICATE-----\n")
            .skip(1)
            .collect();
        assert_eq!(blocks.len(), TLS_SERVER_ROOT_CERTS.len());
        assert!(blocks.len() > 100);
        for (block, certificate) in blocks.iter().zip(TLS_SERVER_ROOT_CERTS) {
            let (body, _) = block.split_once("\n-----END").unwrap();
            assert!(
                body.lines()
                    .all(|line| (1..=PEM_COLUMNS).contains(&line.len()))
            );
            let decoded = STANDARD.decode(body.replace('\n', "")).unwrap();
            assert_eq!(decoded, certificate.to_vec());
        }
    }
}
