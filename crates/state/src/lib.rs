//! What a node knows of the mesh, and the questions a proxy asks of it: who is this workload,
//! where does this connection go, which policies apply. One [`Writer`], many [`Reader`]s; every
//! answer is pure (time and randomness are passed in). Refuses to know sockets, TLS and protocols.
//!
//! ```
//! use ambit_model::{Workload, WorkloadUid};
//! use ambit_state::{Change, Settings};
//! let (mut writer, reader) = ambit_state::new(Settings::default());
//! let uid = WorkloadUid::from("cluster//Pod/shop/web");
//! writer.apply(vec![Change::Workload(Workload { uid: uid.clone(), ..Workload::default() })]);
//! assert_eq!(reader.find_workload_by_uid(&uid).unwrap().uid, uid);
//! ```

mod change;
pub mod dump;
mod inbound;
pub mod limits;
mod outliers;
mod reader;
mod resolve;
mod store;
mod upstream;
mod writer;

#[cfg(test)]
mod tests;

pub use change::{Applied, Change, Counts, Settings};
pub use dump::Dump;
pub use inbound::{InboundError, InboundRequest, InboundTarget};
pub use outliers::{Endpoint, Outliers};
pub use reader::Reader;
pub use resolve::{ResolveError, ResolveRequest};
pub use upstream::{AppliedTo, Authority, ExpectedIdentities, Hop, PendingName, Upstream};
pub use writer::{Writer, new};
