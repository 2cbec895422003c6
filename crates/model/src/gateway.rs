//! Addresses with their network, and how a gateway or waypoint is named.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::{Hostname, Namespace, NetworkId};

/// An address in a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct NetworkAddress {
    /// Empty for the only network.
    pub network: NetworkId,
    /// Canonical: never a v4-mapped IPv6 address.
    pub address: IpAddr,
}

/// A range of addresses in a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct NetworkCidr {
    /// Empty for the only network.
    pub network: NetworkId,
    /// The range; host bits are zero.
    pub range: IpNet,
}

/// Where a gateway or waypoint is found, and the port of its HBONE listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct GatewayAddress {
    /// By service or by address.
    pub destination: GatewayDestination,
    /// HBONE port, normally 15008.
    pub hbone_port: u16,
}

/// A service, or one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum GatewayDestination {
    /// The service with this name.
    Hostname(NamespacedHostname),
    /// This address (of a workload or a service).
    Address(NetworkAddress),
}

/// A host name and the namespace it is declared in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct NamespacedHostname {
    /// The declaring namespace.
    pub namespace: Namespace,
    /// The host name.
    pub hostname: Hostname,
}
