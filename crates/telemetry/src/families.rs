//! The small families: policy, DNS, xDS, pods, certificates, and telemetry's own losses.
//! Each struct is what one part of the agent needs, and is cheap to call.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ambit_model::{Action, Hostname, Identity, PolicyKey};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::labels::{self, Reporter, XdsTermination};
use crate::record::Cut;
use crate::{limits, names};

type One = [(&'static str, &'static str); 1];
type Owned<const N: usize> = [(&'static str, String); N];

/// Decisions per policy.
#[derive(Debug, Default)]
pub struct PolicyMetrics {
    decisions: Family<Owned<4>, Counter>,
}

impl PolicyMetrics {
    pub(crate) fn register(ambit: &mut Registry) -> Self {
        let m = Self::default();
        ambit.register(
            names::POLICY_DECISIONS,
            "Decisions per policy",
            m.decisions.clone(),
        );
        m
    }

    /// Counts that `policy` decided, or would have if it is dry-run. `None` stands for the default:
    /// no policy matched.
    pub fn count(&self, policy: Option<&PolicyKey>, action: Action, allowed: bool, dry_run: bool) {
        let name = policy.map_or_else(|| "-".to_owned(), ToString::to_string);
        let verdict = if allowed { "allow" } else { "deny" };
        let action = match action {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
        };
        let set = [
            (labels::POLICY, name),
            (labels::ACTION, action.to_owned()),
            (labels::VERDICT, verdict.to_owned()),
            (labels::DRY_RUN, dry_run.to_string()),
        ];
        self.decisions.get_or_create(&set).inc();
    }
}

/// What happens to connections beside opening and closing.
#[derive(Debug, Default)]
pub struct ConnectionMetrics {
    cut: Family<One, Counter>,
    peer_errors: Family<One, Counter>,
    crl_rejections: Family<One, Counter>,
    crl_untracked: Family<One, Counter>,
    on_demand_dns: Family<Owned<1>, Counter>,
    /// Host names counted; at the limit no new ones get series.
    hostnames: AtomicUsize,
    /// Endpoints left out after repeated refusals.
    pub endpoints_ejected: Counter,
    /// Further endpoints tried after a refused connect.
    pub connect_retries: Counter,
}

impl ConnectionMetrics {
    pub(crate) fn register_istio(&mut self, istio: &mut Registry) {
        let help = "Connections refused by a revocation list";
        istio.register(names::CRL_REJECTIONS, help, self.crl_rejections.clone());
        let help = "Connections whose revocation could not be followed";
        istio.register(names::CRL_UNTRACKED, help, self.crl_untracked.clone());
        let help = "Host names resolved for connections";
        istio.register(names::ON_DEMAND_DNS, help, self.on_demand_dns.clone());
    }

    pub(crate) fn register_ambit(&mut self, ambit: &mut Registry) {
        ambit.register(
            names::CONNECTIONS_CUT,
            "Live connections cut",
            self.cut.clone(),
        );
        ambit.register(
            names::PEER_ERRORS,
            "Bad input from peers",
            self.peer_errors.clone(),
        );
        let help = "Endpoints left out after repeated refusals";
        ambit.register(
            names::ENDPOINTS_EJECTED,
            help,
            self.endpoints_ejected.clone(),
        );
        let help = "Further endpoints tried after a refused connect";
        ambit.register(names::CONNECT_RETRIES, help, self.connect_retries.clone());
    }

    /// Counts a live connection cut. Connection records do this themselves.
    pub fn count_cut(&self, cut: Cut) {
        self.cut
            .get_or_create(&[(labels::REASON, cut.as_str())])
            .inc();
    }

    /// Counts bad input; `kind` is one of a small fixed set, such as `bad_authority`.
    pub fn count_peer_error(&self, kind: &'static str) {
        self.peer_errors
            .get_or_create(&[(labels::REASON, kind)])
            .inc();
    }

    /// Counts a connection refused because a certificate is revoked.
    pub fn count_crl_rejection(&self, reporter: Reporter) {
        self.crl_rejections
            .get_or_create(&[(labels::REPORTER, reporter.as_str())])
            .inc();
    }

    /// Counts a connection whose revocation cannot be followed.
    pub fn count_crl_untracked(&self, reporter: Reporter) {
        self.crl_untracked
            .get_or_create(&[(labels::REPORTER, reporter.as_str())])
            .inc();
    }

    /// Counts a host name resolved for a connection.
    pub fn count_on_demand_dns(&self, hostname: &Hostname) {
        let set = [(labels::HOSTNAME, hostname.to_string())];
        if let Some(counter) = self.on_demand_dns.get(&set) {
            counter.inc();
            return;
        }
        let full = self.hostnames.fetch_add(1, Ordering::Relaxed) >= limits::SMALL_FAMILY_SERIES;
        let overflow = [(labels::HOSTNAME, labels::UNKNOWN.to_owned())];
        self.on_demand_dns
            .get_or_create(if full { &overflow } else { &set })
            .inc();
    }
}

/// DNS requests of pods.
#[derive(Debug)]
pub struct DnsMetrics {
    requests: Family<Owned<4>, Counter>,
    upstream_requests: Family<Owned<4>, Counter>,
    upstream_failures: Family<Owned<4>, Counter>,
    upstream_duration: Family<Owned<4>, Histogram, fn() -> Histogram>,
}

/// Whose DNS request.
#[derive(Clone, Debug)]
pub struct DnsSource<'a> {
    /// Query type, such as `A`.
    pub query_type: &'a str,
    /// `udp` or `tcp`.
    pub protocol: &'a str,
    /// Canonical service of the asking workload.
    pub canonical_service: &'a str,
    /// Its revision.
    pub canonical_revision: &'a str,
}

impl DnsSource<'_> {
    fn labels(&self) -> Owned<4> {
        let known = |v: &str| if v.is_empty() { labels::UNKNOWN } else { v }.to_owned();
        [
            (labels::REQUEST_QUERY_TYPE, self.query_type.to_lowercase()),
            (labels::REQUEST_PROTOCOL, self.protocol.to_owned()),
            (
                labels::SOURCE_CANONICAL_SERVICE,
                known(self.canonical_service),
            ),
            (
                labels::SOURCE_CANONICAL_REVISION,
                known(self.canonical_revision),
            ),
        ]
    }
}

impl DnsMetrics {
    pub(crate) fn register(istio: &mut Registry) -> Self {
        let m = Self {
            requests: Family::default(),
            upstream_requests: Family::default(),
            upstream_failures: Family::default(),
            upstream_duration: Family::new_with_constructor(|| {
                Histogram::new([0.0005, 0.001, 0.01, 0.1, 1.0, 5.0])
            }),
        };
        istio.register(names::DNS_REQUESTS, "DNS requests", m.requests.clone());
        let help = "DNS requests passed on";
        istio.register(
            names::DNS_UPSTREAM_REQUESTS,
            help,
            m.upstream_requests.clone(),
        );
        let help = "DNS requests whose upstream failed";
        istio.register(
            names::DNS_UPSTREAM_FAILURES,
            help,
            m.upstream_failures.clone(),
        );
        istio.register_with_unit(
            names::DNS_UPSTREAM_DURATION,
            "Time of upstream DNS requests",
            Unit::Seconds,
            m.upstream_duration.clone(),
        );
        m
    }

    /// Counts a request of a pod.
    pub fn count_request(&self, source: &DnsSource<'_>) {
        self.requests.get_or_create(&source.labels()).inc();
    }

    /// Counts a request passed on, how long it took and whether it failed.
    pub fn count_upstream(&self, source: &DnsSource<'_>, took: Duration, failed: bool) {
        let labels = source.labels();
        self.upstream_requests.get_or_create(&labels).inc();
        self.upstream_duration
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        if failed {
            self.upstream_failures.get_or_create(&labels).inc();
        }
    }
}

/// xDS streams.
#[derive(Debug, Default)]
pub struct XdsMetrics {
    terminations: Family<One, Counter>,
    messages: Family<Owned<1>, Counter>,
    bytes: Family<Owned<1>, Counter>,
}

impl XdsMetrics {
    pub(crate) fn register(istio: &mut Registry) -> Self {
        let m = Self::default();
        istio.register(
            names::XDS_TERMINATIONS,
            "xDS streams ended",
            m.terminations.clone(),
        );
        istio.register(
            names::XDS_MESSAGES,
            "xDS messages received",
            m.messages.clone(),
        );
        let help = "Bytes of xDS messages received";
        istio.register(names::XDS_MESSAGE_BYTES, help, m.bytes.clone());
        m
    }

    /// Counts the end of a stream.
    pub fn count_termination(&self, reason: XdsTermination) {
        self.terminations
            .get_or_create(&[(labels::REASON, reason.as_str())])
            .inc();
    }

    /// Counts a message and its size.
    pub fn count_message(&self, type_url: &str, bytes: u64) {
        let set = [(labels::URL, type_url.to_owned())];
        self.messages.get_or_create(&set).inc();
        self.bytes.get_or_create(&set).inc_by(bytes);
    }
}

/// Captured pods.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the fields are named as the metrics")]
pub struct PodMetrics {
    pub active: Gauge,
    pub pending: Gauge,
    pub started: Counter,
    pub stopped: Counter,
}

impl PodMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        registry.register(
            names::ACTIVE_PROXIES,
            "Pods whose proxy runs",
            m.active.clone(),
        );
        let help = "Pods whose proxy could not start yet";
        registry.register(names::PENDING_PROXIES, help, m.pending.clone());
        registry.register(names::PROXIES_STARTED, "Proxies started", m.started.clone());
        registry.register(names::PROXIES_STOPPED, "Proxies stopped", m.stopped.clone());
        m
    }
}

/// Certificates.
#[derive(Debug, Default)]
pub struct CertificateMetrics {
    expiry: Family<Owned<1>, Gauge>,
}

impl CertificateMetrics {
    pub(crate) fn register(ambit: &mut Registry) -> Self {
        let m = Self::default();
        ambit.register_with_unit(
            names::CERTIFICATE_EXPIRY,
            "When the certificate of an identity ends, in Unix time",
            Unit::Seconds,
            m.expiry.clone(),
        );
        m
    }

    /// Notes when an identity's certificate ends, in seconds of Unix time.
    pub fn set_expiry(&self, identity: &Identity, unix_seconds: i64) {
        self.expiry
            .get_or_create(&[(labels::IDENTITY, identity.to_string())])
            .set(unix_seconds);
    }

    /// The identity is no longer held.
    pub fn forget(&self, identity: &Identity) {
        self.expiry
            .remove(&[(labels::IDENTITY, identity.to_string())]);
    }
}

/// Telemetry's own losses.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the fields are named as the metrics")]
pub struct TelemetryMetrics {
    pub records_dropped: Counter,
    pub log_lines_dropped: Counter,
    pub unfinished_records: Counter,
}

impl TelemetryMetrics {
    pub(crate) fn register(ambit: &mut Registry) -> Self {
        let m = Self::default();
        let help = "Connection events dropped because a queue was full";
        ambit.register(names::RECORDS_DROPPED, help, m.records_dropped.clone());
        let help = "Log lines dropped because the queue was full";
        ambit.register(names::LOG_LINES_DROPPED, help, m.log_lines_dropped.clone());
        let help = "Connections that ended without an outcome";
        ambit.register(
            names::UNFINISHED_RECORDS,
            help,
            m.unfinished_records.clone(),
        );
        m
    }
}
