//! The accepting side of a tunnel: one connection, its requests, its drain.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Method, StatusCode};
use rustls_pki_types::CertificateDer;

use crate::frame::code;
use crate::session::{Driver, Handle, NewStream, RequestFields, Role, encode_response};
use crate::tls::{TlsStream, Transport};
use crate::{Error, Settings, Stream};

/// A connection from a client. [`Connection::next`] both yields requests and drives the
/// connection and all its streams: keep it polled until it returns `None` or an error.
pub struct Connection<IO: Transport> {
    driver: Driver<IO>,
    ended: bool,
    certificates: Arc<[CertificateDer<'static>]>,
}

impl<IO: Transport> Connection<IO> {
    /// Exchanges the HTTP/2 prefaces.
    ///
    /// # Errors
    /// The peer does not speak HTTP/2, or not in time.
    pub async fn accept(tls: TlsStream<IO>, settings: &Settings) -> Result<Self, Error> {
        let certificates = Arc::clone(&tls.certificates);
        let driver = Driver::new(tls, Role::Server, settings);
        let mut connection = Self {
            driver,
            ended: false,
            certificates,
        };
        poll_fn(|cx| {
            let driven = connection.poll_drive(cx);
            if connection.driver.session().borrow().is_ready() {
                return Poll::Ready(Ok(()));
            }
            driven.map(|outcome| outcome.and(Err(Error::PeerClosed)))
        })
        .await?;
        Ok(connection)
    }

    /// The certificates that the peer proved, leaf first.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Waits for the next request, driving the connection meanwhile. `None` when the connection
    /// has ended in good order: the peer closed it, or [`drain`](Self::drain) is complete. Safe
    /// to drop and call again.
    ///
    /// # Errors
    /// The connection failed; every stream on it has got the same error.
    pub async fn next(&mut self) -> Result<Option<Request>, Error> {
        poll_fn(|cx| {
            let driven = self.poll_drive(cx);
            let session = self.driver.session();
            if let Some(NewStream { id, fields }) = session.borrow_mut().next_request() {
                let handle = Handle::new(session, id);
                return Poll::Ready(Ok(Some(Request { handle, fields })));
            }
            driven.map(|outcome| outcome.map(|()| None))
        })
        .await
    }

    fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let driven = self.driver.poll(cx);
        self.ended = driven.is_ready();
        driven
    }

    /// Announces GOAWAY: no new streams, open ones go on. Keep calling [`next`](Self::next).
    pub fn drain(&mut self) {
        self.driver.session().borrow_mut().drain();
    }
}

/// A request for a stream. Dropped without an answer, it resets the stream.
pub struct Request {
    handle: Handle,
    fields: RequestFields,
}

impl Request {
    /// The method; anything but `CONNECT` is to be refused with 400.
    pub fn method(&self) -> &Method {
        &self.fields.method
    }

    /// Whether it is a plain CONNECT with an authority.
    pub fn is_connect(&self) -> bool {
        self.fields.method == Method::CONNECT
            && self.fields.authority.is_some()
            && !self.fields.extended
    }

    /// `:authority` as sent.
    pub fn authority(&self) -> Option<&str> {
        self.fields.authority.as_deref()
    }

    /// The other headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.fields.headers
    }

    /// Answers 200 with `headers` and hands over the stream.
    ///
    /// # Errors
    /// The stream or its connection is gone.
    pub fn accept(self, headers: HeaderMap) -> Result<Stream, Error> {
        self.answer(StatusCode::OK, &headers, false)?;
        Ok(Stream::new(self.handle))
    }

    /// Answers another status with `headers` and ends the stream.
    ///
    /// # Errors
    /// The stream or its connection is gone.
    pub fn refuse(self, status: StatusCode, headers: HeaderMap) -> Result<(), Error> {
        self.answer(status, &headers, true)?;
        // Complete as far as we are concerned; the peer need send nothing more (RFC 9113 §8.1).
        self.handle.session().reset(self.handle.id, code::NO_ERROR);
        Ok(())
    }

    fn answer(&self, status: StatusCode, headers: &HeaderMap, end: bool) -> Result<(), Error> {
        self.handle
            .session()
            .answer(self.handle.id, end, |out, changed| {
                encode_response(out, changed, status, headers);
            })
    }
}
