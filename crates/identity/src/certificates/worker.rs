//! Takes identities from the queue, asks the authority for a few at a time, and says when each
//! is due again.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::queue::Due;
use super::slot::Slot;
use super::{Priority, Shared};
use crate::ca_client::SignRequest;
use crate::certificate::WorkloadCertificate;
use crate::csr::CertificateRequest;
use crate::error::CaError;
use crate::limits::CLOCK_RECHECK;

/// An authority whose certificates are past their half life when they arrive is not asked in a
/// tight loop.
const MIN_RENEWAL_WAIT: Duration = Duration::from_secs(1);

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

    /// Works until `shutdown`, then abandons what is under way and tells those who wait. The
    /// certificates that are there stay usable.
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
        self.shared.stop();
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
            let taken = self.shared.queue.lock().take_due(Instant::now());
            let Some((slot, due)) = taken else { break };
            match due {
                Due::Renewal(at) if self.shared.now() < at => self.arm_renewal(&slot, at),
                _ if due.priority() == Priority::Background && !slot.wanted() => {
                    self.drop_slot(&slot)
                }
                _ => self.shared.queue.lock().enqueue(&slot, due.priority()),
            }
        }
    }

    /// Drops a certificate that no workload is known for and no connection asked for.
    fn drop_slot(&self, slot: &Arc<Slot>) {
        tracing::debug!(identity = %slot.identity, "certificate not used any more: not renewed");
        if self.shared.current(slot) {
            self.shared.slots.write().remove(&slot.identity);
        }
        self.shared.queue.lock().remove(slot.id);
        slot.close();
    }

    fn finish(&self, slot: &Arc<Slot>, result: Result<WorkloadCertificate, CaError>) {
        if !self.shared.current(slot) {
            self.shared.queue.lock().abandoned(slot.id);
            return;
        }
        match result {
            Ok(certificate) => self.succeed(slot, Arc::new(certificate)),
            Err(error) => self.fail(slot, error),
        }
    }

    fn succeed(&self, slot: &Arc<Slot>, certificate: Arc<WorkloadCertificate>) {
        self.shared.issued.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(identity = %slot.identity, "certificate received");
        let renew_at = certificate.half_life() - jitter(&certificate);
        {
            // State and queue change together: who looks at both sees one or the other.
            let mut queue = self.shared.queue.lock();
            slot.succeed(certificate);
            queue.succeeded(slot);
        }
        self.arm_renewal(slot, renew_at);
    }

    fn fail(&self, slot: &Arc<Slot>, error: CaError) {
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
        let kept = slot.valid(self.shared.now()).is_some();
        let priority = if kept {
            Priority::Background
        } else {
            Priority::Warmup
        };
        let error = Arc::new(error);
        let wait = {
            let mut queue = self.shared.queue.lock();
            let now = Instant::now();
            slot.fail(Arc::clone(&error));
            let wait = queue.failed(slot, error.is_unreachable(), now);
            queue.arm(slot, Due::Retry(priority), now + wait);
            wait
        };
        tracing::warn!(%error, retry_in = ?wait, old_certificate_kept = kept, "no certificate");
    }

    /// Looks again at the time of renewal, or in a minute if that is sooner: the wall clock may
    /// be set meanwhile.
    fn arm_renewal(&self, slot: &Arc<Slot>, at: SystemTime) {
        let wait = at.duration_since(self.shared.now()).unwrap_or_default();
        let wait = wait.clamp(MIN_RENEWAL_WAIT, CLOCK_RECHECK);
        self.shared
            .queue
            .lock()
            .arm(slot, Due::Renewal(at), Instant::now() + wait);
    }
}

/// How much before its half life a certificate is renewed: up to a tenth of its life, so that
/// those that were issued together are not renewed together.
fn jitter(certificate: &WorkloadCertificate) -> Duration {
    let life = certificate
        .not_after()
        .duration_since(certificate.not_before());
    (life.unwrap_or_default() / 10).mul_f64(rand::rng().random_range(0.0..1.0))
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
