//! Linux sockets for a node proxy: network namespaces, listeners and connections with the options that
//! transparent capture needs, the original destination, and the copy loop. Unsafe code lives here, each
//! with the reason why it is sound. Refuses to know pods, tunnels, policy and configuration sources.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ambit_net::{Hop, Netns, SocketSettings, Source};
//! let pod = Netns::open("/run/netns/pod")?;
//! let to = "10.0.0.7:8080".parse()?;
//! let settings = SocketSettings::default();
//! let stream = ambit_net::connect(&pod, to, Source::Any, Hop::Network, &settings).await?;
//! # drop(stream); Ok(()) }
//! ```

mod congestion;
mod connect;
pub mod copy;
mod listen;
mod netns;
mod original;
mod process;
mod settings;
mod socket;
mod udp;

pub use congestion::CongestionControl;
pub use connect::{ConnectError, Source, connect};
pub use listen::{Acceptor, ListenOptions, is_fatal, listen};
pub use netns::{Inode, Netns};
pub use original::{canonical, redirected_from};
pub use process::{raise_open_files, trim_memory, tune_memory};
pub use settings::{Hop, Keepalive, PACKET_MARK, SocketSettings};
pub use udp::bind_udp;
