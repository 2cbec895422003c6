//! Streams with real clients over real connections: what they are sent, and when.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_identity::SystemClock;
use ambit_model::{NodeName, ServiceKey, TrustDomain, Workload};
use ambit_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ambit_proto::enrolment::enrolment_service_client::EnrolmentServiceClient;
use ambit_proto::enrolment::{
    NodeHello, NodeReport, PodOutcome, enrolment_update, node_report, pod_outcome,
};
use ambit_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status, Streaming};

use super::*;
use crate::ca::{Authenticators, NodeTokens};
use crate::snapshot::MeshSettings;
use crate::translate::{Translated, Translator};
use crate::watch::Store;

const LONG: Duration = Duration::from_secs(20);

struct Fixture {
    hub: Hub,
    channel: Channel,
    tokens: NodeTokens,
    store: Store,
    translator: Translator,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokens = NodeTokens::open(dir.path(), Arc::new(SystemClock)).unwrap();
        let authenticators = Authenticators::standalone(tokens.clone(), TrustDomain::default());
        let hub = Hub::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(Discovery::new(hub.clone(), authenticators.clone()))
            .add_service(Enrolment::new(hub.clone(), authenticators).into_server())
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let store = Store::new(MeshSettings::default());
        Self {
            hub,
            channel,
            tokens,
            store,
            translator: Translator::default(),
            _dir: dir,
        }
    }

    fn set(&mut self, file: &str, text: &str) {
        self.store.update(file, text);
        self.publish();
    }

    fn remove(&mut self, file: &str) {
        self.store.remove(file);
        self.publish();
    }

    fn publish(&mut self) {
        let translated: Translated = self.translator.translate(&self.store.snapshot());
        self.hub.publish(&translated);
    }

    fn pod(&mut self, name: &str, ip: &str, labels: &str) {
        self.set(name, &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\n\
             spec: {{nodeName: node-a}}\nstatus: {{podIP: {ip}}}\n"
        ));
    }

    fn service(&mut self, name: &str, ip: &str) {
        self.set(
            &format!("svc-{name}"),
            &format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{clusterIP: {ip}, selector: {{app: {name}}}, ports: [{{port: 80}}]}}\n"
            ),
        );
    }

    fn authorized<T>(&self, node: &str, message: T) -> Request<T> {
        let token = self.tokens.issue(node, LONG).unwrap();
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    }

    async fn client(&self, node: &str) -> Client {
        self.try_client(node).await.unwrap()
    }

    async fn try_client(&self, node: &str) -> Result<Client, Status> {
        let (requests, receiver) = mpsc::channel(16);
        let request = self.authorized(node, ReceiverStream::new(receiver));
        let mut service = AggregatedDiscoveryServiceClient::new(self.channel.clone())
            .max_decoding_message_size(64 << 20);
        let responses = service
            .delta_aggregated_resources(request)
            .await?
            .into_inner();
        Ok(Client {
            requests,
            responses,
        })
    }
}

struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

/// Names and versions of a response, and what it removes.
#[derive(Debug, PartialEq)]
struct Seen {
    names: Vec<String>,
    removed: Vec<String>,
}

fn seen(names: &[&str], removed: &[&str]) -> Seen {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Seen {
        names: owned(names),
        removed: owned(removed),
    }
}

impl Client {
    async fn ask(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn subscribe(&self, type_url: &str, names: &[&str]) {
        self.ask(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    async fn next(&mut self) -> DeltaDiscoveryResponse {
        let next = tokio::time::timeout(LONG, self.responses.message());
        next.await
            .expect("a response in time")
            .unwrap()
            .expect("the stream goes on")
    }

    async fn acknowledge(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        self.ask(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| ambit_proto::rpc::Status {
                message: message.to_owned(),
                ..ambit_proto::rpc::Status::default()
            }),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    async fn next_seen(&mut self) -> Seen {
        let response = self.next().await;
        self.acknowledge(&response, None).await;
        Seen {
            names: response
                .resources
                .into_iter()
                .map(|resource| resource.name)
                .collect(),
            removed: response.removed_resources,
        }
    }

    async fn end(&mut self) -> Status {
        loop {
            match tokio::time::timeout(LONG, self.responses.message())
                .await
                .expect("an end in time")
            {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}

const POD_A: &str = "Kubernetes//Pod/shop/a";
const POD_B: &str = "Kubernetes//Pod/shop/b";
const SVC_X: &str = "shop/x.shop.svc.cluster.local";

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LONG;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_wildcard_client_gets_all_and_then_what_changes() {
    let mut fixture = Fixture::start().await;
    fixture.pod("a", "10.0.0.1", "");
    let mut client = fixture.client("node-a").await;
    client.subscribe(ADDRESS_TYPE, &[]).await;
    assert_eq!(client.next_seen().await, seen(&[POD_A], &[]));
    fixture.pod("b", "10.0.0.2", "");
    assert_eq!(client.next_seen().await, seen(&[POD_B], &[]));
    fixture.service("x", "10.96.0.1");
    assert_eq!(client.next_seen().await, seen(&[SVC_X], &[]));
    fixture.remove("a");
    assert_eq!(client.next_seen().await, seen(&[], &[POD_A]));
}

#[tokio::test]
async fn an_empty_mesh_is_told_too() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client("node-a").await;
    for type_url in [ADDRESS_TYPE, AUTHORIZATION_TYPE] {
        client.subscribe(type_url, &[]).await;
        assert_eq!(client.next_seen().await, seen(&[], &[]), "{type_url}");
    }
}

#[tokio::test]
async fn a_returning_client_gets_only_what_changed() {
    let mut fixture = Fixture::start().await;
    fixture.pod("a", "10.0.0.1", "");
    fixture.pod("b", "10.0.0.2", "");
    let mut client = fixture.client("node-a").await;
    client.subscribe(ADDRESS_TYPE, &["*"]).await;
    let first = client.next().await;
    let mut held: HashMap<String, String> = first
        .resources
        .iter()
        .map(|r| (r.name.clone(), r.version.clone()))
        .collect();
    held.insert("Kubernetes//Pod/shop/gone".into(), "1".into());
    drop(client);
    fixture.pod("b", "10.0.0.3", "");
    let mut client = fixture.client("node-a").await;
    client
        .ask(DeltaDiscoveryRequest {
            type_url: ADDRESS_TYPE.into(),
            initial_resource_versions: held,
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    assert_eq!(
        client.next_seen().await,
        seen(&[POD_B], &["Kubernetes//Pod/shop/gone"])
    );
}

#[tokio::test]
async fn versions_are_the_same_after_a_restart() {
    let mut versions = Vec::new();
    for _ in 0..2 {
        let mut fixture = Fixture::start().await;
        fixture.pod("a", "10.0.0.1", "app: x");
        fixture.service("x", "10.96.0.1");
        let mut client = fixture.client("node-a").await;
        client.subscribe(ADDRESS_TYPE, &[]).await;
        let response = client.next().await;
        versions.push(
            response
                .resources
                .iter()
                .map(|r| r.version.clone())
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(versions[0], versions[1]);
}

#[tokio::test]
async fn on_demand_resolves_names_and_addresses() {
    let mut fixture = Fixture::start().await;
    fixture.pod("a", "10.0.0.1", "app: x");
    fixture.pod("b", "10.0.0.2", "");
    fixture.service("x", "10.96.0.1");
    let mut client = fixture.client("node-z").await;
    client.subscribe(ADDRESS_TYPE, &["/10.0.0.2"]).await;
    let response = client.next().await;
    client.acknowledge(&response, None).await;
    assert_eq!(response.resources[0].name, POD_B);
    assert_eq!(
        response.resources[0].aliases,
        ["/10.0.0.2"],
        "so that the client finds what it asked for"
    );
    // A service brings the workloads behind it.
    client.subscribe(ADDRESS_TYPE, &["/10.96.0.1"]).await;
    assert_eq!(client.next_seen().await, seen(&[POD_A, SVC_X], &[]));
    // What does not exist is said to be absent, and comes when it does.
    client.subscribe(ADDRESS_TYPE, &["/10.0.0.9"]).await;
    assert_eq!(client.next_seen().await, seen(&[], &["/10.0.0.9"]));
    fixture.pod("unrelated", "10.0.0.8", "");
    fixture.pod("c", "10.0.0.9", "");
    assert_eq!(
        client.next_seen().await,
        seen(&["Kubernetes//Pod/shop/c"], &[])
    );
    // A pod that joins the service comes unasked; one that leaves is sent again, not removed.
    fixture.pod("d", "10.0.0.10", "app: x");
    assert_eq!(
        client.next_seen().await,
        seen(&["Kubernetes//Pod/shop/d"], &[])
    );
    fixture.pod("d", "10.0.0.10", "app: y");
    assert_eq!(
        client.next_seen().await,
        seen(&["Kubernetes//Pod/shop/d"], &[])
    );
    // No longer asked for: no longer told.
    client
        .ask(DeltaDiscoveryRequest {
            type_url: ADDRESS_TYPE.into(),
            resource_names_unsubscribe: vec!["/10.0.0.2".into()],
            resource_names_subscribe: vec!["/10.0.0.77".into()],
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    assert_eq!(client.next_seen().await, seen(&[], &["/10.0.0.77"]));
    fixture.remove("b");
    fixture.remove("c");
    assert_eq!(
        client.next_seen().await,
        seen(&[], &["Kubernetes//Pod/shop/c"])
    );
}

#[tokio::test]
async fn on_demand_brings_the_workloads_of_the_own_node() {
    let mut fixture = Fixture::start().await;
    fixture.pod("a", "10.0.0.1", "");
    let mut client = fixture.client("node-a").await;
    client
        .ask(DeltaDiscoveryRequest {
            type_url: ADDRESS_TYPE.into(),
            resource_names_unsubscribe: vec!["*".into()],
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    assert_eq!(client.next_seen().await, seen(&[POD_A], &[]));
    fixture.pod("b", "10.0.0.2", "");
    assert_eq!(client.next_seen().await, seen(&[POD_B], &[]));
}

#[tokio::test]
async fn a_moved_address_is_found_again() {
    let mut fixture = Fixture::start().await;
    fixture.pod("a", "10.0.0.1", "");
    fixture.remove("a");
    fixture.pod("b", "10.0.0.1", "");
    fixture.pod("c", "10.0.0.3", "");
    // In one publication: c takes b's address.
    fixture.store.remove("b");
    fixture.pod("c", "10.0.0.1", "");
    let mut client = fixture.client("node-z").await;
    client.subscribe(ADDRESS_TYPE, &["/10.0.0.1"]).await;
    assert_eq!(
        client.next_seen().await,
        seen(&["Kubernetes//Pod/shop/c"], &[])
    );
}

#[tokio::test]
async fn a_policy_is_removed_after_the_workloads_that_name_it() {
    const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n\
        spec: {selector: {matchLabels: {app: x}}}\n";
    let mut fixture = Fixture::start().await;
    fixture.pod("a", "10.0.0.1", "app: x");
    let mut client = fixture.client("node-a").await;
    for type_url in [ADDRESS_TYPE, AUTHORIZATION_TYPE] {
        client.subscribe(type_url, &[]).await;
        client.next_seen().await;
    }
    fixture.set("p", POLICY);
    let first = client.next().await;
    let second = client.next().await;
    assert_eq!(
        (&*first.type_url, &*second.type_url),
        (AUTHORIZATION_TYPE, ADDRESS_TYPE)
    );
    client.acknowledge(&first, None).await;
    client.acknowledge(&second, None).await;
    fixture.remove("p");
    let first = client.next().await;
    assert_eq!(
        (&*first.type_url, first.resources.len()),
        (ADDRESS_TYPE, 1),
        "the workload first"
    );
    client.acknowledge(&first, None).await;
    let second = client.next().await;
    assert_eq!(
        (&*second.type_url, &second.removed_resources[..]),
        (AUTHORIZATION_TYPE, &["shop/p".to_owned()][..])
    );
}

#[tokio::test]
async fn rejections_are_remembered_with_their_resources() {
    let mut fixture = Fixture::start().await;
    fixture.pod("a", "10.0.0.1", "");
    let mut client = fixture.client("node-a").await;
    client.subscribe(ADDRESS_TYPE, &[]).await;
    let response = client.next().await;
    client.acknowledge(&response, Some("a: bad address")).await;
    let hub = fixture.hub.clone();
    eventually("a rejection", || {
        hub.clients()[0].types[ADDRESS_TYPE].rejected == 1
    })
    .await;
    let status = &fixture.hub.clients()[0];
    assert_eq!(
        (
            status.node.as_str(),
            status.types[ADDRESS_TYPE].acknowledged
        ),
        ("node-a", 0)
    );
    assert_eq!(
        (
            status.rejections[0].message.as_str(),
            &status.rejections[0].resources[..]
        ),
        ("a: bad address", &[POD_A.to_owned()][..])
    );
    // The stream goes on.
    fixture.pod("b", "10.0.0.2", "");
    assert_eq!(client.next_seen().await, seen(&[POD_B], &[]));
}

#[tokio::test]
async fn a_slow_client_gets_each_name_once() {
    let mut fixture = Fixture::start().await;
    let mut client = fixture.client("node-a").await;
    client.subscribe(ADDRESS_TYPE, &[]).await;
    let mut unacknowledged = vec![client.next().await];
    // Without acknowledgements only so much is sent; the rest is collected by name.
    for i in 1..=200u8 {
        fixture.pod("a", &format!("10.0.1.{i}"), "");
        if unacknowledged.len() < crate::limits::MAX_UNACKNOWLEDGED {
            unacknowledged.push(client.next().await);
        }
    }
    assert_eq!(fixture.hub.clients()[0].types[ADDRESS_TYPE].waiting, 1);
    client
        .acknowledge(unacknowledged.last().unwrap(), None)
        .await;
    let last = client.next().await;
    assert_eq!(last.resources.len(), 1);
    assert_eq!(
        last.resources[0].aliases,
        ["/10.0.1.200"],
        "the latest state, once"
    );
}

#[tokio::test]
async fn callers_must_be_known() {
    let fixture = Fixture::start().await;
    for header in [None, Some("Bearer x.y.z"), Some("Basic abc")] {
        let (_requests, receiver) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::<DeltaDiscoveryRequest>::new(receiver));
        if let Some(header) = header {
            request
                .metadata_mut()
                .insert("authorization", header.parse().unwrap());
        }
        let mut service = AggregatedDiscoveryServiceClient::new(fixture.channel.clone());
        let error = service
            .delta_aggregated_resources(request)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{header:?}");
    }
    assert_eq!(fixture.hub.client_count(), 0);
}

#[tokio::test]
async fn an_unknown_type_is_refused_with_what_there_is() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client("node-a").await;
    client
        .subscribe("type.googleapis.com/envoy.config.cluster.v3.Cluster", &[])
        .await;
    let status = client.end().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("istio.workload.Address"),
        "{status}"
    );
    let hub = fixture.hub.clone();
    eventually("no client is left", || hub.client_count() == 0).await;
}

#[tokio::test]
async fn stopping_ends_every_stream() {
    let mut fixture = Fixture::start().await;
    fixture.pod("a", "10.0.0.1", "");
    let mut client = fixture.client("node-a").await;
    client.subscribe(ADDRESS_TYPE, &[]).await;
    client.next_seen().await;
    tokio::time::timeout(LONG, fixture.hub.stop())
        .await
        .expect("it stops");
    assert_eq!(client.end().await.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_hear_of_a_change() {
    let mut fixture = Fixture::start().await;
    for i in 0..50u8 {
        fixture.pod(&format!("p{i}"), &format!("10.1.0.{i}"), "");
    }
    let mut clients = Vec::new();
    for i in 0..100 {
        let mut client = fixture.client(&format!("node-{i}")).await;
        client.subscribe(ADDRESS_TYPE, &[]).await;
        assert_eq!(client.next_seen().await.names.len(), 50);
        clients.push(client);
    }
    fixture.pod("new", "10.2.0.1", "");
    for client in &mut clients {
        assert_eq!(
            client.next_seen().await,
            seen(&["Kubernetes//Pod/shop/new"], &[])
        );
    }
}

#[tokio::test]
async fn a_response_of_many_chunks_arrives_whole() {
    let fixture = Fixture::start().await;
    let services = (0..40).map(|i| {
        (
            ServiceKey::new("shop", &format!("s{i}.example.com")),
            Vec::new(),
        )
    });
    let services: ambit_model::ServicePorts = services.collect();
    let workload = |i: u32| Workload {
        uid: format!("c//Pod/shop/{i:05}").into(),
        addresses: vec![std::net::Ipv4Addr::from(0x0a00_0000 + i).into()],
        services: services.clone(),
        ..Workload::default()
    };
    let workloads = (0..3000).map(|i| Arc::new(workload(i))).collect();
    fixture.hub.publish(&Translated {
        workloads,
        ..Translated::default()
    });
    let mut client = fixture.client("node-a").await;
    client.subscribe(ADDRESS_TYPE, &[]).await;
    let response = client.next().await;
    assert_eq!(response.resources.len(), 3000);
    let bytes: usize = response
        .resources
        .iter()
        .map(|r| r.resource.as_ref().unwrap().value.len())
        .sum();
    assert!(bytes > 20 * crate::limits::RESPONSE_CHUNK_BYTES, "{bytes}");
}

const AMBIENT: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}\n";

async fn enrol(
    fixture: &Fixture,
    credentials: &str,
    node: &str,
) -> (
    mpsc::Sender<NodeReport>,
    Result<Streaming<ambit_proto::enrolment::EnrolmentUpdate>, Status>,
) {
    let (reports, receiver) = mpsc::channel(16);
    let hello = NodeHello {
        node: node.into(),
        version: "test".into(),
    };
    reports
        .send(NodeReport {
            report: Some(node_report::Report::Hello(hello)),
        })
        .await
        .unwrap();
    let request = fixture.authorized(credentials, ReceiverStream::new(receiver));
    let updates = EnrolmentServiceClient::new(fixture.channel.clone())
        .enrol(request)
        .await;
    (reports, updates.map(tonic::Response::into_inner))
}

async fn update(
    updates: &mut Streaming<ambit_proto::enrolment::EnrolmentUpdate>,
) -> enrolment_update::Update {
    let next = tokio::time::timeout(LONG, updates.message())
        .await
        .expect("an update in time");
    next.unwrap().unwrap().update.unwrap()
}

#[tokio::test]
async fn a_node_hears_of_its_own_pods() {
    use enrolment_update::Update;
    let mut fixture = Fixture::start().await;
    fixture.set("ns", AMBIENT);
    fixture.pod("a", "10.0.0.1", "");
    let (reports, updates) = enrol(&fixture, "node-a", "node-a").await;
    let mut updates = updates.unwrap();
    let Update::Add(pod) = update(&mut updates).await else {
        panic!()
    };
    assert_eq!(
        (pod.uid.as_str(), pod.name.as_str(), &pod.addresses[0][..]),
        ("shop/a", "a", &[10, 0, 0, 1][..])
    );
    assert!(matches!(
        update(&mut updates).await,
        Update::SnapshotComplete(_)
    ));
    let (_other_reports, other) = enrol(&fixture, "node-b", "node-b").await;
    let mut other = other.unwrap();
    assert!(
        matches!(update(&mut other).await, Update::SnapshotComplete(_)),
        "nothing of node-a's"
    );
    fixture.pod("b", "10.0.0.2", "");
    let Update::Add(pod) = update(&mut updates).await else {
        panic!()
    };
    assert_eq!(pod.uid, "shop/b");
    fixture.remove("a");
    assert_eq!(update(&mut updates).await, Update::Remove("shop/a".into()));

    let state = pod_outcome::State::Captured as i32;
    let outcome = PodOutcome {
        uid: "shop/b".into(),
        state,
        reason: String::new(),
    };
    reports
        .send(NodeReport {
            report: Some(node_report::Report::Outcome(outcome)),
        })
        .await
        .unwrap();
    let hub = fixture.hub.clone();
    let captured = || {
        hub.nodes()["node-a"].pods["shop/b"]
            .as_ref()
            .is_some_and(|o| o.state == "captured")
    };
    eventually("the outcome is known", captured).await;
    drop((reports, updates));
    let hub = fixture.hub.clone();
    eventually("it is forgotten with the agent", || {
        hub.nodes()["node-a"].pods["shop/b"].is_none()
    })
    .await;
}

#[tokio::test]
async fn a_node_cannot_pose_as_another() {
    let mut fixture = Fixture::start().await;
    fixture.set("ns", AMBIENT);
    fixture.pod("a", "10.0.0.1", "");
    let (_reports, updates) = enrol(&fixture, "node-b", "node-a").await;
    let status = match updates {
        Ok(mut updates) => updates.message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("give each node its own token"),
        "{status}"
    );
}

#[tokio::test]
async fn identities_are_those_of_the_node() {
    let mut fixture = Fixture::start().await;
    fixture.pod("a", "10.0.0.1", "");
    let identity = |account: &str| {
        format!("spiffe://cluster.local/ns/shop/sa/{account}")
            .parse()
            .unwrap()
    };
    let node = NodeName::from("node-a");
    assert!(fixture.hub.has_identity(&node, &identity("default")));
    assert!(!fixture.hub.has_identity(&node, &identity("other")));
    assert!(
        !fixture
            .hub
            .has_identity(&"node-b".into(), &identity("default"))
    );
    fixture.remove("a");
    assert!(!fixture.hub.has_identity(&node, &identity("default")));
}
