//! A certificate authority and a clock that do as they are told.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_identity::issue::{Authority, NewRootOptions};
use ambit_identity::{
    CaClient, CaError, CertificateRequest, Clock, SignFuture, SignRequest, Signed, SystemClock,
    Tls, TlsSettings, TrustStore, WorkloadCertificate,
};
use ambit_model::Identity;
use parking_lot::Mutex;

pub const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn id(text: &str) -> Identity {
    text.parse().unwrap()
}

pub fn web() -> Identity {
    id("spiffe://cluster.local/ns/shop/sa/web")
}

pub fn db() -> Identity {
    id("spiffe://cluster.local/ns/shop/sa/db")
}

/// Wall clock that follows tokio's (paused) time, and can be set.
#[derive(Debug)]
pub struct FakeClock {
    start: tokio::time::Instant,
    base: SystemTime,
    offset_seconds: AtomicI64,
}

impl FakeClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            start: tokio::time::Instant::now(),
            base: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            offset_seconds: AtomicI64::new(0),
        })
    }

    pub fn shift(&self, seconds: i64) {
        self.offset_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> SystemTime {
        let now = self.base + self.start.elapsed();
        let offset = self.offset_seconds.load(Ordering::Relaxed);
        let by = Duration::from_secs(offset.unsigned_abs());
        if offset < 0 { now - by } else { now + by }
    }
}

pub fn authority(now: SystemTime) -> Authority {
    let options = NewRootOptions {
        trust_domain: "cluster.local",
        lifetime: 3650 * DAY,
        now,
    };
    Authority::ephemeral(options).unwrap()
}

/// What the authority does next.
#[derive(Clone, Debug, Default)]
pub enum Mood {
    #[default]
    Signs,
    Silent,
    Refuses,
    /// Signs for somebody else.
    Confuses(Identity),
    /// Answers with the chain of another request.
    OtherKey,
    /// Its clock is this far ahead (or behind).
    Skewed(i64),
    /// The roots do not fit.
    OtherRoots,
    /// Never answers.
    Hangs,
    /// Takes a second.
    Slow,
}

pub struct FakeCa {
    pub authority: Mutex<Arc<Authority>>,
    pub clock: Arc<dyn Clock>,
    pub mood: Mutex<Mood>,
    pub asked: Mutex<Vec<Identity>>,
    pub running: AtomicUsize,
    pub most_running: AtomicUsize,
    pub latency: Duration,
}

impl FakeCa {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            authority: Mutex::new(Arc::new(authority(clock.now() - DAY))),
            clock,
            mood: Mutex::default(),
            asked: Mutex::default(),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            latency: Duration::from_millis(5),
        })
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    pub fn calls(&self) -> usize {
        self.asked.lock().len()
    }

    fn answer(&self, request: &SignRequest) -> Result<Signed, CaError> {
        let authority = Arc::clone(&self.authority.lock());
        let mut now = self.clock.now();
        let mut roots = authority.roots().to_vec();
        let mut identity = request.identity.clone();
        let mut csr = request.csr_pem.clone();
        match self.mood.lock().clone() {
            Mood::Signs | Mood::Hangs | Mood::Slow => {}
            Mood::Silent => return Err(CaError::Unreachable("connection refused".into())),
            Mood::Refuses => {
                return Err(CaError::Refused {
                    identity,
                    code: "Unauthenticated".into(),
                    message: "no".into(),
                });
            }
            Mood::Confuses(other) => {
                csr = CertificateRequest::new(&other).unwrap().pem().to_owned();
                identity = other;
            }
            Mood::OtherKey => {
                csr = CertificateRequest::new(&identity).unwrap().pem().to_owned();
            }
            Mood::Skewed(seconds) => {
                let by = Duration::from_secs(seconds.unsigned_abs());
                now = if seconds < 0 { now - by } else { now + by };
            }
            Mood::OtherRoots => roots = self::authority(now).roots().to_vec(),
        }
        let issued = authority.sign(&identity, &csr, request.ttl, now).unwrap();
        Ok(Signed {
            chain: issued.chain,
            roots,
        })
    }
}

impl CaClient for FakeCa {
    fn sign(&self, request: SignRequest) -> SignFuture<'_> {
        self.asked.lock().push(request.identity.clone());
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_running.fetch_max(running, Ordering::Relaxed);
        Box::pin(async move {
            tokio::time::sleep(self.latency).await;
            let mood = self.mood.lock().clone();
            match mood {
                Mood::Hangs => std::future::pending().await,
                Mood::Slow => tokio::time::sleep(Duration::from_secs(1)).await,
                _ => {}
            }
            self.running.fetch_sub(1, Ordering::Relaxed);
            self.answer(&request)
        })
    }
}

/// TLS of one node that trusts `authority`.
pub fn tls(authority: &Authority, settings: &TlsSettings) -> Arc<Tls> {
    tls_at(authority, settings, Arc::new(SystemClock))
}

pub fn tls_at(authority: &Authority, settings: &TlsSettings, clock: Arc<dyn Clock>) -> Arc<Tls> {
    let roots = ambit_identity::Roots::from_der(authority.roots().to_vec()).unwrap();
    Arc::new(Tls::new(settings, Arc::new(TrustStore::new(roots)), clock))
}

/// A certificate of `authority` for use on a node with `tls`.
pub fn certificate(
    authority: &Authority,
    identity: &Identity,
    tls: &Arc<Tls>,
) -> WorkloadCertificate {
    let request = CertificateRequest::new(identity).unwrap();
    let now = tls.clock().now();
    let issued = authority.sign(identity, request.pem(), DAY, now).unwrap();
    let signed = Signed {
        chain: issued.chain,
        roots: authority.roots().to_vec(),
    };
    WorkloadCertificate::accept(identity, request, signed, tls)
        .unwrap()
        .0
}
