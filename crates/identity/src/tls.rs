//! TLS as the mesh speaks it: version, suites, key exchange, ALPN; built once and shared by all
//! certificates.
//!
//! Sessions are never resumed. A resumed handshake skips the verification of the peer, so a
//! certificate that expired or was revoked meanwhile, or a root that was withdrawn, would live
//! on in tickets; tunnels are pooled, which saves more handshakes than tickets would.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ambit_model::TrustDomain;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::server::ResolvesServerCert;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;

use crate::clock::{Clock, TlsTime};
use crate::trust::TrustStore;
use crate::verify::{Accept, ClientVerifier, ExpectedPeers, ServerVerifier};

/// The application protocol of the tunnel.
pub const ALPN_H2: &[u8] = b"h2";

/// A server name for clients that have none: it is neither sent nor checked.
#[must_use]
pub fn placeholder_server_name() -> ServerName<'static> {
    ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into())
}

/// What `COMPLIANCE_POLICY` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compliance {
    /// Post-quantum key exchange first, classical ones for peers without it.
    #[default]
    None,
    /// `pqc`: X25519MLKEM768 only, hence TLS 1.3 only.
    Pqc,
}

/// What an operator can choose.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Allow TLS 1.2 beside 1.3.
    pub tls12: bool,
    /// Restrictions.
    pub compliance: Compliance,
    /// Trust domains accepted from clients besides the own one.
    pub trust_domain_aliases: Vec<TrustDomain>,
}

/// The settings with what they need: what all certificates of a process share.
#[derive(Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
    aliases: Vec<TrustDomain>,
    trust: Arc<TrustStore>,
    clock: Arc<dyn Clock>,
}

static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
static TLS13_AND_12: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];

impl Tls {
    /// Prepares provider and versions.
    #[must_use]
    pub fn new(settings: &TlsSettings, trust: Arc<TrustStore>, clock: Arc<dyn Clock>) -> Self {
        let tls12 = settings.tls12 && settings.compliance == Compliance::None;
        Self {
            provider: Arc::new(provider(settings.compliance, tls12)),
            versions: if tls12 { &TLS13_AND_12 } else { &TLS13 },
            aliases: settings.trust_domain_aliases.clone(),
            trust,
            clock,
        }
    }

    /// What is trusted.
    #[must_use]
    pub fn trust(&self) -> &Arc<TrustStore> {
        &self.trust
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The cryptography in use, for other TLS of the process.
    #[must_use]
    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    pub(crate) fn server_config(
        &self,
        own: &TrustDomain,
        key: Arc<SingleCertAndKey>,
    ) -> Result<ServerConfig, rustls::Error> {
        let mut accepted = vec![own.clone()];
        accepted.extend(self.aliases.iter().filter(|alias| *alias != own).cloned());
        let mut config = self.serving(Accept::TrustDomains(accepted), key)?;
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        // Ours is ordered by speed, and every suite in it is as good as the others.
        config.ignore_client_order = true;
        Ok(config)
    }

    /// For servers of the control plane: clients may present a certificate of a trusted root,
    /// and who they are is looked up in it request by request.
    pub fn control_server_config(
        &self,
        certificate: Arc<dyn ResolvesServerCert>,
    ) -> Result<ServerConfig, rustls::Error> {
        let mut config = self.serving(Accept::Optional, certificate)?;
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(config)
    }

    fn serving(
        &self,
        accept: Accept,
        certificate: Arc<dyn ResolvesServerCert>,
    ) -> Result<ServerConfig, rustls::Error> {
        let verifier = ClientVerifier {
            trust: Arc::clone(&self.trust),
            accept,
            algorithms: self.provider.signature_verification_algorithms,
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(self.versions)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(certificate);
        config.time_provider = Arc::new(TlsTime(Arc::clone(&self.clock)));
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// A configuration that trusts nobody yet; see [`Self::expecting`].
    pub(crate) fn client_config(
        &self,
        key: Arc<SingleCertAndKey>,
    ) -> Result<ClientConfig, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(self.versions)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(ExpectedPeers::new([], [])))
            .with_client_cert_resolver(key);
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.time_provider = Arc::new(TlsTime(Arc::clone(&self.clock)));
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }

    /// The same configuration for other peers: a few reference counts.
    pub(crate) fn expecting(&self, base: &ClientConfig, expected: ExpectedPeers) -> ClientConfig {
        let mut config = base.clone();
        config
            .dangerous()
            .set_certificate_verifier(self.verifier(expected));
        config
    }

    fn verifier(&self, expected: ExpectedPeers) -> Arc<ServerVerifier> {
        Arc::new(ServerVerifier {
            trust: Arc::clone(&self.trust),
            expected,
            algorithms: self.provider.signature_verification_algorithms,
        })
    }
}

fn provider(compliance: Compliance, tls12: bool) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    // AES-128 is the faster of the two; who asks for a post-quantum policy wants the wider key.
    provider.cipher_suites = match compliance {
        Compliance::None => vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        Compliance::Pqc => vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
    };
    if tls12 {
        provider.cipher_suites.extend([
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ]);
    }
    provider.kx_groups = match compliance {
        Compliance::None => vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        Compliance::Pqc => vec![kx_group::X25519MLKEM768],
    };
    provider
}
