//! Workloads.

use std::sync::Arc;

use ambit_proto::workload as proto;

use super::address::{
    gateway, gateway_to_proto, hostname, ip, ip_to_proto, part, port, port_to_proto, ports,
};
use super::intern::Interner;
use super::{ConvertError, optional, text};
use crate::{
    ApplicationTunnel, DEFAULT_CLUSTER, DEFAULT_SERVICE_ACCOUNT, Health, Locality, Namespace,
    NetworkMode, PolicyKey, ServiceAccount, ServiceKey, ServicePorts, TrustDomain, TunnelProtocol,
    Workload, WorkloadType,
};

pub(super) fn from_proto(
    w: proto::Workload,
    shared: &mut Interner,
) -> Result<Workload, ConvertError> {
    if w.uid.is_empty() {
        return Err(ConvertError::new("uid", "", "a name"));
    }
    let tunnel = tunnel(w.tunnel_protocol)?;
    let (trust_domain, namespace, service_account) = identity(&w, tunnel, shared)?;
    let mut addresses = Vec::with_capacity(w.addresses.len());
    for bytes in &w.addresses {
        let ip = ip("addresses", bytes)?;
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    Ok(Workload {
        name: w.name.into(),
        namespace,
        service_account,
        trust_domain,
        addresses,
        hostname: match w.hostname.is_empty() {
            true => None,
            false => Some(hostname("hostname", &w.hostname, shared)?),
        },
        network: shared.text(&w.network).into(),
        network_gateway: maybe_gateway("network_gateway", w.network_gateway.as_ref(), shared)?,
        tunnel,
        native_tunnel: w.native_tunnel,
        application_tunnel: w.application_tunnel.map(application_tunnel).transpose()?,
        waypoint: maybe_gateway("waypoint", w.waypoint.as_ref(), shared)?,
        node: shared.text(&w.node).into(),
        canonical_name: shared.text(&w.canonical_name),
        canonical_revision: shared.text(&w.canonical_revision),
        workload_type: workload_type(w.workload_type)?,
        workload_name: shared.text(&w.workload_name),
        policies: policies(&w.authorization_policies, shared)?,
        health: health(w.status)?,
        cluster: optional(shared.text(&w.cluster_id))
            .unwrap_or_else(|| shared.text(DEFAULT_CLUSTER))
            .into(),
        locality: w.locality.map(|l| locality(&l, shared)).unwrap_or_default(),
        network_mode: network_mode(w.network_mode)?,
        capacity: w.capacity.unwrap_or(1),
        services: services(w.services, shared)?,
        uid: w.uid.into(),
    })
}

/// The parts of the identity. None may hold the separator: it would be another's identity. Only
/// a workload that takes no tunnel, and so never shows its identity, may be without a namespace.
fn identity(
    w: &proto::Workload,
    tunnel: TunnelProtocol,
    shared: &mut Interner,
) -> Result<(TrustDomain, Namespace, ServiceAccount), ConvertError> {
    let or = |value: &str, default: &'static str| match value.is_empty() {
        true => default.to_owned(),
        false => value.to_owned(),
    };
    let trust_domain = match w.trust_domain.is_empty() {
        true => TrustDomain::default(),
        false => part("trust_domain", &w.trust_domain, shared)?.into(),
    };
    let namespace = match (w.namespace.is_empty(), tunnel) {
        (true, TunnelProtocol::None) => Namespace::default(),
        _ => part("namespace", &w.namespace, shared)?.into(),
    };
    let service_account = or(&w.service_account, DEFAULT_SERVICE_ACCOUNT);
    let service_account = part("service_account", &service_account, shared)?.into();
    Ok((trust_domain, namespace, service_account))
}

fn tunnel(value: i32) -> Result<TunnelProtocol, ConvertError> {
    const ACCEPTED: &str = "NONE or HBONE";
    match proto::TunnelProtocol::try_from(value) {
        Ok(proto::TunnelProtocol::None) => Ok(TunnelProtocol::None),
        Ok(proto::TunnelProtocol::Hbone) => Ok(TunnelProtocol::Hbone),
        Ok(other) => Err(ConvertError::new(
            "tunnel_protocol",
            other.as_str_name(),
            ACCEPTED,
        )),
        Err(_) => Err(ConvertError::new("tunnel_protocol", value, ACCEPTED)),
    }
}

fn application_tunnel(t: proto::ApplicationTunnel) -> Result<ApplicationTunnel, ConvertError> {
    use proto::application_tunnel::Protocol;
    let protocol = Protocol::try_from(t.protocol).map_err(|_| {
        ConvertError::new("application_tunnel.protocol", t.protocol, "NONE or PROXY")
    })?;
    let port = port("application_tunnel.port", t.port)?;
    Ok(ApplicationTunnel {
        proxy_protocol: protocol == Protocol::Proxy,
        port: (port != 0).then_some(port),
    })
}

fn workload_type(value: i32) -> Result<WorkloadType, ConvertError> {
    match proto::WorkloadType::try_from(value) {
        Ok(proto::WorkloadType::Deployment) => Ok(WorkloadType::Deployment),
        Ok(proto::WorkloadType::Cronjob) => Ok(WorkloadType::CronJob),
        Ok(proto::WorkloadType::Pod) => Ok(WorkloadType::Pod),
        Ok(proto::WorkloadType::Job) => Ok(WorkloadType::Job),
        Err(_) => Err(ConvertError::new(
            "workload_type",
            value,
            "a known workload type",
        )),
    }
}

fn health(value: i32) -> Result<Health, ConvertError> {
    match proto::WorkloadStatus::try_from(value) {
        Ok(proto::WorkloadStatus::Healthy) => Ok(Health::Healthy),
        Ok(proto::WorkloadStatus::Unhealthy) => Ok(Health::Unhealthy),
        Err(_) => Err(ConvertError::new("status", value, "HEALTHY or UNHEALTHY")),
    }
}

fn network_mode(value: i32) -> Result<NetworkMode, ConvertError> {
    match proto::NetworkMode::try_from(value) {
        Ok(proto::NetworkMode::Standard) => Ok(NetworkMode::Standard),
        Ok(proto::NetworkMode::HostNetwork) => Ok(NetworkMode::HostNetwork),
        Err(_) => Err(ConvertError::new(
            "network_mode",
            value,
            "STANDARD or HOST_NETWORK",
        )),
    }
}

fn locality(l: &proto::Locality, shared: &mut Interner) -> Locality {
    Locality {
        region: shared.text(&l.region),
        zone: shared.text(&l.zone),
        subzone: shared.text(&l.subzone),
    }
}

fn maybe_gateway(
    field: &'static str,
    value: Option<&proto::GatewayAddress>,
    shared: &mut Interner,
) -> Result<Option<crate::GatewayAddress>, ConvertError> {
    value.map(|g| gateway(field, g, shared)).transpose()
}

fn policies(names: &[String], shared: &mut Interner) -> Result<Vec<PolicyKey>, ConvertError> {
    let convert = |name: &String| match name.split_once('/') {
        Some((namespace, policy)) if !namespace.is_empty() && !policy.is_empty() => Ok(PolicyKey {
            namespace: shared.text(namespace).into(),
            name: shared.text(policy),
        }),
        _ => Err(ConvertError::new(
            "authorization_policies",
            name,
            "namespace/name",
        )),
    };
    names.iter().map(convert).collect()
}

fn services(
    services: std::collections::HashMap<String, proto::PortList>,
    shared: &mut Interner,
) -> Result<ServicePorts, ConvertError> {
    let mut entries: Vec<(ServiceKey, Arc<[crate::Port]>)> = Vec::with_capacity(services.len());
    for (name, list) in services {
        let (namespace, host) = name
            .split_once('/')
            .filter(|(namespace, _)| !namespace.is_empty())
            .ok_or_else(|| ConvertError::new("services", &name, "namespace/hostname"))?;
        let key = ServiceKey {
            namespace: shared.text(namespace).into(),
            hostname: hostname("services", host, shared)?,
        };
        entries.push((key, shared.ports(ports(&list.ports)?)));
    }
    Ok(entries.into_iter().collect())
}

pub(super) fn to_proto(w: &Workload) -> proto::Workload {
    let elide = |value: &str, default: &str| match value == default {
        true => String::new(),
        false => value.to_owned(),
    };
    let ports = |ports: &Arc<[crate::Port]>| proto::PortList {
        ports: ports.iter().map(port_to_proto).collect(),
    };
    proto::Workload {
        name: text(&w.name),
        namespace: text(&w.namespace),
        addresses: w
            .addresses
            .iter()
            .map(|ip| ip_to_proto(*ip).into())
            .collect(),
        network: text(&w.network),
        tunnel_protocol: match w.tunnel {
            TunnelProtocol::None => proto::TunnelProtocol::None,
            TunnelProtocol::Hbone => proto::TunnelProtocol::Hbone,
        }
        .into(),
        trust_domain: elide(w.trust_domain.as_str(), TrustDomain::default().as_str()),
        service_account: elide(w.service_account.as_str(), DEFAULT_SERVICE_ACCOUNT),
        waypoint: w.waypoint.as_ref().map(gateway_to_proto),
        node: text(&w.node),
        canonical_name: text(&w.canonical_name),
        canonical_revision: text(&w.canonical_revision),
        workload_type: type_to_proto(w.workload_type).into(),
        workload_name: text(&w.workload_name),
        native_tunnel: w.native_tunnel,
        authorization_policies: w.policies.iter().map(ToString::to_string).collect(),
        status: match w.health {
            Health::Healthy => proto::WorkloadStatus::Healthy,
            Health::Unhealthy => proto::WorkloadStatus::Unhealthy,
        }
        .into(),
        cluster_id: text(&w.cluster),
        network_gateway: w.network_gateway.as_ref().map(gateway_to_proto),
        uid: text(&w.uid),
        hostname: w.hostname.as_ref().map(text).unwrap_or_default(),
        services: w
            .services
            .iter()
            .map(|(key, list)| (key.to_string(), ports(list)))
            .collect(),
        application_tunnel: w.application_tunnel.map(application_tunnel_to_proto),
        locality: locality_to_proto(&w.locality),
        network_mode: match w.network_mode {
            NetworkMode::Standard => proto::NetworkMode::Standard,
            NetworkMode::HostNetwork => proto::NetworkMode::HostNetwork,
        }
        .into(),
        extensions: Vec::new(),
        capacity: (w.capacity != 1).then_some(w.capacity),
    }
}

fn type_to_proto(value: WorkloadType) -> proto::WorkloadType {
    match value {
        WorkloadType::Deployment => proto::WorkloadType::Deployment,
        WorkloadType::CronJob => proto::WorkloadType::Cronjob,
        WorkloadType::Pod => proto::WorkloadType::Pod,
        WorkloadType::Job => proto::WorkloadType::Job,
    }
}

fn application_tunnel_to_proto(t: ApplicationTunnel) -> proto::ApplicationTunnel {
    use proto::application_tunnel::Protocol;
    let protocol = if t.proxy_protocol {
        Protocol::Proxy
    } else {
        Protocol::None
    };
    proto::ApplicationTunnel {
        protocol: protocol.into(),
        port: t.port.unwrap_or_default().into(),
    }
}

fn locality_to_proto(l: &Locality) -> Option<proto::Locality> {
    (*l != Locality::default()).then(|| proto::Locality {
        region: text(&l.region),
        zone: text(&l.zone),
        subzone: text(&l.subzone),
    })
}
