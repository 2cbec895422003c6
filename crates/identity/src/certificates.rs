//! The certificates of the workloads on this node: asked for once per identity however many
//! wait, the urgent first, renewed at half of their life, kept while renewal fails, forgotten
//! with the last workload. [`Certificates`] is the handle; [`CertificatesWorker`] does the work
//! on the runtime that its owner chooses.

mod dump;
mod queue;
mod slot;
mod worker;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ambit_model::Identity;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

pub use dump::{CertificateDump, CertificateExpiry, ChainElementDump};
pub use worker::CertificatesWorker;

use crate::ca_client::CaClient;
use crate::certificate::WorkloadCertificate;
use crate::error::{CaError, FetchError};
use crate::limits::MAX_IDENTITIES;
use crate::tls::Tls;
use queue::{Queue, Start};
use slot::Slot;

/// How urgent a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A connection waits for it.
    RealTime,
    /// A workload that is new on the node will want it.
    Warmup,
    /// Renewal.
    Background,
}

/// What an operator can choose.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long certificates shall be valid (`SECRET_TTL`).
    pub ttl: Duration,
    /// Requests to the authority at a time.
    pub parallel_requests: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(24 * 3600),
            parallel_requests: 8,
        }
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Certificates received and accepted.
    pub issued: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Wishes turned down because there are too many identities.
    pub turned_down: u64,
}

/// Handle to the certificates of this node. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Certificates {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    ca: Arc<dyn CaClient>,
    tls: Arc<Tls>,
    slots: RwLock<HashMap<Identity, Arc<Slot>>>,
    queue: Mutex<Queue>,
    /// Something was put in the queue.
    wake: Notify,
    /// The worker has ended: nothing will be fetched any more.
    stopped: AtomicBool,
    next_slot: AtomicU64,
    issued: AtomicU64,
    failed: AtomicU64,
    turned_down: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// The handle, and the worker that must be run for anything to happen.
    pub fn new(
        settings: Settings,
        ca: Arc<dyn CaClient>,
        tls: Arc<Tls>,
    ) -> (Self, CertificatesWorker) {
        let shared = Arc::new(Shared {
            settings,
            ca,
            tls,
            slots: RwLock::default(),
            queue: Mutex::default(),
            wake: Notify::new(),
            stopped: AtomicBool::new(false),
            next_slot: AtomicU64::new(0),
            issued: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            turned_down: AtomicU64::new(0),
        });
        (
            Self {
                shared: Arc::clone(&shared),
            },
            CertificatesWorker::new(shared),
        )
    }

    /// The certificate, if there is a valid one: for the path of every connection.
    #[must_use]
    pub fn cached(&self, identity: &Identity) -> Option<Arc<WorkloadCertificate>> {
        let slot = self.shared.slots.read().get(identity).map(Arc::clone)?;
        slot.touch();
        slot.valid(self.shared.now())
    }

    /// The certificate, waited for if need be: for one attempt at most, which others share. The
    /// caller bounds the wait further if it wants to.
    pub async fn fetch(
        &self,
        identity: &Identity,
        priority: Priority,
    ) -> Result<Arc<WorkloadCertificate>, FetchError> {
        let slot = self.shared.slot(identity)?;
        slot.touch();
        let mut state = slot.subscribe();
        if let Some(certificate) = slot.valid(self.shared.now()) {
            return Ok(certificate);
        }
        let start = self.shared.start(&slot, priority);
        if self.shared.stopped.load(Ordering::Acquire) {
            slot.fail(Arc::new(stopping()));
        } else if start != Start::TooSoon && state.changed().await.is_err() {
            return Err(FetchError::Forgotten(identity.clone()));
        }
        slot.outcome(self.shared.now())
    }

    /// Asks for a certificate that a workload of this node will want, without waiting, and keeps
    /// it renewed until [`Self::forget`].
    pub fn request(&self, identity: &Identity, priority: Priority) {
        let Ok(slot) = self.shared.slot(identity) else {
            return;
        };
        slot.pin();
        if slot.valid(self.shared.now()).is_none() {
            self.shared.start(&slot, priority);
        }
    }

    /// Drops the certificate: the last workload with this identity left.
    pub fn forget(&self, identity: &Identity) {
        let slot = self.shared.slots.write().remove(identity);
        if let Some(slot) = slot {
            self.shared.queue.lock().remove(slot.id);
            slot.close();
        }
    }

    /// What TLS configurations are made with, the trusted roots among it.
    #[must_use]
    pub fn tls(&self) -> &Arc<Tls> {
        &self.shared.tls
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            issued: self.shared.issued.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
            turned_down: self.shared.turned_down.load(Ordering::Relaxed),
        }
    }

    /// All identities and their certificates, for the administrator.
    #[must_use]
    pub fn dump(&self) -> Vec<CertificateDump> {
        let roots = self.shared.tls.trust().roots();
        self.shared
            .sorted()
            .iter()
            .map(|slot| slot.dump(roots.certificates()))
            .collect()
    }

    /// The dates of all certificates there are, for gauges.
    #[must_use]
    pub fn expiries(&self) -> Vec<CertificateExpiry> {
        self.shared
            .sorted()
            .iter()
            .filter_map(|slot| slot.expiry())
            .collect()
    }
}

impl Shared {
    fn now(&self) -> SystemTime {
        self.tls.clock().now()
    }

    /// Finds or makes the identity's slot.
    fn slot(&self, identity: &Identity) -> Result<Arc<Slot>, FetchError> {
        if let Some(slot) = self.slots.read().get(identity) {
            return Ok(Arc::clone(slot));
        }
        let mut slots = self.slots.write();
        let full = slots.len() >= MAX_IDENTITIES;
        match slots.entry(identity.clone()) {
            Entry::Occupied(found) => Ok(Arc::clone(found.get())),
            Entry::Vacant(_) if full => {
                self.turned_down.fetch_add(1, Ordering::Relaxed);
                Err(FetchError::TooMany(identity.clone()))
            }
            Entry::Vacant(place) => {
                let id = self.next_slot.fetch_add(1, Ordering::Relaxed);
                Ok(Arc::clone(
                    place.insert(Arc::new(Slot::new(id, identity.clone()))),
                ))
            }
        }
    }

    /// Whether the slot is the one that counts for its identity (it may have been forgotten).
    fn current(&self, slot: &Arc<Slot>) -> bool {
        self.slots
            .read()
            .get(&slot.identity)
            .is_some_and(|current| Arc::ptr_eq(current, slot))
    }

    fn start(&self, slot: &Arc<Slot>, priority: Priority) -> Start {
        let start = self.queue.lock().push(slot, priority, Instant::now());
        if start == Start::Queued {
            self.wake.notify_one();
        }
        start
    }

    /// Tells those who wait that nothing will come. Set first and told after: who comes in
    /// between sees it.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let error = Arc::new(stopping());
        for slot in self.slots.read().values() {
            slot.fail(Arc::clone(&error));
        }
    }

    fn sorted(&self) -> Vec<Arc<Slot>> {
        let mut slots: Vec<_> = self.slots.read().values().map(Arc::clone).collect();
        slots.sort_by(|a, b| a.identity.cmp(&b.identity));
        slots
    }
}

fn stopping() -> CaError {
    CaError::Unreachable("the agent is shutting down".into())
}
