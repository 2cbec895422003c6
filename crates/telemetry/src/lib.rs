//! What the agent tells of itself: metrics with the names dashboards know, the access log, and the
//! process's own log. Refuses to know how connections are made or decided: the data path hands in
//! a [`Connection`], counts bytes, and finishes it with an [`Outcome`]; everything else happens on
//! another thread.
//!
//! ```
//! use std::sync::Arc;
//! use ambit_telemetry::{Connection, Metrics, Outcome, Party, Recorder, Reporter, Security};
//!
//! let recorder = Recorder::start(Arc::new(Metrics::new("ztunnel", "test")))?;
//! let worker = recorder.worker(); // one per data thread
//! let record = worker.open(Connection {
//!     reporter: Reporter::Source,
//!     security: Security::MutualTls,
//!     source: Party::default(),
//!     source_address: "10.0.0.1:4000".parse()?,
//!     destination: Party::default(),
//!     destination_address: "10.0.0.2:15008".parse()?,
//!     tunnel: None,
//!     service: None,
//! });
//! record.bytes().add_request(100);
//! record.finish(Outcome::complete());
//! let text = recorder.encode();
//! assert!(text.contains("istio_tcp_connections_closed_total{reporter=\"source\""));
//! recorder.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod families;
mod fold;
pub mod labels;
pub mod limits;
pub mod logging;
mod metrics;
pub mod names;
mod process;
mod record;
mod recorder;
mod runtime;
mod traffic;

#[cfg(test)]
mod tests;

pub use access::{log_dns, log_peer_fault};
pub use families::{
    CertificateMetrics, ConnectionMetrics, DnsMetrics, DnsSource, PodMetrics, PolicyMetrics,
    TelemetryMetrics, XdsMetrics,
};
pub use labels::{Reporter, ResponseFlag, Security, XdsTermination};
pub use logging::{LogError, LogHandle, LogOptions};
pub use metrics::{Metrics, OPENMETRICS};
pub use record::{
    ByteCounter, Connection, ConnectionRecord, Cut, Declared, Outcome, Party, TunnelTarget,
};
pub use recorder::{ExpositionHandle, Recorder, WorkerRecorder};
pub use traffic::TrafficMetrics;
