//! Who a peer is: its chain leads to a trusted root now, none of it is revoked, and its SPIFFE
//! identity is one that is accepted here.

use std::sync::Arc;

use ambit_model::{Identity, TrustDomain};
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::clock::system_time;
use crate::error::{PeerError, bounded};
use crate::limits::MAX_PRESENTED_CHAIN;
use crate::trust::TrustStore;

/// The names a peer may have: its URI name must equal one of them exactly. Cheap to clone; fit
/// to be part of a key. An empty set accepts nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExpectedPeers(Arc<[Arc<str>]>);

impl ExpectedPeers {
    /// Exactly this identity.
    #[must_use]
    pub fn identity(identity: &Identity) -> Self {
        Self::new([identity], [])
    }

    /// Any of these identities and names (such as a service's `subject_alt_names`).
    pub fn new<'a>(
        identities: impl IntoIterator<Item = &'a Identity>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut all: Vec<Arc<str>> = identities
            .into_iter()
            .map(|identity| identity.to_string().into())
            .collect();
        all.extend(names.into_iter().map(Arc::from));
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }

    /// Whether `name` is one of them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|expected| **expected == *name)
    }

    /// The names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

impl std::fmt::Display for ExpectedPeers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            [] => f.write_str("nobody"),
            names => f.write_str(&names.join(" or ")),
        }
    }
}

/// In which role the peer presents its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It was connected to.
    Server,
    /// It connected.
    Client,
}

/// The identity of a chain (leaf first) that was verified before.
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Result<Identity, PeerError> {
    let leaf = chain.first().ok_or(PeerError::NoCertificate)?;
    let names = uri_names(leaf)?;
    match &*names {
        [name] => name
            .parse()
            .map_err(|_| PeerError::NoIdentity(bounded(name))),
        [] => Err(PeerError::NoIdentity("no URI name".into())),
        several => Err(PeerError::NoIdentity(format!(
            "{} URI names",
            several.len()
        ))),
    }
}

/// The URI names of a certificate.
pub fn uri_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, PeerError> {
    let certificate =
        EndEntityCert::try_from(certificate).map_err(|e| PeerError::Malformed(e.to_string()))?;
    Ok(certificate.valid_uri_names().map(str::to_owned).collect())
}

/// Checks chain, dates, purpose and revocation against what `trust` holds now.
pub(crate) fn verify_chain(
    trust: &TrustStore,
    chain: &[CertificateDer<'_>],
    role: Peer,
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), PeerError> {
    let (leaf, intermediates) = chain.split_first().ok_or(PeerError::NoCertificate)?;
    if chain.len() > MAX_PRESENTED_CHAIN {
        return Err(PeerError::Malformed(format!(
            "more than {MAX_PRESENTED_CHAIN} certificates"
        )));
    }
    verify_path(
        trust.roots().anchors(),
        leaf,
        intermediates,
        role,
        now,
        algorithms,
    )?;
    if trust.revoked(chain) {
        Err(PeerError::Revoked)
    } else {
        Ok(())
    }
}

/// Checks the path from `leaf` to one of `anchors`.
pub(crate) fn verify_path(
    anchors: &[rustls_pki_types::TrustAnchor<'_>],
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    role: Peer,
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), PeerError> {
    let usage = match role {
        Peer::Server => KeyUsage::server_auth(),
        Peer::Client => KeyUsage::client_auth(),
    };
    let leaf = EndEntityCert::try_from(leaf).map_err(path_error)?;
    leaf.verify_for_usage(
        algorithms.all,
        anchors,
        intermediates,
        now,
        usage,
        None,
        None,
    )
    .map_err(path_error)?;
    Ok(())
}

fn path_error(error: webpki::Error) -> PeerError {
    match error {
        webpki::Error::CertExpired { not_after, .. } => PeerError::Expired {
            not_after: system_time(not_after),
        },
        webpki::Error::CertNotValidYet { not_before, .. } => PeerError::NotYetValid {
            not_before: system_time(not_before),
        },
        webpki::Error::BadDer => PeerError::Malformed("bad encoding".into()),
        other => PeerError::Untrusted(format!("{other:?}")),
    }
}

/// The leaf and what follows it, as one chain.
fn join<'a>(
    leaf: &CertificateDer<'a>,
    intermediates: &[CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    let mut chain = Vec::with_capacity(1 + intermediates.len());
    chain.push(leaf.clone());
    chain.extend_from_slice(intermediates);
    chain
}

/// Verifies the server that this side connected to.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) trust: Arc<TrustStore>,
    pub(crate) expected: ExpectedPeers,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), PeerError> {
        verify_chain(&self.trust, chain, Peer::Server, now, &self.algorithms)?;
        let names = uri_names(&chain[0])?;
        if names.iter().any(|name| self.expected.contains(name)) {
            return Ok(());
        }
        let presented = if names.is_empty() {
            "nobody".into()
        } else {
            bounded(&names.join(", "))
        };
        Err(PeerError::WrongIdentity {
            presented,
            expected: self.expected.to_string(),
        })
    }
}

/// Which clients a server wants.
#[derive(Clone, Debug)]
pub(crate) enum Accept {
    /// Those of these trust domains.
    TrustDomains(Vec<TrustDomain>),
    /// Those with a certificate of a trusted root, and those without any: who they are is
    /// decided request by request.
    Optional,
}

/// Verifies the client that connected to this side.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) trust: Arc<TrustStore>,
    pub(crate) accept: Accept,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), PeerError> {
        verify_chain(&self.trust, chain, Peer::Client, now, &self.algorithms)?;
        let Accept::TrustDomains(accepted) = &self.accept else {
            return Ok(());
        };
        let identity = peer_identity(chain)?;
        if accepted.contains(&identity.trust_domain) {
            return Ok(());
        }
        let accepted: Vec<&str> = accepted.iter().map(TrustDomain::as_str).collect();
        Err(PeerError::ForeignTrustDomain {
            presented: bounded(&identity.to_string()),
            accepted: accepted.join(", "),
        })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(&join(end_entity, intermediates), now)
            .map_err(PeerError::into_tls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        matches!(self.accept, Accept::TrustDomains(_))
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(&join(end_entity, intermediates), now)
            .map_err(PeerError::into_tls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
