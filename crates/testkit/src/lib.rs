//! What tests, the demonstration and the benchmark share: nodes and pods made of network namespaces,
//! small servers, the mesh's programs run as processes, and fakes that speak the protocols and can be
//! wrong in listed ways. Only ever a development dependency; needs root for anything with namespaces.
//!
//! ```no_run
//! use ambit_testkit::topology::{Plan, Topology};
//! let topology = Topology::build(&Plan::two_nodes(&[("web", 0), ("db", 1)]))?;
//! let db = topology.pod("db");
//! let listener = db.run(|| std::net::TcpListener::bind((db.v4, 8080)))?;
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod apps;
mod command;
pub mod intruder;
pub mod mesh;
pub mod process;
pub mod topology;
pub mod wait;
pub mod yaml;

pub use ambit_net::Netns;
