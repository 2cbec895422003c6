//! Metric names as registered: the exposition adds `_total` to counters, and the prefixes below.

/// Prefix of what Istio's dashboards read.
pub const ISTIO: &str = "istio";
/// Prefix of what only Ambit has.
pub const AMBIT: &str = "ambit";
/// Prefix of the in-pod metrics.
pub const WORKLOAD_MANAGER: &str = "workload_manager";

/// Connections opened.
pub const CONNECTIONS_OPENED: &str = "tcp_connections_opened";
/// Connections closed.
pub const CONNECTIONS_CLOSED: &str = "tcp_connections_closed";
/// Connections that failed.
pub const CONNECTIONS_FAILED: &str = "tcp_connections_failed";
/// Bytes received.
pub const RECEIVED_BYTES: &str = "tcp_received_bytes";
/// Bytes sent.
pub const SENT_BYTES: &str = "tcp_sent_bytes";
/// Connections open now.
pub const SOCKETS_OPEN: &str = "tcp_sockets_open";
/// Host names resolved for connections.
pub const ON_DEMAND_DNS: &str = "on_demand_dns";
/// Connections refused by a revocation list.
pub const CRL_REJECTIONS: &str = "crl_policy_rejections";
/// Connections whose revocation could not be followed.
pub const CRL_UNTRACKED: &str = "crl_untracked_connections";
/// DNS requests of pods.
pub const DNS_REQUESTS: &str = "dns_requests";
/// DNS requests passed on.
pub const DNS_UPSTREAM_REQUESTS: &str = "dns_upstream_requests";
/// DNS requests whose upstream failed.
pub const DNS_UPSTREAM_FAILURES: &str = "dns_upstream_failures";
/// Time of upstream DNS requests; the exposition adds `_seconds`.
pub const DNS_UPSTREAM_DURATION: &str = "dns_upstream_request_duration";
/// Pods whose proxy runs.
pub const ACTIVE_PROXIES: &str = "active_proxy_count";
/// Pods whose proxy could not start yet.
pub const PENDING_PROXIES: &str = "pending_proxy_count";
/// Proxies started.
pub const PROXIES_STARTED: &str = "proxies_started";
/// Proxies stopped.
pub const PROXIES_STOPPED: &str = "proxies_stopped";
/// xDS streams ended.
pub const XDS_TERMINATIONS: &str = "xds_connection_terminations";
/// xDS messages received.
pub const XDS_MESSAGES: &str = "xds_message";
/// Bytes of xDS messages received.
pub const XDS_MESSAGE_BYTES: &str = "xds_message_bytes";
/// Program and version.
pub const BUILD: &str = "build";
/// Decisions per policy.
pub const POLICY_DECISIONS: &str = "policy_decisions";
/// When a certificate ends; the exposition adds `_seconds`.
pub const CERTIFICATE_EXPIRY: &str = "certificate_expiry_timestamp";
/// Live connections cut.
pub const CONNECTIONS_CUT: &str = "connections_cut";
/// Endpoints left out after repeated refusals.
pub const ENDPOINTS_EJECTED: &str = "endpoints_ejected";
/// Further endpoints tried after a refused connect.
pub const CONNECT_RETRIES: &str = "connect_retries";
/// Bad input from peers.
pub const PEER_ERRORS: &str = "peer_errors";
/// Connection records dropped because a queue was full.
pub const RECORDS_DROPPED: &str = "telemetry_records_dropped";
/// Log lines dropped because the queue was full.
pub const LOG_LINES_DROPPED: &str = "log_lines_dropped";
/// Connections that ended without an outcome; a bug.
pub const UNFINISHED_RECORDS: &str = "telemetry_unfinished_records";
