//! Real queries by UDP and TCP in a real network namespace, with a scripted server upstream.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ambit_model::{PodUid, WorkloadUid};
use ambit_net::Netns;
use ambit_state::Change;
use ambit_telemetry::Metrics;
use hickory_proto::op::{Message, MessageType, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::capture::{PodInfo, PodRuntime as _, PodSpec, StopReason};
use crate::control::local;

const STATE: &str = r#"
workloads:
- {name: web-0, namespace: shop, workloadIps: [10.0.0.1, "fd00::1"], services: {"shop/web.shop.svc.cluster.local": {80: 80}, "shop/db.shop.svc.cluster.local": {5432: 5432}}}
- {name: web-1, namespace: shop, workloadIps: [10.0.0.2], services: {"shop/web.shop.svc.cluster.local": {80: 80}, "shop/db.shop.svc.cluster.local": {5432: 5432}}}
- {name: web-2, namespace: shop, workloadIps: [10.0.0.3], status: Unhealthy, services: {"shop/db.shop.svc.cluster.local": {5432: 5432}}}
services:
- {name: web, namespace: shop, hostname: web.shop.svc.cluster.local, vips: ["/10.96.0.7"], ports: {80: 80}}
- {name: db, namespace: shop, hostname: db.shop.svc.cluster.local, ports: {5432: 5432}}
- {name: api, namespace: shop, hostname: api.example.com, vips: ["/240.0.0.1", "other/240.9.9.9"], ports: {443: 443}}
- {name: wild, namespace: shop, hostname: "*.wild.test", vips: ["/240.0.0.2"], ports: {443: 443}}
- {name: bare, namespace: shop, hostname: bare.test, ports: {443: 443}}
"#;

struct World {
    netns: Netns,
    dns: Dns,
    metrics: Arc<Metrics>,
    _conf: tempfile::NamedTempFile,
}

async fn world() -> World {
    let netns = Netns::create().unwrap();
    let (mut writer, state) = ambit_state::new(ambit_state::Settings::default());
    let changes: Vec<Change> = local::parse(STATE).unwrap();
    writer.apply(changes);
    assert!(
        state
            .find_workload_by_uid(&WorkloadUid::from("cluster//Pod/shop/web-0"))
            .is_some()
    );
    let conf = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(conf.path(), "nameserver 127.0.0.1\nsearch corp.test").unwrap();
    let config = Config::from_source(&BTreeMap::<String, String>::new()).unwrap();
    let mut settings = Settings::new(&config, SocketSettings::default(), false);
    settings.fallback = conf.path().to_owned();
    let metrics = Arc::new(Metrics::new("ztunnel", "test"));
    let dns = Dns::launch(settings, state, Arc::clone(&metrics)).unwrap();
    let spec = PodSpec {
        uid: PodUid::from("p"),
        info: PodInfo {
            name: "client".into(),
            namespace: "shop".into(),
            service_account: "client".into(),
        },
        netns: netns.clone(),
        addresses: Vec::new(),
        dns: true,
    };
    dns.start(Arc::new(spec)).await.unwrap();
    World {
        netns,
        dns,
        metrics,
        _conf: conf,
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(Name::from_ascii(name).unwrap(), kind));
    message
}

impl World {
    fn server(&self) -> SocketAddr {
        "127.0.0.1:15053".parse().unwrap()
    }

    /// Bytes by UDP; `None` when nothing comes back.
    fn raw(&self, bytes: &[u8], wait: Duration) -> Option<Vec<u8>> {
        let socket = self.netns.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
        socket.set_read_timeout(Some(wait)).unwrap();
        socket.send_to(bytes, self.server()).unwrap();
        let mut buffer = vec![0; 65535];
        let (length, from) = socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from, self.server());
        Some(buffer[..length].to_vec())
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let message = question(name, kind);
        let bytes = message.to_vec().unwrap();
        let answer = tokio::task::block_in_place(|| self.raw(&bytes, Duration::from_secs(10)));
        let answer = Message::from_vec(&answer.expect("an answer")).unwrap();
        assert_eq!(answer.metadata.id, message.metadata.id);
        answer
    }

    fn tcp(&self) -> TcpStream {
        let stream = self
            .netns
            .run(|| TcpStream::connect(self.server()))
            .unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }
}

fn ask_tcp(stream: &mut TcpStream, message: &Message) -> Message {
    let bytes = message.to_vec().unwrap();
    stream
        .write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(&bytes).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn addresses(message: &Message) -> Vec<String> {
    let mut all: Vec<_> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0).to_string()),
            RData::AAAA(a) => Some(IpAddr::V6(a.0).to_string()),
            _ => None,
        })
        .collect();
    all.sort();
    all
}

/// Answers every query for `one.upstream` with 192.0.2.1, `many.upstream` with 200 addresses, and
/// anything else with NXDOMAIN. Ends with the process.
fn upstream(netns: &Netns) {
    let socket = netns.run(|| UdpSocket::bind("127.0.0.1:53")).unwrap();
    let listener = netns.run(|| TcpListener::bind("127.0.0.1:53")).unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let Some(answer) = scripted(&buffer[..length]) else {
                continue;
            };
            let mut bytes = answer.to_vec().unwrap();
            if bytes.len() > 512 {
                bytes = answer.truncate().to_vec().unwrap();
            }
            // A forged answer first: another id, and another question.
            let mut forged = bytes.clone();
            forged[0] ^= 0xff;
            socket.send_to(&forged, peer).unwrap();
            socket.send_to(&bytes, peer).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut bytes).unwrap();
            let bytes = scripted(&bytes).unwrap().to_vec().unwrap();
            stream
                .write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes())
                .unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
}

fn scripted(bytes: &[u8]) -> Option<Message> {
    let query = Message::from_vec(bytes).ok()?;
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    let name = query.queries[0].name().clone();
    answer.add_queries(query.queries);
    let count = match name.to_ascii().as_str() {
        "one.upstream." => 1,
        "many.upstream." => 200,
        _ => 0,
    };
    if count == 0 {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    for n in 0..count {
        let data = RData::A(A([192, 0, 2, n + 1].into()));
        answer.add_answer(Record::from_rdata(name.clone(), 5, data));
    }
    Some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_mesh_are_answered() {
    let w = world().await;
    for (name, kind, expected) in [
        (
            "web.shop.svc.cluster.local.",
            RecordType::A,
            &["10.96.0.7"][..],
        ),
        ("WEB.Shop.svc.cluster.local.", RecordType::A, &["10.96.0.7"]),
        ("web.", RecordType::A, &["10.96.0.7"]),
        ("web.shop.", RecordType::A, &["10.96.0.7"]),
        ("web.shop.svc.", RecordType::A, &["10.96.0.7"]),
        // The name exists, but not in this family.
        ("web.shop.svc.cluster.local.", RecordType::AAAA, &[]),
        // Headless: the healthy endpoints.
        (
            "db.shop.svc.cluster.local.",
            RecordType::A,
            &["10.0.0.1", "10.0.0.2"],
        ),
        ("db.shop.svc.cluster.local.", RecordType::AAAA, &["fd00::1"]),
        (
            "web-1.db.shop.svc.cluster.local.",
            RecordType::A,
            &["10.0.0.2"],
        ),
        ("web-1.db.", RecordType::A, &["10.0.0.2"]),
        // Only addresses of the own network.
        ("api.example.com.", RecordType::A, &["240.0.0.1"]),
        ("any.thing.wild.test.", RecordType::A, &["240.0.0.2"]),
        // Search domains: Kubernetes' and the pod's own.
        (
            "api.example.com.shop.svc.cluster.local.",
            RecordType::A,
            &["240.0.0.1"],
        ),
        ("api.example.com.corp.test.", RecordType::A, &["240.0.0.1"]),
    ] {
        let answer = w.ask(name, kind).await;
        assert_eq!(addresses(&answer), expected, "{name} {kind}");
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NoError,
            "{name}"
        );
        assert!(answer.metadata.authoritative, "{name}");
    }
    let linked = w.ask("api.example.com.corp.test.", RecordType::A).await;
    assert_eq!(linked.answers[0].record_type(), RecordType::CNAME);
    let text = w.metrics.encode();
    assert!(
        text.contains("istio_dns_requests_total{request_query_type=\"a\""),
        "{text}"
    );
    w.dns.stop(&PodUid::from("p"), StopReason::Removed).await;
    let _free_again = w.netns.run(|| UdpSocket::bind("127.0.0.1:15053")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_is_passed_on() {
    let w = world().await;
    upstream(&w.netns);
    let answer = w.ask("one.upstream.", RecordType::A).await;
    assert_eq!(addresses(&answer), ["192.0.2.1"]);
    assert!(!answer.metadata.authoritative);
    for (name, kind) in [
        ("nowhere.test.", RecordType::A),
        ("web.shop.svc.cluster.local.", RecordType::SRV),
        // Neither virtual addresses nor of the cluster: not ours.
        ("bare.test.", RecordType::A),
        ("no-such-pod.db.shop.svc.cluster.local.", RecordType::A),
    ] {
        let answer = w.ask(name, kind).await;
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NXDomain,
            "{name}"
        );
    }
    let long = w.ask("many.upstream.", RecordType::A).await;
    assert!(long.metadata.truncation, "too long for UDP without EDNS");
    tokio::task::block_in_place(|| {
        let mut stream = w.tcp();
        let answer = ask_tcp(&mut stream, &question("many.upstream.", RecordType::A));
        assert_eq!(answer.answers.len(), 200);
        let answer = ask_tcp(&mut stream, &question("web.", RecordType::A));
        assert_eq!(
            addresses(&answer),
            ["10.96.0.7"],
            "several queries on one connection"
        );
    });
    let text = w.metrics.encode();
    assert!(text.contains("istio_dns_upstream_requests_total"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_it_is_a_failure_at_once() {
    let w = world().await;
    let answer = w.ask("nowhere.test.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_does_no_harm() {
    let w = world().await;
    tokio::task::block_in_place(|| {
        for bytes in [&[][..], &[0], &[0xff; 11], &[0xff; 600]] {
            assert_eq!(
                w.raw(bytes, Duration::from_millis(50)),
                None,
                "{} bytes",
                bytes.len()
            );
        }
        let mut cut_short = question("web.", RecordType::A).to_vec().unwrap();
        cut_short.pop();
        let answer = w.raw(&cut_short, Duration::from_secs(10)).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        // A length that no bytes follow; and a silent connection: both are closed after a while.
        let mut stream = w.tcp();
        stream.write_all(&[0xff, 0xff, 1, 2, 3]).unwrap();
        let mut silent = w.tcp();
        assert_eq!(stream.read(&mut [0; 9]).unwrap_or(0), 0);
        assert_eq!(silent.read(&mut [0; 9]).unwrap_or(0), 0);
    });
    let answer = w.ask("web.", RecordType::A).await;
    assert_eq!(addresses(&answer), ["10.96.0.7"]);
}
