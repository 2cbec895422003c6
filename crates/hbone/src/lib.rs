//! HBONE: byte streams in HTTP/2 CONNECT over mutual TLS. Client side ([`pool`]), server side
//! ([`server`]), the TLS under both ([`tls`]) and the [`Stream`] they hand out. It knows bytes,
//! CONNECT and a key to pool by; it refuses to know workloads, identities, policy or what an
//! authority means: callers pass authenticated streams and a key.
//!
//! Everything here belongs to one thread: types are `!Send`, tasks are spawned with
//! `tokio::task::spawn_local`. Run it on a `tokio::runtime::LocalRuntime`
//! (`Builder::new_current_thread().enable_all().build_local(..)`) or inside a `LocalSet`.
//! A process has one pool and one set of connections per data thread and shares neither.

#[cfg(test)]
extern crate self as ambit_hbone;

mod client;
mod error;
pub mod frame;
pub mod hpack;
pub mod limits;
pub mod pool;
pub mod server;
mod session;
mod settings;
mod stream;
pub mod tls;

pub use error::{Error, Fault, OpenError};
pub use pool::{ConnectRequest, Opened, Pool};
pub use server::{Connection, Request};
pub use settings::Settings;
pub use stream::Stream;
