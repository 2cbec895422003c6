//! Kubernetes' own kinds.

use super::{address, not, one_of};
use crate::api::meta::IntOrString;
use crate::api::{EndpointSlice, Pod, Service};
use crate::finding::Problem;

pub(super) fn check_pod(pod: &Pod, problems: &mut Vec<Problem>) {
    if !pod.status.pod_ip.is_empty() && address(&pod.status.pod_ip).is_none() {
        problems.push(not(
            "status.podIP",
            &pod.status.pod_ip,
            "an IP address such as 10.0.0.1",
        ));
    }
    for (i, ip) in pod.status.pod_ips.iter().enumerate() {
        if address(&ip.ip).is_none() {
            let field = format!("status.podIPs[{i}].ip");
            problems.push(not(field, &ip.ip, "an IP address such as 10.0.0.1"));
        }
    }
    if let Some(path) = pod.metadata.annotation("ambit.dev/netns")
        && !path.starts_with('/')
    {
        let field = "metadata.annotations[\"ambit.dev/netns\"]";
        problems.push(not(
            field,
            path,
            "the absolute path of a network namespace, such as /run/netns/web",
        ));
    }
    let phases = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];
    one_of("status.phase", &pod.status.phase, &phases, problems);
}

pub(super) fn check_service(service: &Service, problems: &mut Vec<Problem>) {
    let spec = &service.spec;
    let types = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    one_of("spec.type", &spec.r#type, &types, problems);
    let form = "an IP address, or None for a headless service";
    if !matches!(spec.cluster_ip.as_str(), "" | "None") && address(&spec.cluster_ip).is_none() {
        problems.push(not("spec.clusterIP", &spec.cluster_ip, form));
    }
    for (i, ip) in spec.cluster_ips.iter().enumerate() {
        if !matches!(ip.as_str(), "" | "None") && address(ip).is_none() {
            problems.push(not(format!("spec.clusterIPs[{i}]"), ip, form));
        }
    }
    for (i, family) in spec.ip_families.iter().enumerate() {
        one_of(
            &format!("spec.ipFamilies[{i}]"),
            family,
            &["IPv4", "IPv6"],
            problems,
        );
    }
    one_of(
        "spec.internalTrafficPolicy",
        &spec.internal_traffic_policy,
        &["Cluster", "Local"],
        problems,
    );
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    one_of(
        "spec.trafficDistribution",
        &spec.traffic_distribution,
        &distributions,
        problems,
    );
    check_ports(service, problems);
}

fn check_ports(service: &Service, problems: &mut Vec<Problem>) {
    let ports = &service.spec.ports;
    for (i, port) in ports.iter().enumerate() {
        if port.port == 0 {
            problems.push(not(
                format!("spec.ports[{i}].port"),
                "0",
                "a port from 1 to 65535",
            ));
        }
        if port.target_port == Some(IntOrString::Int(0)) {
            problems.push(not(
                format!("spec.ports[{i}].targetPort"),
                "0",
                "a port from 1 to 65535",
            ));
        }
        one_of(
            &format!("spec.ports[{i}].protocol"),
            &port.protocol,
            &["TCP", "UDP", "SCTP"],
            problems,
        );
        let same = |other: &&crate::api::core::ServicePort| {
            other.port == port.port && protocol(&other.protocol) == protocol(&port.protocol)
        };
        if ports[..i].iter().any(|other| same(&other)) {
            let message = format!(
                "{} is listed twice; every port must be there once",
                port.port
            );
            problems.push(Problem::refused(format!("spec.ports[{i}].port"), message));
        }
    }
}

fn protocol(text: &str) -> &str {
    if text.is_empty() { "TCP" } else { text }
}

pub(super) fn check_slice(slice: &EndpointSlice, problems: &mut Vec<Problem>) {
    if slice.metadata.label("kubernetes.io/service-name").is_none() {
        let field = "metadata.labels[\"kubernetes.io/service-name\"]";
        problems.push(Problem::refused(
            field,
            "is missing; write the name of the service the endpoints belong to",
        ));
    }
    one_of(
        "addressType",
        &slice.address_type,
        &["IPv4", "IPv6", "FQDN"],
        problems,
    );
    if slice.address_type == "FQDN" {
        let message = "is \"FQDN\", which is not supported; write a ServiceEntry with resolution: DNS instead";
        problems.push(Problem::refused("addressType", message));
        return;
    }
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        for (j, text) in endpoint.addresses.iter().enumerate() {
            if address(text).is_none() {
                problems.push(not(
                    format!("endpoints[{i}].addresses[{j}]"),
                    text,
                    "an IP address",
                ));
            }
        }
    }
}
