//! TLS 1.3 under a tunnel: handshakes by rustls with a deadline, h2 enforced, the peer's
//! certificates exposed; after that the record layer of [`records`]. It refuses to know who the
//! peer may be: that is the configuration's verifier.

mod handshake;
pub(crate) mod records;

use std::sync::Arc;
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Error;
use records::Records;

/// ALPN protocol of every tunnel.
pub const ALPN: &[u8] = b"h2";

/// What a tunnel can run over: a TCP connection, a pipe in tests, a stream of another tunnel.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Transport for T {}

/// An authenticated connection, ready for HTTP/2.
pub struct TlsStream<IO> {
    pub(crate) io: IO,
    pub(crate) records: Records,
    /// Bytes that came after the handshake, not decrypted yet.
    pub(crate) incoming: Vec<u8>,
    /// Application data that was decrypted with the handshake.
    pub(crate) early: Vec<u8>,
    pub(crate) certificates: Arc<[CertificateDer<'static>]>,
}

/// Takes a TLS connection from a client. `config` has to offer ALPN [`ALPN`] and to demand the
/// client's certificate.
///
/// # Errors
/// [`Error::PeerPlaintext`], [`Error::PeerTls`], [`Error::PeerAlpn`],
/// [`Error::PeerHandshakeTimeout`] or the transport's failure.
pub async fn accept<IO: Transport>(
    io: IO,
    mut config: Arc<ServerConfig>,
    timeout: Duration,
) -> Result<TlsStream<IO>, Error> {
    if !config.enable_secret_extraction {
        Arc::make_mut(&mut config).enable_secret_extraction = true;
    }
    let session = UnbufferedServerConnection::new(config).map_err(Error::PeerTls)?;
    within(timeout, handshake::run(io, session)).await
}

/// Makes a TLS connection to a server. `name` is what the configuration's verifier is told;
/// Istio's peers send no SNI, so the caller switches it off in `config`.
///
/// # Errors
/// As [`accept`].
pub async fn connect<IO: Transport>(
    io: IO,
    mut config: Arc<ClientConfig>,
    name: ServerName<'static>,
    timeout: Duration,
) -> Result<TlsStream<IO>, Error> {
    if !config.enable_secret_extraction {
        Arc::make_mut(&mut config).enable_secret_extraction = true;
    }
    let session = UnbufferedClientConnection::new(config, name).map_err(Error::PeerTls)?;
    within(timeout, handshake::run(io, session)).await
}

async fn within<T>(
    timeout: Duration,
    handshake: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    // Boxed: the handshake is large and short, the connection's future small and long.
    let outcome = tokio::time::timeout(timeout, Box::pin(handshake)).await;
    outcome.unwrap_or(Err(Error::PeerHandshakeTimeout))
}

impl<IO> TlsStream<IO> {
    /// The certificates that the peer proved, leaf first; empty when it showed none.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The transport under TLS, for its addresses.
    pub fn transport(&self) -> &IO {
        &self.io
    }
}
