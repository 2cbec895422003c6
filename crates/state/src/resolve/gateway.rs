//! Waypoints' and networks' gateways: services or workloads, named by host name or address.

use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::{GatewayAddress, GatewayDestination, IpFamilies, Service, ServiceKey, Workload};
use rand::Rng;

use super::balance::Purpose;
use super::waypoint::describe;
use super::{ResolveError, Resolver, hop};
use crate::upstream::AppliedTo;
use crate::{Authority, Endpoint, ExpectedIdentities, Hop};

/// A gateway's workload and how to reach it.
pub(super) struct Found {
    pub(super) workload: Arc<Workload>,
    /// The service it was found by.
    pub(super) service: Option<Arc<Service>>,
    /// `None`: by the workload's host name, or through another gateway.
    pub(super) address: Option<IpAddr>,
    /// Its tunnel port.
    pub(super) port: u16,
    /// For another try.
    pub(super) endpoint: Option<Endpoint>,
}

impl Resolver<'_> {
    /// `None`: nothing is known by that name or address.
    pub(super) fn find_gateway(
        &self,
        gateway: &GatewayAddress,
        random: &mut impl Rng,
    ) -> Result<Option<Found>, ResolveError> {
        let service = match &gateway.destination {
            GatewayDestination::Hostname(name) => {
                let (namespace, hostname) = (name.namespace.clone(), name.hostname.clone());
                self.store.services.by_key(&ServiceKey {
                    namespace,
                    hostname,
                })
            }
            GatewayDestination::Address(at) => {
                if let Some(workload) = self.store.workloads.by_address(&at.network, at.address) {
                    return Ok(Some(Found {
                        workload: Arc::clone(workload),
                        service: None,
                        address: Some(at.address),
                        port: gateway.hbone_port,
                        endpoint: None,
                    }));
                }
                // A gateway is for all that are sent to it, whoever may see its service.
                let bearers = self.store.services.all_at(&at.network, at.address);
                bearers
                    .iter()
                    .min_by_key(|service| self.asker.rank(service))
            }
        };
        let Some(service) = service else {
            return Ok(None);
        };
        let picked = self
            .pick(service, gateway.hbone_port, Purpose::Tunnel, random)
            .map_err(|_| ResolveError::NoHealthyWaypoint {
                waypoint: describe(gateway),
            })?;
        let endpoint = Endpoint {
            workload: picked.workload.uid.clone(),
            port: picked.port,
        };
        Ok(Some(Found {
            address: self.address_of(&picked.workload, service.ip_families),
            workload: picked.workload,
            service: Some(Arc::clone(service)),
            port: picked.port,
            endpoint: Some(endpoint),
        }))
    }

    /// To a workload of another network: a tunnel to its gateway, and one inside for the service.
    pub(super) fn through_gateway(
        &self,
        workload: &Workload,
        addressed: &Service,
        inner_expected: ExpectedIdentities,
        random: &mut impl Rng,
    ) -> Result<Hop, ResolveError> {
        let unknown = || ResolveError::UnknownGateway {
            network: workload.network.as_str().to_owned(),
        };
        let gateway = workload.network_gateway.as_ref().ok_or_else(unknown)?;
        let found = self.find_gateway(gateway, random)?.ok_or_else(unknown)?;
        let then = AppliedTo::DoubleHbone {
            gateway_port: found.port,
            authority: Authority::Hostname {
                hostname: addressed.hostname.clone(),
                port: self.destination.port(),
            },
            expected: hop::expected(&found.workload, found.service.as_deref()),
            inner_expected,
        };
        self.at_or_pending(&found.workload, found.address, IpFamilies::Automatic, then)
    }
}
