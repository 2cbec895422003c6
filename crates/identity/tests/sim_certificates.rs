//! The cache of certificates under paused time.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use ambit_identity::{
    CaError, Certificates, Clock, FetchError, Priority, Settings, Tls, TlsSettings, TrustStore,
};
use ambit_model::Identity;
use common::{DAY, FakeCa, FakeClock, Mood, authority, db, id, web};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Bench {
    clock: Arc<FakeClock>,
    ca: Arc<FakeCa>,
    certificates: Certificates,
    stop: Option<oneshot::Sender<()>>,
    worker: JoinHandle<()>,
}

impl Bench {
    fn new(parallel_requests: usize) -> Self {
        let clock = FakeClock::new();
        let ca = FakeCa::new(Arc::clone(&clock) as _);
        let trust = Arc::new(TrustStore::default());
        let tls = Arc::new(Tls::new(
            &TlsSettings::default(),
            trust,
            Arc::clone(&clock) as _,
        ));
        let settings = Settings {
            ttl: DAY,
            parallel_requests,
        };
        let (certificates, worker) = Certificates::new(settings, Arc::clone(&ca) as _, tls);
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = tokio::spawn(worker.run(async {
            let _stopped = stopped.await;
        }));
        Self {
            clock,
            ca,
            certificates,
            stop: Some(stop),
            worker,
        }
    }

    async fn fetch(&self, identity: &Identity) -> Result<String, FetchError> {
        let certificate = self
            .certificates
            .fetch(identity, Priority::RealTime)
            .await?;
        Ok(certificate.serial().to_owned())
    }

    async fn end(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(Duration::from_secs(5), self.worker)
            .await
            .unwrap()
            .unwrap();
    }
}

fn cause(error: &FetchError) -> &CaError {
    match error {
        FetchError::Unavailable { source, .. }
        | FetchError::Expired {
            source: Some(source),
            ..
        } => source,
        other => panic!("{other}"),
    }
}

/// For what happens within minutes.
async fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    poll(what, Duration::from_millis(100), condition).await;
}

/// For what happens within days.
async fn wait_long(what: &str, condition: impl FnMut() -> bool) {
    poll(what, Duration::from_secs(5), condition).await;
}

async fn poll(what: &str, step: Duration, mut condition: impl FnMut() -> bool) {
    for _ in 0..50_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(step).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_share_one_request() {
    let bench = Bench::new(4);
    let waits: Vec<_> = (0..50)
        .map(|_| {
            let certificates = bench.certificates.clone();
            tokio::spawn(async move {
                certificates
                    .fetch(&web(), Priority::RealTime)
                    .await
                    .unwrap()
                    .serial()
                    .to_owned()
            })
        })
        .collect();
    let mut serials = std::collections::HashSet::new();
    for wait in waits {
        serials.insert(wait.await.unwrap());
    }
    assert_eq!(serials.len(), 1);
    assert_eq!(bench.ca.calls(), 1);
    assert!(bench.certificates.cached(&web()).is_some());
    assert!(bench.certificates.cached(&db()).is_none());
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_urgent_go_first_and_few_at_a_time() {
    let bench = Bench::new(1);
    let name = |n: u8| id(&format!("spiffe://cluster.local/ns/shop/sa/s{n}"));
    for n in 0..3 {
        bench.certificates.request(&name(n), Priority::Background);
    }
    for n in 3..6 {
        bench.certificates.request(&name(n), Priority::Warmup);
    }
    // Waited for: overtakes, though it is in line already.
    bench
        .certificates
        .fetch(&name(2), Priority::RealTime)
        .await
        .unwrap();
    wait_for("all", || bench.certificates.stats().issued == 6).await;
    let order: Vec<String> = bench
        .ca
        .asked
        .lock()
        .iter()
        .map(|i| i.service_account.to_string())
        .collect();
    assert_eq!(order, ["s2", "s3", "s4", "s5", "s0", "s1"]);
    assert_eq!(
        bench
            .ca
            .most_running
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_at_about_half_of_its_life() {
    let bench = Bench::new(4);
    bench.certificates.request(&web(), Priority::Warmup);
    wait_for("issued", || bench.certificates.stats().issued == 1).await;
    let first = bench.certificates.cached(&web()).unwrap();
    let start = bench.clock.now();
    wait_long("renewed", || bench.certificates.stats().issued == 2).await;
    let after = bench.clock.now().duration_since(start).unwrap();
    assert!(after > DAY * 39 / 100, "{after:?}");
    assert!(after <= DAY / 2 + Duration::from_secs(120), "{after:?}");
    let second = bench.certificates.cached(&web()).unwrap();
    assert_ne!(first.serial(), second.serial());
    assert_eq!(bench.ca.calls(), 2);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_old_certificate_serves_while_renewal_fails_until_it_ends() {
    let bench = Bench::new(4);
    bench.certificates.request(&web(), Priority::Warmup);
    let first = bench.fetch(&web()).await.unwrap();
    bench.ca.set(Mood::Silent);
    tokio::time::sleep(DAY * 9 / 10).await;
    assert_eq!(bench.fetch(&web()).await.unwrap(), first);
    let dump = bench.certificates.dump();
    assert_eq!(dump[0].state, "Available");
    assert!(
        dump[0]
            .renewal_error
            .as_ref()
            .unwrap()
            .contains("cannot be reached")
    );
    assert!(bench.certificates.expiries()[0].renewal_failing);

    tokio::time::sleep(DAY / 5).await;
    let error = bench.fetch(&web()).await.unwrap_err();
    assert!(matches!(error, FetchError::Expired { .. }), "{error}");
    assert!(matches!(cause(&error), CaError::Unreachable(_)));

    bench.ca.set(Mood::Signs);
    wait_long("renewed", || bench.certificates.cached(&web()).is_some()).await;
    assert!(!bench.certificates.expiries()[0].renewal_failing);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_more_and_more_slowly() {
    let bench = Bench::new(4);
    bench.ca.set(Mood::Refuses);
    bench.certificates.request(&web(), Priority::Warmup);
    let mut at = Vec::new();
    for n in 1..=12 {
        wait_for("an attempt", || bench.ca.calls() >= n).await;
        at.push(tokio::time::Instant::now());
    }
    let gaps: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let ms = Duration::from_millis;
    assert!(ms(400) <= gaps[0] && gaps[0] <= ms(1200), "{gaps:?}");
    assert!(gaps[5] >= Duration::from_secs(15), "{gaps:?}");
    assert!(
        gaps.iter().all(|gap| *gap <= Duration::from_secs(151)),
        "{gaps:?}"
    );
    assert!(gaps[10] >= Duration::from_secs(149), "{gaps:?}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_connection_is_told_why_and_does_not_defeat_the_backoff() {
    let bench = Bench::new(4);
    bench.ca.set(Mood::Silent);
    let error = bench.fetch(&web()).await.unwrap_err();
    assert!(matches!(cause(&error), CaError::Unreachable(_)), "{error}");
    let calls = bench.ca.calls();
    for _ in 0..100 {
        bench.fetch(&web()).await.unwrap_err();
    }
    assert_eq!(bench.ca.calls(), calls);
    // Deep in the backoff, a connection still gets an attempt of its own.
    wait_for("a long backoff", || bench.ca.calls() >= 9).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.ca.set(Mood::Signs);
    bench.fetch(&web()).await.unwrap();
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_authority_is_back_nobody_waits_for_the_backoff() {
    let bench = Bench::new(4);
    bench.ca.set(Mood::Silent);
    bench.certificates.request(&web(), Priority::Warmup);
    wait_for("a long backoff", || bench.ca.calls() >= 9).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.ca.set(Mood::Signs);
    let before = tokio::time::Instant::now();
    bench.fetch(&db()).await.unwrap();
    wait_for("the other one", || {
        bench.certificates.cached(&web()).is_some()
    })
    .await;
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "{:?}",
        before.elapsed()
    );
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn unusable_answers_are_refused() {
    let bench = Bench::new(4);
    for (mood, text) in [
        (
            Mood::Confuses(db()),
            "answered for spiffe://cluster.local/ns/shop/sa/db",
        ),
        (Mood::OtherKey, "unusable"),
        (Mood::OtherRoots, "trusted root"),
        (Mood::Skewed(3600), "are the clocks"),
        (Mood::Skewed(-2 * 24 * 3600), "clock"),
        (Mood::Refuses, "refused to sign"),
    ] {
        bench.ca.set(mood.clone());
        let error = bench.fetch(&web()).await.unwrap_err();
        let cause = cause(&error).to_string();
        assert!(cause.contains(text), "{mood:?}: {cause}");
        assert!(bench.certificates.cached(&web()).is_none());
        bench.certificates.forget(&web());
    }
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_keeps_the_old_certificate() {
    let bench = Bench::new(4);
    bench.certificates.request(&web(), Priority::Warmup);
    let first = bench.fetch(&web()).await.unwrap();
    bench.ca.set(Mood::Skewed(3600));
    wait_long("a failed renewal", || bench.certificates.stats().failed > 0).await;
    assert_eq!(bench.fetch(&web()).await.unwrap(), first);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_brings_the_renewal_forward() {
    let bench = Bench::new(4);
    bench.certificates.request(&web(), Priority::Warmup);
    wait_for("issued", || bench.certificates.stats().issued == 1).await;
    bench.clock.shift(13 * 3600);
    let before = tokio::time::Instant::now();
    wait_long("renewed", || bench.certificates.stats().issued == 2).await;
    assert!(
        before.elapsed() <= Duration::from_secs(62),
        "{:?}",
        before.elapsed()
    );
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_gone_for_those_who_wait_too() {
    let bench = Bench::new(4);
    bench.ca.set(Mood::Hangs);
    let certificates = bench.certificates.clone();
    let wait = tokio::spawn(async move { certificates.fetch(&web(), Priority::RealTime).await });
    wait_for("asked", || bench.ca.calls() == 1).await;
    bench.certificates.forget(&web());
    let error = wait.await.unwrap().unwrap_err();
    assert!(matches!(error, FetchError::Forgotten(_)), "{error}");
    assert!(bench.certificates.dump().is_empty());
    // The one that hangs does not stand in the way of the next.
    bench.ca.set(Mood::Signs);
    bench.fetch(&web()).await.unwrap();
    assert_eq!(bench.certificates.dump().len(), 1);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_a_forgotten_identity_is_dropped() {
    let bench = Bench::new(4);
    bench.ca.set(Mood::Slow);
    bench.certificates.request(&web(), Priority::Warmup);
    wait_for("asked", || bench.ca.calls() == 1).await;
    bench.certificates.forget(&web());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(bench.certificates.cached(&web()).is_none());
    assert_eq!(bench.certificates.stats().issued, 0);
    tokio::time::sleep(2 * DAY).await;
    assert_eq!(bench.ca.calls(), 1);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_no_workload_pins_is_renewed_only_if_used() {
    let bench = Bench::new(4);
    bench.fetch(&web()).await.unwrap();
    wait_long("first renewal", || bench.ca.calls() == 2).await;
    tokio::time::sleep(DAY).await;
    assert_eq!(bench.ca.calls(), 2);
    assert!(bench.certificates.dump().is_empty());
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn new_roots_reach_certificates_from_before() {
    let bench = Bench::new(4);
    let old = bench
        .certificates
        .fetch(&web(), Priority::RealTime)
        .await
        .unwrap();
    let trust = Arc::clone(bench.certificates.tls().trust());
    let roots_before = trust.roots().certificates().to_vec();
    let mut changes = trust.changes();
    changes.mark_unchanged();
    *bench.ca.authority.lock() = Arc::new(authority(bench.clock.now()));
    bench.fetch(&db()).await.unwrap();
    assert!(changes.has_changed().unwrap());
    assert_ne!(trust.roots().certificates(), roots_before);
    assert_eq!(
        old.serial(),
        bench.certificates.cached(&web()).unwrap().serial()
    );
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_dump_has_the_shape_that_tools_read() {
    let bench = Bench::new(4);
    bench.fetch(&web()).await.unwrap();
    bench.ca.set(Mood::Silent);
    bench.fetch(&db()).await.unwrap_err();
    let dump = serde_json::to_value(bench.certificates.dump()).unwrap();
    assert_eq!(dump[0]["identity"], "spiffe://cluster.local/ns/shop/sa/db");
    let state = dump[0]["state"].as_str().unwrap();
    assert!(state.starts_with("Unavailable: "), "{state}");
    let available = &dump[1];
    assert_eq!(available["state"], "Available");
    let leaf = &available["certChain"][0];
    assert!(
        leaf["serialNumber"]
            .as_str()
            .unwrap()
            .parse::<u128>()
            .is_ok(),
        "{leaf}"
    );
    assert_eq!(leaf["validFrom"], "2027-01-15T07:58:00Z");
    assert_eq!(leaf["expirationTime"], "2027-01-16T08:00:00Z");
    use base64::Engine;
    let pem = base64::engine::general_purpose::STANDARD.decode(leaf["pem"].as_str().unwrap());
    assert!(pem.unwrap().starts_with(b"-----BEGIN CERTIFICATE-----\n"));
    assert_eq!(available["rootCerts"].as_array().unwrap().len(), 1);
    assert!(available.get("renewalError").is_none());
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_worker_ends_while_requests_hang() {
    let bench = Bench::new(4);
    bench.ca.set(Mood::Hangs);
    bench.certificates.request(&web(), Priority::Warmup);
    wait_for("asked", || bench.ca.calls() == 1).await;
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_worker_ends_nobody_is_left_waiting() {
    let bench = Bench::new(4);
    bench.fetch(&web()).await.unwrap();
    bench.ca.set(Mood::Hangs);
    let certificates = bench.certificates.clone();
    let waiting = certificates.clone();
    let wait = tokio::spawn(async move { waiting.fetch(&db(), Priority::RealTime).await });
    wait_for("asked", || bench.ca.calls() == 2).await;
    bench.end().await;
    let error = wait.await.unwrap().unwrap_err();
    assert!(
        cause(&error).to_string().contains("shutting down"),
        "{error}"
    );
    let late = id("spiffe://cluster.local/ns/shop/sa/late");
    certificates
        .fetch(&late, Priority::RealTime)
        .await
        .unwrap_err();
    assert!(
        certificates.cached(&web()).is_some(),
        "what is there can be used while draining"
    );
}

#[tokio::test(start_paused = true)]
async fn renewals_of_what_was_issued_together_are_spread() {
    let bench = Bench::new(64);
    let name = |n: u8| id(&format!("spiffe://cluster.local/ns/shop/sa/s{n}"));
    for n in 0..40 {
        bench.certificates.request(&name(n), Priority::Warmup);
    }
    wait_for("issued", || bench.certificates.stats().issued == 40).await;
    let mut at = Vec::new();
    while at.len() < 40 {
        let renewed = bench.certificates.stats().issued - 40;
        at.resize(
            usize::try_from(renewed).unwrap(),
            tokio::time::Instant::now(),
        );
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    assert!(at[39] - at[0] > DAY / 20, "{:?}", at[39] - at[0]);
    bench.end().await;
}
