//! Certificate revocation lists: read from a PEM bundle, kept fresh from a file, asked about
//! chains. A list counts only for certificates of the issuer that signed it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::*;

use crate::error::CrlError;
use crate::limits::MAX_CRL_BYTES;
use crate::trust::TrustStore;
use crate::x509;

/// How long a changed file must stay as it is before it is read: writers are rarely atomic.
const DEBOUNCE: Duration = Duration::from_secs(2);

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(1);

/// Revocation lists, indexed by serial number.
#[derive(Debug, Default)]
pub struct RevocationLists {
    lists: Vec<List>,
}

#[derive(Debug)]
struct List {
    der: Vec<u8>,
    /// The issuer's name, encoded.
    issuer: Vec<u8>,
    serials: HashSet<Vec<u8>>,
}

impl RevocationLists {
    /// Reads a PEM bundle. Every list in it must be readable.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CrlError> {
        let mut lists = Vec::new();
        for (index, der) in CertificateRevocationListDer::pem_slice_iter(pem).enumerate() {
            let malformed = |reason| CrlError::Malformed {
                index: index + 1,
                reason,
            };
            let der = der.map_err(|error| malformed(error.to_string()))?;
            lists.push(List::new(der.to_vec()).map_err(malformed)?);
        }
        if lists.is_empty() {
            Err(CrlError::Empty)
        } else {
            Ok(Self { lists })
        }
    }

    /// Whether there is no list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Whether a certificate of `chain` is on a list signed by its issuer, which is looked for
    /// in the rest of the chain and among `roots`.
    pub(crate) fn revoke(
        &self,
        chain: &[CertificateDer<'_>],
        roots: &[CertificateDer<'_>],
    ) -> bool {
        chain
            .iter()
            .any(|certificate| self.names(certificate, chain, roots))
    }

    fn names(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        roots: &[CertificateDer<'_>],
    ) -> bool {
        let Ok(certificate) = x509::parse(certificate) else {
            return false;
        };
        let issuer = certificate.issuer().as_raw();
        self.lists
            .iter()
            .filter(|list| list.issuer == issuer && list.serials.contains(certificate.raw_serial()))
            .any(|list| {
                chain
                    .iter()
                    .chain(roots)
                    .any(|issuer| list.is_signed_by(issuer))
            })
    }
}

impl List {
    fn new(der: Vec<u8>) -> Result<Self, String> {
        let (rest, list) =
            CertificateRevocationList::from_der(&der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("bytes after the list".into());
        }
        let issuer = list.issuer().as_raw().to_vec();
        let serials = list
            .iter_revoked_certificates()
            .map(|entry| entry.raw_serial().to_vec())
            .collect();
        Ok(Self {
            issuer,
            serials,
            der,
        })
    }

    /// Only asked when a serial number is found, so the list is parsed again rather than kept.
    fn is_signed_by(&self, issuer: &CertificateDer<'_>) -> bool {
        let Ok(issuer) = x509::parse(issuer) else {
            return false;
        };
        issuer.subject().as_raw() == self.issuer
            && CertificateRevocationList::from_der(&self.der)
                .is_ok_and(|(_, list)| list.verify_signature(issuer.public_key()).is_ok())
    }
}

/// A revocation file that is followed.
#[derive(Debug)]
pub struct CrlFile {
    path: PathBuf,
    loaded: Option<Stamp>,
    seen: Option<(Stamp, tokio::time::Instant)>,
}

/// What tells one content of the file from another without reading it. Follows symbolic links,
/// so that the swap of a mounted volume's directory is a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// What a look at the file came to.
#[derive(Debug)]
pub enum CrlPoll {
    /// Nothing new, or not at rest yet.
    Unchanged,
    /// New lists.
    Loaded(RevocationLists),
    /// New content that cannot be used: keep what was.
    Refused(CrlError),
}

impl CrlFile {
    /// Follows the file at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            loaded: None,
            seen: None,
        }
    }

    /// Looks at the file. The first content found is read at once, later ones when the file has
    /// been at rest for two seconds.
    pub fn poll(&mut self) -> CrlPoll {
        let stamp = match Stamp::of(&self.path) {
            Ok(stamp) => stamp,
            // A file that went away leaves the last lists in force.
            Err(_) if self.loaded.is_some() || self.seen.is_some() => return CrlPoll::Unchanged,
            Err(source) => return self.missing(source),
        };
        if self.loaded == Some(stamp) {
            self.seen = None;
            return CrlPoll::Unchanged;
        }
        let now = tokio::time::Instant::now();
        let at_rest = match self.seen {
            Some((seen, since)) if seen == stamp => now.duration_since(since) >= DEBOUNCE,
            _ => {
                self.seen = Some((stamp, now));
                false
            }
        };
        if self.loaded.is_some() && !at_rest {
            return CrlPoll::Unchanged;
        }
        self.loaded = Some(stamp);
        self.seen = None;
        match load(&self.path) {
            Ok(lists) => CrlPoll::Loaded(lists),
            Err(error) => CrlPoll::Refused(error),
        }
    }

    /// Follows the file into `trust` until dropped. Says once per content when it is unusable.
    pub async fn follow(mut self, trust: std::sync::Arc<TrustStore>) {
        let mut ticks = tokio::time::interval(POLL);
        loop {
            ticks.tick().await;
            match self.poll() {
                CrlPoll::Unchanged => {}
                CrlPoll::Loaded(lists) => {
                    tracing::info!(path = %self.path.display(), "revocation lists loaded");
                    trust.set_revocations(lists);
                }
                CrlPoll::Refused(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "revocation file not used; the last good one stays");
                }
            }
        }
    }

    fn missing(&mut self, source: std::io::Error) -> CrlPoll {
        // Remembered, so that it is reported once and its first content is read at once.
        self.seen = Some((Stamp::ABSENT, tokio::time::Instant::now()));
        CrlPoll::Refused(CrlError::Read {
            path: self.path.display().to_string(),
            source,
        })
    }
}

impl Stamp {
    const ABSENT: Self = Self {
        modified: None,
        length: 0,
        inode: 0,
    };

    fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

fn load(path: &Path) -> Result<RevocationLists, CrlError> {
    let read = |source| CrlError::Read {
        path: path.display().to_string(),
        source,
    };
    if std::fs::metadata(path).map_err(read)?.len() > MAX_CRL_BYTES {
        let path = path.display().to_string();
        return Err(CrlError::TooLarge {
            path,
            limit: MAX_CRL_BYTES,
        });
    }
    RevocationLists::from_pem(&std::fs::read(path).map_err(read)?)
}
