//! Where a connection goes. Pure: the answer depends on the store, the request, the time and the
//! random source alone.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ambit_model::{Workload, WorkloadUid};

/// A captured connection of a local workload.
#[derive(Clone, Copy, Debug)]
pub struct ResolveRequest<'a> {
    /// The client.
    pub source: &'a Workload,
    /// The address the client connects from.
    pub source_ip: IpAddr,
    /// The address the client connected to.
    pub destination: SocketAddr,
    /// Endpoints that were tried for this connection already.
    pub exclude: &'a [WorkloadUid],
    /// The present.
    pub now: Instant,
}

/// Why a connection goes nowhere. None of these may fall back to plain TCP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The service is known, and nothing behind it takes traffic.
    #[error("no healthy upstream: {service} has no endpoint that takes traffic")]
    NoHealthyUpstream {
        /// `namespace/hostname`.
        service: String,
    },
    /// The service is known, but not with this port.
    #[error("{service} has no port {port}")]
    UnknownPort {
        /// `namespace/hostname`.
        service: String,
        /// The port the client asked for.
        port: u16,
    },
    /// The waypoint that is to be passed is not known.
    #[error("waypoint {waypoint} is not known")]
    UnknownWaypoint {
        /// The waypoint as it is referred to.
        waypoint: String,
    },
    /// The waypoint is known, but none of its endpoints takes traffic.
    #[error("no healthy upstream: waypoint {waypoint} has no endpoint that takes traffic")]
    NoHealthyWaypoint {
        /// The waypoint as it is referred to.
        waypoint: String,
    },
    /// The endpoint is in another network, and its gateway is not known.
    #[error("gateway of network {network:?} is not known")]
    UnknownGateway {
        /// The network.
        network: String,
    },
    /// The endpoint is in another network, which only services reach.
    #[error("workload {workload} is in another network and was not addressed by a service")]
    OtherNetwork {
        /// The workload's uid.
        workload: String,
    },
    /// The workload has no address of the families that may be used.
    #[error("workload {workload} has no usable address")]
    NoAddress {
        /// The workload's uid.
        workload: String,
    },
}
