//! Ports and application protocols.

use ambit_model::{AppProtocol, Port};

use crate::api::core::ServicePort;
use crate::api::meta::IntOrString;
use crate::api::networking::EntryPort;
use crate::api::{Pod, Service};

/// A service's own list: the target is given where it does not depend on the endpoint.
pub(super) fn of_service(service: &Service) -> Vec<Port> {
    let port = |port: &ServicePort| Port {
        service_port: port.port,
        target_port: match &port.target_port {
            None => port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(_)) => 0,
        },
        app_protocol: protocol_of(port),
    };
    tcp(service).map(port).collect()
}

/// A service's ports as a pod serves them. A named port the pod does not have is dropped.
pub(super) fn of_pod(service: &Service, pod: &Pod) -> Vec<Port> {
    let port = |port: &ServicePort| {
        let target_port = match &port.target_port {
            None => port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(name)) => container_port(pod, name)?,
        };
        Some(Port {
            service_port: port.port,
            target_port,
            app_protocol: protocol_of(port),
        })
    };
    tcp(service).filter_map(port).collect()
}

/// A service's ports as a machine outside of Kubernetes serves them: by the port's name, or by
/// the name or number of its target.
pub(super) fn of_machine(
    service: &Service,
    ports: &std::collections::BTreeMap<String, u16>,
) -> Vec<Port> {
    let port = |port: &ServicePort| {
        let target_port = match (ports.get(&port.name), &port.target_port) {
            (Some(number), _) => *number,
            (None, None) => port.port,
            (None, Some(IntOrString::Int(number))) => *number,
            (None, Some(IntOrString::String(name))) => *ports.get(name)?,
        };
        Some(Port {
            service_port: port.port,
            target_port,
            app_protocol: protocol_of(port),
        })
    };
    tcp(service).filter_map(port).collect()
}

/// A service's ports as an endpoint slice lists them, matched by name.
pub(super) fn of_slice(service: &Service, slice: &crate::api::EndpointSlice) -> Vec<Port> {
    let port = |port: &ServicePort| {
        let same = |other: &&crate::api::core::SlicePort| {
            other.name.as_deref().unwrap_or("") == port.name
                && matches!(other.protocol.as_deref(), None | Some("" | "TCP"))
        };
        let target_port = slice.ports.iter().find(same)?.port?;
        Some(Port {
            service_port: port.port,
            target_port,
            app_protocol: protocol_of(port),
        })
    };
    tcp(service).filter_map(port).collect()
}

/// A service entry's ports; the name of a port may be that of a pod's or machine's port.
pub(super) fn of_entry(ports: &[EntryPort], named: impl Fn(&str) -> Option<u16>) -> Vec<Port> {
    let port = |port: &EntryPort| Port {
        service_port: port.number,
        target_port: named(&port.name).unwrap_or(match port.target_port {
            0 => port.number,
            target => target,
        }),
        app_protocol: entry_protocol(&port.protocol),
    };
    ports
        .iter()
        .filter(|port| !port.protocol.eq_ignore_ascii_case("UDP"))
        .map(port)
        .collect()
}

/// The number of a pod's TCP port of this name.
pub(super) fn container_port(pod: &Pod, name: &str) -> Option<u16> {
    let mut ports = pod
        .spec
        .containers
        .iter()
        .flat_map(|container| &container.ports);
    let same = |port: &&crate::api::core::ContainerPort| {
        port.name == name && !name.is_empty() && matches!(port.protocol.as_str(), "" | "TCP")
    };
    ports
        .find(same)
        .map(|port| port.container_port)
        .filter(|number| *number != 0)
}

fn tcp(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service
        .spec
        .ports
        .iter()
        .filter(|port| matches!(port.protocol.as_str(), "" | "TCP"))
}

/// `appProtocol` counts, else the first part of the port's name.
fn protocol_of(port: &ServicePort) -> AppProtocol {
    let declared = match port.app_protocol.as_str() {
        "" => None,
        "kubernetes.io/h2c" => Some("http2"),
        "kubernetes.io/ws" => Some("http"),
        "kubernetes.io/wss" => Some("https"),
        other => Some(other),
    };
    match declared {
        Some(declared) => by_name(declared),
        None if port.name.to_ascii_lowercase().starts_with("grpc-web") => AppProtocol::Grpc,
        None => by_name(port.name.split('-').next().unwrap_or_default()),
    }
}

fn entry_protocol(protocol: &str) -> AppProtocol {
    by_name(protocol)
}

fn by_name(name: &str) -> AppProtocol {
    match name.to_ascii_lowercase().as_str() {
        "http" => AppProtocol::Http11,
        "http2" => AppProtocol::Http2,
        "grpc" | "grpc-web" => AppProtocol::Grpc,
        "https" | "tls" => AppProtocol::Tls,
        "tcp" | "mongo" | "mysql" | "redis" => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    }
}
