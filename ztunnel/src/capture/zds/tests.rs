//! A scripted CNI agent on a real socket, against the real client and registry.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use ambit_proto::zds::{
    AddWorkload, DelWorkload, KeepWorkload, SnapshotSent, WorkloadInfo, WorkloadRequest,
    WorkloadResponse, workload_request::Payload, workload_response,
};
use parking_lot::Mutex;
use prost::Message as _;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept, bind, listen, recv, send, sendmsg, socket_with, sockopt,
};
use tokio::sync::oneshot;

use super::*;
use crate::capture::{PodSpec, Redirected, StartError, StartedPod, Statuses, StopReason};

#[derive(Default)]
struct Fake {
    log: Mutex<Vec<String>>,
    failures: Mutex<u32>,
}

impl PodRuntime for Fake {
    async fn start(&self, pod: Arc<PodSpec>) -> Result<StartedPod, StartError> {
        let mut failures = self.failures.lock();
        if *failures > 0 {
            *failures -= 1;
            return Err(StartError::ShuttingDown);
        }
        self.log.lock().push(format!("start {}", pod.uid));
        Ok(StartedPod::default())
    }
    async fn stop(&self, uid: &PodUid, _: StopReason) {
        self.log.lock().push(format!("stop {uid}"));
    }
}

/// The CNI agent's side; blocking, so its script runs on a thread of its own.
struct Agent {
    listener: OwnedFd,
}

struct Peer {
    fd: OwnedFd,
}

impl Agent {
    fn bind(path: &Path) -> Self {
        let listener = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
        listen(&listener, 4).unwrap();
        Self { listener }
    }

    fn accept(&self) -> Peer {
        sockopt::set_socket_timeout(
            &self.listener,
            sockopt::Timeout::Recv,
            Some(Duration::from_secs(10)),
        )
        .unwrap();
        let fd = accept(&self.listener).unwrap();
        let timeout = Some(Duration::from_secs(10));
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, timeout).unwrap();
        let peer = Peer { fd };
        assert_eq!(peer.receive(), [0x08, 0x01], "the hello");
        peer
    }
}

impl Peer {
    fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 2048];
        let (length, _) = recv(&self.fd, &mut buffer[..], RecvFlags::empty()).unwrap();
        buffer.truncate(length);
        buffer
    }

    fn ack(&self) -> String {
        let response = WorkloadResponse::decode(&self.receive()[..]).unwrap();
        let workload_response::Payload::Ack(ack) = response.payload.unwrap();
        ack.error
    }

    fn raw(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        if fds.is_empty() {
            send(&self.fd, bytes, SendFlags::empty()).unwrap();
            return;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        sendmsg(
            &self.fd,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
    }

    fn ask(&self, payload: Payload, fds: &[BorrowedFd<'_>]) -> String {
        self.raw(
            &WorkloadRequest {
                payload: Some(payload),
            }
            .encode_to_vec(),
            fds,
        );
        self.ack()
    }

    fn add(&self, uid: &str, netns: &Netns) -> String {
        self.ask(add(uid), &[netns.as_fd()])
    }

    fn snapshot_sent(&self) -> String {
        self.ask(Payload::SnapshotSent(SnapshotSent {}), &[])
    }
}

fn add(uid: &str) -> Payload {
    Payload::Add(AddWorkload {
        uid: uid.into(),
        workload_info: Some(WorkloadInfo {
            name: uid.into(),
            namespace: "shop".into(),
            service_account: "web".into(),
        }),
    })
}

/// Runs the client until the script is through; the script's panics fail the test.
async fn play(script: impl FnOnce(&Agent, &Fake, &Statuses) + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zds.sock");
    let agent = Agent::bind(&path);
    let runtime = Arc::<Fake>::default();
    let statuses = Statuses::default();
    let mut registry = Registry::new(
        Arc::clone(&runtime),
        Redirected,
        "/proc".into(),
        statuses.clone(),
        None,
    );
    let (end, ended) = oneshot::channel::<()>();
    let played = tokio::task::spawn_blocking(move || {
        script(&agent, &runtime, &statuses);
        drop(end);
    });
    let client = run(&path, &mut registry, async {
        ended.await.ok();
    });
    tokio::time::timeout(Duration::from_secs(60), client)
        .await
        .unwrap();
    played.await.unwrap();
}

#[tokio::test]
async fn a_snapshot_then_changes() {
    play(|agent, runtime, statuses| {
        let peer = agent.accept();
        let (a, b) = (Netns::create().unwrap(), Netns::create().unwrap());
        assert_eq!(peer.add("a", &a), "");
        assert!(!*statuses.complete().borrow());
        assert_eq!(peer.snapshot_sent(), "");
        assert!(*statuses.complete().borrow());
        assert_eq!(peer.add("b", &b), "");
        assert_eq!(peer.add("b", &b), "");
        let del = |uid: &str| Payload::Del(DelWorkload { uid: uid.into() });
        assert_eq!(peer.ask(del("a"), &[]), "");
        assert_eq!(peer.ask(del("never-seen"), &[]), "");
        assert_eq!(*runtime.log.lock(), ["start a", "start b", "stop a"]);
    })
    .await;
}

#[tokio::test]
async fn nonsense_is_answered_and_survived() {
    play(|agent, runtime, _| {
        let peer = agent.accept();
        let a = Netns::create().unwrap();
        let uts = std::fs::File::open("/proc/self/ns/uts").unwrap();
        let keep = Payload::Keep(KeepWorkload { uid: "a".into() });
        assert!(peer.ask(add("a"), &[]).contains("exactly one descriptor"));
        assert!(
            peer.ask(add("a"), &[a.as_fd(), a.as_fd()])
                .contains("got 2")
        );
        assert!(
            peer.ask(add("a"), &[uts.as_fd()])
                .contains("not a network namespace")
        );
        let anonymous = Payload::Add(AddWorkload {
            uid: "a".into(),
            workload_info: None,
        });
        assert!(peer.ask(anonymous, &[a.as_fd()]).contains("workload_info"));
        assert!(peer.ask(keep.clone(), &[]).contains("not known"));
        for bytes in [&[0xff_u8; 9][..], &[0x4a, 0x00], &[0; 5000]] {
            peer.raw(bytes, &[]);
            assert_ne!(peer.ack(), "", "{} bytes", bytes.len());
        }
        assert_eq!(peer.snapshot_sent(), "");
        assert!(peer.ask(keep, &[]).contains("before the snapshot"));
        assert_eq!(peer.add("a", &a), "", "the connection is as good as before");
        // An empty message cannot be told from the end: a new connection follows.
        peer.raw(&[], &[]);
        let peer = agent.accept();
        assert_eq!(peer.add("a", &a), "");
        assert_eq!(*runtime.log.lock(), ["start a"]);
    })
    .await;
}

#[tokio::test]
async fn after_a_reconnect_what_is_not_listed_is_dropped() {
    play(|agent, runtime, _| {
        let (a, b, c) = (
            Netns::create().unwrap(),
            Netns::create().unwrap(),
            Netns::create().unwrap(),
        );
        let peer = agent.accept();
        for (uid, netns) in [("a", &a), ("b", &b), ("c", &c)] {
            assert_eq!(peer.add(uid, netns), "");
        }
        assert_eq!(peer.snapshot_sent(), "");
        drop(peer);
        // Broken off in the middle of a snapshot: nothing may be concluded from it.
        let peer = agent.accept();
        assert_eq!(peer.add("a", &a), "");
        drop(peer);
        let peer = agent.accept();
        assert_eq!(peer.add("a", &a), "");
        assert_eq!(
            peer.ask(Payload::Keep(KeepWorkload { uid: "b".into() }), &[]),
            ""
        );
        assert_eq!(runtime.log.lock().len(), 3, "all still run");
        assert_eq!(peer.snapshot_sent(), "");
        assert_eq!(
            *runtime.log.lock(),
            ["start a", "start b", "start c", "stop c"]
        );
    })
    .await;
}

#[tokio::test]
async fn a_failed_start_is_told_and_tried_again() {
    play(|agent, runtime, statuses| {
        *runtime.failures.lock() = 2;
        let peer = agent.accept();
        let a = Netns::create().unwrap();
        assert!(peer.add("a", &a).contains("cannot serve the pod"));
        assert_eq!(peer.snapshot_sent(), "");
        let mut complete = statuses.complete();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !*complete.borrow_and_update() {
            assert!(std::time::Instant::now() < deadline, "never captured");
            std::thread::yield_now();
        }
        assert_eq!(*runtime.log.lock(), ["start a"]);
        assert_eq!(peer.add("a", &a), "");
    })
    .await;
}

#[tokio::test]
async fn the_descriptor_received_is_not_inherited() {
    play(|agent, _, _| {
        let peer = agent.accept();
        let before = inheritable();
        let a = Netns::create().unwrap();
        assert_eq!(peer.add("a", &a), "");
        assert_eq!(inheritable(), before);
    })
    .await;
}

/// Namespace descriptors of this process that a child would get.
fn inheritable() -> usize {
    let flags = |fd: &str| std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter(|entry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|to| to.starts_with("net:") || to.to_string_lossy().starts_with("net:["))
        })
        .filter(|entry| {
            let text = flags(&entry.file_name().to_string_lossy()).unwrap_or_default();
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
            flags.is_some_and(|f| {
                u32::from_str_radix(f.trim(), 8).is_ok_and(|f| f & 0o2_000_000 == 0)
            })
        })
        .count()
}
