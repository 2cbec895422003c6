//! The only way to change the store.

use std::sync::Arc;

use crate::reader::{Reader, Shared};
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
        let _ = (&self.shared, changes);
        todo!()
    }
}
