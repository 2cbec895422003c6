//! What a CONNECT request that arrived at a local workload is for, and whether it may be: the
//! workload is never made to relay to others.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_model::{Service, Workload};

use crate::Authority;
use crate::resolve::{Purpose, is_instance, target_port};
use crate::store::Store;

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

pub(crate) fn resolve(
    store: &Store,
    request: &InboundRequest<'_>,
) -> Result<InboundTarget, InboundError> {
    let here = request.connection_destination.ip().to_canonical();
    let (port, header, service) = match request.authority {
        Authority::Address(address) => {
            let asked = SocketAddr::new(address.ip().to_canonical(), address.port());
            if !may_serve(store, request.local, here, asked) {
                return Err(InboundError::NotHere {
                    authority: request.authority.to_string(),
                    workload: request.local.uid.as_str().to_owned(),
                });
            }
            let service = find_service(store, request.local, None, asked.port());
            (asked.port(), asked, service)
        }
        Authority::Hostname { hostname, port } => {
            let (service, target) = by_hostname(store, request.local, hostname.as_str(), *port)
                .ok_or_else(|| InboundError::UnknownService {
                    authority: request.authority.to_string(),
                    workload: request.local.uid.as_str().to_owned(),
                })?;
            let vip = service.addresses.first().map_or(here, |vip| vip.address);
            (target, SocketAddr::new(vip, *port), Some(service))
        }
    };
    let tunnel = request.local.application_tunnel;
    let connect_port = tunnel.and_then(|tunnel| tunnel.port).unwrap_or(port);
    Ok(InboundTarget {
        destination: SocketAddr::new(here, port),
        connect_to: SocketAddr::new(here, connect_port),
        proxy_protocol: tunnel
            .filter(|tunnel| tunnel.proxy_protocol)
            .map(|_| header),
        service,
    })
}

/// Whether the workload, reached at `here`, may be asked for `asked`: for itself, for anything if
/// its application takes tunnelled traffic, and for what it is the waypoint of.
fn may_serve(store: &Store, local: &Workload, here: IpAddr, asked: SocketAddr) -> bool {
    asked.ip() == here
        || local.application_tunnel.is_some()
        || is_waypoint_of(store, local, asked.ip())
}

fn is_waypoint_of(store: &Store, local: &Workload, address: IpAddr) -> bool {
    let workload = store.workloads.by_address(&local.network, address);
    let of_workload = workload
        .and_then(|target| target.waypoint.as_ref())
        .is_some_and(|waypoint| is_instance(store, local, waypoint));
    let mut services = store.services.all_at(&local.network, address).iter();
    of_workload || services.any(|service| is_waypoint_of_service(store, local, service))
}

fn is_waypoint_of_service(store: &Store, local: &Workload, service: &Service) -> bool {
    let weighted = service
        .weighted_waypoints
        .iter()
        .filter_map(|w| w.destination.as_ref());
    weighted
        .chain(&service.waypoint)
        .any(|waypoint| is_instance(store, local, waypoint))
}

/// The service of a host name that the workload is an endpoint or the waypoint of, and the
/// workload's own port for it.
fn by_hostname(
    store: &Store,
    local: &Workload,
    hostname: &str,
    port: u16,
) -> Option<(Arc<Service>, u16)> {
    let bearers = store.services.by_hostname(hostname);
    let own_port = |service: &Arc<Service>| {
        let ports = local.services.get(&service.key())?;
        target_port(service, ports, local, port, Purpose::Endpoint)
    };
    let endpoint_of = bearers
        .iter()
        .find_map(|s| Some((Arc::clone(s), own_port(s)?)));
    endpoint_of.or_else(|| {
        let of = bearers
            .iter()
            .find(|s| is_waypoint_of_service(store, local, s))?;
        Some((Arc::clone(of), port))
    })
}

/// The service an inbound connection is counted for.
pub(crate) fn find_service(
    store: &Store,
    local: &Workload,
    forwarded_host: Option<&str>,
    port: u16,
) -> Option<Arc<Service>> {
    let known = || {
        local
            .services
            .keys()
            .filter_map(|key| store.services.by_key(key))
    };
    if let Some(host) = forwarded_host
        && let Some(service) = known().find(|service| service.hostname.as_str() == host)
    {
        return Some(Arc::clone(service));
    }
    let fits = |service: &&Arc<Service>| {
        let ports = local.services.get(&service.key()).unwrap_or_default();
        ports.iter().any(|p| p.target_port == port)
    };
    let mut fitting = known().filter(fits);
    let only = fitting.next()?;
    fitting.next().is_none().then(|| Arc::clone(only))
}
