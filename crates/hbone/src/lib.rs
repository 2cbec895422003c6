//! HBONE: byte streams in HTTP/2 CONNECT over mutual TLS. Client side ([`pool`]), server side
//! ([`server`]), the TLS under both ([`tls`]) and the [`Stream`] they hand out. It knows bytes,
//! CONNECT and a key to pool by; it refuses to know workloads, identities, policy or what an
//! authority means: callers pass authenticated streams and a key.
//!
//! Everything here belongs to one thread: types are `!Send`, tasks are spawned with
//! `tokio::task::spawn_local`. Run it on a `tokio::runtime::LocalRuntime`
//! (`Builder::new_current_thread().enable_all().build_local(..)`) or inside a `LocalSet`.
//! A process has one pool and one set of connections per data thread and shares neither.
//!
//! [`frame`] and [`hpack`] are this crate's own HTTP/2, as much of it as CONNECT needs; they are
//! pure and public so that fuzzers and scripted peers reach them. `docs/decisions/0003` says why.
//!
//! ```no_run
//! # use std::{rc::Rc, sync::Arc};
//! # use ambit_hbone::{ConnectRequest, Connection, Error, Pool, Settings, tls};
//! # use ambit_net::copy::{Counters, TcpEnd, copy_bidirectional};
//! # use http::{HeaderMap, StatusCode};
//! # use tokio::{net::TcpStream, task::spawn_local};
//! # type Failure = Box<dyn std::error::Error>;
//! /// A captured connection goes into a tunnel.
//! async fn outbound(
//!     app: TcpStream,
//!     pool: &Pool<String, Error>,
//!     config: Arc<rustls::ClientConfig>,
//!     settings: &Settings,
//! ) -> Result<(), Failure> {
//!     let peer = "10.0.0.7:15008";
//!     let connect = || async {
//!         let tcp = TcpStream::connect(peer).await?;
//!         let name = rustls_pki_types::ServerName::IpAddress(tcp.peer_addr()?.ip().into());
//!         tls::connect(tcp, Arc::clone(&config), name, settings.handshake_timeout).await
//!     };
//!     let authority = "10.0.0.7:80".to_owned();
//!     let request = ConnectRequest { authority, headers: HeaderMap::new() };
//!     let mut opened = pool.open(&peer.to_owned(), connect, request).await?;
//!     let counters = Counters::default();
//!     copy_bidirectional(&mut TcpEnd::new(app), &mut opened.stream, &counters).await?;
//!     Ok(())
//! }
//!
//! /// A tunnel's streams go to the application.
//! async fn inbound(
//!     tcp: TcpStream,
//!     config: Arc<rustls::ServerConfig>,
//!     settings: &Settings,
//! ) -> Result<(), Failure> {
//!     let tls = tls::accept(tcp, config, settings.handshake_timeout).await?;
//!     let mut connection = Connection::accept(tls, settings).await?;
//!     while let Some(request) = connection.next().await? {
//!         if !request.is_connect() {
//!             request.refuse(StatusCode::BAD_REQUEST, HeaderMap::new())?;
//!             continue;
//!         }
//!         spawn_local(async move {
//!             let app = TcpStream::connect(request.authority().unwrap_or_default()).await?;
//!             let mut stream = request.accept(HeaderMap::new())?;
//!             let counters = Counters::default();
//!             copy_bidirectional(&mut stream, &mut TcpEnd::new(app), &counters).await?;
//!             Ok::<_, Failure>(())
//!         });
//!     }
//!     Ok(())
//! }
//! ```

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
