//! TLS under a tunnel: handshakes with a deadline, h2 enforced, peer certificates exposed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Error;

/// ALPN protocol of every tunnel.
pub const ALPN: &[u8] = b"h2";

/// What a tunnel can run over: a TCP connection, a pipe in tests, a stream of another tunnel.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Transport for T {}

/// An authenticated connection, ready for HTTP/2.
pub struct TlsStream<IO> {
    inner: tokio_rustls::TlsStream<IO>,
}

/// Takes a TLS connection from a client.
///
/// # Errors
/// [`Error::PeerPlaintext`], [`Error::PeerTls`], [`Error::PeerAlpn`],
/// [`Error::PeerHandshakeTimeout`] or the transport's failure.
pub async fn accept<IO: Transport>(
    io: IO,
    config: Arc<ServerConfig>,
    timeout: Duration,
) -> Result<TlsStream<IO>, Error> {
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(io);
    finish(async { handshake.await.map(Into::into) }, timeout).await
}

/// Makes a TLS connection to a server. `name` is what the configuration's verifier is told;
/// Istio's peers send no SNI, so the caller switches it off in `config`.
///
/// # Errors
/// As [`accept`].
pub async fn connect<IO: Transport>(
    io: IO,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    timeout: Duration,
) -> Result<TlsStream<IO>, Error> {
    let handshake = tokio_rustls::TlsConnector::from(config).connect(name, io);
    finish(async { handshake.await.map(Into::into) }, timeout).await
}

async fn finish<IO: Transport>(
    handshake: impl Future<Output = io::Result<tokio_rustls::TlsStream<IO>>>,
    timeout: Duration,
) -> Result<TlsStream<IO>, Error> {
    let inner = tokio::time::timeout(timeout, handshake)
        .await
        .map_err(|_| Error::PeerHandshakeTimeout)?
        .map_err(handshake_error)?;
    let stream = TlsStream { inner };
    if stream.session().alpn_protocol() == Some(ALPN) {
        Ok(stream)
    } else {
        Err(Error::PeerAlpn)
    }
}

fn handshake_error(error: io::Error) -> Error {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            Error::PeerPlaintext
        }
        Some(inner) => Error::PeerTls(inner.clone()),
        None => error.into(),
    }
}

impl<IO> TlsStream<IO> {
    fn session(&self) -> &rustls::CommonState {
        self.inner.get_ref().1
    }

    /// The certificates that the peer proved, leaf first; empty when it showed none.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.session().peer_certificates().unwrap_or_default()
    }

    /// The transport under TLS, for its addresses.
    pub fn transport(&self) -> &IO {
        self.inner.get_ref().0
    }
}

impl<IO: Transport> AsyncRead for TlsStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<IO: Transport> AsyncWrite for TlsStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
