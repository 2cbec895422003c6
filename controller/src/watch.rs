//! From a directory to snapshots: finds the files, reads their documents, keeps what is in force
//! when a file turns bad, and tells when something changed. Knows kinds of objects, not their
//! meaning in the mesh.

pub(crate) mod decode;
pub(crate) mod directory;
pub(crate) mod documents;
pub(crate) mod object;
pub(crate) mod store;
pub(crate) mod watcher;
pub(crate) mod yaml;

pub use self::directory::DirectoryError;
pub use self::store::Store;
pub use self::watcher::{load, watch};
