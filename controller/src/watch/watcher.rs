//! Tells of changes in the directory: waits until what was written is complete, reads the files
//! that changed and publishes the new snapshot. Owns the store.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Event, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant, sleep_until};

use super::directory::{self, DirectoryError};
use crate::limits::{
    MAX_PENDING_PATHS, RESCAN, SETTLE, SETTLE_AT_MOST, SETTLE_REMOVED, SETTLE_WRITING,
};
use crate::snapshot::Snapshot;
use crate::watch::Store;

/// Changes since the last reading.
#[derive(Debug, Default)]
struct Pending {
    /// When each path will have been quiet for long enough.
    due: HashMap<PathBuf, Instant>,
    /// When the first of them was seen.
    since: Option<Instant>,
    /// Paths are not enough to go by.
    rescan: bool,
}

impl Pending {
    /// When to read, if there is anything to read.
    fn due(&self) -> Option<Instant> {
        let since = self.since?;
        let settled = self.due.values().max().copied().unwrap_or(since + SETTLE);
        Some(settled.min(since + SETTLE_AT_MOST))
    }

    fn note(&mut self, event: &Event, now: Instant) {
        let Some(delay) = delay(event.kind) else {
            return;
        };
        self.since.get_or_insert(now);
        self.rescan |= event.need_rescan();
        for path in &event.paths {
            if self.due.len() < MAX_PENDING_PATHS || self.due.contains_key(path) {
                self.due.insert(path.clone(), now + delay);
            } else {
                self.rescan = true;
            }
        }
    }
}

/// How long to wait after an event; `None` for what changes nothing.
fn delay(kind: EventKind) -> Option<Duration> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => Some(SETTLE),
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => Some(SETTLE_REMOVED),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(SETTLE),
        _ => Some(SETTLE_WRITING),
    }
}

/// Reads the directory once.
pub fn load(root: &Path, mut store: Store) -> Result<(Store, Snapshot), DirectoryError> {
    directory::scan(root, &mut store)?;
    let snapshot = store.snapshot();
    Ok((store, snapshot))
}

/// Publishes a snapshot after every change of the directory, until `stop` completes.
pub async fn watch(
    root: PathBuf,
    mut store: Store,
    snapshots: watch::Sender<Arc<Snapshot>>,
    stop: impl Future<Output = ()>,
) {
    let pending = Arc::new((Mutex::new(Pending::default()), Notify::new()));
    // Dropped, and with it its thread ended, when this function returns.
    let _watcher = start(&root, &pending);
    // What changed between the first reading and the start of the watcher.
    pending.0.lock().rescan = true;
    let mut next_rescan = Instant::now();
    tokio::pin!(stop);
    loop {
        let due = pending.0.lock().due();
        tokio::select! {
            () = &mut stop => return,
            () = pending.1.notified() => continue,
            () = sleep_until(due.unwrap_or(next_rescan).min(next_rescan)) => {}
        }
        let taken = std::mem::take(&mut *pending.0.lock());
        let everything = taken.rescan || Instant::now() >= next_rescan;
        if everything {
            next_rescan = Instant::now() + RESCAN;
        }
        let paths: BTreeSet<PathBuf> = taken.due.into_keys().collect();
        let root = root.clone();
        let read = tokio::task::spawn_blocking(move || {
            let changed = read(&root, &paths, everything, &mut store);
            let snapshot = changed.then(|| store.snapshot());
            (store, snapshot)
        });
        let (returned, snapshot) = match read.await {
            Ok(result) => result,
            Err(error) => {
                tracing::error!(%error, "reading the directory of objects failed; changes are no longer seen");
                return;
            }
        };
        store = returned;
        if let Some(snapshot) = snapshot {
            snapshots.send_replace(Arc::new(snapshot));
        }
    }
}

fn read(root: &Path, paths: &BTreeSet<PathBuf>, everything: bool, store: &mut Store) -> bool {
    if !everything && let Some(changed) = directory::refresh(root, paths, store) {
        return changed;
    }
    directory::scan(root, store).unwrap_or_else(|error| {
        // The directory itself is gone or may not be read: what was in force stays in force.
        tracing::warn!(%error, "the directory of objects cannot be read");
        false
    })
}

fn start(
    root: &Path,
    pending: &Arc<(Mutex<Pending>, Notify)>,
) -> Option<notify::RecommendedWatcher> {
    let shared = Arc::clone(pending);
    let on_event = move |event: notify::Result<Event>| {
        match event {
            Ok(event) => shared.0.lock().note(&event, Instant::now()),
            Err(_) => {
                let mut pending = shared.0.lock();
                pending.rescan = true;
                pending.since.get_or_insert_with(Instant::now);
            }
        }
        shared.1.notify_one();
    };
    let started = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(root, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    match started {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, every = ?RESCAN, "changes of the directory are only seen by comparing it");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, RemoveKind};

    #[test]
    fn a_file_is_read_once_it_is_closed() {
        let now = Instant::now();
        let mut pending = Pending::default();
        let event = |kind| Event::new(kind).add_path(PathBuf::from("/a.yaml"));
        pending.note(&event(EventKind::Create(CreateKind::File)), now);
        pending.note(
            &event(EventKind::Modify(ModifyKind::Data(DataChange::Any))),
            now,
        );
        assert_eq!(pending.due(), Some(now + SETTLE_WRITING));
        pending.note(
            &event(EventKind::Access(AccessKind::Close(AccessMode::Write))),
            now,
        );
        assert_eq!(pending.due(), Some(now + SETTLE));
        pending.note(&event(EventKind::Remove(RemoveKind::File)), now);
        assert_eq!(pending.due(), Some(now + SETTLE_REMOVED));
    }

    #[test]
    fn endless_writing_does_not_put_off_reading_for_ever() {
        let start = Instant::now();
        let mut pending = Pending::default();
        for i in 0..1000 {
            let event = Event::new(EventKind::Modify(ModifyKind::Any)).add_path("/a.yaml".into());
            pending.note(&event, start + Duration::from_millis(i * 10));
        }
        assert_eq!(pending.due(), Some(start + SETTLE_AT_MOST));
    }
}
