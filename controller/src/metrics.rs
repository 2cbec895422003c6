//! The controller's own metrics. Traffic is counted by the node agents.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::ca::{CaEvents, Refusal};
use crate::serve::Hub;
use crate::status::Summary;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    url: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    objects: Family<StateLabel, Gauge>,
    resources: Family<TypeLabel, Gauge>,
    clients: Gauge,
    changed: Counter,
    translation: Histogram,
    issued: Counter,
    refused: Family<ReasonLabel, Counter>,
    /// Log lines lost.
    pub log_dropped: Counter,
}

/// Seconds, from well below a millisecond for small meshes to seconds for very large ones.
const BUCKETS: [f64; 9] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("ambit_controller")),
            objects: Family::default(),
            resources: Family::default(),
            clients: Gauge::default(),
            changed: Counter::default(),
            translation: Histogram::new(BUCKETS),
            issued: Counter::default(),
            refused: Family::default(),
            log_dropped: Counter::default(),
        };
        {
            let mut registry = metrics.registry.lock();
            registry.register("objects", "Objects by state", metrics.objects.clone());
            registry.register(
                "resources",
                "Resources served, by type",
                metrics.resources.clone(),
            );
            registry.register(
                "clients",
                "Connected discovery clients",
                metrics.clients.clone(),
            );
            registry.register(
                "changed_resources",
                "Resources that changed or went",
                metrics.changed.clone(),
            );
            registry.register(
                "translation_seconds",
                "Time to translate and publish a change",
                metrics.translation.clone(),
            );
            registry.register(
                "certificates_issued",
                "Certificates signed",
                metrics.issued.clone(),
            );
            registry.register(
                "certificates_refused",
                "Certificate requests turned down",
                metrics.refused.clone(),
            );
            registry.register(
                "log_lines_dropped",
                "Log lines lost at a full queue",
                metrics.log_dropped.clone(),
            );
        }
        metrics
    }
}

impl Metrics {
    /// Notes a change that was translated and published.
    pub fn note_change(&self, summary: &Summary, changed: usize, took: Duration) {
        let set = |state, value: usize| {
            let gauge = self.objects.get_or_create(&StateLabel { state });
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set("accepted", summary.accepted.values().sum());
        set("refused", summary.refused);
        self.changed.inc_by(changed as u64);
        self.translation.observe(took.as_secs_f64());
    }

    /// All metrics as text, with the hub's numbers of this moment.
    #[must_use]
    pub fn encode(&self, hub: &Hub) -> String {
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        for (url, count) in hub.counts() {
            self.resources
                .get_or_create(&TypeLabel { url })
                .set(number(count));
        }
        self.clients.set(number(hub.client_count()));
        let mut encoded = String::new();
        match text::encode(&mut encoded, &self.registry.lock()) {
            Ok(()) => encoded,
            Err(error) => {
                tracing::error!(%error, "metrics could not be encoded");
                String::new()
            }
        }
    }
}

/// Counts what the authority does.
#[derive(Debug)]
pub struct CountCertificates(pub Arc<Metrics>);

impl CaEvents for CountCertificates {
    fn issued(&self) {
        self.0.issued.inc();
    }

    fn refused(&self, reason: Refusal) {
        self.0
            .refused
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .inc();
    }
}
