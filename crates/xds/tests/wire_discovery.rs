//! The client against a scripted discovery server over a real connection.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ambit_proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use ambit_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use ambit_xds::{
    Client, Config, DemandError, Events, Found, Mode, NodeDescription, Rejected, Subscription,
    Termination, Update, connector,
};
use prost_types::Any;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::metadata::MetadataMap;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

const THINGS: &str = "type.googleapis.com/test.Thing";
const OTHERS: &str = "type.googleapis.com/test.Other";
const LIMIT: Duration = Duration::from_secs(10);

/// One stream, in the hands of the test.
struct Session {
    metadata: MetadataMap,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

impl Session {
    async fn next(&mut self) -> DeltaDiscoveryRequest {
        within(self.requests.message())
            .await
            .unwrap()
            .expect("the client ended the stream")
    }

    async fn send(&self, response: DeltaDiscoveryResponse) {
        within(self.responses.send(Ok(response))).await.unwrap();
    }

    async fn fail(self, status: Status) {
        self.responses.send(Err(status)).await.unwrap();
    }
}

struct Sessions(mpsc::Sender<Session>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Sessions {
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, stream) = mpsc::channel(64);
        let metadata = request.metadata().clone();
        let session = Session {
            metadata,
            requests: request.into_inner(),
            responses,
        };
        self.0
            .send(session)
            .await
            .map_err(|_| Status::unavailable("test over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

#[derive(Default)]
struct Counters {
    connected: AtomicUsize,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    rejected: AtomicUsize,
    ended: parking_lot::Mutex<Vec<Termination>>,
}

impl Events for Counters {
    fn connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }
    fn terminated(&self, reason: Termination) {
        self.ended.lock().push(reason);
    }
    fn message(&self, type_url: &str, bytes: usize) {
        assert!(type_url == THINGS || type_url == OTHERS, "{type_url}");
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    fn rejected(&self, _type_url: &str, resources: usize) {
        self.rejected.fetch_add(resources, Ordering::Relaxed);
    }
}

/// What the handler holds: name to body. Refuses bodies that say so.
type Store = watch::Sender<BTreeMap<String, String>>;

fn handler(store: Arc<Store>) -> impl FnMut(Update) -> Vec<Rejected> + Send + 'static {
    move |update| {
        let mut rejected = Vec::new();
        store.send_modify(|map| {
            for resource in update.resources {
                let body = String::from_utf8(resource.body.to_vec()).unwrap();
                if body == "bad" {
                    rejected.push(Rejected {
                        name: resource.name,
                        reason: "body: \"bad\" is not good".into(),
                    });
                } else {
                    map.insert(resource.name, body);
                }
            }
            for name in update.removed {
                map.remove(&name);
            }
        });
        rejected
    }
}

struct Bench {
    address: SocketAddr,
    sessions: mpsc::Receiver<Session>,
    store: Arc<Store>,
    subscription: Subscription,
    events: Arc<Counters>,
    stop: oneshot::Sender<()>,
    client: JoinHandle<()>,
    server: JoinHandle<()>,
    server_stop: oneshot::Sender<()>,
}

impl Bench {
    async fn start(mode: Mode, config: Config) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (session, sessions) = mpsc::channel(8);
        let (server_stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            Server::builder()
                .add_service(AggregatedDiscoveryServiceServer::new(Sessions(session)))
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                    let _stopped = stopped.await;
                })
                .await
                .unwrap();
        });
        let store = Arc::new(Store::default());
        let events = Arc::new(Counters::default());
        let connect = connector(move || async move {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
            Ok(endpoint.connect().await?)
        });
        let mut client = Client::new(config, connect, Arc::clone(&events) as _);
        let subscription = client.subscribe(THINGS, mode, handler(Arc::clone(&store)));
        let (stop, stopped) = oneshot::channel::<()>();
        let client = tokio::spawn(client.run(async {
            let _stopped = stopped.await;
        }));
        Self {
            address,
            sessions,
            store,
            subscription,
            events,
            stop,
            client,
            server,
            server_stop,
        }
    }

    async fn session(&mut self) -> Session {
        within(self.sessions.recv()).await.unwrap()
    }

    async fn holds(&self, wanted: &[(&str, &str)]) {
        let wanted: BTreeMap<String, String> = wanted
            .iter()
            .map(|(name, body)| ((*name).into(), (*body).into()))
            .collect();
        let mut store = self.store.subscribe();
        let held = tokio::time::timeout(LIMIT, store.wait_for(|map| *map == wanted)).await;
        if held.is_err() {
            panic!("holds {:?}, not {wanted:?}", *self.store.borrow());
        }
    }

    async fn end(self) {
        drop(self.stop);
        within(self.client).await.unwrap();
        drop((self.server_stop, self.sessions));
        within(self.server).await.unwrap();
        drop((self.address, self.events));
    }
}

fn thing(name: &str, version: &str, body: &str) -> Resource {
    Resource {
        name: name.into(),
        version: version.into(),
        resource: Some(Any {
            type_url: THINGS.into(),
            value: body.as_bytes().to_vec(),
        }),
        ..Default::default()
    }
}

fn push(nonce: &str, resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: THINGS.into(),
        nonce: nonce.into(),
        resources,
        removed_resources: removed.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn versions(request: &DeltaDiscoveryRequest) -> BTreeMap<&str, &str> {
    request
        .initial_resource_versions
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect()
}

#[tokio::test]
async fn the_first_message_says_who_and_what() {
    let token = Arc::new(AtomicUsize::new(7));
    let read = Arc::clone(&token);
    let config = Config {
        node: NodeDescription {
            id: "ztunnel~10.0.0.1~a.b~c".into(),
            metadata: BTreeMap::from([("NODE_NAME".into(), "n1".into())]),
            ..NodeDescription::default()
        },
        headers: Arc::new(move |metadata| {
            let value = format!("Bearer {}", read.load(Ordering::Relaxed));
            metadata.insert("authorization", value.parse().unwrap());
            Ok(())
        }),
        ..Config::default()
    };
    let mut bench = Bench::start(Mode::Wildcard, config).await;
    let mut session = bench.session().await;
    assert_eq!(session.metadata.get("authorization").unwrap(), "Bearer 7");
    let first = session.next().await;
    let node = first.node.unwrap();
    assert_eq!(node.id, "ztunnel~10.0.0.1~a.b~c");
    assert!(node.metadata.unwrap().fields.contains_key("NODE_NAME"));
    assert_eq!(first.type_url, THINGS);
    assert!(
        first.resource_names_subscribe.is_empty() && first.resource_names_unsubscribe.is_empty()
    );
    assert!(first.response_nonce.is_empty() && first.initial_resource_versions.is_empty());
    // The token is read again for each stream.
    token.store(8, Ordering::Relaxed);
    drop(session);
    let session = bench.session().await;
    assert_eq!(session.metadata.get("authorization").unwrap(), "Bearer 8");
    drop(session);
    bench.end().await;
}

#[tokio::test]
async fn what_was_applied_is_acknowledged_and_counted() {
    let mut bench = Bench::start(Mode::Wildcard, Config::default()).await;
    let mut session = bench.session().await;
    session.next().await;
    assert!(!bench.subscription.is_synced());
    session
        .send(push(
            "1",
            vec![thing("a", "1", "A"), thing("b", "1", "B")],
            &[],
        ))
        .await;
    let ack = session.next().await;
    // In effect before it is acknowledged.
    assert_eq!(bench.store.borrow().len(), 2);
    assert_eq!(ack.response_nonce, "1");
    assert!(ack.error_detail.is_none() && ack.node.is_none());
    assert!(ack.resource_names_subscribe.is_empty() && ack.initial_resource_versions.is_empty());
    assert!(within(bench.subscription.synced()).await);

    session
        .send(push("2", vec![thing("a", "2", "AA")], &["b"]))
        .await;
    assert_eq!(session.next().await.response_nonce, "2");
    bench.holds(&[("a", "AA")]).await;
    assert_eq!(bench.events.messages.load(Ordering::Relaxed), 2);
    assert_eq!(bench.events.bytes.load(Ordering::Relaxed), 4);
    assert_eq!(bench.events.connected.load(Ordering::Relaxed), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_bad_resource_rejects_only_itself_and_is_named() {
    let mut bench = Bench::start(Mode::Wildcard, Config::default()).await;
    let mut session = bench.session().await;
    session.next().await;
    let mut foreign = thing("foreign", "1", "x");
    foreign.resource.as_mut().unwrap().type_url = OTHERS.into();
    let empty = Resource {
        name: "empty".into(),
        ..Default::default()
    };
    session
        .send(push(
            "1",
            vec![thing("a", "1", "A"), thing("b", "1", "bad"), foreign, empty],
            &[],
        ))
        .await;
    let nack = session.next().await;
    assert_eq!(nack.response_nonce, "1");
    let detail = nack.error_detail.unwrap();
    assert_eq!(detail.code, 3);
    assert!(
        detail.message.contains("b: body: \"bad\" is not good"),
        "{}",
        detail.message
    );
    assert!(
        detail.message.contains("foreign: its type is"),
        "{}",
        detail.message
    );
    assert!(
        detail.message.contains("empty: it has no content"),
        "{}",
        detail.message
    );
    bench.holds(&[("a", "A")]).await;
    assert_eq!(bench.events.rejected.load(Ordering::Relaxed), 3);
    // A refused change leaves the earlier version in force, and that is what is resumed.
    session
        .send(push("2", vec![thing("a", "2", "bad")], &[]))
        .await;
    assert!(session.next().await.error_detail.is_some());
    bench.holds(&[("a", "A")]).await;
    session.fail(Status::unavailable("bye")).await;
    let mut session = bench.session().await;
    assert_eq!(
        versions(&session.next().await),
        BTreeMap::from([("a", "1")])
    );
    bench.end().await;
}

#[tokio::test]
async fn a_new_connection_resumes_where_the_old_one_ended() {
    let mut bench = Bench::start(Mode::Wildcard, Config::default()).await;
    let mut session = bench.session().await;
    session.next().await;
    let first = vec![
        thing("a", "1", "A"),
        thing("b", "1", "B"),
        thing("c", "1", "C"),
    ];
    session.send(push("1", first, &[])).await;
    session.next().await;
    session
        .send(push("2", vec![thing("b", "2", "BB")], &["c"]))
        .await;
    session.next().await;
    drop(session);

    let mut session = bench.session().await;
    let first = session.next().await;
    assert!(first.node.is_some());
    assert_eq!(versions(&first), BTreeMap::from([("a", "1"), ("b", "2")]));
    // Meanwhile "a" went away and "d" came.
    session
        .send(push("1", vec![thing("d", "1", "D")], &["a"]))
        .await;
    session.next().await;
    bench.holds(&[("b", "BB"), ("d", "D")]).await;
    assert_eq!(*bench.events.ended.lock(), [Termination::Complete]);
    bench.end().await;
}

#[tokio::test]
async fn ends_are_told_apart() {
    let mut bench = Bench::start(Mode::Wildcard, Config::default()).await;
    for status in [
        Status::unavailable("restart"),
        Status::permission_denied("who are you"),
    ] {
        let mut session = bench.session().await;
        session.next().await;
        session.fail(status).await;
    }
    drop(bench.session().await);
    let last = bench.session().await;
    let ended = bench.events.ended.lock().clone();
    assert_eq!(
        ended,
        [
            Termination::Reconnect,
            Termination::Error,
            Termination::Complete
        ]
    );
    drop(last);
    bench.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again_ever_more_slowly() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (attempt, mut attempts) = mpsc::channel(64);
    let connect = connector(move || {
        let attempt = attempt.clone();
        async move {
            attempt.send(tokio::time::Instant::now()).await?;
            Ok(Endpoint::from_shared(format!("http://{address}"))?
                .connect()
                .await?)
        }
    });
    let events = Arc::new(Counters::default());
    let mut client = Client::new(Config::default(), connect, Arc::clone(&events) as _);
    let subscription = client.subscribe(THINGS, Mode::Wildcard, |_| Vec::new());
    let (stop, stopped) = oneshot::channel::<()>();
    let client = tokio::spawn(client.run(async {
        let _stopped = stopped.await;
    }));
    let mut at = Vec::new();
    for _ in 0..7 {
        at.push(within(attempts.recv()).await.unwrap());
    }
    // 10 ms doubled five times, of which at least half is waited.
    assert!(at[6] - at[5] >= Duration::from_millis(160), "{at:?}");
    assert!(
        events
            .ended
            .lock()
            .iter()
            .all(|end| *end == Termination::ConnectionError)
    );
    drop(stop);
    within(client).await.unwrap();
    assert!(!within(subscription.synced()).await);
}

#[tokio::test]
async fn on_demand_starts_with_nothing_and_asks_once() {
    let mut bench = Bench::start(Mode::OnDemand, Config::default()).await;
    let mut session = bench.session().await;
    let first = session.next().await;
    assert_eq!(first.resource_names_subscribe, ["*"]);
    assert_eq!(first.resource_names_unsubscribe, ["*"]);
    let demand = bench.subscription.demand().unwrap().clone();
    let waits: Vec<_> = (0..10)
        .map(|_| {
            let demand = demand.clone();
            tokio::spawn(async move { demand.fetch("/10.0.0.9").await })
        })
        .collect();
    let asked = session.next().await;
    assert_eq!(asked.resource_names_subscribe, ["/10.0.0.9"]);
    assert!(asked.response_nonce.is_empty());
    // The server names the resource otherwise and gives what was asked for as its alias.
    let mut resource = thing("cluster//Pod/ns/x", "1", "X");
    resource.aliases = vec!["/10.0.0.9".into(), "/fd00::9".into()];
    session.send(push("1", vec![resource], &[])).await;
    for wait in waits {
        assert_eq!(within(wait).await.unwrap(), Ok(Found::Present));
    }
    assert_eq!(session.next().await.response_nonce, "1");
    // Known by now under all its names: nobody is asked.
    for name in ["/10.0.0.9", "/fd00::9", "cluster//Pod/ns/x"] {
        assert_eq!(within(demand.fetch(name)).await, Ok(Found::Present));
    }

    // Asked again after a reconnect, and resumed.
    drop(session);
    let mut session = bench.session().await;
    let first = session.next().await;
    assert_eq!(first.resource_names_subscribe, ["*", "/10.0.0.9"]);
    assert_eq!(
        versions(&first),
        BTreeMap::from([("cluster//Pod/ns/x", "1")])
    );
    // Gone under the name it was asked for by.
    session.send(push("1", vec![], &["/10.0.0.9"])).await;
    session.next().await;
    bench.holds(&[]).await;
    bench.end().await;
}

#[tokio::test]
async fn an_address_that_moves_to_another_pod_is_found_there() {
    let mut bench = Bench::start(Mode::OnDemand, Config::default()).await;
    let mut session = bench.session().await;
    session.next().await;
    let with_address = |name: &str| {
        let mut resource = thing(name, "1", name);
        resource.aliases = vec!["/10.0.0.9".into()];
        resource
    };
    session
        .send(push("1", vec![with_address("old")], &[]))
        .await;
    session.next().await;
    session
        .send(push("2", vec![with_address("new")], &["old"]))
        .await;
    session.next().await;
    let demand = bench.subscription.demand().unwrap();
    assert_eq!(within(demand.fetch("/10.0.0.9")).await, Ok(Found::Present));
    bench.holds(&[("new", "new")]).await;
    bench.end().await;
}

#[tokio::test]
async fn what_does_not_exist_is_remembered_until_it_does() {
    let mut bench = Bench::start(Mode::OnDemand, Config::default()).await;
    let mut session = bench.session().await;
    session.next().await;
    let demand = bench.subscription.demand().unwrap().clone();
    let asking = demand.clone();
    let wait = tokio::spawn(async move { asking.fetch("x").await });
    assert_eq!(session.next().await.resource_names_subscribe, ["x"]);
    session.send(push("1", vec![], &["x"])).await;
    assert_eq!(within(wait).await.unwrap(), Ok(Found::Absent));
    session.next().await;
    assert_eq!(within(demand.fetch("x")).await, Ok(Found::Absent));
    session
        .send(push("2", vec![thing("x", "1", "X")], &[]))
        .await;
    session.next().await;
    assert_eq!(within(demand.fetch("x")).await, Ok(Found::Present));
    // No longer wanted: the subscription ends.
    demand.forget("x");
    assert_eq!(session.next().await.resource_names_unsubscribe, ["x"]);
    bench.end().await;
}

#[tokio::test]
async fn a_refused_resource_is_not_found() {
    let mut bench = Bench::start(Mode::OnDemand, Config::default()).await;
    let mut session = bench.session().await;
    session.next().await;
    let demand = bench.subscription.demand().unwrap().clone();
    let wait = tokio::spawn(async move { demand.fetch("x").await });
    session.next().await;
    session
        .send(push("1", vec![thing("x", "1", "bad")], &[]))
        .await;
    assert_eq!(
        within(wait).await.unwrap(),
        Err(DemandError::Rejected("x".into()))
    );
    assert!(session.next().await.error_detail.is_some());
    bench.end().await;
}

#[tokio::test]
async fn unanswered_wishes_end_and_are_cleaned_up() {
    let config = Config {
        demand_timeout: Duration::from_millis(100),
        ..Config::default()
    };
    let mut bench = Bench::start(Mode::OnDemand, config).await;
    let mut session = bench.session().await;
    session.next().await;
    let demand = bench.subscription.demand().unwrap().clone();
    let error = within(demand.fetch("x")).await.unwrap_err();
    assert!(matches!(error, DemandError::Timeout { .. }), "{error}");
    assert_eq!(session.next().await.resource_names_subscribe, ["x"]);
    assert_eq!(session.next().await.resource_names_unsubscribe, ["x"]);
    drop(session);
    let mut session = bench.session().await;
    assert_eq!(session.next().await.resource_names_subscribe, ["*"]);
    bench.end().await;
}

#[tokio::test]
async fn what_is_asked_for_without_a_connection_is_asked_with_the_next() {
    let config = Config {
        backoff_initial: Duration::from_millis(400),
        demand_timeout: LIMIT,
        ..Config::default()
    };
    let mut bench = Bench::start(Mode::OnDemand, config).await;
    drop(bench.session().await);
    let demand = bench.subscription.demand().unwrap().clone();
    let wait = tokio::spawn(async move { demand.fetch("x").await });
    let mut session = bench.session().await;
    let mut asked = session.next().await.resource_names_subscribe;
    if asked == ["*"] {
        // The wish came when the connection was there already.
        asked = session.next().await.resource_names_subscribe;
    }
    assert_eq!(asked.last().unwrap(), "x");
    session
        .send(push("1", vec![thing("x", "1", "X")], &[]))
        .await;
    assert_eq!(within(wait).await.unwrap(), Ok(Found::Present));
    bench.end().await;
}

#[tokio::test]
async fn several_types_are_asked_for_in_order_and_kept_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (session, mut sessions) = mpsc::channel(8);
    let server = tokio::spawn(async move {
        Server::builder()
            .add_service(AggregatedDiscoveryServiceServer::new(Sessions(session)))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
    });
    let connect = connector(move || async move {
        Ok(Endpoint::from_shared(format!("http://{address}"))?
            .connect()
            .await?)
    });
    let mut client = Client::new(Config::default(), connect, Arc::new(ambit_xds::NoEvents));
    let (things, others) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let one = client.subscribe(THINGS, Mode::Wildcard, handler(Arc::clone(&things)));
    let two = client.subscribe(OTHERS, Mode::Wildcard, handler(Arc::clone(&others)));
    let (stop, stopped) = oneshot::channel::<()>();
    let client = tokio::spawn(client.run(async {
        let _stopped = stopped.await;
    }));
    let mut session = within(sessions.recv()).await.unwrap();
    let (first, second) = (session.next().await, session.next().await);
    assert_eq!(
        (first.type_url.as_str(), second.type_url.as_str()),
        (THINGS, OTHERS)
    );
    assert!(first.node.is_some() && second.node.is_none());
    session
        .send(push("1", vec![thing("a", "1", "A")], &[]))
        .await;
    assert!(within(one.synced()).await);
    assert!(!two.is_synced());
    // A type that nobody asked for is passed over.
    let stray = DeltaDiscoveryResponse {
        type_url: "x".into(),
        ..push("9", vec![], &[])
    };
    session.send(stray).await;
    let mut other = thing("a", "5", "O");
    other.resource.as_mut().unwrap().type_url = OTHERS.into();
    session
        .send(DeltaDiscoveryResponse {
            type_url: OTHERS.into(),
            ..push("2", vec![other], &[])
        })
        .await;
    assert!(within(two.synced()).await);
    let (first, second) = (session.next().await, session.next().await);
    assert_eq!(
        (
            first.response_nonce.as_str(),
            second.response_nonce.as_str()
        ),
        ("1", "2")
    );
    assert_eq!(others.borrow()["a"], "O");
    assert_eq!(things.borrow()["a"], "A");
    drop(stop);
    within(client).await.unwrap();
    server.abort();
}

#[tokio::test]
async fn a_server_that_never_reads_does_not_fill_the_memory() {
    let mut bench = Bench::start(Mode::Wildcard, Config::default()).await;
    let session = bench.session().await;
    // More than any buffer between the two ends holds; none of the answers is read.
    let padding = "x".repeat(1000);
    let mut sent = 0_usize;
    for n in 0..200_000 {
        let response = push(&format!("{n}{padding}"), vec![], &[]);
        let sending = session.responses.send(Ok(response));
        if tokio::time::timeout(Duration::from_secs(2), sending)
            .await
            .is_err()
        {
            break;
        }
        sent = n;
    }
    assert!(sent < 199_999, "the client took everything");
    // And it still ends when it is told to.
    drop(bench.stop);
    within(bench.client).await.unwrap();
    bench.server.abort();
}
