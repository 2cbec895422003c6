//! The maps behind readers and writer. Each keeps its indexes in step with its objects; none
//! refers to another, so that the order in which objects arrive cannot matter.

mod policies;
mod ranges;
mod services;
mod workloads;

pub(crate) use policies::Policies;
pub(crate) use services::{Asker, Services};
pub(crate) use workloads::{Workloads, is_pod};

use std::sync::Arc;

use smallvec::SmallVec;

/// Everything known of the mesh.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) workloads: Workloads,
    pub(crate) services: Services,
    pub(crate) policies: Policies,
}

/// Objects that share an index entry, nearly always one.
type Shared<T> = SmallVec<[Arc<T>; 1]>;

/// What a list of shared objects is sorted by.
trait Sorted {
    type Key: Ord + ?Sized;
    fn sort_key(&self) -> &Self::Key;
}

/// Puts `item` in its place, instead of the one with its key if there is one.
fn insert_sorted<T: Sorted>(list: &mut Vec<Arc<T>>, item: Arc<T>) {
    match list.binary_search_by(|other| other.sort_key().cmp(item.sort_key())) {
        Ok(at) => list[at] = item,
        Err(at) => list.insert(at, item),
    }
}

/// Takes out the item with `key`.
fn remove_sorted<T: Sorted>(list: &mut Vec<Arc<T>>, key: &T::Key) {
    if let Ok(at) = list.binary_search_by(|other| other.sort_key().cmp(key)) {
        list.remove(at);
    }
}
