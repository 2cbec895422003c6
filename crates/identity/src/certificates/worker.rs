//! Takes identities from the queue, asks the authority for a few at a time, and says when each
//! is due again.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::slot::{Slot, State};
use super::{Priority, Shared};
use crate::ca_client::SignRequest;
use crate::certificate::WorkloadCertificate;
use crate::csr::CertificateRequest;
use crate::error::CaError;
use crate::limits::CLOCK_RECHECK;

/// Does the work behind [`super::Certificates`].
#[derive(Debug)]
#[must_use = "nothing is fetched unless the worker runs"]
pub struct CertificatesWorker {
    shared: Arc<Shared>,
}

type Outcome = (Arc<Slot>, Result<WorkloadCertificate, CaError>);

impl CertificatesWorker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Works until `shutdown`, then abandons what is under way.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut running: JoinSet<Outcome> = JoinSet::new();
        loop {
            self.take_due();
            self.start_ready(&mut running);
            let due = self.shared.queue.lock().next_due();
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = running.join_next() => match ended {
                    Ok((slot, result)) => self.finish(&slot, result),
                    Err(error) => tracing::error!(%error, "a certificate request panicked"),
                },
                () = self.shared.wake.notified() => {}
                () = timer => {}
            }
        }
        running.shutdown().await;
    }

    fn start_ready(&self, running: &mut JoinSet<Outcome>) {
        while running.len() < self.shared.settings.parallel_requests {
            let Some(slot) = self.shared.queue.lock().pop() else {
                break;
            };
            let shared = Arc::clone(&self.shared);
            running.spawn(async move {
                let result = obtain(&shared, &slot).await;
                (slot, result)
            });
        }
    }

    /// Puts what is due in line, but renews only by the wall clock and only what is wanted.
    fn take_due(&self) {
        loop {
            let Some((slot, priority)) = self.shared.queue.lock().take_due(Instant::now()) else {
                break;
            };
            if priority == Priority::Background && self.put_off(&slot) {
                continue;
            }
            self.shared.queue.lock().enqueue(&slot, priority);
        }
    }

    /// Whether a renewal that is due is not to be made now: too early, or not wanted any more.
    fn put_off(&self, slot: &Arc<Slot>) -> bool {
        let Some(State::Ready(certificate, failure)) = slot.state() else {
            return false;
        };
        if failure.is_none() && self.shared.now() < certificate.half_life() - early(&certificate) {
            self.arm_renewal(slot, &certificate);
            return true;
        }
        if slot.wanted() {
            return false;
        }
        tracing::debug!(identity = %slot.identity, "certificate not used any more: not renewed");
        self.shared.slots.write().remove(&slot.identity);
        self.shared.queue.lock().remove(slot.id);
        slot.close();
        true
    }

    fn finish(&self, slot: &Arc<Slot>, result: Result<WorkloadCertificate, CaError>) {
        if !self.shared.current(slot) {
            self.shared.queue.lock().abandoned(slot.id);
            return;
        }
        match result {
            Ok(certificate) => {
                self.shared.issued.fetch_add(1, Ordering::Relaxed);
                let certificate = Arc::new(certificate);
                tracing::debug!(identity = %slot.identity, "certificate received");
                self.shared.queue.lock().succeeded(slot);
                self.arm_renewal(slot, &certificate);
                slot.succeed(certificate);
            }
            Err(error) => {
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
                let now = Instant::now();
                let kept = slot.valid(self.shared.now()).is_some();
                let mut queue = self.shared.queue.lock();
                let wait = queue.failed(slot, error.is_unreachable(), now);
                let priority = if kept {
                    Priority::Background
                } else {
                    Priority::Warmup
                };
                queue.arm(slot, priority, now + wait);
                drop(queue);
                tracing::warn!(%error, retry_in = ?wait, old_certificate_kept = kept, "no certificate");
                slot.fail(Arc::new(error));
            }
        }
    }

    /// Looks again when half of the life is over by the wall clock, or in a minute, whatever
    /// comes first: the wall clock may be set.
    fn arm_renewal(&self, slot: &Arc<Slot>, certificate: &WorkloadCertificate) {
        let at = certificate.half_life() - jitter(certificate);
        let wait = at.duration_since(self.shared.now()).unwrap_or_default();
        let wait = wait.clamp(Duration::from_secs(1), CLOCK_RECHECK);
        self.shared
            .queue
            .lock()
            .arm(slot, Priority::Background, Instant::now() + wait);
    }
}

/// How much before its half life a certificate may be renewed, so that those that were issued
/// together are not renewed together: a tenth of its life.
fn early(certificate: &WorkloadCertificate) -> Duration {
    let life = certificate
        .not_after()
        .duration_since(certificate.not_before());
    life.unwrap_or_default() / 10
}

fn jitter(certificate: &WorkloadCertificate) -> Duration {
    early(certificate).mul_f64(rand::rng().random_range(0.0..1.0))
}

async fn obtain(shared: &Shared, slot: &Slot) -> Result<WorkloadCertificate, CaError> {
    let request = CertificateRequest::new(&slot.identity)?;
    let signed = shared
        .ca
        .sign(SignRequest {
            identity: slot.identity.clone(),
            csr_pem: request.pem().to_owned(),
            ttl: shared.settings.ttl,
        })
        .await?;
    let (certificate, roots) =
        WorkloadCertificate::accept(&slot.identity, request, signed, &shared.tls)?;
    if shared.tls.trust().set_roots(roots) {
        tracing::info!("trusted roots changed");
    }
    Ok(certificate)
}
