//! Hash maps for what is looked up ten thousand times per change. Their keys come from the operator,
//! so that the standard library's protection against chosen keys is not needed.

/// A map with a fast hash.
pub(crate) type FastMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
