//! The data path between two pods with an agent each.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::{
    Action, AuthorizationPolicy, Clause, Match, PolicyBody, PolicyKey, Rule, Scope, StringMatch,
};
use ambit_state::Change;
use support::{Agent, LocalCa, TestPod, connect, listen, two_pods, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BOUND: Duration = Duration::from_secs(10);

struct World {
    ca: Arc<LocalCa>,
    a: TestPod,
    b: TestPod,
    client: Agent,
    server: Agent,
}

async fn world() -> World {
    let (a, b) = two_pods();
    let ca = LocalCa::new();
    let (client, server) = (Agent::start(&ca, 2), Agent::start(&ca, 2));
    for agent in [&client, &server] {
        agent.apply(vec![
            Change::Workload(a.workload()),
            Change::Workload(b.workload()),
        ]);
    }
    a.redirect();
    b.redirect();
    client.serve(&a).await;
    server.serve(&b).await;
    World {
        a,
        b,
        client,
        server,
        ca,
    }
}

/// The same world with capture programs instead of rules.
async fn captured_world(directory: &str) -> World {
    let (a, b) = two_pods();
    let ca = LocalCa::new();
    let agent = |side| {
        let directory = format!(
            "/sys/fs/bpf/ambit-test-{directory}-{side}-{}",
            std::process::id()
        );
        let options = ambit_ebpf::Options {
            directory: directory.into(),
            ..Default::default()
        };
        Agent::start_with(&ca, 2, Some(ambit_ebpf::Capture::open(options).unwrap()))
    };
    let (client, server) = (agent("a"), agent("b"));
    for agent in [&client, &server] {
        agent.apply(vec![
            Change::Workload(a.workload()),
            Change::Workload(b.workload()),
        ]);
    }
    client.serve(&a).await;
    server.serve(&b).await;
    World {
        a,
        b,
        client,
        server,
        ca,
    }
}

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> Change {
    Change::Policy(AuthorizationPolicy {
        key: PolicyKey::new("test", name),
        scope: Scope::Namespace,
        action,
        dry_run: false,
        body: PolicyBody::Rules(rules),
    })
}

fn from_principal(principal: &str) -> Rule {
    let one = Match {
        principals: vec![StringMatch::Exact(principal.into())],
        ..Match::default()
    };
    Rule {
        clauses: vec![Clause { matches: vec![one] }],
    }
}

/// Fails unless a connection is refused, be it at once or with its first byte.
async fn refused(from: &TestPod, to: SocketAddr) {
    let Ok(mut stream) = connect(from, to).await else {
        return;
    };
    let end = tokio::time::timeout(BOUND, stream.read_u8())
        .await
        .expect("an answer in time");
    let error = end.expect_err("nothing comes of a refused connection");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn captured_bytes_go_through_the_tunnel_and_the_source_address_stays() {
    bytes_go_both_ways(captured_world("bytes").await).await;
}

#[tokio::test]
async fn redirected_bytes_go_through_the_tunnel_and_the_source_address_stays() {
    bytes_go_both_ways(world().await).await;
}

async fn bytes_go_both_ways(world: World) {
    for address in [world.b.v4, world.b.v6] {
        let listener = listen(&world.b, address, 8080);
        let server = tokio::spawn(async move {
            let (mut stream, peer) = listener.accept().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            stream
                .write_all(format!("{text} heard").as_bytes())
                .await
                .unwrap();
            peer
        });
        let exchange = async {
            let mut stream = connect(&world.a, SocketAddr::new(address, 8080))
                .await
                .unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        let text = tokio::time::timeout(BOUND, exchange).await.unwrap();
        assert_eq!(text, "hello heard");
        let peer = server.await.unwrap();
        let expected = if address.is_ipv4() {
            world.a.v4
        } else {
            world.a.v6
        };
        assert_eq!(peer.ip(), expected);
    }
    let metrics = world.server.metrics();
    let line = metrics
        .lines()
        .find(|line| line.starts_with("istio_tcp_connections_opened_total"))
        .unwrap();
    assert!(
        line.contains("connection_security_policy=\"mutual_tls\""),
        "{line}"
    );
    assert!(
        line.contains("source_principal=\"spiffe://cluster.local/ns/test/sa/a\""),
        "{line}"
    );
}

#[tokio::test]
async fn a_policy_denies_by_identity_and_cuts_live_connections() {
    let world = world().await;
    let listener = listen(&world.b, world.b.v4, 8080);
    let to = SocketAddr::new(world.b.v4, 8080);
    let mut live = connect(&world.a, to).await.unwrap();
    let (mut served, _) = tokio::time::timeout(BOUND, listener.accept())
        .await
        .unwrap()
        .unwrap();
    served.write_all(b"x").await.unwrap();
    assert_eq!(live.read_u8().await.unwrap(), b'x');
    let a = "cluster.local/ns/test/sa/a";
    world
        .server
        .apply(vec![policy("no-a", Action::Deny, vec![from_principal(a)])]);
    let cut = tokio::time::timeout(BOUND, live.read_u8())
        .await
        .expect("cut in time");
    cut.expect_err("the live connection is cut");
    refused(&world.a, to).await;
    let metrics = world.server.metrics();
    assert!(metrics.contains("response_flags=\"DENY\""), "{metrics}");
    assert!(metrics.contains("test/no-a"), "{metrics}");
    world
        .server
        .apply(vec![Change::RemovePolicy(PolicyKey::new("test", "no-a"))]);
    let _allowed = connect(&world.a, to).await.unwrap();
    tokio::time::timeout(BOUND, listener.accept())
        .await
        .expect("allowed again")
        .unwrap();
}

#[tokio::test]
async fn plaintext_arrives_with_its_source_and_is_denied_without_an_identity() {
    let world = world().await;
    world.client.release(&world.a).await;
    support::run_in(&world.a.netns, "nft delete table inet mesh");
    let listener = listen(&world.b, world.b.v4, 8080);
    let to = SocketAddr::new(world.b.v4, 8080);
    let _stream = connect(&world.a, to).await.unwrap();
    let (_, peer) = tokio::time::timeout(BOUND, listener.accept())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(peer.ip(), world.a.v4);
    let everyone = Match {
        principals: vec![StringMatch::Presence],
        ..Match::default()
    };
    let rule = Rule {
        clauses: vec![Clause {
            matches: vec![everyone],
        }],
    };
    world
        .server
        .apply(vec![policy("strict", Action::Allow, vec![rule])]);
    refused(&world.a, to).await;
}

#[tokio::test]
async fn unknown_destinations_are_passed_through_and_the_agents_ports_are_not() {
    let world = world().await;
    world.server.release(&world.b).await;
    support::run_in(&world.b.netns, "nft delete table inet mesh");
    for agent in [&world.client, &world.server] {
        agent.apply(vec![Change::RemoveAddress("Kubernetes//Pod/test/b".into())]);
    }
    let listener = listen(&world.b, world.b.v4, 8080);
    let _stream = connect(&world.a, SocketAddr::new(world.b.v4, 8080))
        .await
        .unwrap();
    tokio::time::timeout(BOUND, listener.accept())
        .await
        .unwrap()
        .unwrap();
    for port in [15001, 15006] {
        refused(&world.a, SocketAddr::new(world.a.v4, port)).await;
    }
}

#[tokio::test]
async fn a_released_pod_loses_its_connections_and_a_drained_agent_waits_for_them() {
    let world = world().await;
    let listener = listen(&world.b, world.b.v4, 8080);
    let to = SocketAddr::new(world.b.v4, 8080);
    let mut stream = connect(&world.a, to).await.unwrap();
    let (mut served, _) = tokio::time::timeout(BOUND, listener.accept())
        .await
        .unwrap()
        .unwrap();
    let pods = Arc::clone(&world.server.pods);
    let draining = tokio::spawn(async move { pods.drain(BOUND).await });
    // Still carried while draining.
    served.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    drop((stream, served));
    let cut = tokio::time::timeout(BOUND, draining)
        .await
        .expect("drained early")
        .unwrap();
    assert_eq!(cut, 0);
    let client = &world.client;
    until("the client's connection ends", || {
        client
            .pods
            .list()
            .iter()
            .all(|pod| pod.connections.is_empty())
    })
    .await;
}

#[tokio::test]
async fn a_revoked_certificate_cuts_live_tunnels_at_both_ends() {
    for at_the_server in [true, false] {
        let world = world().await;
        let listener = listen(&world.b, world.b.v4, 8080);
        let to = SocketAddr::new(world.b.v4, 8080);
        let mut live = connect(&world.a, to).await.unwrap();
        let accepted = tokio::time::timeout(BOUND, listener.accept()).await;
        let (mut served, _) = accepted.unwrap().unwrap();
        served.write_all(b"x").await.unwrap();
        assert_eq!(live.read_u8().await.unwrap(), b'x');
        // Each agent has its own certificates; the one revoked is the other side's.
        let (judge, revoked, pod) = if at_the_server {
            (&world.server, &world.client, &world.a)
        } else {
            (&world.client, &world.server, &world.b)
        };
        let identity = pod.workload().identity();
        let certificate = revoked.mesh.certificates.cached(&identity).unwrap();
        let lists = world.ca.revoke(certificate.serial());
        judge.mesh.certificates.tls().trust().set_revocations(lists);
        let cut = tokio::time::timeout(BOUND, live.read_u8()).await;
        cut.expect("cut in time")
            .expect_err("the live connection is cut");
        refused(&world.a, to).await;
        until("the record of the cut", || {
            judge.metrics().contains("response_flags=\"CERT_REVOKED\"")
        })
        .await;
    }
}

#[tokio::test]
async fn capture_and_a_cni_agents_rules_may_be_there_at_once() {
    let (a, b) = two_pods();
    let options = ambit_ebpf::Options {
        directory: format!("/sys/fs/bpf/ambit-test-both-{}", std::process::id()).into(),
        ..ambit_ebpf::Options::default()
    };
    let capture = ambit_ebpf::Capture::open(options).unwrap();
    let agent = Agent::start_with(&LocalCa::new(), 1, Some(capture));
    agent.apply(vec![
        Change::Workload(a.workload()),
        Change::Workload(b.workload()),
    ]);
    b.redirect();
    agent.serve(&b).await;
    for address in [b.v4, b.v6] {
        let listener = listen(&b, address, 8080);
        let client = connect(&a, SocketAddr::new(address, 8080)).await.unwrap();
        let accepted = tokio::time::timeout(BOUND, listener.accept()).await;
        let (_served, peer) = accepted.expect("it arrives").unwrap();
        assert_eq!(peer.ip(), client.local_addr().unwrap().ip());
    }
}

#[tokio::test]
async fn a_port_nobody_listens_on_is_refused_at_once() {
    let world = captured_world("closed").await;
    for address in [world.b.v4, world.b.v6] {
        let began = std::time::Instant::now();
        refused(&world.a, SocketAddr::new(address, 8099)).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{address}");
    }
}
