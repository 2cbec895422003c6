//! The registry and all families; the one place where names meet values.

use std::fmt;

use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::families::{
    CertificateMetrics, ConnectionMetrics, DnsMetrics, PodMetrics, PolicyMetrics, TelemetryMetrics,
    XdsMetrics,
};
use crate::process::ProcessCollector;
use crate::runtime::RuntimeCollector;
use crate::traffic::TrafficMetrics;
use crate::{labels, names};

/// Media type of [`Metrics::encode`].
pub const OPENMETRICS: &str = "application/openmetrics-text;charset=utf-8;version=1.0.0";

/// Every metric of a node agent.
pub struct Metrics {
    registry: Mutex<Registry>,
    pub(crate) traffic: TrafficMetrics,
    /// Live connections cut, endpoints left out, peers' bad input.
    pub connections: ConnectionMetrics,
    /// Policy decisions.
    pub policy: PolicyMetrics,
    /// DNS requests.
    pub dns: DnsMetrics,
    /// xDS streams.
    pub xds: XdsMetrics,
    /// Captured pods.
    pub pods: PodMetrics,
    /// Certificates.
    pub certificates: CertificateMetrics,
    /// Telemetry's own losses.
    pub telemetry: TelemetryMetrics,
    runtimes: RuntimeCollector,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers everything. `component` and `tag` are what `istio_build` says.
    #[must_use]
    pub fn new(component: &'static str, tag: &str) -> Self {
        let mut registry = Registry::default();
        let runtimes = RuntimeCollector::default();
        registry.register_collector(Box::new(ProcessCollector::new()));
        registry.register_collector(Box::new(runtimes.clone()));
        let istio = registry.sub_registry_with_prefix(names::ISTIO);
        register_build(istio, component, tag);
        let traffic = TrafficMetrics::register(istio);
        let dns = DnsMetrics::register(istio);
        let xds = XdsMetrics::register(istio);
        let mut connections = ConnectionMetrics::default();
        connections.register_istio(istio);
        let pods = PodMetrics::register(registry.sub_registry_with_prefix(names::WORKLOAD_MANAGER));
        let ambit = registry.sub_registry_with_prefix(names::AMBIT);
        connections.register_ambit(ambit);
        let policy = PolicyMetrics::register(ambit);
        let certificates = CertificateMetrics::register(ambit);
        let telemetry = TelemetryMetrics::register(ambit);
        Self {
            registry: Mutex::new(registry),
            traffic,
            connections,
            policy,
            dns,
            xds,
            pods,
            certificates,
            telemetry,
            runtimes,
        }
    }

    /// Shows a tokio runtime in the `tokio_*` metrics.
    pub fn watch_runtime(&self, handle: tokio::runtime::Handle) {
        self.runtimes.watch(handle);
    }

    /// Adds families of one's own, under the given prefix.
    pub fn register<T>(&self, prefix: &'static str, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(self.registry.lock().sub_registry_with_prefix(prefix))
    }

    /// The exposition text. Connection events still queued are not in it: see
    /// [`crate::Recorder::encode`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(64 * 1024);
        // Writing to a string cannot fail; an encoder that did would leave the text cut short,
        // which scrapers see by the missing end mark.
        if text::encode(&mut out, &self.registry.lock()).is_err() {
            tracing::warn!("a metric could not be encoded");
        }
        out
    }
}

fn register_build(istio: &mut Registry, component: &'static str, tag: &str) {
    use prometheus_client::metrics::{family::Family, gauge::Gauge};
    let build: Family<[(&'static str, String); 2], Gauge> = Family::default();
    build
        .get_or_create(&[
            (labels::COMPONENT, component.to_owned()),
            (labels::TAG, tag.to_owned()),
        ])
        .set(1);
    istio.register(names::BUILD, "Program and version", build);
}
