//! The controller of the mesh: reads objects, translates them and serves them to node agents,
//! and signs their certificates. Standalone it reads a directory of Kubernetes-shaped YAML.
//!
//! A change goes `watch` → [`snapshot::Snapshot`] → [`translate`] → `serve`; `status` tells of each
//! object whether it is in force. Refuses to know sockets of the data plane.
//!
//! ```
//! use controller::snapshot::MeshSettings;
//! use controller::{translate, watch::Store};
//! let mut store = Store::new(MeshSettings::default());
//! store.update("ns.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
//! assert!(translate::translate(&store.snapshot()).findings.is_empty());
//! ```

pub mod api;
pub mod app;
pub mod ca;
pub mod command;
pub mod config;
pub mod finding;
pub mod limits;
mod maps;
pub mod metrics;
pub mod serve;
pub mod snapshot;
pub mod status;
pub mod translate;
pub mod validate;
pub mod watch;
