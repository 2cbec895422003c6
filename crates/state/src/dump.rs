//! The store as `/config_dump` shows it, in the shape `istioctl ztunnel-config` reads: field names
//! and spellings of values are fixed by that.

mod policy;
mod service;
mod workload;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ambit_model::{GatewayAddress, GatewayDestination, NetworkAddress};
use serde::Serialize;

use crate::store::Store;
pub use policy::{AccountDump, MatchDump, PolicyDump, StringDump};
pub use service::{EndpointDump, LoadBalancerDump, ServiceDump, WeightedDump};
pub use workload::{ApplicationTunnelDump, WorkloadDump};

/// Everything the store holds, sorted by name.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dump {
    /// Workloads.
    pub workloads: Vec<WorkloadDump>,
    /// Services with their endpoints.
    pub services: Vec<ServiceDump>,
    /// Policies.
    pub policies: Vec<PolicyDump>,
    /// Endpoints of services that are not known: by service, then by uid.
    pub staged_services: BTreeMap<String, BTreeMap<String, EndpointDump>>,
}

/// A waypoint or gateway.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayDump {
    /// `network/address` or `namespace/hostname`.
    pub destination: String,
    /// Its HBONE port.
    pub hbone_mtls_port: u16,
}

impl Dump {
    pub(crate) fn of(store: &Store) -> Self {
        let mut workloads: Vec<_> = store.workloads.all().map(|w| WorkloadDump::of(w)).collect();
        workloads.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
        let mut services: Vec<_> = store
            .services
            .all()
            .map(|s| ServiceDump::of(s, store))
            .collect();
        services
            .sort_unstable_by(|a, b| (&a.namespace, &a.hostname).cmp(&(&b.namespace, &b.hostname)));
        let mut policies: Vec<_> = store.policies.all().map(|p| PolicyDump::of(p)).collect();
        policies.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let staged = store.workloads.services_with_endpoints();
        let staged_services = staged
            .filter(|key| store.services.by_key(key).is_none())
            .map(|key| (key.to_string(), service::endpoints(key, store)))
            .collect();
        Self {
            workloads,
            services,
            policies,
            staged_services,
        }
    }
}

impl GatewayDump {
    fn of(gateway: &GatewayAddress) -> Self {
        let destination = match &gateway.destination {
            GatewayDestination::Hostname(name) => format!("{}/{}", name.namespace, name.hostname),
            GatewayDestination::Address(at) => address(at),
        };
        Self {
            destination,
            hbone_mtls_port: gateway.hbone_port,
        }
    }
}

/// `network/address`; the network may be empty.
fn address(at: &NetworkAddress) -> String {
    format!("{}/{}", at.network, at.address)
}
