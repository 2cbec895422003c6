//! Certificates for both sides: one CA, one leaf, mutual authentication, TLS 1.3.

use std::sync::{Arc, OnceLock};

use ambit_hbone::tls::ALPN;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

const NAME: &str = "peer.test";

pub(crate) struct Pki {
    #[allow(dead_code, reason = "not every user of this file looks at it")]
    pub(crate) root: CertificateDer<'static>,
    #[allow(dead_code, reason = "not every user of this file looks at it")]
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

/// One CA, one leaf for both sides, mutual authentication, TLS 1.3.
pub(crate) fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = ca_params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::from_params(&ca_params, &ca_key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
        let key = || PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder(Arc::clone(&roots))
            .build()
            .unwrap();
        let tls13 = [&rustls::version::TLS13];
        let mut server = ServerConfig::builder_with_protocol_versions(&tls13)
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key())
            .unwrap();
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::builder_with_protocol_versions(&tls13)
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key())
            .unwrap();
        client.alpn_protocols = vec![ALPN.to_vec()];
        Pki {
            root: ca.der().clone(),
            leaf: leaf.der().clone(),
            server: Arc::new(server),
            client: Arc::new(client),
        }
    })
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}
