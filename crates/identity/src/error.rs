//! What can go wrong, by whose fault: a peer's certificate, the certificate authority, a file.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use ambit_model::Identity;
use rustls::{CertificateError, OtherError};

use crate::clock::{rfc3339, system_time};
use crate::limits::MAX_ERROR_TEXT;

/// Why a peer's certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No certificate at all.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// Not a certificate, or more of them than is reasonable.
    #[error("the peer's certificate cannot be read: {0}")]
    Malformed(String),
    /// No path to a trusted root.
    #[error("the peer's certificate does not lead to a trusted root: {0}")]
    Untrusted(String),
    /// Past its end.
    #[error("the peer's certificate expired at {}", rfc3339(*.not_after))]
    Expired {
        /// Its end.
        not_after: SystemTime,
    },
    /// Before its beginning.
    #[error(
        "the peer's certificate is not valid before {}: are the clocks of both nodes right?",
        rfc3339(*.not_before)
    )]
    NotYetValid {
        /// Its beginning.
        not_before: SystemTime,
    },
    /// On a revocation list.
    #[error("the peer's certificate was revoked")]
    Revoked,
    /// No URI name, several, or one that is not an identity of the mesh.
    #[error("the peer's certificate has no single SPIFFE identity: {0}")]
    NoIdentity(String),
    /// An identity of a trust domain that is not accepted here.
    #[error("the peer {presented} is of a trust domain that is not accepted: {accepted}")]
    ForeignTrustDomain {
        /// Who it says it is.
        presented: String,
        /// The accepted trust domains.
        accepted: String,
    },
    /// A valid certificate of somebody else.
    #[error("the peer is {presented}, expected {expected}")]
    WrongIdentity {
        /// Who it says it is.
        presented: String,
        /// Who it had to be.
        expected: String,
    },
}

impl PeerError {
    /// Finds the refusal of a peer's certificate in an error and its sources, be it wrapped in
    /// `rustls::Error` or `io::Error`.
    #[must_use]
    pub fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found.clone());
            }
            if let Some(found) = error
                .downcast_ref::<rustls::Error>()
                .and_then(Self::from_tls)
            {
                return Some(found);
            }
            // An io::Error's source skips the error it wraps.
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            next = match inner {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    fn from_tls(error: &rustls::Error) -> Option<Self> {
        let rustls::Error::InvalidCertificate(error) = error else {
            return match error {
                rustls::Error::NoCertificatesPresented => Some(Self::NoCertificate),
                _ => None,
            };
        };
        Some(match error {
            CertificateError::Other(OtherError(inner)) => return inner.downcast_ref().cloned(),
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired {
                not_after: system_time(*not_after),
            },
            CertificateError::NotValidYetContext { not_before, .. } => Self::NotYetValid {
                not_before: system_time(*not_before),
            },
            CertificateError::Revoked => Self::Revoked,
            CertificateError::BadEncoding => Self::Malformed("bad encoding".into()),
            other => Self::Untrusted(other.to_string()),
        })
    }

    /// As rustls wants it: the kinds that have a TLS alert of their own keep it.
    pub(crate) fn into_tls(self) -> rustls::Error {
        let time = crate::clock::unix_time;
        rustls::Error::InvalidCertificate(match self {
            Self::NoCertificate => return rustls::Error::NoCertificatesPresented,
            Self::Malformed(_) => CertificateError::BadEncoding,
            Self::Expired { not_after } => CertificateError::ExpiredContext {
                time: time(SystemTime::now()),
                not_after: time(not_after),
            },
            Self::NotYetValid { not_before } => CertificateError::NotValidYetContext {
                time: time(SystemTime::now()),
                not_before: time(not_before),
            },
            Self::Revoked => CertificateError::Revoked,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

/// Why the certificate authority's answer could not be had or used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// No answer: worth trying again soon, for every identity.
    #[error("the certificate authority cannot be reached: {0}")]
    Unreachable(String),
    /// It said no.
    #[error("the certificate authority refused to sign for {identity}: {message} ({code})")]
    Refused {
        /// For whom.
        identity: Identity,
        /// gRPC code.
        code: String,
        /// Its words, cut to a printable length.
        message: String,
    },
    /// The request could not be made.
    #[error("no certificate can be requested for {identity}: {reason}")]
    LocalRequest {
        /// For whom.
        identity: Identity,
        /// Why.
        reason: String,
    },
    /// The answer does not hold what was asked for.
    #[error("the certificate authority's answer for {identity} is unusable: {reason}")]
    BadAnswer {
        /// For whom.
        identity: Identity,
        /// Why.
        reason: String,
    },
    /// The answer is a certificate for somebody else.
    #[error("the certificate authority answered for {presented}, asked was {identity}")]
    WrongIdentity {
        /// Asked.
        identity: Identity,
        /// Answered.
        presented: String,
    },
    /// The clocks disagree, or the authority is broken.
    #[error(
        "the certificate for {identity} is valid from {} to {}, but it is {} here: are the clocks of node and certificate authority right?",
        rfc3339(*.not_before), rfc3339(*.not_after), rfc3339(*.now)
    )]
    NotValidNow {
        /// For whom.
        identity: Identity,
        /// Its beginning.
        not_before: SystemTime,
        /// Its end.
        not_after: SystemTime,
        /// The time here.
        now: SystemTime,
    },
}

impl CaError {
    /// Whether the authority itself is the trouble, not this identity.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Why there is no certificate to use.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// The last attempt failed, and there is no valid certificate from before.
    #[error("no certificate for {identity}")]
    Unavailable {
        /// For whom.
        identity: Identity,
        /// Why.
        #[source]
        source: Arc<CaError>,
    },
    /// Renewal failed until the certificate expired.
    #[error("the certificate for {identity} expired at {}", rfc3339(*.not_after))]
    Expired {
        /// For whom.
        identity: Identity,
        /// When.
        not_after: SystemTime,
        /// Why it was not renewed; `None` while the first attempt is under way.
        #[source]
        source: Option<Arc<CaError>>,
    },
    /// The last workload with this identity left while the certificate was waited for.
    #[error("no workload with identity {0} is here any more")]
    Forgotten(Identity),
    /// Too many identities.
    #[error("no certificate for {0}: this node holds too many identities already")]
    TooMany(Identity),
}

/// Why a bundle of roots is refused.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// No certificate in it.
    #[error("no root certificate found")]
    Empty,
    /// Not PEM.
    #[error("not a PEM bundle: {0}")]
    Pem(String),
    /// Not a certificate.
    #[error("root certificate {index} cannot be read: {reason}")]
    Malformed {
        /// Counted from 1.
        index: usize,
        /// Why.
        reason: String,
    },
}

/// Why a revocation file is refused.
#[derive(Debug, thiserror::Error)]
pub enum CrlError {
    /// It cannot be read.
    #[error("revocation file {path} cannot be read")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too large.
    #[error("revocation file {path} is larger than {limit} bytes")]
    TooLarge {
        /// Which.
        path: String,
        /// The limit.
        limit: u64,
    },
    /// Not PEM, or no list in it.
    #[error("no revocation list found: expected PEM blocks `X509 CRL`")]
    Empty,
    /// Not a list.
    #[error("revocation list {index} cannot be read: {reason}")]
    Malformed {
        /// Counted from 1.
        index: usize,
        /// Why.
        reason: String,
    },
}

/// Cuts and escapes a text that somebody else controls.
pub(crate) fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_ERROR_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end]
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
