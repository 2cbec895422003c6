//! A workload in the dump.

use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::{
    ClusterId, Hostname, Locality, Namespace, NetworkId, NetworkMode, NodeName, ServiceAccount,
    TrustDomain, TunnelProtocol, Workload, WorkloadType, WorkloadUid,
};
use serde::Serialize;

use super::GatewayDump;

/// A workload in the dump.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of a workload")]
pub struct WorkloadDump {
    pub uid: WorkloadUid,
    pub workload_ips: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waypoint: Option<GatewayDump>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_gateway: Option<GatewayDump>,
    /// `HBONE` or `TCP`.
    pub protocol: &'static str,
    pub name: Arc<str>,
    pub namespace: Namespace,
    pub trust_domain: TrustDomain,
    pub service_account: ServiceAccount,
    pub workload_name: Arc<str>,
    /// Lower case.
    pub workload_type: &'static str,
    pub canonical_name: Arc<str>,
    pub canonical_revision: Arc<str>,
    #[serde(skip_serializing_if = "NetworkId::is_empty")]
    pub network: NetworkId,
    #[serde(skip_serializing_if = "NodeName::is_empty")]
    pub node: NodeName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    pub native_tunnel: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_tunnel: Option<ApplicationTunnelDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorization_policies: Vec<String>,
    pub status: String,
    pub cluster_id: ClusterId,
    #[serde(skip_serializing_if = "is_nowhere")]
    pub locality: Locality,
    /// `Standard` or `HostNetwork`.
    pub network_mode: NetworkMode,
    pub capacity: u32,
    pub services: Vec<String>,
}

/// An application tunnel in the dump.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationTunnelDump {
    /// `PROXY` or `NONE`.
    pub protocol: &'static str,
    /// The port, if it has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl WorkloadDump {
    pub(super) fn of(w: &Workload) -> Self {
        Self {
            uid: w.uid.clone(),
            workload_ips: w.addresses.clone(),
            waypoint: w.waypoint.as_ref().map(GatewayDump::of),
            network_gateway: w.network_gateway.as_ref().map(GatewayDump::of),
            protocol: match w.tunnel {
                TunnelProtocol::Hbone => "HBONE",
                TunnelProtocol::None => "TCP",
            },
            name: Arc::clone(&w.name),
            namespace: w.namespace.clone(),
            trust_domain: w.trust_domain.clone(),
            service_account: w.service_account.clone(),
            workload_name: Arc::clone(&w.workload_name),
            workload_type: match w.workload_type {
                WorkloadType::Deployment => "deployment",
                WorkloadType::CronJob => "cronjob",
                WorkloadType::Pod => "pod",
                WorkloadType::Job => "job",
            },
            canonical_name: Arc::clone(&w.canonical_name),
            canonical_revision: Arc::clone(&w.canonical_revision),
            network: w.network.clone(),
            node: w.node.clone(),
            hostname: w.hostname.clone(),
            native_tunnel: w.native_tunnel,
            application_tunnel: w.application_tunnel.map(|tunnel| ApplicationTunnelDump {
                protocol: if tunnel.proxy_protocol {
                    "PROXY"
                } else {
                    "NONE"
                },
                port: tunnel.port,
            }),
            authorization_policies: w.policies.iter().map(ToString::to_string).collect(),
            status: format!("{:?}", w.health),
            cluster_id: w.cluster.clone(),
            locality: w.locality.clone(),
            network_mode: w.network_mode,
            capacity: w.capacity,
            services: w.services.keys().map(ToString::to_string).collect(),
        }
    }
}

fn is_nowhere(locality: &Locality) -> bool {
    *locality == Locality::default()
}
