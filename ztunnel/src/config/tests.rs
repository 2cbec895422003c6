//! Tables of variables and what they come to; the process environment is never touched.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::components::*;
use super::*;

fn source(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn read(pairs: &[(&str, &str)]) -> Config {
    Config::from_source(&source(pairs)).unwrap()
}

fn refused(pairs: &[(&str, &str)]) -> String {
    Config::from_source(&source(pairs)).unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = read(&[]);
    assert_eq!(
        config.discovery.address.as_deref(),
        Some("https://localhost:15012")
    );
    assert_eq!(config.certificates.ttl, Duration::from_secs(86_400));
    assert_eq!(config.node.cluster.as_str(), "Kubernetes");
    assert_eq!(config.proxy.packet_mark, Some(1337));
    assert_eq!(config.proxy.original_source, OriginalSource::Auto);
    assert_eq!(config.tunnel.stream_window, 4 << 20);
    assert_eq!(config.tunnel.connection_window, 16 << 20);
    assert_eq!(config.tunnel.max_streams, 100);
    assert_eq!(config.tunnel.idle_timeout, Duration::from_secs(300));
    assert_eq!(config.drain.deadline, Duration::from_secs(5));
    assert_eq!(config.dns.bind, Bind::Localhost(15053));
    assert!(config.dns.enabled && config.proxy.enabled);
    assert_eq!(config.enrolment.source, EnrolmentSource::Zds);
    assert_eq!(config.admin.admin, Bind::Localhost(15000));
    assert_eq!(config.sockets.keepalive.unwrap().retries, 9);
    assert_eq!(config.sockets.user_timeout, None);
}

#[test]
fn in_kubernetes_istiod_is_the_default() {
    let config = read(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]);
    let istiod = Some("https://istiod.istio-system.svc:15012");
    assert_eq!(config.discovery.address.as_deref(), istiod);
    assert_eq!(config.certificates.address.as_deref(), istiod);
}

#[test]
fn values_as_istio_charts_set_them() {
    let config = read(&[
        ("XDS_ADDRESS", "istiod-canary.istio-system.svc:15012"),
        ("CA_ADDRESS", "istiod-canary.istio-system.svc:15012"),
        ("ISTIO_META_CLUSTER_ID", "east"),
        ("CLUSTER_ID", "weaker"),
        ("ISTIO_META_DNS_CAPTURE", "true"),
        ("ISTIO_META_ENABLE_HBONE", "true"),
        ("ISTIO_METAJSON_LABELS", r#"{"app":"ztunnel"}"#),
        ("XDS_HEADER_X_TENANT", "blue"),
        ("CA_HEADER_X_TENANT", "red"),
        ("POD_NAME", "ztunnel-abc"),
        ("POD_NAMESPACE", "istio-system"),
        ("SERVICE_ACCOUNT", "ztunnel"),
        ("NODE_NAME", "node-1"),
        ("INSTANCE_IP", "10.1.2.3"),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30"),
        ("USER_TIMEOUT_ENABLED", "true"),
        ("KEEPALIVE_TIME", "1m"),
        ("KEEPALIVE_INTERVAL", "10s"),
        ("KEEPALIVE_RETRIES", "3"),
    ]);
    assert_eq!(
        config.discovery.address.as_deref(),
        Some("https://istiod-canary.istio-system.svc:15012")
    );
    assert_eq!(config.node.cluster.as_str(), "east");
    assert_eq!(
        config.discovery.headers.0,
        [("x_tenant".to_owned(), "blue".to_owned())]
    );
    assert_eq!(
        config.certificates.headers.0,
        [("x_tenant".to_owned(), "red".to_owned())]
    );
    assert_eq!(config.drain.deadline, Duration::from_secs(25));
    assert_eq!(config.sockets.user_timeout, Some(Duration::from_secs(90)));
    assert_eq!(
        config.node.discovery_id(),
        "ztunnel~10.1.2.3~ztunnel-abc.istio-system~istio-system.svc.cluster.local"
    );
    assert_eq!(
        config.node.identity().unwrap().to_string(),
        "spiffe://cluster.local/ns/istio-system/sa/ztunnel"
    );
    let metadata = config.node.discovery_metadata();
    assert_eq!(metadata["NODE_NAME"], "node-1");
    assert_eq!(metadata["ENABLE_HBONE"], "true");
    assert_eq!(metadata["LABELS"]["app"], "ztunnel");
}

#[test]
fn proxy_config_is_weaker_than_a_variable_and_stronger_than_the_mesh_file() {
    struct WithMesh(BTreeMap<String, String>);
    impl Source for WithMesh {
        fn value(&self, name: &str) -> Option<String> {
            self.0.value(name)
        }
        fn names(&self) -> Vec<String> {
            self.0.names()
        }
        fn mesh_config(&self) -> std::io::Result<Option<String>> {
            Ok(Some(
                "defaultConfig:\n  proxyAdminPort: 15099\n  statsPort: 15888\n  proxyMetadata:\n    ISTIO_META_FOO: foo\ntrustDomain: other\n"
                    .to_owned(),
            ))
        }
    }
    let pairs = source(&[(
        "PROXY_CONFIG",
        r#"{"discoveryAddress": "istiod-rev0.istio-system-2:15012", "proxyAdminPort": 15999,
            "concurrency": 3, "proxyMetadata": {"ISTIO_META_BAR": "bar", "PLAIN": "plain", "ISTIO_META_DNS_CAPTURE": "false"}}"#,
    )]);
    let config = Config::from_source(&WithMesh(pairs)).unwrap();
    assert_eq!(config.admin.admin, Bind::Localhost(15999));
    assert_eq!(config.admin.metrics, Bind::Any(15888));
    assert_eq!(config.proxy.worker_threads, 3);
    assert_eq!(
        config.discovery.address.as_deref(),
        Some("https://istiod-rev0.istio-system-2:15012")
    );
    let metadata = config.node.discovery_metadata();
    for (key, value) in [("FOO", "foo"), ("BAR", "bar"), ("PLAIN", "plain")] {
        assert_eq!(metadata[key], value, "{key}");
    }
    assert!(!config.dns.enabled, "proxyMetadata says no");
}

#[test]
fn every_error_is_reported_at_once_and_names_the_variable() {
    let text = refused(&[
        ("XDS_ADDRESS", "http://istiod:15010"),
        ("SECRET_TTL", "soon"),
        ("HTTP2_FRAME_SIZE", "1"),
        ("AMBIT_ENROLLMENT", "zds"),
        ("PROXY_MODE", "dedicated"),
        ("LOCAL_XDS", "a: b"),
        ("LOCAL_XDS_PATH", "/tmp/x"),
        ("ISTIO_METAJSON_LABELS", "{"),
        ("AMBIT_CLIENT_CERT", "/c.pem"),
        ("PROXY_CONFIG", "[1, 2"),
    ]);
    for expected in [
        "XDS_ADDRESS=\"http://istiod:15010\" is not understood: expected https://host:port",
        "SECRET_TTL",
        "HTTP2_FRAME_SIZE",
        "AMBIT_ENROLLMENT is not a setting: did you mean AMBIT_ENROLMENT?",
        "PROXY_WORKLOAD_INFO",
        "LOCAL_XDS_PATH and LOCAL_XDS exclude each other",
        "ISTIO_METAJSON_LABELS",
        "AMBIT_CLIENT_KEY",
        "PROXY_CONFIG",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn contradictions() {
    for (pairs, expected) in [
        (&[("AMBIT_ENROLMENT", "controller")][..], "NODE_NAME"),
        (
            &[
                ("AMBIT_ENROLMENT", "controller"),
                ("NODE_NAME", "n"),
                ("AMBIT_CAPTURE", "cni"),
            ],
            "no CNI agent",
        ),
        (
            &[
                ("XDS_ON_DEMAND", "true"),
                ("ISTIO_META_DNS_CAPTURE", "true"),
            ],
            "DNS proxy",
        ),
        (
            &[
                ("ENABLE_PROXY", "false"),
                ("ISTIO_META_DNS_CAPTURE", "false"),
            ],
            "nothing to do",
        ),
        (&[("CA_ADDRESS", "")], "CA_ADDRESS"),
        (&[("COMPLIANCE_POLICY", "strong")], "COMPLIANCE_POLICY"),
        (
            &[("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "a/b")],
            "PROXY_WORKLOAD_INFO",
        ),
    ] {
        assert!(refused(pairs).contains(expected), "{pairs:?}");
    }
}

#[test]
fn an_empty_discovery_address_means_none() {
    assert_eq!(
        read(&[("XDS_ADDRESS", ""), ("FAKE_CA", "true")])
            .discovery
            .address,
        None
    );
}

#[test]
fn secrets_are_not_shown() {
    let config = read(&[
        ("AUTH_TOKEN", "eyJhbGciOi-secret"),
        ("XDS_HEADER_AUTHORIZATION", "Basic hidden"),
    ]);
    assert_eq!(
        config.discovery.token,
        Token::Text("eyJhbGciOi-secret".to_owned())
    );
    let shown = format!("{}{config:?}", serde_json::to_string(&config).unwrap());
    assert!(
        !shown.contains("eyJhbGciOi") && !shown.contains("hidden"),
        "{shown}"
    );
    assert!(
        shown.contains("authorization"),
        "the header's name is shown"
    );
}

#[test]
fn what_looks_like_a_path_is_never_sent_as_a_token() {
    let config = read(&[("AUTH_TOKEN", "/var/run/not-there")]);
    assert_eq!(
        config.discovery.token,
        Token::File("/var/run/not-there".into())
    );
}

#[test]
fn roots_are_a_file_the_system_or_text() {
    let pem = "-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----";
    for (text, expected) in [
        ("SYSTEM", RootCertificates::System),
        (pem, RootCertificates::Pem(pem.to_owned())),
        (
            "/etc/root.pem",
            RootCertificates::File("/etc/root.pem".into()),
        ),
    ] {
        assert_eq!(read(&[("XDS_ROOT_CA", text)]).discovery.roots, expected);
    }
}

#[test]
fn thread_rule() {
    use super::components::threads;
    use super::parse::Threads::{Count, Percent};
    for (asked, machine, limit, request, expected) in [
        (None, 2, None, 0, 2),
        (None, 32, None, 0, 8),
        (None, 32, None, 12, 12),
        (None, 32, Some(3), 12, 3),
        (Some(Count(0)), 7, Some(3), 0, 7),
        (Some(Count(5)), 2, None, 0, 5),
        (Some(Percent(30.0)), 64, Some(16), 0, 5),
        (Some(Percent(1.0)), 4, None, 0, 1),
    ] {
        assert_eq!(
            threads(asked, machine, limit, request),
            expected,
            "{asked:?} {machine}"
        );
    }
}

#[test]
fn grace_periods() {
    for (seconds, expected) in [("30", 25), ("11", 6), ("10", 9), ("1", 1), ("0", 1)] {
        let config = read(&[("TERMINATION_GRACE_PERIOD_SECONDS", seconds)]);
        assert_eq!(
            config.drain.deadline,
            Duration::from_secs(expected),
            "{seconds}"
        );
    }
    let both = read(&[
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30"),
        ("CONNECTION_TERMINATION_DEADLINE", "90s"),
    ]);
    assert_eq!(both.drain.deadline, Duration::from_secs(90));
}

/// Records what is asked for, so that the table and the reading cannot drift apart.
struct Recording(RefCell<BTreeSet<String>>);

impl Source for Recording {
    fn value(&self, name: &str) -> Option<String> {
        self.0.borrow_mut().insert(name.to_owned());
        (name == "PROXY_MODE").then(|| "dedicated".to_owned())
    }
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
    fn mesh_config(&self) -> std::io::Result<Option<String>> {
        Ok(None)
    }
}

#[test]
fn the_table_lists_exactly_what_is_read() {
    let recording = Recording(RefCell::default());
    drop(Config::from_source(&recording));
    let listed: BTreeSet<String> = variables::SECTIONS
        .iter()
        .flat_map(|section| section.variables)
        .map(|variable| variable.name.to_owned())
        .collect();
    assert_eq!(recording.0.into_inner(), listed);
}

#[test]
fn the_reference_page_is_current() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/reference/ztunnel-environment.md"
    );
    let page = reference_page();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == page,
        "run UPDATE_REFERENCE=1 cargo test -p ztunnel the_reference_page"
    );
}
