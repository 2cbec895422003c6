//! Client connections, kept by key and shared by streams.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::limits::MAX_STREAM_RETRIES;
use crate::stream::convert;
use crate::tls::{TlsStream, Transport};
use crate::{Error, OpenError, Settings, Stream};

/// What connections are pooled by. Two opens share a connection exactly if their keys are equal,
/// so the key holds everything that was authenticated and everything the connection was made with.
pub trait Key: Clone + Eq + Hash + 'static {}

impl<K: Clone + Eq + Hash + 'static> Key for K {}

/// A CONNECT to send.
#[derive(Debug, Clone)]
pub struct ConnectRequest {
    /// `:authority`, `ip:port` or `hostname:port`.
    pub authority: String,
    /// Further headers.
    pub headers: HeaderMap,
}

/// An answered CONNECT.
pub struct Opened {
    /// The byte stream.
    pub stream: Stream,
    /// The response headers.
    pub headers: HeaderMap,
}

/// The pool of one thread. Clones share it. `E` is the caller's error of connecting.
pub struct Pool<K, E> {
    shared: Rc<Shared<K, E>>,
}

impl<K, E> Clone for Pool<K, E> {
    fn clone(&self) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
        }
    }
}

struct Shared<K, E> {
    settings: Settings,
    entries: RefCell<HashMap<K, Rc<Entry<E>>>>,
    drivers: RefCell<JoinSet<()>>,
}

struct Entry<E> {
    clients: RefCell<Vec<h2::client::SendRequest<Bytes>>>,
    connecting: RefCell<Option<Rc<Flight<E>>>>,
}

struct Flight<E> {
    landed: Notify,
    outcome: RefCell<Option<Result<(), OpenError<E>>>>,
}

impl<K: Key, E: Clone + 'static> Pool<K, E> {
    /// An empty pool.
    pub fn new(settings: Settings) -> Self {
        Self {
            shared: Rc::new(Shared {
                settings,
                entries: RefCell::new(HashMap::new()),
                drivers: RefCell::new(JoinSet::new()),
            }),
        }
    }

    /// Opens a stream on a pooled connection of `key`, making one with `connect` when there is
    /// none with room. However many ask at once, one connection is being made per key; the
    /// others wait for it and share its failure. A stream that the peer refused untouched is
    /// tried again on a fresh connection, a few times.
    ///
    /// # Errors
    /// Connecting failed, the tunnel failed, or the peer answered another status than 200.
    pub async fn open<C, F, IO>(
        &self,
        key: &K,
        mut connect: C,
        request: ConnectRequest,
    ) -> Result<Opened, OpenError<E>>
    where
        C: FnMut() -> F,
        F: Future<Output = Result<TlsStream<IO>, E>>,
        IO: Transport,
    {
        let mut retries = 0;
        loop {
            let client = self.client(key, &mut connect).await?;
            match send(client, &request).await {
                Err(OpenError::Tunnel(Error::PeerReset(7) | Error::PeerGoAway(0)))
                    if retries < MAX_STREAM_RETRIES =>
                {
                    retries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn client<C, F, IO>(
        &self,
        key: &K,
        connect: &mut C,
    ) -> Result<h2::client::SendRequest<Bytes>, OpenError<E>>
    where
        C: FnMut() -> F,
        F: Future<Output = Result<TlsStream<IO>, E>>,
        IO: Transport,
    {
        loop {
            let entry = self.entry(key);
            let existing = entry.clients.borrow().last().cloned();
            if let Some(client) = existing {
                match client.ready().await {
                    Ok(client) => return Ok(client),
                    Err(_) => drop(entry.clients.borrow_mut().pop()),
                }
                continue;
            }
            let flight = entry.connecting.borrow().clone();
            if let Some(flight) = flight {
                flight.landed.notified().await;
                if let Some(Err(error)) = &*flight.outcome.borrow() {
                    return Err(error.clone());
                }
                continue;
            }
            let flight = Rc::new(Flight {
                landed: Notify::new(),
                outcome: RefCell::new(None),
            });
            *entry.connecting.borrow_mut() = Some(Rc::clone(&flight));
            let landing = Landing {
                entry: Rc::clone(&entry),
                flight,
            };
            let outcome = self.connect(&entry, connect).await;
            *landing.flight.outcome.borrow_mut() = Some(outcome.clone());
            outcome?;
        }
    }

    fn entry(&self, key: &K) -> Rc<Entry<E>> {
        let mut entries = self.shared.entries.borrow_mut();
        if let Some(entry) = entries.get(key) {
            return Rc::clone(entry);
        }
        let entry = Rc::new(Entry {
            clients: RefCell::new(Vec::new()),
            connecting: RefCell::new(None),
        });
        entries.insert(key.clone(), Rc::clone(&entry));
        entry
    }

    async fn connect<C, F, IO>(&self, entry: &Entry<E>, connect: &mut C) -> Result<(), OpenError<E>>
    where
        C: FnMut() -> F,
        F: Future<Output = Result<TlsStream<IO>, E>>,
        IO: Transport,
    {
        let settings = &self.shared.settings;
        let tls = connect().await.map_err(OpenError::Connect)?;
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_frame_size(settings.max_frame_size)
            .max_header_list_size(settings.client_max_header_list)
            .enable_push(false)
            .handshake(tls)
            .await
            .map_err(|error| OpenError::Tunnel(convert(&error)))?;
        self.shared.drivers.borrow_mut().spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "tunnel ended");
            }
        });
        entry.clients.borrow_mut().push(client);
        Ok(())
    }

    /// Stops all connections once their streams have ended, and waits for that. Opens that come
    /// later make new connections; drop the pool to be rid of it.
    pub async fn drain(&self) {
        self.shared.entries.borrow_mut().clear();
        let mut drivers = std::mem::take(&mut *self.shared.drivers.borrow_mut());
        while drivers.join_next().await.is_some() {}
    }
}

/// Wakes those who wait for a connection, also when the one who was making it went away.
struct Landing<E> {
    entry: Rc<Entry<E>>,
    flight: Rc<Flight<E>>,
}

impl<E> Drop for Landing<E> {
    fn drop(&mut self) {
        *self.entry.connecting.borrow_mut() = None;
        self.flight.landed.notify_waiters();
    }
}

async fn send<E>(
    mut client: h2::client::SendRequest<Bytes>,
    request: &ConnectRequest,
) -> Result<Opened, OpenError<E>> {
    let uri = Uri::builder()
        .authority(request.authority.as_str())
        .build()
        .map_err(|_| OpenError::Tunnel(Error::LocalRequest("authority")))?;
    let mut connect = http::Request::connect(uri)
        .body(())
        .map_err(|_| OpenError::Tunnel(Error::LocalRequest("authority")))?;
    *connect.headers_mut() = request.headers.clone();
    let failed = |error: h2::Error| OpenError::Tunnel(convert(&error));
    let (response, send) = client.send_request(connect, false).map_err(failed)?;
    let (parts, body) = response.await.map_err(failed)?.into_parts();
    if parts.status != StatusCode::OK {
        return Err(OpenError::Refused {
            status: parts.status,
            headers: Box::new(parts.headers),
        });
    }
    Ok(Opened {
        stream: Stream::new(send, body),
        headers: parts.headers,
    })
}
