//! The opening side of one connection.

use std::future::poll_fn;
use std::rc::Rc;

use http::StatusCode;

use crate::session::{Driver, Handle, Role, Shared, encode_request, list_size};
use crate::tls::{TlsStream, Transport};
use crate::{ConnectRequest, Error, OpenError, Opened, Settings, Stream};

/// A connection to a server: opens streams. Its driver is a future of its own.
#[derive(Clone)]
pub(crate) struct Client {
    session: Shared,
}

impl Client {
    /// Starts HTTP/2; streams can be opened at once.
    pub(crate) fn new<IO: Transport>(
        tls: TlsStream<IO>,
        settings: &Settings,
    ) -> (Self, Driver<IO>) {
        let driver = Driver::new(tls, Role::Client, settings);
        (
            Self {
                session: Rc::clone(driver.session()),
            },
            driver,
        )
    }

    /// Streams that may be opened now.
    pub(crate) fn openable(&self) -> u32 {
        self.session.borrow().openable()
    }

    /// Whether it takes no more streams, now or later.
    pub(crate) fn is_going(&self) -> bool {
        self.session.borrow().is_going()
    }

    /// Lets open streams go on and ends the connection after the last.
    pub(crate) fn drain(&self) {
        self.session.borrow_mut().drain();
    }

    /// Whether it is the same connection.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.session, &other.session)
    }

    /// Sends a CONNECT. The stream counts from this call on, before its answer.
    pub(crate) fn send(&self, request: &ConnectRequest) -> Result<Handle, Error> {
        let mut session = self.session.borrow_mut();
        if list_size(&request.authority, &request.headers) > session.peer_max_header_list() {
            return Err(Error::LocalRequest(
                "headers are larger than the peer takes",
            ));
        }
        let id = session.open(|out, changed| {
            encode_request(out, changed, &request.authority, &request.headers);
        })?;
        drop(session);
        Ok(Handle::new(&self.session, id))
    }
}

/// Waits for the answer to a CONNECT.
pub(crate) async fn answer<E>(handle: Handle) -> Result<Opened, OpenError<E>> {
    let response = poll_fn(|cx| handle.session().poll_response(handle.id, cx)).await;
    let response = response.map_err(OpenError::Tunnel)?;
    if response.status == StatusCode::OK {
        return Ok(Opened {
            stream: Stream::new(handle),
            headers: response.headers,
        });
    }
    let (status, headers) = (response.status, Box::new(response.headers));
    Err(OpenError::Refused { status, headers })
}
