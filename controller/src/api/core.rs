//! Kubernetes' own kinds. Fields that are not read are passed over.

use serde::Deserialize;

use super::meta::{IntOrString, Labels, ObjectMeta, object};

object!(Namespace, Node, Pod, Service, EndpointSlice);

/// `v1` Namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Namespace {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

/// `v1` Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Node {
    /// Metadata; the labels tell where it stands.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

/// `v1` Pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What was asked for.
    pub spec: PodSpec,
    /// What came of it.
    pub status: PodStatus,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it runs on.
    pub node_name: String,
    /// Elided means `default`.
    pub service_account_name: String,
    /// Shares the node's addresses.
    pub host_network: bool,
    /// Containers; only their ports are read.
    pub containers: Vec<Container>,
}

/// A container's ports.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Declared ports.
    pub ports: Vec<ContainerPort>,
}

/// A port a container declares.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name.
    pub name: String,
    /// Its number.
    pub container_port: u16,
    /// Elided means TCP.
    pub protocol: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: String,
    /// First address.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// All addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
    /// `Ready` is read.
    pub conditions: Vec<Condition>,
}

/// One of a pod's addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// A condition.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Its name.
    pub r#type: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
}

/// `v1` Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Its content.
    pub spec: ServiceSpec,
}

/// A service's content.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ExternalName` is passed over.
    pub r#type: String,
    /// First virtual address, or `None` for a headless service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// All virtual addresses.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// `IPv4`, `IPv6`.
    pub ip_families: Vec<String>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Labels of the pods behind it; empty when others tell.
    pub selector: Labels,
    /// Endpoints that are not ready take traffic too.
    pub publish_not_ready_addresses: bool,
    /// `Cluster` or `Local`.
    pub internal_traffic_policy: String,
    /// `PreferClose`, `PreferSameZone` or `PreferSameNode`.
    pub traffic_distribution: String,
}

/// A service's port.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// At the virtual address.
    pub port: u16,
    /// At the pod; elided means the same number.
    #[serde(default)]
    pub target_port: Option<IntOrString>,
    /// Elided means TCP.
    #[serde(default)]
    pub protocol: String,
    /// Protocol of the application.
    #[serde(default)]
    pub app_protocol: String,
}

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// Metadata; the label `kubernetes.io/service-name` names the service.
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// Ports of all of them.
    pub ports: Vec<SlicePort>,
}

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceEndpoint {
    /// The first counts.
    pub addresses: Vec<String>,
    /// Whether it takes traffic.
    pub conditions: SliceConditions,
    /// The pod behind it.
    pub target_ref: Option<TargetRef>,
    /// Its node.
    pub node_name: String,
    /// Its zone.
    pub zone: String,
}

/// Whether an endpoint takes traffic.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SliceConditions {
    /// Elided counts as yes.
    pub ready: Option<bool>,
}

/// The object behind an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    /// `Pod` is read.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A port of a slice's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SlicePort {
    /// Name of the service's port it stands for.
    pub name: Option<String>,
    /// Its number.
    pub port: Option<u16>,
    /// Elided means TCP.
    pub protocol: Option<String>,
}
