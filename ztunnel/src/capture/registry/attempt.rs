//! Starting and stopping one pod, in the order that never lets a connection by: listeners first,
//! then capture; the other way round at the end.

use std::path::Path;
use std::sync::Arc;

use ambit_model::PodUid;
use ambit_net::Netns;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Enrolled, EnrolmentError, Entry, NetnsSource, Registry, State};
use crate::capture::limits::{AUDIT, RETRY, START_TIMEOUT};
use crate::capture::locate::{self, LocateError};
use crate::capture::{
    Backoff, Interception, OutcomeState, PodRuntime, PodSpec, StartError, StartedPod, StopReason,
    addresses,
};

impl<R: PodRuntime, I: Interception> Registry<R, I> {
    pub(super) async fn attempt(&mut self, uid: &PodUid) -> Result<(), EnrolmentError> {
        let Some(entry) = self.pods.get(uid) else {
            return Ok(());
        };
        let enrolled = entry.enrolled.clone();
        let result = self.start(&enrolled).await;
        let Some(entry) = self.pods.get_mut(uid) else {
            return Ok(());
        };
        match result {
            Ok((spec, started)) => {
                info!(pod = %uid, name = %enrolled.info.name, namespace = %enrolled.info.namespace,
                    netns = spec.netns.inode().number, "captured");
                entry.state = State::Active { spec, started };
                if let Some(metrics) = &self.metrics {
                    metrics.pods.started.inc();
                }
                self.report(uid, OutcomeState::Captured);
                Ok(())
            }
            Err(error) => {
                let reason = error.reason();
                warn!(pod = %uid, name = %enrolled.info.name, namespace = %enrolled.info.namespace,
                    reason, "not captured yet");
                if let State::Pending { retry_at, backoff } = &mut entry.state {
                    *retry_at = Instant::now() + backoff.pause();
                }
                self.report(uid, OutcomeState::Pending(reason));
                Err(error)
            }
        }
    }

    async fn start(
        &mut self,
        enrolled: &Enrolled,
    ) -> Result<(Arc<PodSpec>, StartedPod), EnrolmentError> {
        let netns = self.locate(enrolled).await?;
        self.evict_other_holder(&enrolled.uid, &netns).await;
        let mut addresses = enrolled.addresses.clone();
        if addresses.is_empty() {
            addresses = addresses::addresses_of(&netns).map_err(EnrolmentError::Addresses)?;
        }
        if addresses.is_empty() && self.interception.needs_addresses() {
            return Err(EnrolmentError::NoAddress);
        }
        let spec = Arc::new(PodSpec {
            uid: enrolled.uid.clone(),
            info: enrolled.info.clone(),
            netns,
            addresses,
            dns: enrolled.dns,
        });
        let start = self.runtime.start(Arc::clone(&spec));
        let started = match tokio::time::timeout(START_TIMEOUT, start).await {
            Ok(Ok(started)) => started,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                self.runtime.stop(&spec.uid, StopReason::Failed).await;
                return Err(StartError::Timeout.into());
            }
        };
        if let Err(error) = self.interception.attach(&spec, &spec.addresses, &started) {
            self.runtime.stop(&spec.uid, StopReason::Failed).await;
            return Err(error.into());
        }
        Ok((spec, started))
    }

    async fn locate(&self, enrolled: &Enrolled) -> Result<Netns, LocateError> {
        match &enrolled.netns {
            NetnsSource::Given(netns) => Ok(netns.clone()),
            NetnsSource::Path(path) => locate_at(path, enrolled),
            NetnsSource::Processes => {
                let (proc, uid) = (self.proc.clone(), enrolled.uid.clone());
                let addresses = enrolled.addresses.clone();
                let failed = |source| LocateError::Processes {
                    proc: self.proc.clone(),
                    source,
                };
                // Reading the process file system of a full node takes a while.
                tokio::task::spawn_blocking(move || locate::by_processes(&proc, &uid, &addresses))
                    .await
                    .map_err(|error| failed(std::io::Error::other(error)))?
            }
        }
    }

    /// Two pods never share a namespace: each would get connections in the other's name. The
    /// newer word counts, as an old pod's removal may be late.
    async fn evict_other_holder(&mut self, uid: &PodUid, netns: &Netns) {
        let holder = self
            .pods
            .iter()
            .find_map(|(other, entry)| match &entry.state {
                State::Active { spec, .. } if other != uid && spec.netns == *netns => {
                    Some(other.clone())
                }
                _ => None,
            });
        if let Some(holder) = holder {
            warn!(pod = %uid, %holder, "the pod's network namespace was another pod's, which is dropped");
            self.remove(&holder).await;
        }
    }

    /// Ends capture, then the listeners. The entry stays, pending.
    pub(super) async fn stop(&mut self, uid: &PodUid, reason: StopReason) {
        let Some(entry) = self.pods.get_mut(uid) else {
            return;
        };
        let pending = State::Pending {
            retry_at: Instant::now(),
            backoff: Backoff::new(RETRY),
        };
        let State::Active { spec, started } = std::mem::replace(&mut entry.state, pending) else {
            return;
        };
        if let Err(error) = self.interception.detach(spec.netns.cookie()) {
            warn!(pod = %uid, %error, "cannot end the capture of the pod");
        }
        self.runtime.stop(uid, reason).await;
        drop(started);
        if let Some(metrics) = &self.metrics {
            metrics.pods.stopped.inc();
        }
        if reason == StopReason::Removed {
            info!(pod = %uid, "released");
        }
    }

    /// Looks whether pods found by path or process are still where they were, because a pod's
    /// sandbox may be made anew under the same uid. Those that are not are started again. Finding
    /// a pod's processes means looking at every process of the node, so that is done for one pod a
    /// time; mostly a new sandbox has a new address, which the controller tells.
    pub async fn audit(&mut self) {
        let processes = |entry: &Entry| entry.enrolled.netns == NetnsSource::Processes;
        let next = self
            .pods
            .iter()
            .filter(|(_, entry)| processes(entry))
            .map(|(uid, _)| uid)
            .find(|uid| self.audited.as_ref().is_none_or(|last| *uid > last))
            .cloned();
        let mut moved = Vec::new();
        for (uid, entry) in &self.pods {
            let State::Active { spec, .. } = &entry.state else {
                continue;
            };
            let due = match &entry.enrolled.netns {
                NetnsSource::Given(_) => false,
                NetnsSource::Path(_) => true,
                NetnsSource::Processes => next.as_ref() == Some(uid),
            };
            // Not found is no reason to end anything: the pod may be ending, and will be removed.
            if due
                && self
                    .locate(&entry.enrolled)
                    .await
                    .is_ok_and(|now| now != spec.netns)
            {
                moved.push(uid.clone());
            }
        }
        self.audited = next;
        for uid in moved {
            info!(pod = %uid, "the pod has a new network namespace");
            self.stop(&uid, StopReason::Replaced).await;
            drop(self.attempt(&uid).await);
        }
    }

    /// How often [`audit`](Self::audit) is worth its cost.
    #[must_use]
    pub fn audit_interval() -> std::time::Duration {
        AUDIT
    }
}

fn locate_at(path: &Path, enrolled: &Enrolled) -> Result<Netns, LocateError> {
    locate::at_path(path, &enrolled.addresses)
}
