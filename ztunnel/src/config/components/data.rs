//! Settings of the data path: proxy, sockets, tunnel and DNS.

use std::time::Duration;

use serde::Serialize;

use super::control::Discovery;
use crate::config::node::Node;
use crate::config::parse::Threads;
use crate::config::reader::Reader;
use crate::config::{Bind, parse, variables as v};

/// The mark of the agent's sockets where none is given: 0x539.
const DEFAULT_MARK: u32 = 1337;

/// Whom the agent serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ProxyMode {
    /// The pods of a node.
    Shared,
    /// One workload.
    Dedicated,
}

/// A workload by its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReference {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
}

/// Whether the application sees the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum OriginalSource {
    /// Where the kernel permits.
    Auto,
    /// Always; a connection fails otherwise.
    Required,
    /// Never.
    Off,
}

/// Data path.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// Carry connections at all.
    pub enabled: bool,
    /// Whom the agent serves.
    pub mode: ProxyMode,
    /// The one workload of dedicated mode.
    pub workload: Option<WorkloadReference>,
    /// Data threads, at least 1.
    pub worker_threads: usize,
    /// Listen on IPv6 too.
    pub ipv6: bool,
    /// Mark of the agent's sockets.
    pub packet_mark: Option<u32>,
    /// Whether the application sees the client's address.
    pub original_source: OriginalSource,
    /// SO_REUSEPORT on in-pod listeners.
    pub port_reuse: bool,
    /// Application-tunnel traffic goes to localhost.
    pub localhost_app_tunnel: bool,
    /// SOCKS5 was asked for; it is not offered.
    pub socks5_requested: bool,
    /// Describe the destination in responses, and read such descriptions.
    pub baggage: bool,
    /// Log policy decisions at INFO.
    pub log_policy_at_info: bool,
    /// Congestion control toward applications; empty: the system's.
    pub loopback_congestion: String,
    /// Endpoints tried per connection, at least 1.
    pub connect_attempts: u32,
}

impl Proxy {
    pub(in crate::config) fn from_source(reader: &mut Reader<'_>) -> Self {
        let mode = reader
            .parsed(&v::PROXY_MODE, |text| match text {
                "shared" => Some(ProxyMode::Shared),
                "dedicated" => Some(ProxyMode::Dedicated),
                _ => None,
            })
            .unwrap_or(ProxyMode::Shared);
        let default_mark = (mode == ProxyMode::Shared).then_some(DEFAULT_MARK);
        Self {
            enabled: reader.switch(&v::ENABLE_PROXY, true),
            mode,
            workload: workload(reader, mode),
            worker_threads: worker_threads(reader),
            ipv6: reader.switch(&v::IPV6_ENABLED, true),
            packet_mark: reader
                .parsed(&v::PACKET_MARK, |t| t.parse().ok())
                .or(default_mark),
            original_source: match reader.parsed(&v::ENABLE_ORIG_SRC, parse::switch) {
                None => OriginalSource::Auto,
                Some(true) => OriginalSource::Required,
                Some(false) => OriginalSource::Off,
            },
            port_reuse: reader.switch(&v::INPOD_PORT_REUSE, true),
            localhost_app_tunnel: reader.switch(&v::LOCALHOST_APP_TUNNEL, true),
            socks5_requested: reader.switch(&v::UNSTABLE_ENABLE_SOCKS5, false),
            baggage: reader.switch(&v::ENABLE_RESPONSE_BAGGAGE, true),
            log_policy_at_info: reader.switch(&v::AUTHZ_POLICY_INFO_LOGGING, false),
            loopback_congestion: reader
                .raw(&v::AMBIT_LOOPBACK_CONGESTION)
                .unwrap_or_else(|| "cubic".to_owned()),
            connect_attempts: reader
                .parsed(&v::AMBIT_CONNECT_ATTEMPTS, |text| {
                    text.parse().ok().filter(|n| (1..=10).contains(n))
                })
                .unwrap_or(3),
        }
    }
}

fn workload(reader: &mut Reader<'_>, mode: ProxyMode) -> Option<WorkloadReference> {
    let workload = reader.parsed(&v::PROXY_WORKLOAD_INFO, |text| {
        let mut parts = text.split('/').map(str::to_owned);
        let (namespace, name, service_account) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none()
            && ![&namespace, &name, &service_account]
                .iter()
                .any(|part| part.is_empty());
        whole.then_some(WorkloadReference {
            name,
            namespace,
            service_account,
        })
    });
    if mode == ProxyMode::Dedicated && reader.text(&v::PROXY_WORKLOAD_INFO).is_none() {
        reader.conflict(
            "PROXY_MODE=dedicated needs PROXY_WORKLOAD_INFO=namespace/name/service-account",
        );
    }
    workload.filter(|_| mode == ProxyMode::Dedicated)
}

fn worker_threads(reader: &mut Reader<'_>) -> usize {
    let machine = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let limit = reader
        .parsed(&v::ZTUNNEL_RESOURCE_CPU_LIMIT, parse::processors)
        .or_else(|| reader.parsed(&v::ZTUNNEL_CPU_LIMIT, parse::processors))
        .filter(|limit| *limit > 0);
    let request = reader
        .parsed(&v::ZTUNNEL_RESOURCE_CPU_REQUEST, parse::processors)
        .unwrap_or(0);
    let asked = reader
        .parsed(&v::ZTUNNEL_WORKER_THREADS, parse::threads)
        .or_else(|| {
            reader
                .proxy_config
                .concurrency
                .map(|n| Threads::Count(n.into()))
        });
    threads(asked, machine, limit, request)
}

/// The rule of `ZTUNNEL_WORKER_THREADS`, for a machine of so many processors.
pub(in crate::config) fn threads(
    asked: Option<Threads>,
    machine: usize,
    limit: Option<usize>,
    request: usize,
) -> usize {
    let processors = limit.unwrap_or(machine);
    let count = match asked {
        Some(Threads::Count(0)) => machine,
        Some(Threads::Count(count)) => count,
        Some(Threads::Percent(share)) => (processors as f64 * share / 100.0).ceil() as usize,
        None => limit.unwrap_or_else(|| machine.div_ceil(4).max(request).max(2)),
    };
    count.max(1)
}

/// Data sockets.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sockets {
    /// TCP keepalive; `None`: off.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT: time + retries × interval.
    pub user_timeout: Option<Duration>,
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub time: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Probes before giving up.
    pub retries: u32,
}

impl Sockets {
    pub(in crate::config) fn from_source(reader: &mut Reader<'_>) -> Self {
        let default = Duration::from_secs(180);
        let keepalive = Keepalive {
            time: reader.duration(&v::KEEPALIVE_TIME, default),
            interval: reader.duration(&v::KEEPALIVE_INTERVAL, default),
            retries: reader.number(&v::KEEPALIVE_RETRIES, 9),
        };
        let enabled = reader.switch(&v::KEEPALIVE_ENABLED, true);
        let user_timeout = reader.switch(&v::USER_TIMEOUT_ENABLED, false);
        Self {
            keepalive: enabled.then_some(keepalive),
            user_timeout: user_timeout
                .then(|| keepalive.time + keepalive.interval.saturating_mul(keepalive.retries)),
        }
    }
}

/// HBONE tunnels.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// Window of a stream, in bytes.
    pub stream_window: u32,
    /// Window of a connection, in bytes.
    pub connection_window: u32,
    /// Largest frame accepted, in bytes.
    pub frame_size: u32,
    /// Streams put on one connection.
    pub max_streams: u16,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Congestion control between nodes; empty: the system's.
    pub congestion: String,
}

impl Tunnel {
    pub(in crate::config) fn from_source(reader: &mut Reader<'_>) -> Self {
        // RFC 9113 §6.9.1: a window is at most 2^31-1.
        let window = |text: &str| text.parse().ok().filter(|n| (65_535..1 << 31).contains(n));
        let frame = |text: &str| text.parse().ok().filter(|n| (16_384..1 << 24).contains(n));
        Self {
            stream_window: reader
                .parsed(&v::HTTP2_STREAM_WINDOW_SIZE, window)
                .unwrap_or(4 << 20),
            connection_window: reader
                .parsed(&v::HTTP2_CONNECTION_WINDOW_SIZE, window)
                .unwrap_or(16 << 20),
            frame_size: reader
                .parsed(&v::HTTP2_FRAME_SIZE, frame)
                .unwrap_or(1 << 20),
            max_streams: reader
                .parsed(&v::POOL_MAX_STREAMS_PER_CONNECTION, |text| {
                    text.parse().ok().filter(|n| *n > 0)
                })
                .unwrap_or(100),
            idle_timeout: reader
                .duration(&v::POOL_UNUSED_RELEASE_TIMEOUT, Duration::from_secs(300)),
            congestion: reader.text(&v::AMBIT_TUNNEL_CONGESTION).unwrap_or_default(),
        }
    }
}

/// DNS proxy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// Answer captured queries.
    pub enabled: bool,
    /// Where, in each pod's network namespace.
    pub bind: Bind,
    /// Suffix of the cluster's service names.
    pub cluster_domain: String,
}

impl Dns {
    pub(in crate::config) fn from_source(
        reader: &mut Reader<'_>,
        node: &Node,
        discovery: &Discovery,
    ) -> Self {
        let asked = reader.parsed(&v::ISTIO_META_DNS_CAPTURE, |t| {
            Some(t.eq_ignore_ascii_case("true"))
        });
        let asked = asked.or_else(|| from_metadata(node, "DNS_CAPTURE", |t| Some(t == "true")));
        if asked == Some(true) && discovery.on_demand {
            reader.conflict(
                "XDS_ON_DEMAND=true and ISTIO_META_DNS_CAPTURE=true exclude each other: the DNS proxy needs every service",
            );
        }
        Self {
            enabled: asked.unwrap_or(true) && !discovery.on_demand,
            bind: reader
                .parsed(&v::ISTIO_META_DNS_PROXY_ADDR, parse::bind)
                .or_else(|| from_metadata(node, "DNS_PROXY_ADDR", parse::bind))
                .unwrap_or(Bind::Localhost(15053)),
            cluster_domain: node.cluster_domain.clone(),
        }
    }
}

/// `PROXY_CONFIG`'s proxyMetadata says the same things as the `ISTIO_META_*` variables.
fn from_metadata<T>(node: &Node, key: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    node.metadata
        .get(key)?
        .as_str()
        .and_then(|text| parse(&text.to_ascii_lowercase()))
}
