//! Folds connection events into the traffic families. A cache keyed by the objects a label set is
//! made from keeps the usual connection at one lookup; owned by the recorder, under its lock.

use std::collections::HashMap;
use std::sync::Arc;

use ambit_model::Identity;

use crate::labels::{Reporter, ResponseFlag, Security};
use crate::limits;
use crate::metrics::Metrics;
use crate::record::{Connection, Declared, Exit, Outcome, Party, Refusal, Shared};
use crate::recorder::Event;
use crate::traffic::{Count, Series, TrafficLabels, TrafficMetrics};

/// Something for the access log.
#[derive(Debug)]
pub(crate) enum LogEntry {
    Opened(Arc<Shared>),
    Closed(Box<Exit>),
    Refused(Box<Refusal>),
}

#[derive(Debug)]
pub(crate) struct Fold {
    metrics: Arc<Metrics>,
    cache: HashMap<CacheKey, Cached>,
    live: HashMap<usize, Live>,
    logs: Vec<LogEntry>,
}

/// A connection that is open, and what of it has been counted.
#[derive(Debug)]
struct Live {
    shared: Arc<Shared>,
    series: Series,
    sent: u64,
    received: u64,
}

/// What a label set is made from: shared objects by their address (the cached entry keeps them
/// alive, so that an address cannot come to mean another object), what every connection brings
/// anew by its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CacheKey {
    reporter: Reporter,
    security: Security,
    flag: ResponseFlag,
    source: PartyKey,
    destination: PartyKey,
    service: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PartyKey {
    workload: usize,
    /// Parsed anew for every connection; it makes labels only where there is no workload.
    declared: Option<Arc<Declared>>,
    /// Parsed anew for every tunnel.
    identity: Option<Arc<Identity>>,
}

#[derive(Debug)]
struct Cached {
    series: Series,
    _keep: (Party, Party, Option<Arc<ambit_model::Service>>),
}

impl Live {
    /// Counts what came since the last time.
    fn advance(&mut self, traffic: &TrafficMetrics) {
        let (sent, received) = self.shared.sent_received();
        traffic.add(&self.series, Count::Sent, sent.wrapping_sub(self.sent));
        traffic.add(
            &self.series,
            Count::Received,
            received.wrapping_sub(self.received),
        );
        (self.sent, self.received) = (sent, received);
    }
}

impl Fold {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            cache: HashMap::new(),
            live: HashMap::new(),
            logs: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::Opened(shared) => self.opened(shared),
            Event::Closed(exit) => {
                self.closed(&exit.shared, &exit.outcome);
                self.log(LogEntry::Closed(exit));
            }
            Event::Forgotten(shared) => {
                self.metrics.telemetry.unfinished_records.inc();
                self.closed(&shared, &Outcome::complete());
            }
            Event::Refused(refusal) => {
                let series = self.series(&refusal.connection, refusal.outcome.flag);
                self.metrics.traffic.add(&series, Count::Failed, 1);
                self.log(LogEntry::Refused(refusal));
            }
        }
    }

    pub(crate) fn fold_live_bytes(&mut self) {
        let traffic = &self.metrics.traffic;
        self.live
            .values_mut()
            .for_each(|live| live.advance(traffic));
    }

    pub(crate) fn take_logs(&mut self) -> Vec<LogEntry> {
        std::mem::take(&mut self.logs)
    }

    fn opened(&mut self, shared: Arc<Shared>) {
        let series = self.series(&shared.connection, ResponseFlag::None);
        self.metrics.traffic.add(&series, Count::Opened, 1);
        self.metrics
            .traffic
            .sockets_open(shared.connection.reporter)
            .inc();
        if tracing::enabled!(target: "access", tracing::Level::DEBUG) {
            self.log(LogEntry::Opened(Arc::clone(&shared)));
        }
        let key = Arc::as_ptr(&shared) as usize;
        self.live.insert(
            key,
            Live {
                shared,
                series,
                sent: 0,
                received: 0,
            },
        );
    }

    fn closed(&mut self, shared: &Arc<Shared>, outcome: &Outcome) {
        // Absent only if the opening was dropped at a full queue: then its close must not count.
        let Some(mut live) = self.live.remove(&(Arc::as_ptr(shared) as usize)) else {
            return;
        };
        live.advance(&self.metrics.traffic);
        self.metrics
            .traffic
            .sockets_open(shared.connection.reporter)
            .dec();
        let series = match outcome.flag {
            ResponseFlag::None => live.series,
            flag => self.series(&shared.connection, flag),
        };
        self.metrics.traffic.add(&series, Count::Closed, 1);
        if outcome.error.is_some() {
            self.metrics.traffic.add(&series, Count::Failed, 1);
        }
        if let Some(cut) = outcome.cut {
            self.metrics.connections.count_cut(cut);
        }
    }

    fn log(&mut self, entry: LogEntry) {
        if self.logs.len() < limits::PENDING_LOG_ENTRIES {
            self.logs.push(entry);
        } else {
            self.metrics.telemetry.log_lines_dropped.inc();
        }
    }

    fn series(&mut self, connection: &Connection, flag: ResponseFlag) -> Series {
        let key = CacheKey::new(connection, flag);
        if let Some(cached) = self.cache.get(&key) {
            return cached.series.clone();
        }
        if self.cache.len() >= limits::SERIES_CACHE {
            self.cache.clear();
        }
        let series = self
            .metrics
            .traffic
            .series(&TrafficLabels::new(connection, flag));
        let keep = (
            connection.source.clone(),
            connection.destination.clone(),
            connection.service.clone(),
        );
        self.cache.insert(
            key,
            Cached {
                series: series.clone(),
                _keep: keep,
            },
        );
        series
    }
}

impl CacheKey {
    fn new(connection: &Connection, flag: ResponseFlag) -> Self {
        Self {
            reporter: connection.reporter,
            security: connection.security,
            flag,
            source: PartyKey::new(&connection.source),
            destination: PartyKey::new(&connection.destination),
            service: address(connection.service.as_ref()),
        }
    }
}

impl PartyKey {
    fn new(party: &Party) -> Self {
        Self {
            workload: address(party.workload.as_ref()),
            declared: match party.workload {
                Some(_) => None,
                None => party.declared.clone(),
            },
            identity: party.identity.clone(),
        }
    }
}

fn address<T>(object: Option<&Arc<T>>) -> usize {
    object.map_or(0, |o| Arc::as_ptr(o) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_model::Workload;

    fn connection(workload: Option<Arc<Workload>>, declared: &str) -> Connection {
        let declared = Declared {
            workload: declared.into(),
            ..Declared::default()
        };
        let address = "10.0.0.1:80".parse().unwrap();
        Connection {
            reporter: Reporter::Source,
            security: Security::MutualTls,
            source: Party::default(),
            source_address: address,
            destination: Party {
                workload,
                declared: Some(Arc::new(declared)),
                identity: None,
            },
            destination_address: address,
            tunnel: None,
            service: None,
        }
    }

    #[test]
    fn label_sets_are_made_once_whatever_objects_connections_bring() {
        let mut fold = Fold::new(Arc::new(Metrics::new("test", "0")));
        let mut made = |connection| {
            fold.series(&connection, ResponseFlag::None);
            fold.cache.len()
        };
        let known = Arc::new(Workload::default());
        assert_eq!(made(connection(Some(Arc::clone(&known)), "a")), 1);
        assert_eq!(made(connection(Some(known), "b")), 1);
        assert_eq!(made(connection(None, "a")), 2);
        assert_eq!(made(connection(None, "a")), 2);
        assert_eq!(made(connection(None, "b")), 3);
    }
}
