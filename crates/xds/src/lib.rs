//! The client of the mesh's discovery: incremental (delta) xDS over one gRPC stream. Connects,
//! subscribes, hands resources to handlers, acknowledges what they applied and names what they
//! refused, resumes after a broken connection without loading everything again. Knows resources
//! by name and version; refuses to know what is in them.
//!
//! The main type is [`Client`].
//!
//! ```
//! use ambit_xds::{Client, Config, Handler, Mode, NoEvents, Rejected, Update};
//! use std::sync::Arc;
//!
//! struct Printer;
//! impl Handler for Printer {
//!     fn apply(&mut self, update: Update) -> Vec<Rejected> {
//!         let _names: Vec<_> = update.resources.iter().map(|resource| &resource.name).collect();
//!         Vec::new()
//!     }
//! }
//!
//! let connect = ambit_xds::connector(|| async {
//!     let endpoint = tonic::transport::Endpoint::from_static("http://127.0.0.1:15010");
//!     Ok(endpoint.connect().await?)
//! });
//! let mut client = Client::new(Config::default(), connect, Arc::new(NoEvents));
//! let subscription = client.subscribe("type.googleapis.com/istio.workload.Address", Mode::Wildcard, Printer);
//! // tokio::spawn(client.run(shutdown)); subscription.synced().await;
//! # let _ = (client, subscription);
//! ```

mod backoff;
mod client;
mod config;
mod demand;
mod handler;
pub mod limits;
mod stream;
mod watched;

pub use client::{BoxError, Client, Connector, Subscription, connector};
pub use config::{Config, Headers, Mode, NodeDescription};
pub use demand::{Demand, DemandError, Found};
pub use handler::{Events, Handler, NoEvents, Rejected, Resource, Termination, Update};
