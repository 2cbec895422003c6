//! ServiceEntry and WorkloadEntry.

use super::{address, is_hostname, not, one_of, range};
use crate::api::networking::{Resolution, ServiceEntrySpec, WorkloadEntrySpec};
use crate::api::{ServiceEntry, WorkloadEntry};
use crate::finding::Problem;
use crate::watch::decode::shown;

const PROTOCOLS: &[&str] = &[
    "HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "MONGO", "MYSQL", "REDIS", "TCP", "TLS", "UDP",
    "HBONE",
];

pub(super) fn check_service_entry(entry: &ServiceEntry, problems: &mut Vec<Problem>) {
    let spec = &entry.spec;
    if spec.hosts.is_empty() {
        problems.push(Problem::refused(
            "spec.hosts",
            "is empty; list at least one host name",
        ));
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        if host == "*" {
            let message = "is \"*\", which would stand for every host; expected a host name such as api.example.com or *.example.com";
            problems.push(Problem::refused(format!("spec.hosts[{i}]"), message));
        } else if !is_hostname(host) {
            let form = "a host name such as api.example.com or *.example.com";
            problems.push(not(format!("spec.hosts[{i}]"), host, form));
        }
    }
    for (i, text) in spec.addresses.iter().enumerate() {
        if range(text).is_none() {
            problems.push(not(
                format!("spec.addresses[{i}]"),
                text,
                "an IP address or a range such as 10.1.0.0/16",
            ));
        }
    }
    check_ports(spec, problems);
    check_endpoints(spec, problems);
    for (i, target) in spec.export_to.iter().enumerate() {
        if !matches!(target.as_str(), "." | "*") {
            let message = format!(
                "is {}, which cannot be expressed; expected \".\" (this namespace) or \"*\" (all); it is taken as \"*\"",
                shown(target)
            );
            problems.push(Problem::warning(format!("spec.exportTo[{i}]"), message));
        }
    }
}

fn check_ports(spec: &ServiceEntrySpec, problems: &mut Vec<Problem>) {
    if spec.ports.is_empty() && spec.resolution != Resolution::None {
        problems.push(Problem::refused(
            "spec.ports",
            "is empty; list at least one port",
        ));
    }
    for (i, port) in spec.ports.iter().enumerate() {
        if port.number == 0 {
            problems.push(not(
                format!("spec.ports[{i}].number"),
                "0",
                "a port from 1 to 65535",
            ));
        }
        one_of(
            &format!("spec.ports[{i}].protocol"),
            &port.protocol.to_uppercase(),
            PROTOCOLS,
            problems,
        );
        if spec.ports[..i]
            .iter()
            .any(|other| other.number == port.number)
        {
            let message = format!(
                "{} is listed twice; every port must be there once",
                port.number
            );
            problems.push(Problem::refused(format!("spec.ports[{i}].number"), message));
        }
    }
}

fn check_endpoints(spec: &ServiceEntrySpec, problems: &mut Vec<Problem>) {
    if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
        let message = "cannot be given together with spec.endpoints; keep one of the two";
        problems.push(Problem::refused("spec.workloadSelector", message));
    }
    match spec.resolution {
        Resolution::None if !spec.endpoints.is_empty() => {
            let message = "is NONE, with which endpoints have no effect; write STATIC (addresses) or DNS (host names)";
            problems.push(Problem::refused("spec.resolution", message));
        }
        Resolution::Static if spec.endpoints.is_empty() && spec.workload_selector.is_none() => {
            let message =
                "is STATIC without spec.endpoints or spec.workloadSelector; nothing will answer";
            problems.push(Problem::warning("spec.resolution", message));
        }
        Resolution::Dns | Resolution::DnsRoundRobin => {
            let wildcard = spec.hosts.iter().position(|host| host.starts_with("*."));
            if let (Some(i), true) = (wildcard, spec.endpoints.is_empty()) {
                let message = format!(
                    "is {}, which DNS cannot resolve; list spec.endpoints, or use resolution: DYNAMIC_DNS with a waypoint",
                    shown(&spec.hosts[i])
                );
                problems.push(Problem::refused(format!("spec.hosts[{i}]"), message));
            }
        }
        Resolution::DynamicDns => {
            let message = "is DYNAMIC_DNS, which needs a waypoint; without one connections fail";
            problems.push(Problem::warning("spec.resolution", message));
        }
        _ => {}
    }
    let names: Vec<&str> = spec.ports.iter().map(|port| port.name.as_str()).collect();
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        let path = format!("spec.endpoints[{i}]");
        check_entry(
            endpoint,
            &path,
            spec.resolution != Resolution::Static,
            problems,
        );
        for port in endpoint
            .ports
            .keys()
            .filter(|port| !names.contains(&port.as_str()))
        {
            let message = format!(
                "names no port of spec.ports; expected one of {}",
                names.join(", ")
            );
            problems.push(Problem::refused(format!("{path}.ports.{port}"), message));
        }
    }
}

pub(super) fn check_workload_entry(entry: &WorkloadEntry, problems: &mut Vec<Problem>) {
    check_entry(&entry.spec, "spec", true, problems);
}

fn check_entry(spec: &WorkloadEntrySpec, path: &str, hostnames: bool, problems: &mut Vec<Problem>) {
    let field = format!("{path}.address");
    if spec.address.is_empty() {
        problems.push(Problem::refused(
            field,
            "is missing; write an IP address or a host name",
        ));
    } else if spec.address.starts_with("unix://") {
        problems.push(not(
            field,
            &spec.address,
            "an IP address or a host name; unix sockets are not reached from here",
        ));
    } else if address(&spec.address).is_none() {
        if !hostnames {
            problems.push(not(
                field,
                &spec.address,
                "an IP address; host names need resolution: DNS",
            ));
        } else if !is_hostname(&spec.address) || spec.address.starts_with('*') {
            problems.push(not(field, &spec.address, "an IP address or a host name"));
        }
    }
    for (name, port) in &spec.ports {
        if *port == 0 {
            problems.push(not(
                format!("{path}.ports.{name}"),
                "0",
                "a port from 1 to 65535",
            ));
        }
    }
    if spec.locality.split('/').count() > 3 {
        problems.push(not(
            format!("{path}.locality"),
            &spec.locality,
            "region, region/zone or region/zone/subzone",
        ));
    }
}
