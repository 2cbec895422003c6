//! The files of an authority: reading them, and whether they fit together.

use std::time::SystemTime;

use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::IssueError;
use crate::clock::rfc3339;
use crate::x509;

/// The certificates of a PEM text, each as a PEM text of its own.
pub fn split_pem(pem: &str) -> Result<Vec<String>, IssueError> {
    let certificates = many(pem).map_err(IssueError::BadAuthority)?;
    Ok(certificates
        .iter()
        .map(|certificate| x509::pem("CERTIFICATE", certificate))
        .collect())
}

/// Beginning and end of the one certificate of a PEM text.
pub fn certificate_dates(pem: &str) -> Result<(SystemTime, SystemTime), IssueError> {
    let facts = single(pem).and_then(|certificate| x509::facts(&certificate));
    let facts = facts.map_err(IssueError::BadAuthority)?;
    Ok((facts.not_before, facts.not_after))
}

pub(super) fn single(pem: &str) -> Result<CertificateDer<'static>, String> {
    let mut certificates = many(pem)?;
    if certificates.len() > 1 {
        return Err("more than one certificate".into());
    }
    certificates.pop().ok_or_else(|| "no certificate".into())
}

pub(super) fn many(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

pub(super) fn check_authority(
    ca: &CertificateDer<'_>,
    key: &KeyPair,
    now: SystemTime,
) -> Result<x509::Facts, String> {
    let certificate = x509::parse(ca).map_err(|e| format!("ca-cert.pem: {e}"))?;
    if certificate.public_key().raw != key.subject_public_key_info() {
        return Err("ca-key.pem is not the key of ca-cert.pem".into());
    }
    if !certificate.is_ca() {
        return Err("ca-cert.pem is not a certificate of an authority (basicConstraints)".into());
    }
    let facts = x509::facts(ca)?;
    if now < facts.not_before || facts.not_after <= now {
        return Err(format!(
            "ca-cert.pem is valid from {} to {}, but it is {} here",
            rfc3339(facts.not_before),
            rfc3339(facts.not_after),
            rfc3339(now)
        ));
    }
    Ok(facts)
}

/// What a leaf must be accompanied by: the signing certificate unless it is itself a root, then
/// the rest of the chain without it and without roots.
pub(super) fn intermediates(
    ca: &CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    roots: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    if roots.contains(ca) {
        return Vec::new();
    }
    let mut all = vec![ca.clone()];
    all.extend(chain.into_iter().filter(|c| c != ca && !roots.contains(c)));
    all
}
