//! Which identity's turn it is: what waits, by urgency, and what waits for its time. Holds each
//! slot at most once in each, so it is bounded by the number of identities.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::RngExt;
use tokio::time::Instant;

use super::Priority;
use super::slot::Slot;
use crate::limits::{BACKOFF_INITIAL, BACKOFF_MAX, DEMAND_RETRY_FLOOR};

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// An attempt will be made.
    Queued,
    /// One is under way, or queued at least as urgently.
    Joined,
    /// The last one failed a moment ago.
    TooSoon,
}

type Place = (Priority, u64);

/// What is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Try again.
    Retry(Priority),
    /// Renew, but not before this by the wall clock.
    Renewal(SystemTime),
}

impl Due {
    pub(super) fn priority(self) -> Priority {
        match self {
            Self::Retry(priority) => priority,
            Self::Renewal(_) => Priority::Background,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    ready: BTreeMap<Place, Arc<Slot>>,
    places: HashMap<u64, Place>,
    timers: BTreeMap<(Instant, u64), (Arc<Slot>, Due)>,
    due: HashMap<u64, Instant>,
    running: HashSet<u64>,
    failures: HashMap<u64, Failures>,
    sequence: u64,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    last: Instant,
    /// The next wait before jitter.
    backoff: Duration,
    /// The authority was not reached: another identity's success is a reason to try again.
    unreachable: bool,
}

impl Queue {
    /// Puts a slot in line, or moves it forward.
    pub(super) fn push(&mut self, slot: &Arc<Slot>, priority: Priority, now: Instant) -> Start {
        if self.running.contains(&slot.id) {
            return Start::Joined;
        }
        if let Some(place) = self.places.get(&slot.id).copied() {
            if place.0 <= priority {
                return Start::Joined;
            }
            self.ready.remove(&place);
        } else if self.failures.get(&slot.id).is_some_and(|failures| {
            priority != Priority::RealTime
                || now.saturating_duration_since(failures.last) < DEMAND_RETRY_FLOOR
        }) {
            return Start::TooSoon;
        }
        self.enqueue(slot, priority);
        Start::Queued
    }

    /// The most urgent slot, which counts as running from here on.
    pub(super) fn pop(&mut self) -> Option<Arc<Slot>> {
        let (_, slot) = self.ready.pop_first()?;
        self.places.remove(&slot.id);
        self.disarm(slot.id);
        self.running.insert(slot.id);
        Some(slot)
    }

    /// Notes that an attempt ended well: no backoff any more, and those whom the authority's
    /// silence keeps waiting are in line again.
    pub(super) fn succeeded(&mut self, slot: &Slot) {
        self.running.remove(&slot.id);
        self.failures.remove(&slot.id);
        let waiting: Vec<u64> = self
            .failures
            .iter()
            .filter(|(_, f)| f.unreachable)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            if let Some((slot, due)) = self.disarm(id) {
                self.enqueue(&slot, due.priority());
            }
        }
    }

    /// Notes that an attempt failed; gives the jittered wait until the next one.
    pub(super) fn failed(&mut self, slot: &Slot, unreachable: bool, now: Instant) -> Duration {
        self.running.remove(&slot.id);
        let backoff = self
            .failures
            .get(&slot.id)
            .map_or(BACKOFF_INITIAL, |f| f.backoff);
        let next = Failures {
            last: now,
            backoff: (backoff * 2).min(BACKOFF_MAX),
            unreachable,
        };
        self.failures.insert(slot.id, next);
        backoff
            .mul_f64(rand::rng().random_range(1.0..2.0))
            .min(BACKOFF_MAX)
    }

    /// Remembers what is to be done with the slot at `at`; replaces what was.
    pub(super) fn arm(&mut self, slot: &Arc<Slot>, due: Due, at: Instant) {
        self.disarm(slot.id);
        self.timers.insert((at, slot.id), (Arc::clone(slot), due));
        self.due.insert(slot.id, at);
    }

    /// Takes one whose time has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Arc<Slot>, Due)> {
        let (due, id) = *self.timers.first_key_value()?.0;
        if due <= now { self.disarm(id) } else { None }
    }

    /// Puts a slot in line that is due, whatever failed before.
    pub(super) fn enqueue(&mut self, slot: &Arc<Slot>, priority: Priority) {
        if self.running.contains(&slot.id) || self.places.contains_key(&slot.id) {
            let place = self.places.get(&slot.id).copied();
            match place {
                Some(place) if priority < place.0 => self.ready.remove(&place),
                _ => return,
            };
        }
        self.sequence += 1;
        let place = (priority, self.sequence);
        self.places.insert(slot.id, place);
        self.ready.insert(place, Arc::clone(slot));
    }

    /// When to look again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Drops everything about a slot. One that runs is done with when its attempt ends.
    pub(super) fn remove(&mut self, id: u64) {
        if let Some(place) = self.places.remove(&id) {
            self.ready.remove(&place);
        }
        self.disarm(id);
        self.failures.remove(&id);
    }

    /// Notes that an attempt ended whose slot was forgotten.
    pub(super) fn abandoned(&mut self, id: u64) {
        self.running.remove(&id);
    }

    fn disarm(&mut self, id: u64) -> Option<(Arc<Slot>, Due)> {
        let due = self.due.remove(&id)?;
        self.timers.remove(&(due, id))
    }
}
