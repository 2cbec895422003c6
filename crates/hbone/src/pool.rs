//! Client connections, kept by key and shared by streams. It refuses to know how connections are
//! made and authenticated: the caller hands in a future for that, and a key.

mod entry;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::rc::Rc;

use http::HeaderMap;
use tokio::task::JoinSet;

use crate::client::{Client, answer};
use crate::frame::code;
use crate::limits::MAX_STREAM_RETRIES;
use crate::session::{Driver, Handle};
use crate::tls::{TlsStream, Transport};
use crate::{Error, OpenError, Settings, Stream};
use entry::{Entry, Turn};

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

    /// Connections that are open now, for metrics and tests.
    pub fn connections(&self) -> usize {
        self.shared
            .entries
            .borrow()
            .values()
            .map(|entry| entry.connections())
            .sum()
    }

    /// Opens a stream on a pooled connection of `key`, making one with `connect` when there is
    /// none with room. However many ask at once, one connection is being made per key; the
    /// others wait for it and share its failure. A stream that the peer has not processed is
    /// tried again on another connection, a few times; so is one on a pooled connection that
    /// turns out to be dead. No byte of the stream has been sent by then.
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
            let (client, fresh, sent) = self.start(key, &mut connect, &request).await?;
            let error = match answer(sent).await {
                Err(OpenError::Tunnel(error)) => error,
                outcome => return outcome,
            };
            if retries == MAX_STREAM_RETRIES || !is_untouched(&error, fresh) {
                return Err(OpenError::Tunnel(error));
            }
            retries += 1;
            if !matches!(error, Error::PeerReset(_)) || fresh {
                self.retire(key, &client);
            }
        }
    }

    /// Sends the CONNECT on a connection with room. Says whether the connection was made for it.
    async fn start<C, F, IO>(
        &self,
        key: &K,
        connect: &mut C,
        request: &ConnectRequest,
    ) -> Result<(Client, bool, Handle), OpenError<E>>
    where
        C: FnMut() -> F,
        F: Future<Output = Result<TlsStream<IO>, E>>,
        IO: Transport,
    {
        let mut fresh = false;
        loop {
            let entry = self.entry(key);
            match entry.turn() {
                Turn::Open(client) => {
                    // Nothing awaits between the check for room and this.
                    let sent = client.send(request).map_err(OpenError::Tunnel)?;
                    return Ok((client, fresh, sent));
                }
                Turn::Wait(flight) => flight.landed().await?,
                // Just made, and already it takes no streams.
                Turn::Connect(_) if fresh => {
                    return Err(OpenError::Tunnel(Error::PeerReset(code::REFUSED_STREAM)));
                }
                Turn::Connect(landing) => {
                    let made = connect().await.map_err(OpenError::Connect);
                    let made = made.map(|tls| self.add(key, &entry, tls));
                    landing.land(made.as_ref().map(|_| ()).map_err(Clone::clone));
                    made?;
                    fresh = true;
                }
            }
        }
    }

    fn entry(&self, key: &K) -> Rc<Entry<E>> {
        let mut entries = self.shared.entries.borrow_mut();
        if let Some(entry) = entries.get(key) {
            return Rc::clone(entry);
        }
        let entry = Rc::new(Entry::default());
        entries.insert(key.clone(), Rc::clone(&entry));
        entry
    }

    /// Takes a new connection in and starts its driver.
    fn add<IO: Transport>(&self, key: &K, entry: &Entry<E>, tls: TlsStream<IO>) {
        let (client, driver) = Client::new(tls, &self.shared.settings);
        entry.add(client.clone());
        let pool = Rc::downgrade(&self.shared);
        let key = key.clone();
        let mut drivers = self.shared.drivers.borrow_mut();
        // Those that have ended by themselves are joined here; the others by `drain`.
        while drivers.try_join_next().is_some() {}
        drivers.spawn_local(async move {
            if let Err(error) = drive(driver).await {
                tracing::debug!(%error, "tunnel connection ended");
            }
            if let Some(shared) = pool.upgrade() {
                Self { shared }.retire(&key, &client);
            }
        });
    }

    /// Opens nothing more on a connection; the last one gone takes the key with it.
    fn retire(&self, key: &K, client: &Client) {
        client.drain();
        let mut entries = self.shared.entries.borrow_mut();
        if let Some(entry) = entries.get(key) {
            entry.remove(client);
            if entry.is_unused() {
                entries.remove(key);
            }
        }
    }

    /// Opens nothing more on the connections whose key `stale` picks, such as those made with a
    /// certificate that is not to be used any more. Their streams go on.
    pub fn retire_where(&self, mut stale: impl FnMut(&K) -> bool) {
        self.shared.entries.borrow_mut().retain(|key, entry| {
            let stale = stale(key);
            if stale {
                entry.drain();
            }
            !stale
        });
    }

    /// Ends all connections once their streams have ended, and waits for that. Whoever wants to
    /// wait no longer than so long drops the future and then the pool.
    pub async fn drain(&self) {
        self.retire_where(|_| true);
        let mut drivers = std::mem::take(&mut *self.shared.drivers.borrow_mut());
        while drivers.join_next().await.is_some() {}
    }
}

async fn drive<IO: Transport>(mut driver: Driver<IO>) -> Result<(), Error> {
    poll_fn(|cx| driver.poll(cx)).await
}

/// Whether a stream that failed before its answer may be sent again: the peer says that it has
/// not processed it, or a connection that had been idle in the pool was dead already.
fn is_untouched(error: &Error, fresh: bool) -> bool {
    match error {
        Error::PeerGoAway(_) => true,
        Error::PeerReset(code) => *code == code::REFUSED_STREAM,
        Error::PeerClosed | Error::Transport(_) => !fresh,
        _ => false,
    }
}
