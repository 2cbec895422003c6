//! The client against a scripted controller: a real gRPC server over TLS.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_identity::issue::{Authority, NewRootOptions};
use ambit_net::Netns;
use ambit_proto::enrolment::SnapshotComplete;
use ambit_proto::enrolment::enrolment_service_server::{EnrolmentService, EnrolmentServiceServer};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, ServerTlsConfig};

use super::*;
use crate::capture::{PodSpec, Redirected, StartError, StartedPod, Statuses, StopReason};
use crate::config::Config;

type Updates = mpsc::Sender<Result<EnrolmentUpdate, tonic::Status>>;
type Stream = (Updates, tonic::Streaming<NodeReport>);

/// Hands every stream, with its headers checked, to the script.
struct Scripted {
    streams: mpsc::Sender<Stream>,
}

#[tonic::async_trait]
impl EnrolmentService for Scripted {
    type EnrolStream = ReceiverStream<Result<EnrolmentUpdate, tonic::Status>>;

    async fn enrol(
        &self,
        request: tonic::Request<tonic::Streaming<NodeReport>>,
    ) -> Result<tonic::Response<Self::EnrolStream>, tonic::Status> {
        let bearer = request
            .metadata()
            .get("authorization")
            .map(|value| value.to_str());
        if !matches!(bearer, Some(Ok("Bearer node-1-token"))) {
            return Err(tonic::Status::unauthenticated("who are you?"));
        }
        let (updates, sent) = mpsc::channel(16);
        self.streams
            .send((updates, request.into_inner()))
            .await
            .unwrap();
        Ok(tonic::Response::new(ReceiverStream::new(sent)))
    }
}

#[derive(Default)]
struct Fake(Mutex<Vec<String>>);

impl PodRuntime for Fake {
    async fn start(&self, pod: Arc<PodSpec>) -> Result<StartedPod, StartError> {
        self.0.lock().push(format!("start {}", pod.uid));
        Ok(StartedPod::default())
    }
    async fn stop(&self, uid: &PodUid, _: StopReason) {
        self.0.lock().push(format!("stop {uid}"));
    }
}

/// A namespace that holds 10.9.9.9, and a path to it.
fn namespace() -> (Netns, String) {
    let netns = Netns::create().unwrap();
    netns
        .run(|| {
            let added = std::process::Command::new("ip")
                .args(["address", "add", "10.9.9.9/32", "dev", "lo"])
                .status()?;
            assert!(added.success());
            Ok(())
        })
        .unwrap();
    let path = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        netns.as_fd().as_raw_fd()
    );
    (netns, path)
}

fn add(pod: EnrolledPod) -> Result<EnrolmentUpdate, tonic::Status> {
    Ok(EnrolmentUpdate {
        update: Some(enrolment_update::Update::Add(pod)),
    })
}

fn complete() -> Result<EnrolmentUpdate, tonic::Status> {
    let update = enrolment_update::Update::SnapshotComplete(SnapshotComplete {});
    Ok(EnrolmentUpdate {
        update: Some(update),
    })
}

async fn next(reports: &mut tonic::Streaming<NodeReport>) -> node_report::Report {
    let report = tokio::time::timeout(Duration::from_secs(20), reports.message()).await;
    report.unwrap().unwrap().unwrap().report.unwrap()
}

async fn outcome(
    reports: &mut tonic::Streaming<NodeReport>,
) -> (String, pod_outcome::State, String) {
    let node_report::Report::Outcome(outcome) = next(reports).await else {
        panic!("a hello")
    };
    let state = outcome.state();
    (outcome.uid, state, outcome.reason)
}

struct Controller {
    authority: Authority,
    port: u16,
    accepted: mpsc::Receiver<Stream>,
    served: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

async fn controller() -> Controller {
    let options = NewRootOptions {
        trust_domain: "cluster.local",
        lifetime: Duration::from_secs(3600),
        now: SystemTime::now(),
    };
    let authority = Authority::ephemeral(options).unwrap();
    let ttl = Duration::from_secs(600);
    let serving = authority
        .serving(&["localhost".to_owned()], &[], ttl, SystemTime::now())
        .unwrap();
    let tls =
        ServerTlsConfig::new().identity(Identity::from_pem(serving.chain_pem(), serving.key_pem()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (streams, accepted) = mpsc::channel(4);
    let service = EnrolmentServiceServer::new(Scripted { streams });
    let served = tokio::spawn(
        tonic::transport::Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    Controller {
        authority,
        port,
        accepted,
        served,
    }
}

struct Client {
    runtime: Arc<Fake>,
    statuses: Statuses,
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

fn client(authority: &Authority, port: u16) -> Client {
    let config = Config::from_source(&BTreeMap::from([
        ("NODE_NAME".to_owned(), "node-1".to_owned()),
        (
            "XDS_ADDRESS".to_owned(),
            format!("https://127.0.0.1:{port}"),
        ),
        ("XDS_ROOT_CA".to_owned(), authority.roots_pem()),
        ("ALT_XDS_HOSTNAME".to_owned(), "localhost".to_owned()),
        ("AUTH_TOKEN".to_owned(), "node-1-token".to_owned()),
    ]))
    .unwrap();
    let server = Server::enrolment(&config).unwrap();
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
    let task = tokio::spawn(async move {
        let shutdown = async {
            ended.await.ok();
        };
        run(&server, &"node-1".into(), &mut registry, shutdown).await;
    });
    Client {
        runtime,
        statuses,
        end,
        task,
    }
}

#[tokio::test]
async fn a_snapshot_then_changes_then_a_new_stream() {
    let Controller {
        authority,
        port,
        mut accepted,
        served,
    } = controller().await;
    let Client {
        runtime,
        statuses,
        end,
        task: client,
    } = client(&authority, port);
    let (_netns, path) = namespace();
    let good = EnrolledPod {
        addresses: vec![vec![10, 9, 9, 9].into()],
        netns_path: path.clone(),
        ..pod()
    };
    let (updates, mut reports) = accepted.recv().await.unwrap();
    let node_report::Report::Hello(hello) = next(&mut reports).await else {
        panic!("no hello")
    };
    assert_eq!(hello.node, "node-1");
    updates.send(add(good.clone())).await.unwrap();
    assert_eq!(outcome(&mut reports).await.1, pod_outcome::State::Captured);
    // Another pod's namespace: it does not hold the address.
    let stray = EnrolledPod {
        uid: "stray".to_owned(),
        addresses: vec![vec![10, 1, 1, 1].into()],
        netns_path: path,
        ..pod()
    };
    updates.send(add(stray)).await.unwrap();
    let (uid, state, reason) = outcome(&mut reports).await;
    assert_eq!(
        (uid.as_str(), state),
        ("stray", pod_outcome::State::Pending)
    );
    assert!(reason.contains("none of the pod's addresses"), "{reason}");
    updates
        .send(add(EnrolledPod {
            uid: "bad".to_owned(),
            name: String::new(),
            ..pod()
        }))
        .await
        .unwrap();
    loop {
        // The stray pod is tried again meanwhile.
        let (uid, state, reason) = outcome(&mut reports).await;
        if uid == "bad" {
            assert_eq!(state, pod_outcome::State::Pending);
            assert_eq!(reason, "name is empty");
            break;
        }
    }
    updates
        .send(Ok(EnrolmentUpdate { update: None }))
        .await
        .unwrap();
    let gone = enrolment_update::Update::Remove("stray".to_owned());
    updates
        .send(Ok(EnrolmentUpdate { update: Some(gone) }))
        .await
        .unwrap();
    while outcome(&mut reports).await.1 != pod_outcome::State::Released {}
    updates.send(complete()).await.unwrap();
    let mut synced = statuses.complete();
    tokio::time::timeout(Duration::from_secs(20), synced.wait_for(|done| *done))
        .await
        .unwrap()
        .unwrap();

    // The controller restarts, and lists the pod no more.
    drop((updates, reports));
    let (updates, mut reports) = accepted.recv().await.unwrap();
    assert!(matches!(
        next(&mut reports).await,
        node_report::Report::Hello(_)
    ));
    assert_eq!(
        *runtime.0.lock(),
        ["start u"],
        "kept while the controller was away"
    );
    updates.send(add(good)).await.unwrap();
    assert_eq!(outcome(&mut reports).await.1, pod_outcome::State::Captured);
    drop((updates, reports));
    let (updates, mut reports) = accepted.recv().await.unwrap();
    next(&mut reports).await;
    updates.send(complete()).await.unwrap();
    assert_eq!(outcome(&mut reports).await.1, pod_outcome::State::Released);
    assert_eq!(*runtime.0.lock(), ["start u", "stop u"]);

    drop(end);
    tokio::time::timeout(Duration::from_secs(20), client)
        .await
        .unwrap()
        .unwrap();
    served.abort();
}

fn pod() -> EnrolledPod {
    EnrolledPod {
        uid: "u".to_owned(),
        name: "n".to_owned(),
        namespace: "ns".to_owned(),
        service_account: "sa".to_owned(),
        addresses: vec![vec![10, 0, 0, 1].into(), vec![0; 16].into()],
        netns_path: String::new(),
        dns_capture: true,
    }
}

#[test]
fn pods_are_understood_or_refused_with_the_field() {
    assert_eq!(enrolled(pod()).unwrap().netns, NetnsSource::Processes);
    let with_path = EnrolledPod {
        netns_path: "/run/netns/a".to_owned(),
        ..pod()
    };
    assert_eq!(
        enrolled(with_path).unwrap().netns,
        NetnsSource::Path("/run/netns/a".into())
    );
    let mut mapped = vec![0; 10];
    mapped.extend([0xff, 0xff, 10, 0, 0, 1]);
    let same = EnrolledPod {
        addresses: vec![vec![10, 0, 0, 1].into(), mapped.into()],
        ..pod()
    };
    assert_eq!(
        enrolled(same).unwrap().addresses,
        ["10.0.0.1".parse::<IpAddr>().unwrap()]
    );
    for (bad, expected) in [
        (
            EnrolledPod {
                uid: String::new(),
                ..pod()
            },
            BadPod::Empty("uid"),
        ),
        (
            EnrolledPod {
                service_account: String::new(),
                ..pod()
            },
            BadPod::Empty("service_account"),
        ),
        (
            EnrolledPod {
                addresses: Vec::new(),
                ..pod()
            },
            BadPod::Addresses(0),
        ),
        (
            EnrolledPod {
                addresses: vec![vec![1, 2].into()],
                ..pod()
            },
            BadPod::Address(2),
        ),
        (
            EnrolledPod {
                addresses: vec![vec![0; 4].into(); 33],
                ..pod()
            },
            BadPod::Addresses(33),
        ),
    ] {
        assert_eq!(enrolled(bad), Err(expected));
    }
}
