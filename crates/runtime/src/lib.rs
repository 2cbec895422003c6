//! What every long-running program of the mesh needs around its work: drain, readiness, named tasks,
//! and the HTTP servers for administration, metrics and readiness. Refuses to know what the program
//! does: routes and pending work are handed in.
//!
//! ```
//! # tokio_test(async {
//! use ambit_runtime::{Readiness, http::{Response, Router, Server}};
//!
//! let readiness = Readiness::default();
//! let snapshot = readiness.pending("workload snapshot");
//! let router = readiness.route(Router::new("readiness"));
//! let server = Server::bind("127.0.0.1:0".parse()?, router).await?;
//! assert_eq!(readiness.pending_names(), ["workload snapshot"]);
//! snapshot.done();
//! assert!(readiness.is_ready());
//! server.stop().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # });
//! # fn tokio_test(f: impl Future<Output = Result<(), Box<dyn std::error::Error>>>) {
//! #     let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! #     rt.block_on(f).unwrap();
//! # }
//! ```

pub mod admin;
pub mod drain;
pub mod http;
pub mod limits;
mod profile;
mod readiness;
pub mod shutdown;
mod tasks;

pub use drain::{Drain, DrainOutcome, DrainTrigger};
pub use readiness::{PendingTask, Readiness};
pub use shutdown::{Shutdown, ShutdownReason};
pub use tasks::{Ended, TaskEnd, TaskGroup};
