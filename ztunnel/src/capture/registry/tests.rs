//! The registry with a runtime and a capture that record what they are asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::*;

/// Records what it is asked; fails while told to.
#[derive(Default)]
struct Fake {
    running: Mutex<BTreeSet<PodUid>>,
    log: Mutex<Vec<String>>,
    failures: AtomicUsize,
}

impl PodRuntime for Fake {
    async fn start(&self, pod: Arc<PodSpec>) -> Result<StartedPod, StartError> {
        if self.failures.load(Ordering::SeqCst) > 0 {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            return Err(StartError::Listen {
                port: 15008,
                source: std::io::Error::other("no"),
            });
        }
        assert!(self.running.lock().insert(pod.uid.clone()), "started twice");
        self.log.lock().push(format!("start {}", pod.uid));
        Ok(StartedPod::default())
    }

    async fn stop(&self, uid: &PodUid, reason: StopReason) {
        self.running.lock().remove(uid);
        self.log.lock().push(format!("stop {uid} {reason:?}"));
    }
}

/// Captured cookies.
#[derive(Default)]
struct FakeInterception {
    captured: Mutex<BTreeSet<u64>>,
    refuse: AtomicUsize,
}

impl Interception for Arc<FakeInterception> {
    fn needs_addresses(&self) -> bool {
        false
    }
    fn attach(&self, pod: &PodSpec, _: &[IpAddr], _: &StartedPod) -> Result<(), InterceptionError> {
        if self.refuse.load(Ordering::SeqCst) > 0 {
            self.refuse.fetch_sub(1, Ordering::SeqCst);
            return Err(Box::new(ambit_ebpf::Error::PodUnknown { cookie: 0 }).into());
        }
        self.captured.lock().insert(pod.netns.cookie());
        Ok(())
    }
    fn detach(&self, cookie: u64) -> Result<(), InterceptionError> {
        self.captured.lock().remove(&cookie);
        Ok(())
    }
    fn detach_others(&self, keep: &[u64]) -> Result<usize, InterceptionError> {
        let mut captured = self.captured.lock();
        let before = captured.len();
        captured.retain(|cookie| keep.contains(cookie));
        Ok(before - captured.len())
    }
}

struct World {
    registry: Registry<Arc<Fake>, Arc<FakeInterception>>,
    runtime: Arc<Fake>,
    interception: Arc<FakeInterception>,
    statuses: Statuses,
}

fn world() -> World {
    let (runtime, interception) = (Arc::<Fake>::default(), Arc::<FakeInterception>::default());
    let statuses = Statuses::default();
    let registry = Registry::new(
        Arc::clone(&runtime),
        Arc::clone(&interception),
        "/proc".into(),
        statuses.clone(),
        None,
    );
    World {
        registry,
        runtime,
        interception,
        statuses,
    }
}

fn pod(uid: &str, netns: &Netns) -> Enrolled {
    Enrolled {
        uid: uid.into(),
        info: PodInfo {
            name: uid.into(),
            namespace: "shop".into(),
            service_account: "web".into(),
        },
        addresses: Vec::new(),
        dns: true,
        netns: NetnsSource::Given(netns.clone()),
    }
}

impl World {
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.runtime.log.lock())
    }
    fn complete(&self) -> bool {
        *self.statuses.complete().borrow()
    }
}

#[tokio::test]
async fn adding_is_idempotent_by_namespace_and_a_new_one_replaces() {
    let mut w = world();
    let (a, b) = (Netns::create().unwrap(), Netns::create().unwrap());
    w.registry.add(pod("p", &a)).await.unwrap();
    w.registry.add(pod("p", &a)).await.unwrap();
    assert_eq!(w.log(), ["start p"]);
    w.registry.add(pod("p", &b)).await.unwrap();
    assert_eq!(w.log(), ["stop p Replaced", "start p"]);
    assert_eq!(
        *w.interception.captured.lock(),
        BTreeSet::from([b.cookie()])
    );
}

#[tokio::test]
async fn another_identity_in_the_same_namespace_replaces_too() {
    let mut w = world();
    let a = Netns::create().unwrap();
    w.registry.add(pod("p", &a)).await.unwrap();
    let mut other = pod("p", &a);
    other.info.service_account = "admin".into();
    w.registry.add(other).await.unwrap();
    assert_eq!(w.log(), ["start p", "stop p Replaced", "start p"]);
    // Another pod in the namespace: the older one must not go on answering there.
    w.registry.add(pod("q", &a)).await.unwrap();
    assert_eq!(w.log(), ["stop p Removed", "start q"]);
    assert!(!w.statuses.snapshot().contains_key("p"));
    assert_eq!(
        *w.interception.captured.lock(),
        BTreeSet::from([a.cookie()])
    );
}

#[tokio::test]
async fn what_a_snapshot_does_not_list_is_dropped() {
    let mut w = world();
    let (a, b, c) = (
        Netns::create().unwrap(),
        Netns::create().unwrap(),
        Netns::create().unwrap(),
    );
    w.registry.begin_snapshot();
    for (uid, netns) in [("a", &a), ("b", &b), ("c", &c)] {
        w.registry.add(pod(uid, netns)).await.unwrap();
    }
    assert!(!w.complete(), "not before the snapshot is complete");
    w.registry.snapshot_complete().await;
    assert!(w.complete());
    assert!(matches!(
        w.registry.keep(&"a".into()),
        Err(EnrolmentError::KeepAfterSnapshot)
    ));
    w.log();

    w.registry.begin_snapshot();
    w.registry.add(pod("a", &a)).await.unwrap();
    w.registry.keep(&"b".into()).unwrap();
    assert!(matches!(
        w.registry.keep(&"x".into()),
        Err(EnrolmentError::Unknown)
    ));
    assert_eq!(
        w.log(),
        [""; 0],
        "nothing is dropped before the snapshot is complete"
    );
    w.registry.snapshot_complete().await;
    assert_eq!(w.log(), ["stop c Removed"]);
    assert_eq!(w.registry.counts(), (2, 0));
}

#[tokio::test]
async fn what_an_earlier_agent_captured_is_adopted_or_released() {
    let mut w = world();
    let (a, gone) = (Netns::create().unwrap(), Netns::create().unwrap());
    w.interception
        .captured
        .lock()
        .extend([a.cookie(), gone.cookie()]);
    w.registry.begin_snapshot();
    w.registry.add(pod("a", &a)).await.unwrap();
    assert_eq!(
        w.interception.captured.lock().len(),
        2,
        "fail closed until the snapshot is in"
    );
    w.registry.snapshot_complete().await;
    assert_eq!(
        *w.interception.captured.lock(),
        BTreeSet::from([a.cookie()])
    );
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_pending_and_tried_again() {
    let mut w = world();
    let a = Netns::create().unwrap();
    w.runtime.failures.store(2, Ordering::SeqCst);
    w.registry.begin_snapshot();
    let error = w.registry.add(pod("a", &a)).await.unwrap_err();
    assert_eq!(
        error.reason(),
        "cannot serve the pod: cannot listen on port 15008 in the pod: no"
    );
    w.registry.snapshot_complete().await;
    assert!(!w.complete(), "a pod is pending");
    assert_eq!(w.registry.counts(), (0, 1));
    assert!(matches!(
        w.statuses.snapshot()["a"].state,
        OutcomeState::Pending(_)
    ));
    w.registry.tend(Duration::from_secs(5)).await;
    assert_eq!(w.registry.counts(), (1, 0));
    assert!(w.complete());
    let states: Vec<_> = w
        .registry
        .take_news()
        .into_iter()
        .map(|news| news.state)
        .collect();
    assert_eq!(states.last(), Some(&OutcomeState::Captured));
    assert_eq!(states.len(), 3, "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn listeners_close_again_when_capture_fails() {
    let mut w = world();
    let a = Netns::create().unwrap();
    w.interception.refuse.store(1, Ordering::SeqCst);
    w.registry.add(pod("a", &a)).await.unwrap_err();
    assert_eq!(w.log(), ["start a", "stop a Failed"]);
    w.registry.tend(Duration::from_secs(1)).await;
    assert_eq!(w.log(), ["start a"]);
}

#[tokio::test]
async fn removal_ends_capture_and_is_no_error_for_the_unknown() {
    let mut w = world();
    let a = Netns::create().unwrap();
    w.registry.add(pod("a", &a)).await.unwrap();
    w.registry.remove(&"a".into()).await;
    w.registry.remove(&"x".into()).await;
    assert!(w.interception.captured.lock().is_empty());
    assert_eq!(w.log(), ["start a", "stop a Removed"]);
    assert_eq!(
        w.registry.take_news().last().unwrap().state,
        OutcomeState::Released
    );
}

#[tokio::test]
async fn a_pod_whose_namespace_is_not_found_waits_with_the_reason() {
    let mut w = world();
    let mut enrolled = pod("a", &Netns::create().unwrap());
    enrolled.netns = NetnsSource::Path("/not/there".into());
    let reason = w.registry.add(enrolled.clone()).await.unwrap_err().reason();
    assert!(
        reason.contains("/not/there is not a network namespace"),
        "{reason}"
    );
    enrolled.uid = "no-such-pod".into();
    enrolled.netns = NetnsSource::Processes;
    let reason = w.registry.add(enrolled).await.unwrap_err().reason();
    assert!(reason.contains("no process of the pod"), "{reason}");
}

#[tokio::test]
async fn a_path_that_leads_to_another_namespace_restarts_the_pod() {
    let mut w = world();
    let (a, b) = (Netns::create().unwrap(), Netns::create().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("netns");
    let lead_to = |netns: &Netns| {
        use std::os::fd::{AsFd as _, AsRawFd as _};
        std::fs::remove_file(&path).ok();
        let fd = netns.as_fd().as_raw_fd();
        std::os::unix::fs::symlink(format!("/proc/{}/fd/{fd}", std::process::id()), &path).unwrap();
        netns
            .run(|| {
                let mut ip = std::process::Command::new("ip");
                ip.args(["address", "replace", "10.9.9.9/32", "dev", "lo"])
                    .status()
            })
            .unwrap();
    };
    let mut enrolled = pod("a", &a);
    enrolled.netns = NetnsSource::Path(path.clone());
    enrolled.addresses = vec!["10.9.9.9".parse().unwrap()];
    lead_to(&a);
    w.registry.add(enrolled).await.unwrap();
    w.registry.audit().await;
    assert_eq!(w.log(), ["start a"]);
    lead_to(&b);
    w.registry.audit().await;
    assert_eq!(w.log(), ["stop a Replaced", "start a"]);
    assert_eq!(
        *w.interception.captured.lock(),
        BTreeSet::from([b.cookie()])
    );
    std::fs::remove_file(&path).unwrap();
    w.registry.audit().await;
    assert_eq!(w.log(), [""; 0], "not found is no reason to stop");
}
