//! The whole way of a connection: opened, counted, finished, seen in the exposition and the log.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::{Action, Identity, PolicyKey};
use parking_lot::Mutex;

use crate::*;

fn connection(reporter: Reporter) -> Connection {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let identity: Identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    let declared = Declared {
        workload: "web".into(),
        namespace: "shop".into(),
        cluster: "Kubernetes".into(),
        canonical_service: "web".into(),
        canonical_revision: "v1".into(),
        ..Declared::default()
    };
    Connection {
        reporter,
        security: Security::MutualTls,
        source: Party {
            declared: Some(Arc::new(declared)),
            identity: Some(Arc::new(identity)),
            workload: None,
        },
        source_address: address("10.0.0.1:4000"),
        destination: Party::default(),
        destination_address: address("10.0.0.2:15008"),
        tunnel: Some(TunnelTarget::Address(address("10.0.0.2:80"))),
        service: None,
    }
}

fn start() -> (Arc<Metrics>, Recorder) {
    let metrics = Arc::new(Metrics::new("ztunnel", "1.2.3"));
    let recorder = Recorder::start(Arc::clone(&metrics)).unwrap();
    (metrics, recorder)
}

/// The value of the only line that has all the parts.
fn value(text: &str, parts: &[&str]) -> f64 {
    let lines: Vec<_> = text
        .lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .collect();
    assert_eq!(lines.len(), 1, "{parts:?} in:\n{text}");
    lines[0].rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn a_connection_has_all_labels_in_order() {
    let (_, recorder) = start();
    recorder
        .worker()
        .open(connection(Reporter::Source))
        .finish(Outcome::complete());
    let text = recorder.encode();
    let line = text
        .lines()
        .find(|l| l.starts_with("istio_tcp_connections_opened_total"))
        .unwrap();
    let names: Vec<_> = line
        .split(['{', ',', '}'])
        .filter_map(|pair| Some(pair.split_once("=\"")?.0))
        .collect();
    assert_eq!(names, labels::TRAFFIC);
    for part in [
        r#"source_workload="web""#,
        r#"source_app="web""#,
        r#"source_version="v1""#,
        r#"source_principal="spiffe://cluster.local/ns/shop/sa/web""#,
        r#"destination_service="unknown""#,
        r#"request_protocol="tcp""#,
        r#"response_flags="-""#,
        r#"connection_security_policy="mutual_tls""#,
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    recorder.stop();
}

#[test]
fn bytes_of_live_connections_show_and_are_counted_once() {
    let (_, recorder) = start();
    let worker = recorder.worker();
    let outbound = worker.open(connection(Reporter::Source));
    let inbound = worker.open(connection(Reporter::Destination));
    for record in [&outbound, &inbound] {
        record.bytes().add_request(10);
        record.bytes().add_response(1000);
    }
    let sent = |text: &str, reporter: &str| {
        value(
            text,
            &[
                "istio_tcp_sent_bytes_total{",
                &format!("reporter=\"{reporter}\""),
            ],
        )
    };
    let text = recorder.encode();
    assert_eq!(
        (sent(&text, "source"), sent(&text, "destination")),
        (10.0, 1000.0)
    );
    assert_eq!(value(&text, &["sockets_open", "source"]), 1.0);
    outbound.bytes().add_request(5);
    outbound.finish(Outcome::complete());
    inbound.finish(Outcome::cut(
        ResponseFlag::Deny,
        Cut::Policy,
        "policy shop/deny",
    ));
    let text = recorder.encode();
    assert_eq!(
        (sent(&text, "source"), sent(&text, "destination")),
        (15.0, 1000.0)
    );
    assert_eq!(value(&text, &["sockets_open", "source"]), 0.0);
    assert_eq!(
        value(&text, &["ambit_connections_cut_total", "policy"]),
        1.0
    );
    assert!(
        !text
            .lines()
            .any(|l| l.starts_with("istio_tcp") && l.contains("zone") && l.ends_with("} 0")),
        "{text}"
    );
    assert_eq!(value(&text, &["connections_closed_total{", "DENY"]), 1.0);
    assert_eq!(value(&text, &["connections_failed_total{", "DENY"]), 1.0);
    recorder.stop();
}

#[test]
fn a_forgotten_record_is_counted_and_closed() {
    let (_, recorder) = start();
    drop(recorder.worker().open(connection(Reporter::Source)));
    let text = recorder.encode();
    assert_eq!(
        value(&text, &["ambit_telemetry_unfinished_records_total"]),
        1.0
    );
    assert_eq!(value(&text, &["connections_closed_total{"]), 1.0);
    recorder.stop();
}

#[test]
fn workers_report_side_by_side() {
    const EACH: usize = 2000;
    let (_, recorder) = start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let worker = recorder.worker();
            scope.spawn(move || {
                for _ in 0..EACH {
                    worker
                        .open(connection(Reporter::Source))
                        .finish(Outcome::complete());
                }
            });
        }
    });
    let text = recorder.encode();
    assert_eq!(value(&text, &["telemetry_records_dropped_total"]), 0.0);
    assert_eq!(
        value(&text, &["connections_closed_total{"]),
        4.0 * EACH as f64
    );
    recorder.stop();
}

#[test]
fn minted_names_end_on_one_series() {
    let metrics = Metrics::new("ztunnel", "t");
    for n in 0..limits::TRAFFIC_SERIES + 10 {
        let mut connection = connection(Reporter::Source);
        let declared = Declared {
            workload: n.to_string().into(),
            ..Declared::default()
        };
        connection.source.declared = Some(Arc::new(declared));
        connection.source.identity = None;
        let labels = traffic::TrafficLabels::new(&connection, ResponseFlag::None);
        let series = metrics.traffic.series(&labels);
        metrics.traffic.add(&series, traffic::Count::Opened, 1);
    }
    let text = metrics.encode();
    let unknown = ["connections_opened_total{", r#"source_workload="unknown""#];
    assert_eq!(value(&text, &unknown), 10.0);
}

#[test]
fn the_small_families_have_their_names() {
    let metrics = Metrics::new("ztunnel", "1.2.3");
    let policy = PolicyKey::new("shop", "deny-web");
    metrics
        .policy
        .count(Some(&policy), Action::Deny, false, true);
    let source = DnsSource {
        query_type: "AAAA",
        protocol: "udp",
        canonical_service: "web",
        canonical_revision: "",
    };
    metrics.dns.count_request(&source);
    metrics
        .dns
        .count_upstream(&source, Duration::from_millis(2), true);
    metrics.xds.count_termination(XdsTermination::Reconnect);
    metrics
        .xds
        .count_message("type.googleapis.com/istio.workload.Address", 77);
    metrics.pods.active.set(3);
    metrics.pods.started.inc();
    let identity: Identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    metrics.certificates.set_expiry(&identity, 1_900_000_000);
    let text = metrics.encode();
    for line in [
        r#"ambit_policy_decisions_total{policy="shop/deny-web",action="DENY",verdict="deny",dry_run="true"} 1"#,
        r#"istio_dns_requests_total{request_query_type="aaaa",request_protocol="udp",source_canonical_service="web",source_canonical_revision="unknown"} 1"#,
        r#"istio_dns_upstream_request_duration_seconds_bucket{le="0.01",request_query_type="aaaa",request_protocol="udp",source_canonical_service="web",source_canonical_revision="unknown"} 1"#,
        r#"istio_xds_connection_terminations_total{reason="Reconnect"} 1"#,
        r#"istio_xds_message_bytes_total{url="type.googleapis.com/istio.workload.Address"} 77"#,
        "workload_manager_active_proxy_count 3",
        "workload_manager_proxies_started_total 1",
        r#"ambit_certificate_expiry_timestamp_seconds{identity="spiffe://cluster.local/ns/shop/sa/web"} 1900000000"#,
        r#"istio_build{component="ztunnel",tag="1.2.3"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in:\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    metrics.certificates.forget(&identity);
    assert!(!metrics.encode().contains("expiry_timestamp_seconds{"));
}

#[test]
fn runtimes_are_shown() {
    let metrics = Metrics::new("ztunnel", "t");
    let runtimes: Vec<_> = (0..2)
        .map(|_| {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
        })
        .collect();
    runtimes
        .iter()
        .for_each(|r| metrics.watch_runtime(r.handle().clone()));
    let text = metrics.encode();
    assert_eq!(value(&text, &["tokio_num_workers 2"]), 2.0);
    for name in [
        "total_busy_duration_seconds",
        "park_count",
        "park_unpark_count",
    ] {
        assert!(
            text.contains(&format!("tokio_worker_{name}_total{{worker=\"1\"}}")),
            "{text}"
        );
    }
}

/// Collects what is written to it.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the log says of one connection that failed and one that did not.
fn logged(json: bool) -> String {
    let page = Page::default();
    let (subscriber, sink) = logging::subscriber_for_test(page.clone(), json);
    let recorder = Recorder::manual(Arc::new(Metrics::new("ztunnel", "t")));
    let worker = recorder.worker();
    let good = worker.open(connection(Reporter::Source));
    good.bytes().add_request(84);
    good.finish(Outcome::complete());
    let bad = worker.open(connection(Reporter::Destination));
    bad.finish(Outcome::failed(
        ResponseFlag::Connect,
        "refused\nforged line",
    ));
    let began = std::time::Instant::now();
    let mut clear = connection(Reporter::Destination);
    clear.security = Security::Unknown;
    worker.refuse(clear, Outcome::failed(ResponseFlag::Deny, "no"), began);
    let lost = connection(Reporter::Source);
    worker.refuse(lost, Outcome::failed(ResponseFlag::None, "where?"), began);
    tracing::subscriber::with_default(subscriber, || recorder.log_here());
    sink.flush();
    let bytes = page.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_text_log_is_as_known() {
    let log = logged(false);
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 4, "{log}");
    let parts: Vec<_> = lines[0].split('\t').collect();
    assert_eq!(parts[1..4], ["info", "access", "connection complete"]);
    let fields = parts[4];
    assert!(
        fields.starts_with(
            "src.addr=10.0.0.1:4000 src.workload=\"web\" src.namespace=\"shop\" \
             src.identity=\"spiffe://cluster.local/ns/shop/sa/web\" dst.addr=10.0.0.2:15008 \
             dst.hbone_addr=10.0.0.2:80 direction=\"outbound\" bytes_sent=84 bytes_recv=0 duration=\""
        ),
        "{fields}"
    );
    assert!(
        lines[1].contains("\terror\taccess\tconnection complete\t"),
        "{}",
        lines[1]
    );
    assert!(
        lines[1].ends_with(r#"error="refused\nforged line""#),
        "{}",
        lines[1]
    );
    let denied = lines[2];
    assert!(
        denied.contains("\terror\taccess\tconnection complete\t")
            && denied.contains("bytes_sent=0 bytes_recv=0 duration=")
            && denied.ends_with(r#"error="no""#),
        "{denied}"
    );
    assert!(
        !denied.contains("identity"),
        "nobody proved anything: {denied}"
    );
    let early = lines[3];
    assert!(
        early.contains("\twarn\taccess\tconnection failed\t") && !early.contains("bytes_sent"),
        "{early}"
    );
}

#[test]
fn the_json_log_is_as_known() {
    let log = logged(true);
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    for (key, want) in [
        ("level", "info"),
        ("scope", "access"),
        ("message", "connection complete"),
        ("src.addr", "10.0.0.1:4000"),
        ("src.workload", "web"),
        ("direction", "outbound"),
    ] {
        assert_eq!(first[key], want, "{first}");
    }
    assert_eq!(first["bytes_sent"], 84);
}
