//! A map with the types of its keys and values.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ambit_ebpf_common::{Destination, Endpoint, Flow, ListenerKey, NetnsEntry, Settings};

use crate::error::{Doing, Error};
use crate::sys::{self, MapType, Plain};

// SAFETY: `repr(C)`, without padding (asserted in that crate's tests), and any bytes are valid.
unsafe impl Plain for Flow {}
// SAFETY: as above.
unsafe impl Plain for Endpoint {}
// SAFETY: as above.
unsafe impl Plain for NetnsEntry {}
// SAFETY: as above.
unsafe impl Plain for ListenerKey {}
// SAFETY: as above.
unsafe impl Plain for Settings {}
// SAFETY: as above.
unsafe impl Plain for Destination {}

/// A pinned map of `K` to `V`. Every operation is one system call and may come from any thread.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    map: OwnedFd,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Plain + Default, V: Plain> Table<K, V> {
    /// Opens a pinned map, after checking that its keys and values have the size of ours.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let opened = sys::open_pin(path).doing(|| format!("open {}", path.display()))?;
        let Some(map) = opened else { return Ok(None) };
        let sizes = sys::map_sizes(map.as_fd()).doing(|| format!("inspect {}", path.display()))?;
        if sizes != (size_of::<K>(), size_of::<V>()) {
            return Err(Error::Pinned {
                path: path.to_owned(),
                reason: format!(
                    "its keys and values have {sizes:?} bytes instead of {:?}",
                    (size_of::<K>(), size_of::<V>())
                ),
            });
        }
        Ok(Some(Self {
            map,
            types: PhantomData,
        }))
    }

    /// Opens a map that must be there, because the objects that define it have been loaded.
    pub(crate) fn open_existing(path: &Path) -> Result<Self, Error> {
        Self::open(path)?.ok_or_else(|| Error::Pinned {
            path: path.to_owned(),
            reason: "it is missing, although the programs that use it are attached".to_owned(),
        })
    }

    /// Opens a pinned map, or makes it.
    pub(crate) fn open_or_create(
        path: &Path,
        map_type: MapType,
        name: &str,
        max_entries: u32,
    ) -> Result<Self, Error> {
        if let Some(table) = Self::open(path)? {
            return Ok(table);
        }
        let map = sys::create_map(
            map_type,
            name,
            (size_of::<K>(), size_of::<V>()),
            max_entries,
        )
        .doing(|| format!("create the map {name}"))?;
        sys::pin(map.as_fd(), path).doing(|| format!("pin {}", path.display()))?;
        Ok(Self {
            map,
            types: PhantomData,
        })
    }

    pub(crate) fn set(&self, key: &K, value: &V) -> io::Result<()> {
        sys::update(self.map.as_fd(), key, value)
    }

    /// False when the key was not there.
    pub(crate) fn remove(&self, key: &K) -> io::Result<bool> {
        sys::delete(self.map.as_fd(), key)
    }

    /// All keys. Bounded by the map's own size, as keys may come and go meanwhile.
    pub(crate) fn keys(&self, bound: u32) -> io::Result<Vec<K>> {
        let mut keys: Vec<K> = Vec::new();
        while keys.len() < bound as usize {
            match sys::next_key(self.map.as_fd(), keys.last())? {
                Some(key) => keys.push(key),
                None => break,
            }
        }
        Ok(keys)
    }
}

impl<K: Plain + Default, V: Plain + Default> Table<K, V> {
    pub(crate) fn find(&self, key: &K) -> io::Result<Option<V>> {
        sys::lookup(self.map.as_fd(), key)
    }

    /// Finds and deletes in one step.
    pub(crate) fn take(&self, key: &K) -> io::Result<Option<V>> {
        sys::take(self.map.as_fd(), key)
    }
}
