//! A service: names and virtual addresses, and how a connection to them finds an endpoint.

use std::sync::Arc;

use serde::Serialize;

use crate::{GatewayAddress, Hostname, Namespace, NetworkAddress, NetworkCidr, Port, ServiceKey};

/// A name and the virtual addresses by which workloads are reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Service {
    /// Object name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Namespace,
    /// Host name.
    pub hostname: Hostname,
    /// Virtual addresses.
    pub addresses: Vec<NetworkAddress>,
    /// Virtual ranges.
    pub ranges: Vec<NetworkCidr>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Identities its endpoints may present besides their own, as SPIFFE ids.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Waypoint of service-addressed traffic.
    pub waypoint: Option<GatewayAddress>,
    /// When not empty, one is sampled per connection instead of `waypoint`.
    pub weighted_waypoints: Vec<WeightedWaypoint>,
    /// Endpoint choice.
    pub load_balancing: LoadBalancing,
    /// Families its clients may use.
    pub ip_families: IpFamilies,
    /// The preferred bearer of its host name.
    pub canonical: bool,
    /// Ingress gateways go through the waypoint too.
    pub ingress_use_waypoint: bool,
    /// Who sees it.
    pub visibility: Visibility,
}

/// A service's port as its clients use it.
pub type ServicePort = Port;

impl Service {
    /// Discovery name.
    #[must_use]
    pub fn key(&self) -> ServiceKey {
        ServiceKey {
            namespace: self.namespace.clone(),
            hostname: self.hostname.clone(),
        }
    }
}

/// One of several waypoints and its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightedWaypoint {
    /// The waypoint; `None` stands for none (go direct).
    pub destination: Option<GatewayAddress>,
    /// Relative share.
    pub weight: u32,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadBalancing {
    /// Scopes from the most to the least important.
    pub preference: Vec<LocalityScope>,
    /// What the scopes do.
    pub mode: LoadBalancingMode,
    /// Which endpoints count.
    pub health: HealthPolicy,
}

/// What a service's scopes do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum LoadBalancingMode {
    /// Nothing: all endpoints alike.
    #[default]
    Standard,
    /// Only endpoints that match every scope.
    Strict,
    /// Endpoints that match the most leading scopes.
    Failover,
    /// No endpoint choice: the original destination.
    Passthrough,
}

/// A property client and endpoint may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum LocalityScope {
    /// Region.
    Region,
    /// Zone.
    Zone,
    /// Subzone.
    Subzone,
    /// Node.
    Node,
    /// Cluster.
    Cluster,
    /// Network.
    Network,
}

/// Which endpoints take traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum HealthPolicy {
    /// Healthy ones.
    #[default]
    OnlyHealthy,
    /// All.
    AllowAll,
}

/// Address families of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum IpFamilies {
    /// As its addresses are.
    #[default]
    Automatic,
    /// IPv4.
    Ipv4Only,
    /// IPv6.
    Ipv6Only,
    /// Both.
    Dual,
}

/// Who sees a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Visibility {
    /// The mesh.
    #[default]
    Public,
    /// Its own namespace.
    Namespace,
}
