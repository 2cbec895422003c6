//! The traffic families with their 27 labels.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use ambit_model::Workload;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::labels::{self, Reporter, ResponseFlag, UNKNOWN};
use crate::limits;
use crate::names;
use crate::record::{Connection, Declared, Party};

/// The values of the traffic labels, in the order of [`labels::TRAFFIC`]; shared by the families.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TrafficLabels(Arc<[Text; 27]>);

/// A label value: a fixed word or a shared text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Text(std::borrow::Cow<'static, str>);

impl Text {
    const UNKNOWN: Self = Self(std::borrow::Cow::Borrowed(UNKNOWN));

    const fn fixed(value: &'static str) -> Self {
        Self(std::borrow::Cow::Borrowed(value))
    }

    fn of(value: &str) -> Self {
        if value.is_empty() {
            Self::UNKNOWN
        } else {
            Self(value.to_owned().into())
        }
    }
}

impl EncodeLabelSet for TrafficLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), fmt::Error> {
        for (name, value) in labels::TRAFFIC.iter().zip(self.0.iter()) {
            (*name, value.0.as_ref()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// The counters of one label set. Each comes into being when it is first counted, so that the
/// exposition holds no series of zeros.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    labels: TrafficLabels,
    counters: Arc<[OnceLock<Counter>; 5]>,
}

/// Which counter of a series.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Opened,
    Closed,
    Failed,
    Sent,
    Received,
}

/// The traffic families.
#[derive(Debug, Default)]
pub struct TrafficMetrics {
    opened: Family<TrafficLabels, Counter>,
    closed: Family<TrafficLabels, Counter>,
    failed: Family<TrafficLabels, Counter>,
    sent: Family<TrafficLabels, Counter>,
    received: Family<TrafficLabels, Counter>,
    open: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Label sets asked for; at the limit no new ones get series.
    sets: AtomicUsize,
}

impl TrafficMetrics {
    pub(crate) fn register(istio: &mut Registry) -> Self {
        let m = Self::default();
        istio.register(
            names::CONNECTIONS_OPENED,
            "Connections opened",
            m.opened.clone(),
        );
        istio.register(
            names::CONNECTIONS_CLOSED,
            "Connections closed",
            m.closed.clone(),
        );
        istio.register(
            names::CONNECTIONS_FAILED,
            "Connections that failed",
            m.failed.clone(),
        );
        istio.register(names::RECEIVED_BYTES, "Bytes received", m.received.clone());
        istio.register(names::SENT_BYTES, "Bytes sent", m.sent.clone());
        istio.register(names::SOCKETS_OPEN, "Connections open now", m.open.clone());
        m
    }

    pub(crate) fn sockets_open(&self, reporter: Reporter) -> Gauge {
        self.open
            .get_or_create_owned(&[(labels::REPORTER, reporter.as_str())])
    }

    /// Whether the label set has series or may get them.
    fn admit(&self, labels: &TrafficLabels) -> bool {
        if self.opened.get(labels).is_some() || self.closed.get(labels).is_some() {
            return true;
        }
        self.sets.fetch_add(1, Ordering::Relaxed) < limits::TRAFFIC_SERIES
    }

    pub(crate) fn series(&self, labels: &TrafficLabels) -> Series {
        let overflow;
        let labels = if self.admit(labels) {
            labels
        } else {
            overflow = labels.overflow();
            &overflow
        };
        Series {
            labels: labels.clone(),
            counters: Arc::default(),
        }
    }

    /// Adds to one counter of a series.
    pub(crate) fn add(&self, series: &Series, count: Count, amount: u64) {
        if amount == 0 {
            return;
        }
        let family = match count {
            Count::Opened => &self.opened,
            Count::Closed => &self.closed,
            Count::Failed => &self.failed,
            Count::Sent => &self.sent,
            Count::Received => &self.received,
        };
        let slot = &series.counters[count as usize];
        slot.get_or_init(|| family.get_or_create_owned(&series.labels))
            .inc_by(amount);
    }
}

impl TrafficLabels {
    pub(crate) fn new(connection: &Connection, flag: ResponseFlag) -> Self {
        let source = Side::new(&connection.source);
        let destination = Side::new(&connection.destination);
        let service = connection.service.as_deref();
        Self(Arc::new([
            Text::fixed(connection.reporter.as_str()),
            source.workload,
            source.canonical_service.clone(),
            source.canonical_revision.clone(),
            source.namespace,
            source.principal,
            source.canonical_service,
            source.canonical_revision,
            source.cluster,
            service.map_or(Text::UNKNOWN, |s| Text::of(s.hostname.as_str())),
            service.map_or(Text::UNKNOWN, |s| Text::of(s.namespace.as_str())),
            service.map_or(Text::UNKNOWN, |s| Text::of(&s.name)),
            destination.workload,
            destination.canonical_service.clone(),
            destination.canonical_revision.clone(),
            destination.namespace,
            destination.principal,
            destination.canonical_service,
            destination.canonical_revision,
            destination.cluster,
            Text::fixed("tcp"),
            Text::fixed(flag.as_str()),
            Text::fixed(connection.security.as_str()),
            source.region,
            source.zone,
            destination.region,
            destination.zone,
        ]))
    }

    /// The same with every name unknown: what remains when there are too many series.
    fn overflow(&self) -> Self {
        let mut values = self.0.as_ref().clone();
        for (name, value) in labels::TRAFFIC.iter().zip(values.iter_mut()) {
            if name.starts_with("source_") || name.starts_with("destination_") {
                *value = Text::UNKNOWN;
            }
        }
        Self(Arc::new(values))
    }
}

/// The label values of one party.
struct Side {
    workload: Text,
    canonical_service: Text,
    canonical_revision: Text,
    namespace: Text,
    principal: Text,
    cluster: Text,
    region: Text,
    zone: Text,
}

impl Side {
    fn new(party: &Party) -> Self {
        let principal = party
            .identity
            .as_ref()
            .map_or(Text::UNKNOWN, |i| Text(i.to_string().into()));
        match (&party.workload, &party.declared) {
            (Some(workload), _) => Self::of_workload(workload, principal),
            (None, Some(declared)) => Self::of_declared(declared, principal),
            (None, None) => Self::of_declared(&Declared::default(), principal),
        }
    }

    fn of_workload(workload: &Workload, principal: Text) -> Self {
        Self {
            workload: Text::of(&workload.workload_name),
            canonical_service: Text::of(&workload.canonical_name),
            canonical_revision: Text::of(&workload.canonical_revision),
            namespace: Text::of(workload.namespace.as_str()),
            principal,
            cluster: Text::of(workload.cluster.as_str()),
            region: Text::of(&workload.locality.region),
            zone: Text::of(&workload.locality.zone),
        }
    }

    fn of_declared(declared: &Declared, principal: Text) -> Self {
        Self {
            workload: Text::of(&declared.workload),
            canonical_service: Text::of(&declared.canonical_service),
            canonical_revision: Text::of(&declared.canonical_revision),
            namespace: Text::of(&declared.namespace),
            principal,
            cluster: Text::of(&declared.cluster),
            region: Text::of(&declared.region),
            zone: Text::of(&declared.zone),
        }
    }
}
