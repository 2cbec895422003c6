//! The other side of the certificate authority: signing. A self-signed root or an authority
//! given as files, workload certificates for exactly one SPIFFE id, serving certificates.
//! Whether somebody may have a certificate is the caller's decision.

mod authority;
mod files;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

pub use authority::Authority;
pub use files::{certificate_dates, split_pem};

use crate::clock::rfc3339;
use crate::x509;

/// How far certificates reach back before their issue, for nodes whose clock is behind.
pub const BACKDATE: Duration = Duration::from_secs(120);

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The signing request is unreadable, or its signature is not by its key.
    #[error("signing request refused: {0}")]
    BadRequest(String),
    /// The signing request is for somebody else than the one to sign for.
    #[error("signing request is for {presented}, expected {expected}")]
    WrongIdentity {
        /// Its names.
        presented: String,
        /// The identity to sign for.
        expected: String,
    },
    /// The asked life is too long.
    #[error("a validity of {asked:?} is more than the {limit:?} that are allowed")]
    TtlTooLong {
        /// Asked.
        asked: Duration,
        /// Allowed.
        limit: Duration,
    },
    /// The authority's own certificate is at its end.
    #[error("the authority's certificate ends at {}", rfc3339(*.0))]
    AuthorityExpired(SystemTime),
    /// The authority's files do not fit together.
    #[error("certificate authority unusable: {0}")]
    BadAuthority(String),
    /// The cryptography failed.
    #[error("signing failed")]
    Local(#[from] rcgen::Error),
}

/// An authority as files, named as in Istio's `cacerts` secret.
#[derive(Clone, Copy, Debug)]
pub struct AuthorityPem<'a> {
    /// `ca-cert.pem`: the certificate that signs.
    pub ca_cert: &'a str,
    /// `ca-key.pem`: its key (PKCS#8, PKCS#1 or SEC1).
    pub ca_key: &'a str,
    /// `cert-chain.pem`: from the signing certificate towards the root; may be empty where the
    /// root signs itself.
    pub cert_chain: &'a str,
    /// `root-cert.pem`: the roots that are trusted; several while they are being replaced.
    pub root_cert: &'a str,
}

/// A new self-signed root and its key.
#[derive(Clone, Debug)]
pub struct NewRoot {
    /// The certificate.
    pub cert_pem: String,
    /// The key, PKCS#8.
    pub key_pem: String,
}

/// What was signed.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Leaf first, one certificate each, in DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// Serial number, decimal.
    pub serial: String,
    /// Its end.
    pub not_after: SystemTime,
}

impl Issued {
    /// As `CreateCertificate` answers: leaf and intermediates, one PEM each, then all roots in one.
    #[must_use]
    pub fn response(&self, authority: &Authority) -> Vec<String> {
        let mut response: Vec<String> = self
            .chain
            .iter()
            .map(|certificate| x509::pem("CERTIFICATE", certificate))
            .collect();
        response.push(authority.roots_pem());
        response
    }
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Serving {
    /// Chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key, PKCS#8 DER.
    pub key: rustls_pki_types::PrivatePkcs8KeyDer<'static>,
    /// Its end.
    pub not_after: SystemTime,
}

impl Serving {
    /// The chain, PEM, leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|certificate| x509::pem("CERTIFICATE", certificate))
            .collect()
    }

    /// The key, PEM (PKCS#8).
    #[must_use]
    pub fn key_pem(&self) -> String {
        x509::pem("PRIVATE KEY", self.key.secret_pkcs8_der())
    }
}

/// What a new root shall be.
#[derive(Clone, Copy, Debug)]
pub struct NewRootOptions<'a> {
    /// Organisation: the trust domain.
    pub trust_domain: &'a str,
    /// How long it is valid.
    pub lifetime: Duration,
    /// The time of its making.
    pub now: SystemTime,
}

/// Makes a self-signed root.
pub fn new_root(options: NewRootOptions<'_>) -> Result<NewRoot, IssueError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let serial = serial_number();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, options.trust_domain);
    // Its own name for each root: path building and revocation never mistake one for another.
    let name = format!("root {}", serial.to_string().replace(':', ""));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.serial_number = Some(serial);
    params.not_before = offset(options.now - BACKDATE);
    params.not_after = offset(options.now + options.lifetime);
    let certificate = params.self_signed(&key)?;
    Ok(NewRoot {
        cert_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// 127 random bits: positive and unique.
fn serial_number() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn offset(time: SystemTime) -> OffsetDateTime {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
