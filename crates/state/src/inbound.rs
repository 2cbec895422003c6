//! What a CONNECT request that arrived at a local workload is for, and whether it may be: the
//! workload is never made to relay to others.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_model::{Service, Workload};

use crate::Authority;

/// A CONNECT request at a local workload.
#[derive(Clone, Copy, Debug)]
pub struct InboundRequest<'a> {
    /// The workload whose tunnel port was reached.
    pub local: &'a Workload,
    /// The address the tunnel was opened to.
    pub connection_destination: SocketAddr,
    /// What is asked for.
    pub authority: &'a Authority,
}

/// What the request comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundTarget {
    /// What policies look at: the workload's address and the port inside the tunnel.
    pub destination: SocketAddr,
    /// Where to connect to.
    pub connect_to: SocketAddr,
    /// Set when a PROXY protocol v2 header comes first, with this address as its destination.
    pub proxy_protocol: Option<SocketAddr>,
    /// The service that was addressed: by host name, or the only one that fits.
    pub service: Option<Arc<Service>>,
}

/// Why a CONNECT request is refused with 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// The authority is neither this workload nor something it is the waypoint of.
    #[error("authority {authority} does not belong to {workload}")]
    NotHere {
        /// The authority as asked for.
        authority: String,
        /// The workload's uid.
        workload: String,
    },
    /// The authority names a service that is not known or has no such endpoint or port.
    #[error("authority {authority} is not a service of {workload}")]
    UnknownService {
        /// The authority as asked for.
        authority: String,
        /// The workload's uid.
        workload: String,
    },
}
