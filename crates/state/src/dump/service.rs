//! A service and its endpoints in the dump.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_model::{
    Health, HealthPolicy, Hostname, IpFamilies, LoadBalancing, LoadBalancingMode, LocalityScope,
    Namespace, Port, Service, ServiceKey, Visibility, WorkloadUid,
};
use serde::Serialize;

use super::{GatewayDump, address};
use crate::store::Store;

/// A service in the dump.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of a service")]
pub struct ServiceDump {
    pub name: Arc<str>,
    pub namespace: Namespace,
    pub hostname: Hostname,
    /// `network/address` or `network/address/length`.
    pub vips: Vec<String>,
    /// Service port to target port.
    pub ports: BTreeMap<u16, u16>,
    pub endpoints: BTreeMap<String, EndpointDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waypoint: Option<GatewayDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weighted_waypoints: Vec<WeightedDump>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerDump>,
    /// `IPv4`, `IPv6` or `Dual`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_families: Option<&'static str>,
    pub canonical: bool,
    pub visibility: Visibility,
}

/// One of several waypoints in the dump.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedDump {
    /// Absent: none, straight to an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<GatewayDump>,
    /// Its share.
    pub weight: u32,
}

/// Endpoint choice in the dump.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerDump {
    /// Scopes from the most to the least important.
    pub routing_preferences: Vec<LocalityScope>,
    /// What they do.
    pub mode: LoadBalancingMode,
    /// Which endpoints count.
    pub health_policy: HealthPolicy,
}

/// An endpoint in the dump.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointDump {
    /// The workload.
    pub workload_uid: WorkloadUid,
    /// `namespace/hostname`.
    pub service: String,
    /// Service port to target port.
    pub port: BTreeMap<u16, u16>,
    /// Whether it takes traffic.
    pub status: Health,
}

impl ServiceDump {
    pub(super) fn of(s: &Service, store: &Store) -> Self {
        let ranges = s
            .ranges
            .iter()
            .map(|range| format!("{}/{}", range.network, range.range));
        Self {
            name: Arc::clone(&s.name),
            namespace: s.namespace.clone(),
            hostname: s.hostname.clone(),
            vips: s.addresses.iter().map(address).chain(ranges).collect(),
            ports: ports(&s.ports),
            endpoints: endpoints(&s.key(), store),
            subject_alt_names: s.subject_alt_names.clone(),
            waypoint: s.waypoint.as_ref().map(GatewayDump::of),
            weighted_waypoints: s.weighted_waypoints.iter().map(WeightedDump::of).collect(),
            load_balancer: load_balancer(&s.load_balancing),
            ip_families: match s.ip_families {
                IpFamilies::Automatic => None,
                IpFamilies::Ipv4Only => Some("IPv4"),
                IpFamilies::Ipv6Only => Some("IPv6"),
                IpFamilies::Dual => Some("Dual"),
            },
            canonical: s.canonical,
            visibility: s.visibility,
        }
    }
}

impl WeightedDump {
    fn of(waypoint: &ambit_model::WeightedWaypoint) -> Self {
        Self {
            destination: waypoint.destination.as_ref().map(GatewayDump::of),
            weight: waypoint.weight,
        }
    }
}

fn load_balancer(lb: &LoadBalancing) -> Option<LoadBalancerDump> {
    (*lb != LoadBalancing::default()).then(|| LoadBalancerDump {
        routing_preferences: lb.preference.clone(),
        mode: lb.mode,
        health_policy: lb.health,
    })
}

/// The endpoints of a service by uid.
pub(super) fn endpoints(key: &ServiceKey, store: &Store) -> BTreeMap<String, EndpointDump> {
    let dump = |w: &Arc<ambit_model::Workload>| EndpointDump {
        workload_uid: w.uid.clone(),
        service: key.to_string(),
        port: ports(w.services.get(key).unwrap_or_default()),
        status: w.health,
    };
    let all = store.workloads.endpoints(key).iter();
    all.map(|w| (w.uid.as_str().to_owned(), dump(w))).collect()
}

fn ports(ports: &[Port]) -> BTreeMap<u16, u16> {
    ports
        .iter()
        .map(|p| (p.service_port, p.target_port))
        .collect()
}
