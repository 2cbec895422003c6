//! The one owner of what is enrolled: turns "this pod is in the mesh" into open listeners and
//! active capture, retries what fails, and forgets what is no longer listed. Knows nothing of who
//! told it; acknowledging is the caller's, with what the registry answered.

mod attempt;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::PodUid;
use ambit_net::Netns;
use ambit_telemetry::Metrics;
use tokio::time::Instant;
use tracing::{info, warn};

use super::limits::{MAX_PODS, REASON, RETRY};
use super::locate::LocateError;
use super::{
    Backoff, Interception, InterceptionError, Outcome, OutcomeState, PodInfo, PodRuntime, PodSpec,
    PodStatus, StartError, StartedPod, Statuses, StopReason,
};

/// Where a pod's network namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsSource {
    /// Handed over as a descriptor.
    Given(Netns),
    /// Bound at a path.
    Path(PathBuf),
    /// That of the pod's processes.
    Processes,
}

/// A pod that is to be in the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Kubernetes uid.
    pub uid: PodUid,
    /// Whose pod it is.
    pub info: PodInfo,
    /// Its addresses; empty where unknown.
    pub addresses: Vec<IpAddr>,
    /// Steer its DNS queries to the agent.
    pub dns: bool,
    /// Where its network namespace is.
    pub netns: NetnsSource,
}

/// Why a pod is not captured.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Its network namespace was not found.
    #[error("cannot find the pod's network namespace")]
    Locate(#[from] LocateError),
    /// It has no address yet.
    #[error("the pod has no address yet")]
    NoAddress,
    /// Its addresses cannot be read.
    #[error("cannot read the pod's addresses")]
    Addresses(#[source] std::io::Error),
    /// Its listeners could not be opened.
    #[error("cannot serve the pod")]
    Start(#[from] StartError),
    /// Its connections could not be captured.
    #[error("cannot capture the pod")]
    Capture(#[from] InterceptionError),
    /// To be kept, but never added: there is no namespace to keep.
    #[error("the pod to keep is not known")]
    Unknown,
    /// Too many pods.
    #[error("more than {MAX_PODS} pods on one node")]
    TooMany,
    /// A pod may only be kept before the snapshot is complete.
    #[error("keep is only understood before the snapshot is complete")]
    KeepAfterSnapshot,
}

impl EnrolmentError {
    /// The whole chain in one line, bounded.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text.chars().take(REASON).collect()
    }
}

struct Entry {
    enrolled: Enrolled,
    state: State,
}

enum State {
    Active {
        spec: Arc<PodSpec>,
        started: StartedPod,
    },
    Pending {
        retry_at: Instant,
        backoff: Backoff,
    },
}

/// See the module.
pub struct Registry<R, I> {
    runtime: R,
    interception: I,
    proc: PathBuf,
    metrics: Option<Arc<Metrics>>,
    statuses: Statuses,
    pods: BTreeMap<PodUid, Entry>,
    /// Pods listed in the snapshot under way; `None` after it.
    listed: Option<BTreeSet<PodUid>>,
    synced: bool,
    /// The pod whose processes were looked at last.
    audited: Option<PodUid>,
    news: Vec<Outcome>,
}

impl<R: PodRuntime, I: Interception> Registry<R, I> {
    /// An empty registry. `proc` is the host's process file system.
    pub fn new(
        runtime: R,
        interception: I,
        proc: PathBuf,
        statuses: Statuses,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        Self {
            runtime,
            interception,
            proc,
            metrics,
            statuses,
            pods: BTreeMap::new(),
            listed: None,
            synced: false,
            audited: None,
            news: Vec::new(),
        }
    }

    /// A new connection: what it does not list until [`snapshot_complete`](Self::snapshot_complete)
    /// is no longer enrolled. Until then everything stays as it is.
    pub fn begin_snapshot(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// Enrols a pod, or brings it up to date. `Ok` means that it is captured. A pod that could not
    /// be captured is tried again by [`attempt_due`](Self::attempt_due).
    ///
    /// # Errors
    /// Why it is not captured yet.
    pub async fn add(&mut self, enrolled: Enrolled) -> Result<(), EnrolmentError> {
        let uid = enrolled.uid.clone();
        if !self.pods.contains_key(&uid) && self.pods.len() >= MAX_PODS {
            return Err(EnrolmentError::TooMany);
        }
        if let Some(listed) = &mut self.listed {
            listed.insert(uid.clone());
        }
        if self.is_current(&enrolled) {
            self.report(&uid, OutcomeState::Captured);
            return Ok(());
        }
        if self.pods.contains_key(&uid) {
            info!(pod = %uid, "the pod has changed: its proxy is replaced");
            self.stop(&uid, StopReason::Replaced).await;
        }
        let state = State::Pending {
            retry_at: Instant::now(),
            backoff: Backoff::new(RETRY),
        };
        self.pods.insert(uid.clone(), Entry { enrolled, state });
        self.attempt(&uid).await
    }

    /// Keeps a pod of an earlier connection as it is.
    ///
    /// # Errors
    /// When there is nothing to keep, or no snapshot under way.
    pub fn keep(&mut self, uid: &PodUid) -> Result<(), EnrolmentError> {
        let listed = self
            .listed
            .as_mut()
            .ok_or(EnrolmentError::KeepAfterSnapshot)?;
        if !self.pods.contains_key(uid) {
            return Err(EnrolmentError::Unknown);
        }
        listed.insert(uid.clone());
        Ok(())
    }

    /// Ends a pod's enrolment; no error when there was none.
    pub async fn remove(&mut self, uid: &PodUid) {
        if let Some(listed) = &mut self.listed {
            listed.remove(uid);
        }
        if self.pods.contains_key(uid) {
            self.stop(uid, StopReason::Removed).await;
            self.pods.remove(uid);
            self.statuses.remove(uid);
        }
        self.news.push(Outcome {
            uid: uid.clone(),
            state: OutcomeState::Released,
        });
        self.settle();
    }

    /// Tells why a pod that was not even understood is not captured. One that was captured before
    /// under the same uid stays listed as it was.
    pub fn refuse(&mut self, uid: PodUid, reason: String) {
        if let Some(listed) = &mut self.listed {
            listed.insert(uid.clone());
        }
        let reason = reason.chars().take(REASON).collect();
        self.news.push(Outcome {
            uid,
            state: OutcomeState::Pending(reason),
        });
    }

    /// The snapshot is complete: pods it did not list leave, and what an earlier agent captured
    /// and nobody lists any more is released.
    pub async fn snapshot_complete(&mut self) {
        let Some(listed) = self.listed.take() else {
            return;
        };
        let gone: Vec<_> = self
            .pods
            .keys()
            .filter(|uid| !listed.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            info!(pod = %uid, "the pod is no longer listed");
            self.remove(&uid).await;
        }
        self.release_leftovers();
        if !self.synced {
            info!(pods = self.pods.len(), "enrolment snapshot complete");
        }
        self.synced = true;
        self.settle();
    }

    /// A pending pod may still be captured, by an earlier agent: it stays so (refusing
    /// connections, never letting them out in clear) until it is served again. Only with a pod
    /// whose namespace is not found yet can it not be told apart from a leftover.
    fn release_leftovers(&self) {
        let pending_unlocated = self.pods.values().any(|entry| {
            matches!(entry.state, State::Pending { .. })
                && !matches!(entry.enrolled.netns, NetnsSource::Given(_))
        });
        if pending_unlocated {
            return;
        }
        let keep: Vec<u64> = self
            .pods
            .values()
            .filter_map(|entry| match (&entry.state, &entry.enrolled.netns) {
                (State::Active { spec, .. }, _) => Some(spec.netns.cookie()),
                (State::Pending { .. }, NetnsSource::Given(netns)) => Some(netns.cookie()),
                (State::Pending { .. }, _) => None,
            })
            .collect();
        match self.interception.detach_others(&keep) {
            Ok(0) => {}
            Ok(count) => info!(count, "released pods that an earlier agent had captured"),
            Err(error) => warn!(%error, "cannot release what an earlier agent captured"),
        }
    }

    /// When a pending pod is to be tried next.
    #[must_use]
    pub fn next_attempt(&self) -> Option<Instant> {
        self.pods
            .values()
            .filter_map(|entry| match &entry.state {
                State::Pending { retry_at, .. } => Some(*retry_at),
                State::Active { .. } => None,
            })
            .min()
    }

    /// Sleeps until a pending pod is to be tried; for ever while there is none. May be dropped.
    pub async fn until_next_attempt(&self) {
        match self.next_attempt() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Tries the pending pods whose time has come.
    pub async fn attempt_due(&mut self) {
        let now = Instant::now();
        let due: Vec<PodUid> = self
            .pods
            .iter()
            .filter(|(_, entry)| {
                matches!(&entry.state, State::Pending { retry_at, .. } if *retry_at <= now)
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        let before = due.len();
        for uid in due {
            // The outcome is reported and kept in the entry; there is nobody else to tell.
            drop(self.attempt(&uid).await);
        }
        if before > 0 && self.synced && self.listed.is_none() && self.next_attempt().is_none() {
            self.release_leftovers();
        }
    }

    /// Lets pending pods be tried while waiting, for so long.
    pub async fn tend(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(at) = self.next_attempt().filter(|at| *at < end) {
            tokio::time::sleep_until(at).await;
            self.attempt_due().await;
        }
        tokio::time::sleep_until(end).await;
    }

    /// What happened since the last call, oldest first.
    pub fn take_news(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.news)
    }

    /// How many pods there are, captured and pending.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let active = self
            .pods
            .values()
            .filter(|e| matches!(e.state, State::Active { .. }))
            .count();
        (active, self.pods.len() - active)
    }

    fn is_current(&self, enrolled: &Enrolled) -> bool {
        self.pods.get(&enrolled.uid).is_some_and(|entry| {
            matches!(entry.state, State::Active { .. }) && entry.enrolled == *enrolled
        })
    }

    fn report(&mut self, uid: &PodUid, state: OutcomeState) {
        let Some(entry) = self.pods.get(uid) else {
            return;
        };
        let spec = match &entry.state {
            State::Active { spec, .. } => Some(spec),
            State::Pending { .. } => None,
        };
        let status = PodStatus {
            info: entry.enrolled.info.clone(),
            addresses: spec
                .map_or(&entry.enrolled.addresses, |spec| &spec.addresses)
                .clone(),
            netns: spec.map(|spec| spec.netns.inode().number),
            state: state.clone(),
        };
        self.statuses.set(uid.clone(), status);
        self.news.push(Outcome {
            uid: uid.clone(),
            state,
        });
        self.settle();
    }

    fn settle(&self) {
        let (active, pending) = self.counts();
        self.statuses.set_complete(self.synced && pending == 0);
        if let Some(metrics) = &self.metrics {
            metrics
                .pods
                .active
                .set(i64::try_from(active).unwrap_or(i64::MAX));
            metrics
                .pods
                .pending
                .set(i64::try_from(pending).unwrap_or(i64::MAX));
        }
    }
}
