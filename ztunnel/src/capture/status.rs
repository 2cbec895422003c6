//! What became of each pod: told to whoever enrolled it, and shown by the admin server.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::PodUid;
use parking_lot::RwLock;
use serde::Serialize;
use tokio::sync::watch;

use super::PodInfo;

/// The state of a pod's capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum OutcomeState {
    /// Capture and listeners are active.
    Captured,
    /// Capture was removed.
    Released,
    /// Not captured yet, and why; it is tried again.
    Pending(String),
}

/// News of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The pod.
    pub uid: PodUid,
    /// What became of it.
    pub state: OutcomeState,
}

/// A pod as the admin server shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Whose pod it is.
    pub info: PodInfo,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The inode of its network namespace, where it was found.
    pub netns: Option<u64>,
    /// Its state.
    pub state: OutcomeState,
}

/// Every pod's status, and whether enrolment is complete. Written by the registry only.
#[derive(Clone, Debug)]
pub struct Statuses {
    pods: Arc<RwLock<BTreeMap<PodUid, PodStatus>>>,
    complete: watch::Sender<bool>,
}

impl Default for Statuses {
    fn default() -> Self {
        Self {
            pods: Arc::default(),
            complete: watch::Sender::new(false),
        }
    }
}

impl Statuses {
    /// A copy for display.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<PodUid, PodStatus> {
        self.pods.read().clone()
    }

    /// Whether the snapshot is in and no pod is pending: what readiness waits for.
    #[must_use]
    pub fn complete(&self) -> watch::Receiver<bool> {
        self.complete.subscribe()
    }

    pub(super) fn set(&self, uid: PodUid, status: PodStatus) {
        self.pods.write().insert(uid, status);
    }

    pub(super) fn remove(&self, uid: &PodUid) {
        self.pods.write().remove(uid);
    }

    pub(super) fn set_complete(&self, complete: bool) {
        self.complete
            .send_if_modified(|was| std::mem::replace(was, complete) != complete);
    }
}
