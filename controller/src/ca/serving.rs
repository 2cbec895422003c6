//! The controller's own certificate on its gRPC port, and the TLS connections accepted with it.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;

use super::authority::{CaSetupError, CertificateAuthority};

/// Handshakes under way at a time. Attack: clients that connect and say nothing.
const MAX_HANDSHAKES: usize = 256;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a serving certificate is valid; a new one is made at half of it.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// The certificate of the controller's port: of its own authority, renewed as connections come,
/// and made anew when the authority's roots change.
#[derive(Debug)]
pub struct ServingCertificate {
    authority: Arc<CertificateAuthority>,
    dns_names: Vec<String>,
    addresses: Vec<IpAddr>,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    renew_at: SystemTime,
    /// The end of the signing certificate it was made with: another one has another end.
    authority_ends: SystemTime,
}

impl ServingCertificate {
    /// Makes a certificate for a server that is reached by these names and addresses.
    pub fn new(
        authority: Arc<CertificateAuthority>,
        dns_names: Vec<String>,
        addresses: Vec<IpAddr>,
    ) -> Result<Arc<Self>, CaSetupError> {
        let current = RwLock::new(make(&authority, &dns_names, &addresses)?);
        Ok(Arc::new(Self {
            authority,
            dns_names,
            addresses,
            current,
        }))
    }

    /// A server configuration that always uses the newest certificate, asks clients for theirs
    /// and verifies it, but also takes those without.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, CaSetupError> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        Ok(Arc::new(
            self.authority.tls().control_server_config(resolver)?,
        ))
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let now = self.authority.clock().now();
        {
            let current = self.current.read();
            if now < current.renew_at && current.authority_ends == self.authority.not_after() {
                return Arc::clone(&current.key);
            }
        }
        match make(&self.authority, &self.dns_names, &self.addresses) {
            Ok(made) => *self.current.write() = made,
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::error!(error, "serving certificate not renewed; the old one stays");
            }
        }
        Arc::clone(&self.current.read().key)
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn make(
    authority: &CertificateAuthority,
    dns_names: &[String],
    addresses: &[IpAddr],
) -> Result<Current, CaSetupError> {
    let authority_ends = authority.not_after();
    let serving = authority
        .serving(dns_names, addresses, TTL)
        .map_err(|source| CaSetupError::Authority {
            dir: authority.config().dir().display().to_string(),
            source,
        })?;
    let now = authority.clock().now();
    let life = serving.not_after.duration_since(now).unwrap_or_default();
    let provider = authority.tls().provider();
    let key = CertifiedKey::from_der(serving.chain, serving.key.into(), provider)?;
    Ok(Current {
        key: Arc::new(key),
        renew_at: now + life / 2,
        authority_ends,
    })
}

/// TLS connections of a listener, for `tonic`'s `serve_with_incoming`. Handshakes run side by
/// side, a bounded number of them; those that fail are counted in the log and dropped.
pub struct TlsIncoming {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<io::Result<TlsStream<TcpStream>>>,
}

impl std::fmt::Debug for TlsIncoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIncoming")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl TlsIncoming {
    /// Accepts on `listener`.
    #[must_use]
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>) -> Self {
        Self {
            listener,
            acceptor: TlsAcceptor::from(config),
            handshakes: JoinSet::new(),
        }
    }

    fn handshake(&mut self, stream: TcpStream) {
        // Discovery is made of small messages in both directions.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let accept = self.acceptor.accept(stream);
        self.handshakes.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, accept).await {
                Ok(result) => result,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        });
    }
}

impl Stream for TlsIncoming {
    type Item = io::Result<TlsStream<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while self.handshakes.len() < MAX_HANDSHAKES {
            match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, _))) => self.handshake(stream),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => break,
            }
        }
        loop {
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Ok(stream)))) => return Poll::Ready(Some(Ok(stream))),
                Poll::Ready(Some(Ok(Err(error)))) => {
                    tracing::debug!(%error, "TLS handshake failed");
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::error!(%error, "TLS handshake panicked");
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}
