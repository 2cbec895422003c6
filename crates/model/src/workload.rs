//! A workload: one endpoint of the mesh, be it a pod, a virtual machine or an external host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::{
    ClusterId, GatewayAddress, Hostname, Identity, Namespace, NetworkId, NodeName, PolicyKey,
    ServiceAccount, ServiceKey, TrustDomain, WorkloadUid,
};

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
    pub services: BTreeMap<ServiceKey, Vec<Port>>,
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
