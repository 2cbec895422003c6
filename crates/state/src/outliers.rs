//! Endpoints that keep refusing connections, left out of the choice for a while. Bounded; a hint
//! and never a rule: when every endpoint is left out, none is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ambit_model::WorkloadUid;
use parking_lot::{Mutex, MutexGuard};

use crate::limits;

/// A port of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The workload.
    pub workload: WorkloadUid,
    /// Its own port.
    pub port: u16,
}

/// The table of refusing endpoints. Time is the caller's.
#[derive(Debug, Default)]
pub struct Outliers {
    entries: Mutex<HashMap<Endpoint, Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// In a row, since the last success or the last time out.
    refusals: u32,
    /// Times left out in a row.
    times: u32,
    until: Option<Instant>,
    last: Instant,
}

impl Outliers {
    /// Counts a connection that was refused or timed out before any byte was sent.
    pub fn refused(&self, endpoint: &Endpoint, now: Instant) {
        let mut entries = self.entries.lock();
        if !entries.contains_key(endpoint) && entries.len() >= limits::OUTLIER_ENTRIES {
            make_room(&mut entries, now);
        }
        let entry = entries
            .entry(endpoint.clone())
            .and_modify(|entry| entry.forget_if_old(now))
            .or_insert(Entry {
                refusals: 0,
                times: 0,
                until: None,
                last: now,
            });
        entry.refused(now);
    }

    /// Forgives an endpoint that took a connection.
    pub fn succeeded(&self, endpoint: &Endpoint) {
        let mut entries = self.entries.lock();
        if !entries.is_empty() {
            entries.remove(endpoint);
        }
    }

    /// Whether the endpoint is left out at `now`.
    #[must_use]
    pub fn is_out(&self, endpoint: &Endpoint, now: Instant) -> bool {
        self.entries
            .lock()
            .get(endpoint)
            .is_some_and(|entry| entry.remaining(now).is_some())
    }

    /// How many endpoints are remembered, left out or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Whether no endpoint is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table as it is at `now`, held for the choice of one endpoint.
    pub(crate) fn view(&self, now: Instant) -> View<'_> {
        View {
            entries: self.entries.lock(),
            now,
        }
    }

    /// The endpoints left out at `now`, and for how long still.
    #[must_use]
    pub fn list(&self, now: Instant) -> Vec<(Endpoint, Duration)> {
        let entries = self.entries.lock();
        let mut out: Vec<_> = entries
            .iter()
            .filter_map(|(endpoint, entry)| Some((endpoint.clone(), entry.remaining(now)?)))
            .collect();
        out.sort_unstable();
        out
    }
}

/// The table at one time.
pub(crate) struct View<'a> {
    entries: MutexGuard<'a, HashMap<Endpoint, Entry>>,
    now: Instant,
}

impl View<'_> {
    pub(crate) fn is_out(&self, workload: &WorkloadUid, port: u16) -> bool {
        // Nearly always there is nothing to look for.
        !self.entries.is_empty()
            && self
                .entries
                .get(&Endpoint {
                    workload: workload.clone(),
                    port,
                })
                .is_some_and(|entry| entry.remaining(self.now).is_some())
    }
}

/// Drops what is old, and if that is nothing, the entry that was quiet for longest.
fn make_room(entries: &mut HashMap<Endpoint, Entry>, now: Instant) {
    entries.retain(|_, entry| !entry.is_old(now));
    if entries.len() < limits::OUTLIER_ENTRIES {
        return;
    }
    let quietest = entries
        .iter()
        .min_by_key(|(_, entry)| entry.last)
        .map(|(key, _)| key.clone());
    if let Some(key) = quietest {
        entries.remove(&key);
    }
}

impl Entry {
    fn refused(&mut self, now: Instant) {
        self.last = now;
        if self.remaining(now).is_some() {
            // A connection that was under way when it was left out.
            return;
        }
        self.refusals += 1;
        // After a time out one refusal is enough.
        if self.refusals >= limits::OUTLIER_THRESHOLD || self.times > 0 {
            let time = limits::OUTLIER_BASE.saturating_mul(1 << self.times.min(10));
            self.until = Some(now + time.min(limits::OUTLIER_MAX));
            self.times = self.times.saturating_add(1);
            self.refusals = 0;
        }
    }

    fn remaining(&self, now: Instant) -> Option<Duration> {
        let until = self.until?;
        (until > now).then(|| until - now)
    }

    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) > limits::OUTLIER_MEMORY
    }

    fn forget_if_old(&mut self, now: Instant) {
        if self.is_old(now) {
            *self = Self {
                refusals: 0,
                times: 0,
                until: None,
                last: now,
            };
        }
    }
}
