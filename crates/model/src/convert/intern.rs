//! One copy of each string that resources have in common.

use std::collections::HashSet;
use std::sync::Arc;

use crate::Port;

/// Strings and port lists seen so far.
#[derive(Debug, Default)]
pub(super) struct Interner {
    texts: HashSet<Arc<str>>,
    ports: HashSet<Arc<[Port]>>,
}

impl Interner {
    pub(super) fn text(&mut self, value: &str) -> Arc<str> {
        if value.is_empty() {
            return Arc::default();
        }
        if let Some(known) = self.texts.get(value) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(value);
        self.texts.insert(Arc::clone(&new));
        new
    }

    pub(super) fn ports(&mut self, value: Vec<Port>) -> Arc<[Port]> {
        if let Some(known) = self.ports.get(value.as_slice()) {
            return Arc::clone(known);
        }
        let new: Arc<[Port]> = Arc::from(value);
        self.ports.insert(Arc::clone(&new));
        new
    }

    pub(super) fn sweep(&mut self) {
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.ports.retain(|ports| Arc::strong_count(ports) > 1);
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len() + self.ports.len()
    }
}
