//! The few facts read out of a certificate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::*;

/// Dates, serial number and names of a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// Decimal.
    pub(crate) serial: String,
}

/// Reads the facts; the error is a printable reason.
pub(crate) fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, String> {
    let certificate = parse(certificate)?;
    let validity = certificate.validity();
    Ok(Facts {
        not_before: time(validity.not_before),
        not_after: time(validity.not_after),
        serial: certificate.tbs_certificate.serial.to_string(),
    })
}

/// Parses one certificate without anything behind it.
pub(crate) fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, String> {
    let (rest, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    if rest.is_empty() {
        Ok(certificate)
    } else {
        Err("bytes after the certificate".into())
    }
}

fn time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Encodes as PEM with lines of 64 characters.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        // Base64 is ASCII.
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
