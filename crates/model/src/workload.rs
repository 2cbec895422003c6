//! A workload: one endpoint of the mesh, be it a pod, a virtual machine or an external host.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::{
    ClusterId, GatewayAddress, Hostname, Identity, Namespace, NetworkId, NodeName, PolicyKey,
    ServiceAccount, ServiceKey, TrustDomain, WorkloadUid,
};

/// What an elided service account stands for.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// What an elided cluster stands for.
pub const DEFAULT_CLUSTER: &str = "Kubernetes";

/// One endpoint of the mesh.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// Discovery name.
    pub uid: WorkloadUid,
    /// Pod name or the like.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Namespace,
    /// Never empty: elided means `default`.
    pub service_account: ServiceAccount,
    /// Never empty: elided means `cluster.local`.
    pub trust_domain: TrustDomain,
    /// Canonical addresses; may be empty where `hostname` is set.
    pub addresses: Vec<IpAddr>,
    /// Resolved by DNS when a connection needs it, where there are no addresses.
    pub hostname: Option<Hostname>,
    /// The network the addresses belong to.
    pub network: NetworkId,
    /// Gateway to go through from other networks.
    pub network_gateway: Option<GatewayAddress>,
    /// Whether HBONE is spoken on 15008.
    pub tunnel: TunnelProtocol,
    /// The workload terminates HBONE itself.
    pub native_tunnel: bool,
    /// Application tunnel (waypoint sandwich) to speak to the workload itself.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Waypoint of workload-addressed traffic.
    pub waypoint: Option<GatewayAddress>,
    /// The node it runs on; empty where unknown.
    pub node: NodeName,
    /// `service.istio.io/canonical-name`.
    pub canonical_name: Arc<str>,
    /// `service.istio.io/canonical-revision`.
    pub canonical_revision: Arc<str>,
    /// Kind of the owner.
    pub workload_type: WorkloadType,
    /// Name of the owner (Deployment and so on).
    pub workload_name: Arc<str>,
    /// Policies that select this workload.
    pub policies: Vec<PolicyKey>,
    /// Whether it takes traffic.
    pub health: Health,
    /// Cluster; elided means `Kubernetes`.
    pub cluster: ClusterId,
    /// Where it runs.
    pub locality: Locality,
    /// Whether its addresses are its own.
    pub network_mode: NetworkMode,
    /// Weight in load balancing; elided means 1.
    pub capacity: u32,
    /// The services it is an endpoint of, with the ports as this endpoint serves them.
    pub services: ServicePorts,
}

impl Default for Workload {
    /// A nameless healthy workload with every elided field at its meaning: service account
    /// `default`, trust domain `cluster.local`, cluster `Kubernetes`, capacity 1.
    fn default() -> Self {
        Self {
            uid: WorkloadUid::default(),
            name: Arc::default(),
            namespace: Namespace::default(),
            service_account: DEFAULT_SERVICE_ACCOUNT.into(),
            trust_domain: TrustDomain::default(),
            addresses: Vec::new(),
            hostname: None,
            network: NetworkId::default(),
            network_gateway: None,
            tunnel: TunnelProtocol::default(),
            native_tunnel: false,
            application_tunnel: None,
            waypoint: None,
            node: NodeName::default(),
            canonical_name: Arc::default(),
            canonical_revision: Arc::default(),
            workload_type: WorkloadType::default(),
            workload_name: Arc::default(),
            policies: Vec::new(),
            health: Health::default(),
            cluster: DEFAULT_CLUSTER.into(),
            locality: Locality::default(),
            network_mode: NetworkMode::default(),
            capacity: 1,
            services: ServicePorts::default(),
        }
    }
}

impl Workload {
    /// The identity its certificate carries.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(
            self.trust_domain.clone(),
            self.namespace.clone(),
            self.service_account.clone(),
        )
    }
}

/// The services a workload is an endpoint of: a small map, sorted by service. Port lists can be
/// shared between the endpoints of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePorts(Box<[(ServiceKey, Arc<[Port]>)]>);

impl ServicePorts {
    /// The ports as this endpoint serves them for `service`.
    #[must_use]
    pub fn get(&self, service: &ServiceKey) -> Option<&[Port]> {
        let at = self.0.binary_search_by(|(key, _)| key.cmp(service)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether the workload is an endpoint of `service`.
    #[must_use]
    pub fn contains_key(&self, service: &ServiceKey) -> bool {
        self.get(service).is_some()
    }

    /// Services and ports, sorted by service.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ServiceKey, &Arc<[Port]>)> {
        self.0.iter().map(|(key, ports)| (key, ports))
    }

    /// The services, sorted.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &ServiceKey> {
        self.0.iter().map(|(key, _)| key)
    }

    /// Number of services.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<P: Into<Arc<[Port]>>> FromIterator<(ServiceKey, P)> for ServicePorts {
    /// Of entries with the same key the last counts, as in a map.
    fn from_iter<I: IntoIterator<Item = (ServiceKey, P)>>(entries: I) -> Self {
        let mut entries: Vec<_> = entries
            .into_iter()
            .map(|(key, ports)| (key, ports.into()))
            .collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self(entries.into_boxed_slice())
    }
}

impl Serialize for ServicePorts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// How traffic for a workload is carried to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum TunnelProtocol {
    /// Plain TCP.
    #[default]
    None,
    /// HBONE to port 15008.
    Hbone,
}

/// What is spoken to the workload instead of the bare stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ApplicationTunnel {
    /// `true`: PROXY protocol v2; `false`: nothing in front, but the port still counts.
    pub proxy_protocol: bool,
    /// Port that takes the tunnelled traffic; `None` for the original one.
    pub port: Option<u16>,
}

/// The kind of object that owns a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum WorkloadType {
    /// A Deployment.
    Deployment,
    /// A CronJob.
    CronJob,
    /// The pod itself.
    #[default]
    Pod,
    /// A Job.
    Job,
}

/// Whether a workload takes traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Health {
    /// It does.
    #[default]
    Healthy,
    /// It does not, unless its service says to send to all.
    Unhealthy,
}

/// Whether a workload has addresses of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum NetworkMode {
    /// It does.
    #[default]
    Standard,
    /// It shares its node's: not found by address.
    HostNetwork,
}

/// Region, zone and subzone; each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Locality {
    /// Region.
    pub region: Arc<str>,
    /// Zone.
    pub zone: Arc<str>,
    /// Subzone.
    pub subzone: Arc<str>,
}

/// A service port and the port of the endpoint behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Port {
    /// Port at the service's address.
    pub service_port: u16,
    /// Port at the endpoint; 0 in a service's own list when endpoints decide.
    pub target_port: u16,
    /// Protocol as declared.
    pub app_protocol: AppProtocol,
}

/// Application protocol as declared on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum AppProtocol {
    /// Not declared.
    #[default]
    Unknown,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Opaque TCP.
    Tcp,
    /// Opaque TLS.
    Tls,
}
