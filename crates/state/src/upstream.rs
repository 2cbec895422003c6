//! The answer to "where does this connection go": the next hop and all that is needed to open it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_model::{Hostname, Identity, Service, Workload};
use smallvec::SmallVec;

use crate::Endpoint;

/// The identities a peer may present; sorted and without duplicates, so that equal sets are equal
/// pool keys.
pub type ExpectedIdentities = SmallVec<[Identity; 1]>;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The service the client addressed, if it addressed one.
    pub destination_service: Option<Arc<Service>>,
    /// The workload at the other end of the hop: the endpoint, or the waypoint's; `None` when
    /// nothing is known of the destination.
    pub workload: Option<Arc<Workload>>,
    /// What a failure to connect is to be reported for, and what to exclude in the next try;
    /// `None` where there is no choice of endpoints.
    pub endpoint: Option<Endpoint>,
    /// The next hop.
    pub hop: Hop,
}

/// The next hop of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Plain TCP to the original destination, about which nothing is known (or which asked for
    /// that).
    Passthrough {
        /// The original destination.
        to: SocketAddr,
    },
    /// Plain TCP to a workload that does not speak HBONE, or that is the client itself.
    Direct {
        /// The workload's own port.
        to: SocketAddr,
    },
    /// A tunnel to the workload itself.
    Hbone {
        /// Where the tunnel ends.
        gateway: SocketAddr,
        /// The CONNECT authority: the workload's own port.
        authority: Authority,
        /// Who may answer.
        expected: ExpectedIdentities,
    },
    /// A tunnel to a waypoint, which takes it from there.
    Waypoint {
        /// Where the tunnel ends.
        gateway: SocketAddr,
        /// The CONNECT authority: the destination as the client addressed it.
        authority: Authority,
        /// Who may answer.
        expected: ExpectedIdentities,
    },
    /// A tunnel inside a tunnel, through the gateway of another network.
    DoubleHbone {
        /// The other network's gateway.
        gateway: SocketAddr,
        /// Authority of the outer and of the inner CONNECT: the service and its port.
        authority: Authority,
        /// Who may answer as the gateway.
        expected: ExpectedIdentities,
        /// Who may answer inside.
        inner_expected: ExpectedIdentities,
    },
    /// The endpoint has a name only: [`PendingName::with_address`] gives the hop once it is
    /// resolved.
    Hostname(PendingName),
}

/// A hop whose address is yet to be asked of DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingName {
    /// The name to resolve.
    pub hostname: Hostname,
    /// Whether an IPv6 address is the better one.
    pub prefer_ipv6: bool,
    /// Whether IPv4 addresses may be used.
    pub allow_ipv4: bool,
    /// Whether IPv6 addresses may be used.
    pub allow_ipv6: bool,
    /// What to do with the address.
    pub then: AppliedTo,
}

/// What an address that DNS gave is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppliedTo {
    /// Plain TCP to this port.
    Direct {
        /// The endpoint's port.
        port: u16,
    },
    /// A tunnel to `gateway_port` with the address and `port` as authority.
    Hbone {
        /// The port of the tunnel.
        gateway_port: u16,
        /// The endpoint's port.
        port: u16,
        /// Who may answer.
        expected: ExpectedIdentities,
    },
    /// A tunnel to a waypoint.
    Waypoint {
        /// The port of the tunnel.
        gateway_port: u16,
        /// The destination as the client addressed it.
        authority: Authority,
        /// Who may answer.
        expected: ExpectedIdentities,
    },
    /// A tunnel inside a tunnel to another network's gateway.
    DoubleHbone {
        /// The port of the outer tunnel.
        gateway_port: u16,
        /// Authority of both CONNECTs.
        authority: Authority,
        /// Who may answer as the gateway.
        expected: ExpectedIdentities,
        /// Who may answer inside.
        inner_expected: ExpectedIdentities,
    },
}

impl AppliedTo {
    /// The hop to `address`.
    pub(crate) fn at(self, address: IpAddr) -> Hop {
        match self {
            Self::Direct { port } => Hop::Direct {
                to: SocketAddr::new(address, port),
            },
            Self::Hbone {
                gateway_port,
                port,
                expected,
            } => Hop::Hbone {
                gateway: SocketAddr::new(address, gateway_port),
                authority: Authority::Address(SocketAddr::new(address, port)),
                expected,
            },
            Self::Waypoint {
                gateway_port,
                authority,
                expected,
            } => Hop::Waypoint {
                gateway: SocketAddr::new(address, gateway_port),
                authority,
                expected,
            },
            Self::DoubleHbone {
                gateway_port,
                authority,
                expected,
                inner_expected,
            } => {
                let gateway = SocketAddr::new(address, gateway_port);
                Hop::DoubleHbone {
                    gateway,
                    authority,
                    expected,
                    inner_expected,
                }
            }
        }
    }
}

impl PendingName {
    /// The best of the addresses DNS gave: of the allowed families, the preferred one first.
    #[must_use]
    pub fn choose(&self, addresses: &[IpAddr]) -> Option<IpAddr> {
        let allowed = |ip: &&IpAddr| {
            if ip.is_ipv6() {
                self.allow_ipv6
            } else {
                self.allow_ipv4
            }
        };
        let mut allowed = addresses.iter().filter(allowed);
        let first = *allowed.clone().next()?;
        Some(
            allowed
                .find(|ip| ip.is_ipv6() == self.prefer_ipv6)
                .copied()
                .unwrap_or(first),
        )
    }

    /// The hop to the resolved address.
    #[must_use]
    pub fn with_address(self, address: IpAddr) -> Hop {
        self.then.at(address)
    }
}

/// The `:authority` of a CONNECT request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// `ip:port`.
    Address(SocketAddr),
    /// `host name:port` of a service.
    Hostname {
        /// The service's host name.
        hostname: Hostname,
        /// The service's port.
        port: u16,
    },
}

impl Authority {
    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Hostname { port, .. } => *port,
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Hostname { hostname, port } => write!(f, "{hostname}:{port}"),
        }
    }
}
