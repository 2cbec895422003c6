//! Folds connection events into the traffic families. A cache keyed by the objects a label set is
//! made from keeps the usual connection at one lookup; owned by the recorder, under its lock.

use std::collections::HashMap;
use std::sync::Arc;

use ambit_model::Identity;

use crate::labels::{Reporter, ResponseFlag, Security};
use crate::limits;
use crate::metrics::Metrics;
use crate::record::{Connection, Exit, Outcome, Party, Refusal, Shared};
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

/// The addresses of the shared objects a label set is made from. The cached entry keeps those
/// objects alive, so that an address cannot come to mean another object.
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
    declared: usize,
    // By value: every tunnel parses its peer's identity anew.
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
            declared: address(party.declared.as_ref()),
            identity: party.identity.clone(),
        }
    }
}

fn address<T>(object: Option<&Arc<T>>) -> usize {
    object.map_or(0, |o| Arc::as_ptr(o) as usize)
}
