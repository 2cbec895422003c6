//! `networking.istio.io`: hosts and machines outside of Kubernetes. Unknown fields of a spec are
//! refused: a misspelt one would silently do nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::meta::{Labels, ObjectMeta, WorkloadSelector, object};

object!(ServiceEntry, WorkloadEntry);

/// Hosts outside of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceEntry {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Its content.
    pub spec: ServiceEntrySpec,
    /// Addresses that were allocated.
    pub status: ServiceEntryStatus,
}

/// A service entry's content.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceEntrySpec {
    /// Host names; at least one.
    pub hosts: Vec<String>,
    /// Virtual addresses and ranges.
    pub addresses: Vec<String>,
    /// Ports.
    pub ports: Vec<EntryPort>,
    /// Whether the hosts belong to the mesh.
    pub location: Location,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Endpoints written here.
    pub endpoints: Vec<WorkloadEntrySpec>,
    /// Endpoints that are pods and workload entries of the namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// `.` for the own namespace only.
    pub export_to: Vec<String>,
    /// Identities the endpoints may present besides their own.
    pub subject_alt_names: Vec<String>,
}

/// Whether hosts belong to the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// They do not.
    #[default]
    MeshExternal,
    /// They do.
    MeshInternal,
}

/// How endpoints are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// A connection goes where the client sent it.
    #[default]
    None,
    /// By the addresses that are given.
    Static,
    /// By DNS.
    Dns,
    /// By DNS, one address at a time.
    DnsRoundRobin,
    /// By DNS of the host a request names.
    DynamicDns,
}

/// A service entry's port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EntryPort {
    /// Its number.
    pub number: u16,
    /// `HTTP`, `HTTPS`, `GRPC`, `HTTP2`, `MONGO`, `TCP` or `TLS`.
    pub protocol: String,
    /// Its name.
    pub name: String,
    /// At the endpoint; elided means the same number.
    pub target_port: u16,
}

/// What was allocated.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceEntryStatus {
    /// Addresses by host.
    pub addresses: Vec<AllocatedAddress>,
}

/// An allocated address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AllocatedAddress {
    /// The host; elided means all.
    pub host: String,
    /// The address.
    pub value: String,
}

/// A machine outside of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct WorkloadEntry {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Its content.
    pub spec: WorkloadEntrySpec,
}

/// A workload entry's content; also an endpoint inside a service entry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadEntrySpec {
    /// An address or a host name.
    pub address: String,
    /// Port numbers by the names of service ports.
    pub ports: BTreeMap<String, u16>,
    /// Labels for selectors.
    pub labels: Labels,
    /// Network it belongs to.
    pub network: String,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Share of traffic; elided means 1.
    pub weight: u32,
    /// Elided means `default`.
    pub service_account: String,
}
