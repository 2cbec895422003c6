//! Waypoints: which one a connection passes, and whether its client is one already. A waypoint
//! that is referred to but cannot be found refuses the connection.

use std::sync::Arc;

use ambit_model::{GatewayAddress, GatewayDestination, IpFamilies, Service, ServiceKey, Workload};
use rand::{Rng, RngExt};

use super::gateway::Found;
use super::{ResolveError, Resolver, authority, hop};
use crate::Upstream;
use crate::upstream::AppliedTo;

impl Resolver<'_> {
    /// The waypoint for this connection to a service: one of the weighted ones if there are any.
    /// `None`: straight to an endpoint.
    pub(super) fn sample_waypoint<'s>(
        &self,
        service: &'s Service,
        random: &mut impl Rng,
    ) -> Option<&'s GatewayAddress> {
        let weighted = &service.weighted_waypoints;
        let all = weighted.iter().filter_map(|w| w.destination.as_ref());
        // Whichever is sampled: between the waypoints of one service there would be a loop.
        if all
            .chain(&service.waypoint)
            .any(|waypoint| self.client_is(waypoint))
        {
            return None;
        }
        let total: u64 = weighted.iter().map(|w| u64::from(w.weight)).sum();
        if total == 0 {
            return service.waypoint.as_ref();
        }
        let mut left = random.random_range(0..total);
        for candidate in weighted {
            let weight = u64::from(candidate.weight);
            if left < weight {
                return candidate.destination.as_ref();
            }
            left -= weight;
        }
        None
    }

    /// To a waypoint, with the destination as the client addressed it.
    pub(super) fn to_waypoint(
        &self,
        waypoint: &GatewayAddress,
        addressed: Option<&Arc<Service>>,
        random: &mut impl Rng,
    ) -> Result<Upstream, ResolveError> {
        let found = self.find_gateway(waypoint, random)?;
        let Some(found) = found else {
            return Err(ResolveError::UnknownWaypoint {
                waypoint: describe(waypoint),
            });
        };
        let Found {
            workload,
            service,
            address,
            port,
            endpoint,
        } = found;
        let families = service
            .as_ref()
            .map_or(IpFamilies::Automatic, |s| s.ip_families);
        let hop = match addressed {
            Some(addressed) if workload.network != self.request.source.network => {
                let inner = hop::expected_inside(&workload, service.as_deref());
                self.through_gateway(&workload, addressed, inner, random)?
            }
            _ => {
                let then = AppliedTo::Waypoint {
                    gateway_port: port,
                    authority: authority(self.destination),
                    expected: hop::expected(&workload, service.as_deref()),
                };
                self.at_or_pending(&workload, address, families, then)?
            }
        };
        Ok(Upstream {
            destination_service: addressed.map(Arc::clone),
            workload: Some(workload),
            endpoint,
            hop,
        })
    }

    /// Whether the client is (an instance of) this waypoint.
    pub(super) fn client_is(&self, waypoint: &GatewayAddress) -> bool {
        let source = self.request.source;
        // The client's identity is its workload's; that the connection comes from it is known by
        // its address.
        let here = source.addresses.is_empty()
            || source
                .addresses
                .contains(&self.request.source_ip.to_canonical());
        here && is_instance(self.store, source, waypoint)
    }
}

/// Whether a workload is (an instance of) this waypoint.
pub(crate) fn is_instance(
    store: &crate::store::Store,
    workload: &Workload,
    waypoint: &GatewayAddress,
) -> bool {
    match &waypoint.destination {
        GatewayDestination::Hostname(name) => {
            let key = ServiceKey {
                namespace: name.namespace.clone(),
                hostname: name.hostname.clone(),
            };
            workload.services.contains_key(&key)
        }
        GatewayDestination::Address(at) => {
            let own = workload.network == at.network && workload.addresses.contains(&at.address);
            let mut bearers = store.services.all_at(&at.network, at.address).iter();
            own || bearers.any(|service| workload.services.contains_key(&service.key()))
        }
    }
}

/// A gateway as it is referred to.
pub(super) fn describe(gateway: &GatewayAddress) -> String {
    match &gateway.destination {
        GatewayDestination::Hostname(name) => format!("{}/{}", name.namespace, name.hostname),
        GatewayDestination::Address(at) if at.network.is_empty() => at.address.to_string(),
        GatewayDestination::Address(at) => format!("{}/{}", at.network, at.address),
    }
}
