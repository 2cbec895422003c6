//! Where a connection goes. Pure: the answer depends on the store, the request, the time and the
//! random source alone.

mod balance;
mod gateway;
mod hop;
mod waypoint;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ambit_model::{IpFamilies, LoadBalancingMode, Service, Workload, WorkloadUid};
use rand::Rng;

use crate::store::{Asker, Store};
use crate::{Authority, Endpoint, Hop, Outliers, Upstream};
use balance::{PickError, Picked};

pub(crate) use balance::{Purpose, target_port};
pub(crate) use waypoint::is_instance;

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
    /// The workload has no address of the families that may be used.
    #[error("workload {workload} has no usable address")]
    NoAddress {
        /// The workload's uid.
        workload: String,
    },
}

/// One request against one state of the store.
pub(crate) struct Resolver<'a> {
    store: &'a Store,
    asker: Asker<'a>,
    outliers: &'a Outliers,
    request: &'a ResolveRequest<'a>,
    /// As asked for, without IPv6 clothes around an IPv4 address.
    destination: SocketAddr,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(
        store: &'a Store,
        asker: Asker<'a>,
        outliers: &'a Outliers,
        request: &'a ResolveRequest<'a>,
    ) -> Self {
        let original = request.destination;
        let destination = SocketAddr::new(original.ip().to_canonical(), original.port());
        Self {
            store,
            asker,
            outliers,
            request,
            destination,
        }
    }

    pub(crate) fn resolve(&self, random: &mut impl Rng) -> Result<Upstream, ResolveError> {
        let (network, ip) = (&self.request.source.network, self.destination.ip());
        if let Some(workload) = self.store.workloads.by_address(network, ip) {
            return self.to_workload(workload, random);
        }
        if ip == self.request.source_ip.to_canonical() {
            return Ok(Upstream::unknown(Hop::Direct {
                to: self.destination,
            }));
        }
        match self.store.services.by_address(network, ip, self.asker) {
            Some(service) => self.to_service(service, random),
            None => Ok(Upstream::unknown(Hop::Passthrough {
                to: self.destination,
            })),
        }
    }

    /// The client addressed a workload: to its waypoint, else to itself.
    fn to_workload(
        &self,
        workload: &Arc<Workload>,
        random: &mut impl Rng,
    ) -> Result<Upstream, ResolveError> {
        if self.is_client(workload, self.destination.ip()) {
            return Ok(Upstream {
                workload: Some(Arc::clone(workload)),
                ..Upstream::unknown(Hop::Direct {
                    to: self.destination,
                })
            });
        }
        if let Some(waypoint) = &workload.waypoint
            && !self.client_is(waypoint)
        {
            return self.to_waypoint(waypoint, None, random);
        }
        let hop = hop::to_address(workload, None, self.destination);
        Ok(Upstream {
            workload: Some(Arc::clone(workload)),
            ..Upstream::unknown(hop)
        })
    }

    /// The client addressed a service: to its waypoint, else to one of its endpoints.
    fn to_service(
        &self,
        service: &Arc<Service>,
        random: &mut impl Rng,
    ) -> Result<Upstream, ResolveError> {
        if let Some(waypoint) = self.sample_waypoint(service, random) {
            return self.to_waypoint(waypoint, Some(service), random);
        }
        let destination_service = Some(Arc::clone(service));
        if service.load_balancing.mode == LoadBalancingMode::Passthrough {
            let hop = Hop::Passthrough {
                to: self.destination,
            };
            return Ok(Upstream {
                destination_service,
                ..Upstream::unknown(hop)
            });
        }
        let port = self.destination.port();
        let picked = self
            .pick(service, port, Purpose::Endpoint, random)
            .map_err(|error| service_error(service, port, error))?;
        let hop = self.to_endpoint(service, &picked, random)?;
        Ok(picked.into_upstream(destination_service, hop))
    }

    /// The hop to the endpoint that was picked for a service.
    fn to_endpoint(
        &self,
        service: &Service,
        picked: &Picked,
        random: &mut impl Rng,
    ) -> Result<Hop, ResolveError> {
        let workload = &picked.workload;
        if workload.network != self.request.source.network {
            let inner = hop::expected_inside(workload, Some(service));
            return self.through_gateway(workload, service, inner, random);
        }
        let address = self.address_of(workload, service.ip_families);
        if let Some(ip) = address
            && self.is_client(workload, ip)
        {
            return Ok(Hop::Direct {
                to: SocketAddr::new(ip, picked.port),
            });
        }
        let then = hop::plan(workload, Some(service), picked.port);
        self.at_or_pending(workload, address, service.ip_families, then)
    }

    /// Whether `workload`, reached at `ip`, is the client itself.
    fn is_client(&self, workload: &Workload, ip: IpAddr) -> bool {
        workload.uid == self.request.source.uid || ip == self.request.source_ip.to_canonical()
    }

    /// The best of a workload's addresses: of the service's families, as the client asked.
    fn address_of(&self, workload: &Workload, families: IpFamilies) -> Option<IpAddr> {
        let v6 = self.destination.is_ipv6();
        let allowed = |ip: &&IpAddr| hop::allows(families, ip.is_ipv6());
        let mut usable = workload.addresses.iter().filter(allowed);
        let first = *usable.clone().next()?;
        Some(
            usable
                .find(|ip| ip.is_ipv6() == v6)
                .copied()
                .unwrap_or(first),
        )
    }
}

impl Picked {
    fn into_upstream(self, destination_service: Option<Arc<Service>>, hop: Hop) -> Upstream {
        let endpoint = Endpoint {
            workload: self.workload.uid.clone(),
            port: self.port,
        };
        Upstream {
            destination_service,
            workload: Some(self.workload),
            endpoint: Some(endpoint),
            hop,
        }
    }
}

impl Upstream {
    fn unknown(hop: Hop) -> Self {
        Self {
            destination_service: None,
            workload: None,
            endpoint: None,
            hop,
        }
    }
}

fn service_error(service: &Service, port: u16, error: PickError) -> ResolveError {
    let service = service.key().to_string();
    match error {
        PickError::NoPort => ResolveError::UnknownPort { service, port },
        PickError::NoEndpoint => ResolveError::NoHealthyUpstream { service },
    }
}

/// The authority of a destination as the client addressed it.
fn authority(destination: SocketAddr) -> Authority {
    Authority::Address(destination)
}
