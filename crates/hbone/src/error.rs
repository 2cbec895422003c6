//! What can go wrong with a tunnel, grouped by whose fault it is.

use std::io;

use http::{HeaderMap, StatusCode};

/// A tunnel, or a stream in it, that failed. Cheap to clone: every stream of a failed connection
/// gets a copy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first bytes were not TLS.
    #[error("the peer sent plaintext where TLS is required")]
    PeerPlaintext,
    /// The TLS handshake or a TLS record failed.
    #[error("tls failed")]
    PeerTls(#[source] rustls::Error),
    /// TLS did not agree on HTTP/2.
    #[error("the peer did not offer h2 by ALPN")]
    PeerAlpn,
    /// The handshake took longer than allowed.
    #[error("the handshake timed out")]
    PeerHandshakeTimeout,
    /// No answer to PING in time.
    #[error("the peer stopped answering pings")]
    PeerUnresponsive,
    /// The peer closed the connection under open streams.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The peer announced with GOAWAY that it goes, with this error code.
    #[error("the peer is going away (code {0})")]
    PeerGoAway(u32),
    /// The peer reset the stream with this error code.
    #[error("the peer reset the stream (code {0})")]
    PeerReset(u32),
    /// The peer broke the protocol; `code` is what it was told.
    #[error("the peer broke the protocol: {what} (code {code})")]
    PeerProtocol {
        /// The HTTP/2 error code sent.
        code: u32,
        /// The rule that was broken.
        what: &'static str,
    },
    /// The transport under the connection failed.
    #[error("transport failed: {0}")]
    Transport(io::ErrorKind),
    /// The connection was closed on this side.
    #[error("the connection was closed locally")]
    LocalClosed,
    /// A request that cannot be sent, such as an authority longer than the limits allow.
    #[error("the request cannot be encoded: {0}")]
    LocalRequest(&'static str),
}

/// Whose fault an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The other side misbehaved or went.
    Peer,
    /// The network between.
    Transport,
    /// This side.
    Local,
}

impl Error {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Transport(_) => Fault::Transport,
            Self::LocalClosed | Self::LocalRequest(_) => Fault::Local,
            _ => Fault::Peer,
        }
    }

    /// The error inside an `io::Error` that a [`Stream`](crate::Stream) returned.
    pub fn from_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match Self::from_io(&error) {
            Some(inner) => inner.clone(),
            None => Self::Transport(error.kind()),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::PeerReset(_) | Error::PeerGoAway(_) => io::ErrorKind::ConnectionReset,
            Error::PeerClosed => io::ErrorKind::UnexpectedEof,
            Error::PeerUnresponsive | Error::PeerHandshakeTimeout => io::ErrorKind::TimedOut,
            Error::LocalClosed => io::ErrorKind::ConnectionAborted,
            Error::Transport(kind) => *kind,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// Why [`Pool::open`](crate::Pool::open) gave no stream. `E` is the caller's own error of
/// connecting.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError<E> {
    /// Connecting failed; everyone who waited for the same connection gets a copy.
    #[error("no connection")]
    Connect(#[source] E),
    /// The tunnel failed before it answered.
    #[error("the tunnel failed")]
    Tunnel(#[source] Error),
    /// The peer answered the CONNECT with another status than 200.
    #[error("the peer answered {status}")]
    Refused {
        /// The status it answered.
        status: StatusCode,
        /// The response headers.
        headers: Box<HeaderMap>,
    },
}
