//! What is trusted now: root certificates and revocation lists, replaceable while connections
//! are made. Each handshake looks here, so a new root counts at once and nothing is rebuilt.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use tokio::sync::watch;

use crate::crl::RevocationLists;
use crate::error::RootsError;
use crate::x509;

/// A set of root certificates.
#[derive(Debug, Default)]
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Roots {
    /// Reads a PEM bundle. Every certificate in it must be readable.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| RootsError::Pem(error.to_string()))?;
        Self::from_der(certificates)
    }

    /// Takes certificates that are decoded already.
    pub fn from_der(mut certificates: Vec<CertificateDer<'static>>) -> Result<Self, RootsError> {
        if certificates.is_empty() {
            return Err(RootsError::Empty);
        }
        certificates.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
        certificates.dedup();
        let mut anchors = Vec::with_capacity(certificates.len());
        for (index, certificate) in certificates.iter().enumerate() {
            let anchor = webpki::anchor_from_trusted_cert(certificate).map_err(|error| {
                RootsError::Malformed {
                    index: index + 1,
                    reason: error.to_string(),
                }
            })?;
            anchors.push(anchor.to_owned());
        }
        Ok(Self {
            certificates,
            anchors,
        })
    }

    /// The certificates, in a stable order without duplicates.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// When each ends; unreadable dates are left out.
    pub fn expiries(&self) -> impl Iterator<Item = SystemTime> + '_ {
        self.certificates
            .iter()
            .filter_map(|c| x509::facts(c).ok())
            .map(|facts| facts.not_after)
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

/// The roots and revocation lists in force.
#[derive(Debug)]
pub struct TrustStore {
    roots: ArcSwap<Roots>,
    revocations: ArcSwap<RevocationLists>,
    changes: watch::Sender<u64>,
}

impl Default for TrustStore {
    fn default() -> Self {
        Self::new(Roots::default())
    }
}

impl TrustStore {
    /// Starts with these roots (none: nobody is trusted) and without revocation lists.
    #[must_use]
    pub fn new(roots: Roots) -> Self {
        Self {
            roots: ArcSwap::from_pointee(roots),
            revocations: ArcSwap::from_pointee(RevocationLists::default()),
            changes: watch::Sender::new(0),
        }
    }

    /// The roots in force.
    #[must_use]
    pub fn roots(&self) -> Arc<Roots> {
        self.roots.load_full()
    }

    /// Replaces the roots; says whether that changed anything.
    pub fn set_roots(&self, roots: Roots) -> bool {
        if self.roots.load().certificates == roots.certificates {
            return false;
        }
        self.roots.store(Arc::new(roots));
        self.bump();
        true
    }

    /// Replaces the revocation lists.
    pub fn set_revocations(&self, lists: RevocationLists) {
        self.revocations.store(Arc::new(lists));
        self.bump();
    }

    /// Whether a chain (leaf first, as the peer presented it) holds a revoked certificate. What
    /// no list speaks about is not revoked.
    #[must_use]
    pub fn revoked(&self, chain: &[CertificateDer<'_>]) -> bool {
        let lists = self.revocations.load();
        !lists.is_empty() && lists.revoke(chain, self.roots.load().certificates())
    }

    /// Whether there are revocation lists at all.
    #[must_use]
    pub fn has_revocations(&self) -> bool {
        !self.revocations.load().is_empty()
    }

    /// Changes whenever roots or lists do: open connections are worth another [`Self::revoked`].
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn bump(&self) {
        self.changes.send_modify(|version| *version += 1);
    }
}
