//! The only way to change the store.

use std::sync::Arc;

use ambit_model::{AuthorizationPolicy, PolicyKey, Service, ServiceKey, Workload, WorkloadUid};

use crate::reader::{Reader, Shared};
use crate::store::Store;
use crate::{Applied, Change, Settings};

/// Changes the store; there is one.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
}

/// An empty store.
#[must_use]
pub fn new(settings: Settings) -> (Writer, Reader) {
    let shared = Arc::new(Shared::new(settings));
    (
        Writer {
            shared: Arc::clone(&shared),
        },
        Reader::new(shared),
    )
}

impl Writer {
    /// Applies all changes at once: readers see none or all of them. Then bumps the version.
    pub fn apply(&mut self, changes: Vec<Change>) -> Applied {
        // What can be done before the lock is, and what is replaced is freed after it.
        let prepared: Vec<_> = changes.into_iter().map(Prepared::from).collect();
        let mut batch = Batch {
            applied: Applied::default(),
            old: Vec::new(),
        };
        self.shared.change(|store| {
            for change in prepared {
                batch.one(store, change);
            }
        });
        batch.applied
    }
}

/// A change with everything allocated.
enum Prepared {
    Workload(Arc<Workload>),
    Service(Arc<Service>),
    Policy(Arc<AuthorizationPolicy>),
    RemoveAddress(WorkloadUid, Option<ServiceKey>),
    RemovePolicy(PolicyKey),
}

impl From<Change> for Prepared {
    fn from(change: Change) -> Self {
        match change {
            Change::Workload(workload) => Self::Workload(Arc::new(workload)),
            Change::Service(service) => Self::Service(Arc::new(service)),
            Change::Policy(policy) => Self::Policy(Arc::new(policy)),
            Change::RemoveAddress(name) => {
                // Host names are held in lower case and without a trailing dot.
                let canonical = name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase();
                Self::RemoveAddress(name.into(), ServiceKey::parse(&canonical))
            }
            Change::RemovePolicy(key) => Self::RemovePolicy(key),
        }
    }
}

/// What was there before, to be freed when the lock is not held.
#[expect(dead_code, reason = "held only to be freed later")]
enum Old {
    Workload(Arc<Workload>),
    Service(Arc<Service>),
    Policy(Arc<AuthorizationPolicy>),
}

struct Batch {
    applied: Applied,
    old: Vec<Old>,
}

impl Batch {
    fn one(&mut self, store: &mut Store, change: Prepared) {
        match change {
            Prepared::Workload(new) => {
                let same = store
                    .workloads
                    .by_uid(&new.uid)
                    .is_some_and(|old| **old == *new);
                if self.is_news(same) {
                    self.keep(store.workloads.insert(new).map(Old::Workload));
                }
            }
            Prepared::Service(new) => {
                let same = store
                    .services
                    .by_key(&new.key())
                    .is_some_and(|old| **old == *new);
                if self.is_news(same) {
                    self.keep(store.services.insert(new).map(Old::Service));
                }
            }
            Prepared::Policy(new) => {
                let same = store
                    .policies
                    .by_key(&new.key)
                    .is_some_and(|old| **old == *new);
                if self.is_news(same) {
                    self.keep(store.policies.insert(new).map(Old::Policy));
                }
            }
            Prepared::RemoveAddress(uid, service) => {
                let old = match store.workloads.remove(&uid) {
                    Some(workload) => Some(Old::Workload(workload)),
                    None => service
                        .and_then(|key| store.services.remove(&key))
                        .map(Old::Service),
                };
                self.gone(old);
            }
            Prepared::RemovePolicy(key) => {
                let old = store.policies.remove(&key).map(Old::Policy);
                self.gone(old);
            }
        }
    }

    fn is_news(&mut self, same: bool) -> bool {
        if same {
            self.applied.unchanged += 1;
        } else {
            self.applied.changed += 1;
        }
        !same
    }

    fn keep(&mut self, old: Option<Old>) {
        self.old.extend(old);
    }

    fn gone(&mut self, old: Option<Old>) {
        if old.is_some() {
            self.applied.removed += 1;
        } else {
            self.applied.unchanged += 1;
        }
        self.keep(old);
    }
}
