//! One workload's certificate with its key, and the TLS configurations made from it.

use std::sync::Arc;
use std::time::SystemTime;

use ambit_model::Identity;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::ca_client::Signed;
use crate::clock::unix_time;
use crate::csr::CertificateRequest;
use crate::error::{CaError, PeerError};
use crate::tls::Tls;
use crate::trust::Roots;
use crate::verify::{ExpectedPeers, Peer, uri_names, verify_path};
use crate::x509;

/// A certificate that was checked to be what was asked for, its key, and its TLS configurations.
pub struct WorkloadCertificate {
    identity: Identity,
    chain: Vec<CertificateDer<'static>>,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
    server: Arc<ServerConfig>,
    client: ClientConfig,
    tls: Arc<Tls>,
}

impl std::fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadCertificate")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl WorkloadCertificate {
    /// Checks an authority's answer: the identity asked for and no other, the key of the request,
    /// valid now, leading to one of the roots that came with it. Gives those roots, too.
    pub fn accept(
        identity: &Identity,
        request: CertificateRequest,
        signed: Signed,
        tls: &Arc<Tls>,
    ) -> Result<(Self, Roots), CaError> {
        let bad = |reason: String| CaError::BadAnswer {
            identity: identity.clone(),
            reason,
        };
        let roots = Roots::from_der(signed.roots).map_err(|error| bad(error.to_string()))?;
        check(identity, &signed.chain, &roots, tls)?;
        let certificate = Self::from_parts(identity, signed.chain, request.into_key(), tls)
            .map_err(|error| bad(error.to_string()))?;
        Ok((certificate, roots))
    }

    /// Joins parts that are known to belong together.
    fn from_parts(
        identity: &Identity,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        tls: &Arc<Tls>,
    ) -> Result<Self, rustls::Error> {
        let unreadable = |reason| rustls::Error::General(reason);
        let leaf = chain
            .first()
            .ok_or(rustls::Error::NoCertificatesPresented)?;
        let facts = x509::facts(leaf).map_err(unreadable)?;
        // Also refuses a certificate that is not for this key.
        let key = CertifiedKey::from_der(chain.clone(), key, tls.provider())?;
        let key = Arc::new(SingleCertAndKey::from(key));
        Ok(Self {
            identity: identity.clone(),
            serial: facts.serial,
            not_before: facts.not_before,
            not_after: facts.not_after,
            server: Arc::new(tls.server_config(&identity.trust_domain, Arc::clone(&key))?),
            client: tls.client_config(key)?,
            chain,
            tls: Arc::clone(tls),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Leaf first, without the root.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Serial number, decimal.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Its beginning.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Its end.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When half of its life is over.
    #[must_use]
    pub fn half_life(&self) -> SystemTime {
        let life = self
            .not_after
            .duration_since(self.not_before)
            .unwrap_or_default();
        self.not_before + life / 2
    }

    /// For accepting tunnels: asks the client for a certificate of an accepted trust domain.
    /// Made once; roots and revocation lists are looked up in each handshake.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For opening tunnels to one of `expected`. Costs a few reference counts. Use
    /// [`crate::placeholder_server_name`] as server name.
    #[must_use]
    pub fn client_config(&self, expected: &ExpectedPeers) -> Arc<ClientConfig> {
        Arc::new(self.tls.expecting(&self.client, expected.clone()))
    }
}

fn check(
    identity: &Identity,
    chain: &[CertificateDer<'static>],
    roots: &Roots,
    tls: &Tls,
) -> Result<(), CaError> {
    let bad = |reason: String| CaError::BadAnswer {
        identity: identity.clone(),
        reason,
    };
    let (leaf, intermediates) = chain
        .split_first()
        .ok_or_else(|| bad("no certificate".into()))?;
    let names = uri_names(leaf).map_err(|error| bad(error.to_string()))?;
    if !matches!(&*names, [name] if *name == identity.to_string()) {
        let presented = if names.is_empty() {
            "nobody".into()
        } else {
            names.join(", ")
        };
        return Err(CaError::WrongIdentity {
            identity: identity.clone(),
            presented,
        });
    }
    let now = tls.clock().now();
    let facts = x509::facts(leaf).map_err(bad)?;
    if now < facts.not_before || facts.not_after <= now {
        return Err(CaError::NotValidNow {
            identity: identity.clone(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            now,
        });
    }
    let algorithms = &tls.provider().signature_verification_algorithms;
    for role in [Peer::Client, Peer::Server] {
        verify_path(
            roots.anchors(),
            leaf,
            intermediates,
            role,
            unix_time(now),
            algorithms,
        )
        .map_err(|error: PeerError| bad(error.to_string()))?;
    }
    Ok(())
}
