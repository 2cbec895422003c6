//! What the tunnel port answers on the wire, and how connections find another way.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::{ConnectRequest, OpenError, Opened, Pool};
use ambit_identity::{ExpectedPeers, Priority, placeholder_server_name};
use ambit_model::{
    Action, AppProtocol, ApplicationTunnel, AuthorizationPolicy, NetworkAddress, PolicyBody,
    PolicyKey, Port, Rule, Scope, Service, Workload,
};
use ambit_net::{Hop, SocketSettings, Source};
use ambit_state::Change;
use http::HeaderMap;
use support::{Agent, LocalCa, TestPod, connect, listen, two_pods};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

const BOUND: Duration = Duration::from_secs(10);

/// Pod b behind its agent, and a client of the test's own in pod a with a's identity.
struct World {
    a: TestPod,
    b: TestPod,
    agent: Agent,
    pool: Pool<SocketAddr, Rc<ambit_hbone::Error>>,
}

async fn world() -> World {
    let (a, b) = two_pods();
    let ca = LocalCa::new();
    let agent = Agent::start(&ca, 1);
    agent.apply(vec![
        Change::Workload(a.workload()),
        Change::Workload(b.workload()),
    ]);
    b.redirect();
    agent.serve(&b).await;
    World {
        a,
        b,
        agent,
        pool: Pool::new(ambit_hbone::Settings::default()),
    }
}

impl World {
    async fn open(&self, authority: &str) -> Result<Opened, u16> {
        let to = SocketAddr::new(self.b.v4, 15008);
        let request = ConnectRequest {
            authority: authority.to_owned(),
            headers: HeaderMap::new(),
        };
        let connect = || async {
            let identity = self.a.workload().identity();
            let certificates = &self.agent.mesh.certificates;
            let own = certificates
                .fetch(&identity, Priority::RealTime)
                .await
                .unwrap();
            let config = own.client_config(&ExpectedPeers::identity(&self.b.workload().identity()));
            let settings = SocketSettings::default();
            let tcp = ambit_net::connect(&self.a.netns, to, Source::Any, Hop::Network, &settings);
            let tcp = tcp.await.unwrap();
            ambit_hbone::tls::connect(tcp, config, placeholder_server_name(), BOUND)
                .await
                .map_err(Rc::new)
        };
        let opened = tokio::time::timeout(BOUND, self.pool.open(&to, connect, request)).await;
        opened
            .expect("an answer in time")
            .map_err(|error| match error {
                OpenError::Refused { status, .. } => status.as_u16(),
                other => panic!("{other}"),
            })
    }

    async fn status(&self, authority: &str) -> u16 {
        self.open(authority).await.err().unwrap_or(200)
    }
}

#[tokio::test]
async fn statuses_are_exact_and_the_answer_describes_the_workload() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let world = world().await;
            let own = |port: u16| SocketAddr::new(world.b.v4, port).to_string();
            for (authority, status) in [
                ("nonsense".to_owned(), 400),
                (format!("{}:0", world.b.v4), 400),
                (format!("{}:8080", world.a.v4), 400),
                ("10.77.0.1:8080".to_owned(), 400),
                ("unknown.example.com:80".to_owned(), 400),
                (own(15001), 400),
                (own(15006), 400),
                (own(15008), 400),
                (own(9), 503),
            ] {
                assert_eq!(world.status(&authority).await, status, "{authority}");
            }
            let listener = listen(&world.b, world.b.v4, 8080);
            let opened = world.open(&own(8080)).await.unwrap();
            let baggage = opened.headers["baggage"].to_str().unwrap();
            assert!(baggage.contains("k8s.namespace.name=test"), "{baggage}");
            assert!(baggage.contains("service.name=b"), "{baggage}");
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip(), world.a.v4);
            world.agent.apply(vec![Change::Policy(AuthorizationPolicy {
                key: PolicyKey::new("test", "nobody"),
                scope: Scope::Namespace,
                action: Action::Deny,
                dry_run: false,
                body: PolicyBody::Rules(vec![Rule::default()]),
            })]);
            assert_eq!(world.status(&own(8080)).await, 401);
            let metrics = world.agent.metrics();
            assert!(metrics.contains("bad_authority"), "{metrics}");
            assert!(metrics.contains("bad_destination"), "{metrics}");
        })
        .await;
}

#[tokio::test]
async fn a_policy_that_is_referred_to_but_unknown_denies() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let world = world().await;
            let _listener = listen(&world.b, world.b.v4, 8080);
            let missing = PolicyKey::new("test", "missing");
            let referring = Workload {
                policies: vec![missing],
                ..world.b.workload()
            };
            world.agent.apply(vec![Change::Workload(referring)]);
            let authority = SocketAddr::new(world.b.v4, 8080).to_string();
            assert_eq!(world.status(&authority).await, 401);
        })
        .await;
}

#[tokio::test]
async fn an_application_tunnel_is_told_who_the_client_is() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let world = world().await;
            let tunnel = ApplicationTunnel {
                proxy_protocol: true,
                port: Some(9000),
            };
            let sandwiched = Workload {
                application_tunnel: Some(tunnel),
                ..world.b.workload()
            };
            world.agent.apply(vec![Change::Workload(sandwiched)]);
            let listener = listen(&world.b, [127, 0, 0, 1], 9000);
            let authority = SocketAddr::new(world.b.v4, 8080).to_string();
            let mut opened = world.open(&authority).await.unwrap();
            opened.stream.write_all(b"after").await.unwrap();
            opened.stream.shutdown().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            tokio::time::timeout(BOUND, stream.read_to_end(&mut bytes))
                .await
                .unwrap()
                .unwrap();
            assert!(bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "{bytes:?}");
            let text = String::from_utf8_lossy(&bytes);
            assert!(
                text.contains("spiffe://cluster.local/ns/test/sa/a"),
                "{text}"
            );
            assert!(bytes.ends_with(b"after"), "{text}");
        })
        .await;
}

/// A service of b and of an endpoint that is not what discovery says: connections to it fail, and
/// none of the client's do.
#[tokio::test]
async fn a_failing_endpoint_is_passed_over_before_any_byte() {
    let (a, b) = two_pods();
    let ca = LocalCa::new();
    let (client, server) = (Agent::start(&ca, 2), Agent::start(&ca, 1));
    support::run_in(&b.netns, "ip addr add 10.9.0.3/24 dev eth0");
    let port = Port {
        service_port: 80,
        target_port: 8080,
        app_protocol: AppProtocol::Unknown,
    };
    let vip: SocketAddr = "10.8.0.1:80".parse().unwrap();
    let service = Service {
        name: "web".into(),
        namespace: "test".into(),
        hostname: "web.test".into(),
        addresses: vec![NetworkAddress {
            network: "".into(),
            address: vip.ip(),
        }],
        ports: vec![port],
        ..Service::default()
    };
    let endpoint = |workload: Workload| {
        let services = [(service.key(), vec![port])].into_iter().collect();
        Change::Workload(Workload {
            services,
            ..workload
        })
    };
    let impostor = Workload {
        uid: "Kubernetes//Pod/test/c".into(),
        name: "c".into(),
        service_account: "c".into(),
        addresses: vec!["10.9.0.3".parse().unwrap()],
        ..b.workload()
    };
    for agent in [&client, &server] {
        agent.apply(vec![
            Change::Service(service.clone()),
            Change::Workload(a.workload()),
            endpoint(b.workload()),
            endpoint(impostor.clone()),
        ]);
    }
    a.redirect();
    b.redirect();
    client.serve(&a).await;
    server.serve(&b).await;
    let listener = Arc::new(listen(&b, b.v4, 8080));
    for _ in 0..12 {
        let mut stream = connect(&a, vip).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let (mut served, _) = tokio::time::timeout(BOUND, listener.accept())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(served.read_u8().await.unwrap(), b'x');
    }
    let retries = client.metrics().lines().find_map(|line| {
        line.strip_prefix("ambit_connect_retries_total ")?
            .parse::<f64>()
            .ok()
    });
    assert!(retries.is_some_and(|count| count >= 1.0), "{retries:?}");
}
