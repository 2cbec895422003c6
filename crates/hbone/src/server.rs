//! The accepting side of a tunnel: one connection, its requests, its drain.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::stream::convert;
use crate::tls::{TlsStream, Transport};
use crate::{Error, Settings, Stream};

/// A connection from a client. [`Connection::next`] both yields requests and drives the
/// connection and all its streams: keep it polled until it returns `None` or an error.
pub struct Connection<IO: Transport> {
    inner: h2::server::Connection<TlsStream<IO>, Bytes>,
    certificates: Vec<rustls_pki_types::CertificateDer<'static>>,
}

impl<IO: Transport> Connection<IO> {
    /// Exchanges the HTTP/2 prefaces.
    ///
    /// # Errors
    /// The peer does not speak HTTP/2, or not in time.
    pub async fn accept(tls: TlsStream<IO>, settings: &Settings) -> Result<Self, Error> {
        let certificates = tls.peer_certificates().to_vec();
        let handshake = h2::server::Builder::new()
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_frame_size(settings.max_frame_size)
            .max_concurrent_streams(settings.max_concurrent_streams)
            .max_header_list_size(settings.server_max_header_list)
            .handshake(tls);
        let inner = tokio::time::timeout(settings.handshake_timeout, handshake)
            .await
            .map_err(|_| Error::PeerHandshakeTimeout)?
            .map_err(|error| convert(&error))?;
        Ok(Self {
            inner,
            certificates,
        })
    }

    /// The certificates that the peer proved, leaf first.
    pub fn peer_certificates(&self) -> &[rustls_pki_types::CertificateDer<'static>] {
        &self.certificates
    }

    /// Waits for the next request, driving the connection meanwhile. `None` when the connection
    /// has ended in good order: the peer closed it, or [`drain`](Self::drain) is complete. Safe
    /// to drop and call again.
    ///
    /// # Errors
    /// The connection failed; every stream on it has got the same error.
    pub async fn next(&mut self) -> Result<Option<Request>, Error> {
        match self.inner.accept().await {
            None => Ok(None),
            Some(Ok((request, respond))) => {
                let (parts, body) = request.into_parts();
                let authority = parts.uri.authority().map(|a| a.as_str().to_owned());
                Ok(Some(Request {
                    method: parts.method,
                    authority,
                    headers: parts.headers,
                    respond,
                    body,
                }))
            }
            Some(Err(error)) => Err(convert(&error)),
        }
    }

    /// Announces GOAWAY: no new streams, open ones go on. Keep calling [`next`](Self::next).
    pub fn drain(&mut self) {
        self.inner.graceful_shutdown();
    }
}

/// A request for a stream. Dropped without an answer, it resets the stream.
pub struct Request {
    method: Method,
    authority: Option<String>,
    headers: HeaderMap,
    respond: h2::server::SendResponse<Bytes>,
    body: h2::RecvStream,
}

impl Request {
    /// The method; anything but `CONNECT` is to be refused with 400.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Whether it is a plain CONNECT with an authority.
    pub fn is_connect(&self) -> bool {
        self.method == Method::CONNECT && self.authority.is_some()
    }

    /// `:authority` as sent.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The other headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Answers 200 with `headers` and hands over the stream.
    ///
    /// # Errors
    /// The stream or its connection is gone.
    pub fn accept(mut self, headers: HeaderMap) -> Result<Stream, Error> {
        let mut response = http::Response::new(());
        *response.headers_mut() = headers;
        let send = self
            .respond
            .send_response(response, false)
            .map_err(|error| convert(&error))?;
        Ok(Stream::new(send, self.body))
    }

    /// Answers another status with `headers` and ends the stream.
    ///
    /// # Errors
    /// The stream or its connection is gone.
    pub fn refuse(mut self, status: StatusCode, headers: HeaderMap) -> Result<(), Error> {
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        self.respond
            .send_response(response, true)
            .map_err(|error| convert(&error))?;
        Ok(())
    }
}
