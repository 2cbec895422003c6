//! One identity's place in the cache: its certificate, or why there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use ambit_model::Identity;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::certificate::WorkloadCertificate;
use crate::error::{CaError, FetchError};

/// What is known about an identity's certificate.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Nothing yet.
    Pending,
    /// A certificate, and why its renewal failed if it did.
    Ready(Arc<WorkloadCertificate>, Option<Arc<CaError>>),
    /// No certificate.
    Failed(Arc<CaError>),
}

/// One identity's place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) identity: Identity,
    /// Emptied by [`Self::close`], which wakes those who wait.
    state: Mutex<Option<watch::Sender<State>>>,
    /// A workload is here; otherwise a certificate is renewed only if it was used.
    pinned: AtomicBool,
    used: AtomicBool,
}

impl Slot {
    pub(super) fn new(id: u64, identity: Identity) -> Self {
        Self {
            id,
            identity,
            state: Mutex::new(Some(watch::Sender::new(State::Pending))),
            pinned: AtomicBool::new(false),
            used: AtomicBool::new(false),
        }
    }

    pub(super) fn pin(&self) {
        self.pinned.store(true, Ordering::Relaxed);
    }

    pub(super) fn touch(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether a renewal is worth while; starts a new period of observation.
    pub(super) fn wanted(&self) -> bool {
        let used = self.used.swap(false, Ordering::Relaxed);
        used || self.pinned.load(Ordering::Relaxed)
    }

    /// Follows the state; closed at once if the slot is.
    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        match &*self.state.lock() {
            Some(state) => state.subscribe(),
            None => watch::Sender::new(State::Pending).subscribe(),
        }
    }

    pub(super) fn state(&self) -> Option<State> {
        self.state
            .lock()
            .as_ref()
            .map(|state| state.borrow().clone())
    }

    pub(super) fn valid(&self, now: SystemTime) -> Option<Arc<WorkloadCertificate>> {
        match &*self.state.lock().as_ref()?.borrow() {
            State::Ready(certificate, _) if now < certificate.not_after() => {
                Some(Arc::clone(certificate))
            }
            _ => None,
        }
    }

    /// What a waiting connection is told when an attempt has ended.
    pub(super) fn outcome(&self, now: SystemTime) -> Result<Arc<WorkloadCertificate>, FetchError> {
        let identity = self.identity.clone();
        match self.state() {
            Some(State::Ready(certificate, _)) if now < certificate.not_after() => Ok(certificate),
            Some(State::Ready(certificate, source)) => Err(FetchError::Expired {
                identity,
                not_after: certificate.not_after(),
                source,
            }),
            Some(State::Failed(source)) => Err(FetchError::Unavailable { identity, source }),
            Some(State::Pending) | None => Err(FetchError::Forgotten(identity)),
        }
    }

    pub(super) fn succeed(&self, certificate: Arc<WorkloadCertificate>) {
        self.update(|_| State::Ready(certificate, None));
    }

    /// Keeps the certificate there is.
    pub(super) fn fail(&self, error: Arc<CaError>) {
        self.update(|state| match state {
            State::Ready(certificate, _) => State::Ready(Arc::clone(certificate), Some(error)),
            State::Pending | State::Failed(_) => State::Failed(error),
        });
    }

    pub(super) fn close(&self) {
        self.state.lock().take();
    }

    fn update(&self, change: impl FnOnce(&State) -> State) {
        if let Some(state) = &*self.state.lock() {
            state.send_modify(|state| *state = change(state));
        }
    }
}
