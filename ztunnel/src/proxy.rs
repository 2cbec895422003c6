//! The data path: from an accepted connection to copied bytes. Each direction is a sequence of small
//! phases over plain structs ([`outbound`], [`inbound`], [`plaintext`]); each connection stays on one
//! worker thread ([`workers`]) from its first byte to its one exit record. Refuses to know where
//! pods, state and certificates come from.

pub mod authorize;
pub mod connections;
pub mod demand;
pub mod dial;
pub mod failure;
pub mod headers;
pub mod inbound;
pub mod limits;
pub mod nested;
pub mod outbound;
pub mod plaintext;
pub mod pod;
pub mod pods;
pub mod proxy_protocol;
pub mod redecide;
pub mod relay;
pub mod resolver;
pub mod workers;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use ambit_identity::Certificates;
use ambit_model::{ClusterId, NetworkId, NodeName, TrustDomain};
use ambit_net::SocketSettings;
use ambit_state::Reader;
use ambit_telemetry::Metrics;
use ambit_xds::Demand;
use tokio::sync::watch;

pub use connections::{Connections, Direction, Live};
pub use failure::Failure;
pub use pod::Pod;
pub use pods::Pods;
pub use resolver::Resolve;
pub use workers::Workers;

use crate::config::OriginalSource;

/// Where a pod's captured outbound connections arrive.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where a pod's captured inbound connections arrive.
pub const INBOUND_PORT: u16 = 15006;
/// Where tunnels arrive.
pub const TUNNEL_PORT: u16 = 15008;
/// Where a pod's DNS requests arrive.
pub const DNS_PORT: u16 = 15053;
/// Where SOCKS5 is served by the reference.
pub const SOCKS_PORT: u16 = 15080;

/// Whether an address could not be listened on because there is no IPv6.
pub(crate) fn lacks_ipv6(address: SocketAddr, error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let reason = Errno::from_io_error(error);
    address.is_ipv6() && matches!(reason, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Ports of the agent in a pod: a connection to them in the pod itself would be a loop.
const OWN_PORTS: [u16; 5] = [
    OUTBOUND_PORT,
    INBOUND_PORT,
    TUNNEL_PORT,
    SOCKS_PORT,
    DNS_PORT,
];

/// Whether `destination` is one of the agent's own listeners in a pod with these addresses.
fn is_own_port(destination: SocketAddr) -> bool {
    OWN_PORTS.contains(&destination.port())
}

/// What the data path is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node.
    pub node: NodeName,
    /// Its network.
    pub network: NetworkId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Of the pods' identities.
    pub trust_domain: TrustDomain,
    /// Options of all sockets.
    pub sockets: SocketSettings,
    /// Tunnels.
    pub tunnel: ambit_hbone::Settings,
    /// Listen on IPv6 too.
    pub ipv6: bool,
    /// Whether applications see their client's address.
    pub original_source: OriginalSource,
    /// Application tunnels end at localhost.
    pub localhost_app_tunnel: bool,
    /// Describe the destination in responses, and read such descriptions.
    pub baggage: bool,
    /// Log policy decisions at INFO.
    pub log_policy_at_info: bool,
    /// Endpoints tried per connection, at least 1.
    pub connect_attempts: u32,
}

/// What every phase of every connection may ask.
pub struct Mesh {
    /// Discovery's view.
    pub state: Reader,
    /// Whether discovery has delivered everything once. Before that, an address that is not known
    /// says nothing about the address.
    pub complete: watch::Receiver<bool>,
    /// Certificates of this node's workloads.
    pub certificates: Certificates,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Asks discovery for single addresses, where it is not subscribed to all.
    pub demand: OnceLock<Demand>,
    /// DNS for names that discovery gives instead of addresses.
    pub resolver: Arc<dyn Resolve>,
    /// What was told at start.
    pub settings: Settings,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{inbound, limits, outbound, plaintext};

    fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// An idle connection costs its task: what grows here is paid a hundred thousand times.
    #[test]
    fn a_connection_fits_its_budget() {
        let sizes = [
            ("outbound", size(outbound::serve)),
            ("plaintext", size(plaintext::serve)),
            ("tunnel", size(inbound::serve)),
            ("stream", inbound::stream_size()),
        ];
        for (what, size) in sizes {
            assert!(
                size <= limits::CONNECTION_FUTURE,
                "{what}: {size} bytes, of {sizes:?}"
            );
        }
    }
}
