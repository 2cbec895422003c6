//! Capture of pods' connections with BPF: loads the programs of `ebpf/programs`, attaches and pins them,
//! enrols pods, and answers where a captured connection wanted to go.
//!
//! It refuses to know what a pod *is* (names, identities, policy): a pod is a network namespace with
//! addresses and a listener. It opens no listener and accepts no connection. The main type is [`Capture`].
//!
//! Everything is pinned below one directory of bpffs: when the agent dies, capture goes on and enrolled
//! pods' new connections are refused, never sent in clear; the next agent adopts what it finds.
//!
//! ```no_run
//! use std::os::fd::AsFd;
//! use ambit_ebpf::{Capture, Listeners, Options, Pod, netns_cookie};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let capture = Capture::open(Options::default())?;
//! let netns = std::fs::File::open("/run/netns/pod")?;
//! let listener = std::net::TcpListener::bind("10.0.0.7:15006")?; // opened inside the namespace
//! let pod = Pod {
//!     cookie: netns_cookie(netns.as_fd())?,
//!     netns: netns.as_fd(),
//!     addresses: vec!["10.0.0.7".parse()?],
//!     listeners: Listeners { v4: Some(listener.as_fd()), v6: None },
//!     dns: true,
//!     capture_inbound: true,
//! };
//! capture.enroll(&pod)?;
//! # Ok(())
//! # }
//! ```

mod address;
mod capture;
mod dump;
mod error;
mod limits;
mod mounts;
mod netlink;
mod netns;
mod objects;
mod options;
mod origin;
mod pins;
mod pod;
mod requirements;
mod routing;
mod sys;
mod table;

pub use ambit_ebpf_common::{
    DNS_PROXY_PORT, HBONE_PORT, INBOUND_PORT, MARK, ORIGINAL_SOURCE_MARK, OUTBOUND_PORT,
};
pub use capture::Capture;
pub use dump::{Dump, DumpPod};
pub use error::{Error, Missing};
pub use limits::MAX_ADDRESSES;
pub use options::Options;
pub use origin::OriginalDestinations;
pub use pod::{Listeners, Pod, netns_cookie};
