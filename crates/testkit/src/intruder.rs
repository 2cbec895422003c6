//! Somebody who speaks to a tunnel port with certificates of their choice: valid ones, those of
//! another authority, of another trust domain, expired or not valid yet, or none.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};

use crate::apps::client;
use crate::mesh::find_file;
use crate::topology::Host;

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    /// The mesh's own, from the controller's directory: what a thief of its key could do.
    ///
    /// # Errors
    /// When it is not there.
    pub fn of_mesh(data: &Path) -> Result<Self> {
        let read = |name| {
            let path = find_file(data, name).with_context(|| format!("no {name}"))?;
            Ok::<_, anyhow::Error>(std::fs::read_to_string(path)?)
        };
        let (certificate, key) = (read("ca-cert.pem")?, read("ca-key.pem")?);
        let issuer = Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key)?)?;
        let certificate = rustls_pki_types::pem::PemObject::from_pem_slice(certificate.as_bytes())?;
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// One that nobody trusts.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn foreign() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "somebody else");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// Signs for an identity, valid from and until so many hours from now.
    ///
    /// # Errors
    /// When the identity is not a URI.
    pub fn sign(&self, identity: &str, from: i64, until: i64) -> Result<Credentials> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        params.not_before = OffsetDateTime::now_utc() + Duration::hours(from);
        params.not_after = OffsetDateTime::now_utc() + Duration::hours(until);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Credentials {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }
}

/// Opens TLS to a tunnel port and waits for the server's first HTTP/2 frame. `true` means that the
/// server took the client in.
///
/// # Errors
/// When not even TCP connects.
pub fn is_let_in(from: &Host, to: SocketAddr, credentials: Option<Credentials>) -> Result<bool> {
    let mut config = builder()?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    if let Some(Credentials { chain, key }) = credentials {
        config.client_auth_cert_resolver = resolver(chain, key)?;
    }
    let name = ServerName::try_from("ambit.invalid")?;
    let connection = ClientConnection::new(Arc::new(config), name)?;
    let mut stream = StreamOwned::new(connection, client::connect(from, to)?);
    // In TLS 1.3 the client is done before the server has judged it: only an answer proves more.
    let mut answer = [0; 9];
    let said = stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .and_then(|()| stream.read_exact(&mut answer));
    /// Frame type of SETTINGS.
    const SETTINGS: u8 = 4;
    Ok(said.is_ok() && answer[3] == SETTINGS)
}

fn builder() -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Anybody(Arc::clone(&provider)));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

fn resolver(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<dyn rustls::client::ResolvesClientCert>> {
    let signer = aws_lc_rs::sign::any_supported_type(&key)?;
    let certified = Arc::new(rustls::sign::CertifiedKey::new(chain, signer));
    Ok(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
}

/// Sends bytes as they are to a port and returns what comes back until the other side closes.
///
/// # Errors
/// When TCP does not connect.
pub fn say(from: &Host, to: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = client::connect(from, to)?;
    let mut answer = Vec::new();
    // A reset is an answer too.
    stream
        .write_all(bytes)
        .and_then(|()| stream.read_to_end(&mut answer))
        .ok();
    Ok(answer)
}

/// Takes every server: it is the server's judgement that is tested.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
