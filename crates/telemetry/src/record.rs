//! What the data path reports of a connection: who, where, how many bytes, how it ended.
//! Knows nothing of metrics or log formats; making and finishing a record costs a few stores
//! and one queue entry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ambit_model::{Hostname, Identity, Service, Workload};

use crate::labels::{Reporter, ResponseFlag, Security};
use crate::limits;
use crate::recorder::{Event, WorkerRecorder};

/// One side of a connection, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Party {
    /// From discovery.
    pub workload: Option<Arc<Workload>>,
    /// What the peer's baggage says, for workloads discovery does not know.
    pub declared: Option<Arc<Declared>>,
    /// Proven by mutual TLS, or held by us.
    pub identity: Option<Arc<Identity>>,
}

/// Attributes a peer declares of a workload. Empty means unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Declared {
    /// Name of the owner.
    pub workload: Box<str>,
    /// Namespace.
    pub namespace: Box<str>,
    /// Cluster.
    pub cluster: Box<str>,
    /// Canonical service.
    pub canonical_service: Box<str>,
    /// Canonical revision.
    pub canonical_revision: Box<str>,
    /// Region.
    pub region: Box<str>,
    /// Zone.
    pub zone: Box<str>,
}

/// Where a tunnel leads to: what its CONNECT asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelTarget {
    /// An address.
    Address(SocketAddr),
    /// A service's host name and port.
    Hostname(Hostname, u16),
}

impl std::fmt::Display for TunnelTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Hostname(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// What stays the same while a connection lasts.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Our side of it.
    pub reporter: Reporter,
    /// Whether mutual TLS carries it.
    pub security: Security,
    /// Who opened it.
    pub source: Party,
    /// From where.
    pub source_address: SocketAddr,
    /// Who serves it.
    pub destination: Party,
    /// The peer's address: the tunnel's port where there is one.
    pub destination_address: SocketAddr,
    /// What the tunnel's CONNECT asks for.
    pub tunnel: Option<TunnelTarget>,
    /// The service it was addressed to.
    pub service: Option<Arc<Service>>,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Why it did not go well.
    pub flag: ResponseFlag,
    /// What went wrong, for the log.
    pub error: Option<Box<str>>,
    /// We cut it while it was alive.
    pub cut: Option<Cut>,
}

/// Why we cut a live connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// A policy now refuses it.
    Policy,
    /// The drain's deadline passed.
    Drain,
    /// Its workload left the mesh.
    Released,
    /// A certificate was revoked.
    Revoked,
}

impl Cut {
    /// The value in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Drain => "drain",
            Self::Released => "released",
            Self::Revoked => "revoked",
        }
    }
}

impl Outcome {
    /// It ended as its ends wished.
    #[must_use]
    pub const fn complete() -> Self {
        Self {
            flag: ResponseFlag::None,
            error: None,
            cut: None,
        }
    }

    /// It failed. `error` is cut to a bounded length.
    #[must_use]
    pub fn failed(flag: ResponseFlag, error: impl std::fmt::Display) -> Self {
        Self {
            flag,
            error: Some(bounded(error)),
            cut: None,
        }
    }

    /// We cut it.
    #[must_use]
    pub fn cut(flag: ResponseFlag, cut: Cut, error: impl std::fmt::Display) -> Self {
        Self {
            flag,
            error: Some(bounded(error)),
            cut: Some(cut),
        }
    }
}

/// The text of an error, cut to [`limits::ERROR_TEXT`] characters.
fn bounded(error: impl std::fmt::Display) -> Box<str> {
    let mut text = error.to_string();
    if let Some((end, _)) = text.char_indices().nth(limits::ERROR_TEXT) {
        text.truncate(end);
    }
    text.into_boxed_str()
}

/// A connection as the data path and the recorder share it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connection: Connection,
    request: AtomicU64,
    response: AtomicU64,
}

impl Shared {
    /// Bytes sent and received so far, as seen from our side of the tunnel: at the source the
    /// request is what is sent, at the destination the response.
    pub(crate) fn sent_received(&self) -> (u64, u64) {
        let request = self.request.load(Ordering::Relaxed);
        let response = self.response.load(Ordering::Relaxed);
        match self.connection.reporter {
            Reporter::Source => (request, response),
            Reporter::Destination => (response, request),
        }
    }
}

/// Counts the bytes of one connection while it lasts. Written by one thread, read by the recorder
/// at each scrape, so long-lived connections show in the metrics before they end.
#[derive(Clone, Debug)]
pub struct ByteCounter(Arc<Shared>);

impl ByteCounter {
    /// Adds bytes from the client to the server.
    pub fn add_request(&self, bytes: u64) {
        add(&self.0.request, bytes);
    }

    /// Adds bytes from the server to the client.
    pub fn add_response(&self, bytes: u64) {
        add(&self.0.response, bytes);
    }

    /// Bytes (request, response) so far.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (
            self.0.request.load(Ordering::Relaxed),
            self.0.response.load(Ordering::Relaxed),
        )
    }
}

/// Adds without a locked instruction: there is one writer, the connection's own task.
fn add(counter: &AtomicU64, bytes: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(bytes),
        Ordering::Relaxed,
    );
}

/// An open connection's record. Ends with [`ConnectionRecord::finish`].
#[derive(Debug)]
pub struct ConnectionRecord {
    shared: Arc<Shared>,
    queue: WorkerRecorder,
    opened: Instant,
    finished: bool,
}

impl ConnectionRecord {
    pub(crate) fn open(queue: WorkerRecorder, connection: Connection) -> Self {
        let shared = Arc::new(Shared {
            connection,
            request: AtomicU64::new(0),
            response: AtomicU64::new(0),
        });
        queue.send(Event::Opened(Arc::clone(&shared)));
        Self {
            shared,
            queue,
            opened: Instant::now(),
            finished: false,
        }
    }

    /// The connection's byte counter, for its copy loop.
    #[must_use]
    pub fn bytes(&self) -> ByteCounter {
        ByteCounter(Arc::clone(&self.shared))
    }

    /// What the record was opened with.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.shared.connection
    }

    /// Time since it was opened.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Reports the end.
    pub fn finish(mut self, outcome: Outcome) {
        self.finished = true;
        self.queue.send(Event::Closed(Box::new(Exit {
            shared: Arc::clone(&self.shared),
            outcome,
            duration: self.opened.elapsed(),
        })));
    }
}

impl Drop for ConnectionRecord {
    /// Only reports that `finish` was forgotten (a cancelled task), so that the counts stay true.
    fn drop(&mut self) {
        if !self.finished {
            self.queue.send(Event::Forgotten(Arc::clone(&self.shared)));
        }
    }
}

/// The end of a connection on its way to the recorder.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) shared: Arc<Shared>,
    pub(crate) outcome: Outcome,
    pub(crate) duration: Duration,
}

/// A connection that was refused before it counted as open.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) connection: Connection,
    pub(crate) outcome: Outcome,
    pub(crate) duration: Duration,
}

impl Refusal {
    /// Nothing was settled of it yet: neither where it goes, nor who is asking.
    pub(crate) const fn is_early(&self) -> bool {
        match (self.connection.reporter, self.outcome.flag) {
            (_, ResponseFlag::None) => true,
            (Reporter::Source, _)
            | (Reporter::Destination, ResponseFlag::Deny | ResponseFlag::Connect) => false,
            (Reporter::Destination, _) => true,
        }
    }
}
