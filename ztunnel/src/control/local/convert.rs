//! Static objects through the same conversion as discovery's: one meaning, one set of checks.

use std::net::IpAddr;

use ambit_model::Converter;
use ambit_proto::{security, workload as proto};
use ambit_state::Change;
use ipnet::IpNet;

use super::{
    File, LocalError, LocalGateway, LocalLoadBalancer, LocalMatch, LocalPolicy, LocalService,
    LocalString, LocalWorkload,
};

pub(super) fn changes(file: File) -> Result<Vec<Change>, LocalError> {
    let mut converter = Converter::default();
    let mut changes = Vec::new();
    for local in file.workloads {
        let object = format!("workload {:?}", local.name);
        let converted =
            workload(local).and_then(|w| converter.workload(w).map_err(|error| error.to_string()));
        let workload = converted.map_err(|reason| LocalError::Object { object, reason })?;
        changes.push(Change::Workload(workload));
    }
    for local in file.services {
        let object = format!("service {:?}", local.name);
        let converted =
            service(local).and_then(|s| converter.service(s).map_err(|error| error.to_string()));
        let service = converted.map_err(|reason| LocalError::Object { object, reason })?;
        changes.push(Change::Service(service));
    }
    for local in file.policies {
        let object = format!("policy {:?}", local.name);
        let converted =
            policy(local).and_then(|p| converter.policy(p).map_err(|error| error.to_string()));
        let policy = converted.map_err(|reason| LocalError::Object { object, reason })?;
        changes.push(Change::Policy(policy));
    }
    Ok(changes)
}

fn one_of(field: &str, value: &str, choices: &[(&str, i32)]) -> Result<i32, String> {
    if value.is_empty() {
        return Ok(choices[0].1);
    }
    let found = choices
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(value));
    found.map(|(_, number)| *number).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("{field} is {value:?}, expected one of {}", names.join(", "))
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn network_address(field: &str, text: &str) -> Result<proto::NetworkAddress, String> {
    let refuse = || format!("{field} is {text:?}, expected network/ip");
    let (network, address) = text.split_once('/').ok_or_else(refuse)?;
    let address: IpAddr = address.parse().map_err(|_| refuse())?;
    Ok(proto::NetworkAddress {
        network: network.to_owned(),
        address: octets(address).into(),
        ..proto::NetworkAddress::default()
    })
}

fn gateway(local: LocalGateway) -> Result<proto::GatewayAddress, String> {
    let text = &local.destination;
    let destination = match network_address("destination", text) {
        Ok(address) => proto::gateway_address::Destination::Address(address),
        Err(_) => {
            let (namespace, hostname) = text.split_once('/').ok_or_else(|| {
                format!("destination is {text:?}, expected network/ip or namespace/hostname")
            })?;
            proto::gateway_address::Destination::Hostname(proto::NamespacedHostname {
                namespace: namespace.to_owned(),
                hostname: hostname.to_owned(),
            })
        }
    };
    Ok(proto::GatewayAddress {
        destination: Some(destination),
        hbone_mtls_port: local.hbone_mtls_port.into(),
    })
}

fn ports(ports: impl IntoIterator<Item = (u16, u16)>) -> Vec<proto::Port> {
    ports
        .into_iter()
        .map(|(service, target)| proto::Port {
            service_port: service.into(),
            target_port: target.into(),
            ..proto::Port::default()
        })
        .collect()
}

fn workload(local: LocalWorkload) -> Result<proto::Workload, String> {
    let uid = if local.uid.is_empty() {
        format!("cluster//Pod/{}/{}", local.namespace, local.name)
    } else {
        local.uid
    };
    let addresses = local.workload_ips.iter().map(|text| {
        let parsed = text.parse::<IpAddr>();
        parsed
            .map(|a| octets(a).into())
            .map_err(|_| format!("{text:?} is not an IP address"))
    });
    let services = local
        .services
        .into_iter()
        .map(|(name, list)| (name, proto::PortList { ports: ports(list) }))
        .collect();
    Ok(proto::Workload {
        uid,
        name: local.name,
        namespace: local.namespace,
        service_account: local.service_account,
        trust_domain: local.trust_domain,
        addresses: addresses.collect::<Result<_, _>>()?,
        hostname: local.hostname,
        network: local.network,
        node: local.node,
        cluster_id: local.cluster_id,
        canonical_name: local.canonical_name,
        canonical_revision: local.canonical_revision,
        workload_name: local.workload_name,
        authorization_policies: local.authorization_policies,
        native_tunnel: local.native_tunnel,
        tunnel_protocol: one_of("protocol", &local.protocol, &[("TCP", 0), ("HBONE", 1)])?,
        status: one_of("status", &local.status, &[("Healthy", 0), ("Unhealthy", 1)])?,
        network_mode: one_of(
            "networkMode",
            &local.network_mode,
            &[("Standard", 0), ("HostNetwork", 1)],
        )?,
        workload_type: one_of(
            "workloadType",
            &local.workload_type,
            &[("pod", 2), ("deployment", 0), ("cronjob", 1), ("job", 3)],
        )?,
        capacity: local.capacity,
        locality: Some(proto::Locality {
            region: local.locality.region,
            zone: local.locality.zone,
            subzone: local.locality.subzone,
        }),
        waypoint: local.waypoint.map(gateway).transpose()?,
        network_gateway: local.network_gateway.map(gateway).transpose()?,
        application_tunnel: local
            .application_tunnel
            .map(|tunnel| {
                let choices = [("NONE", 0), ("PROXY", 1)];
                Ok::<_, String>(proto::ApplicationTunnel {
                    protocol: one_of("applicationTunnel", &tunnel.protocol, &choices)?,
                    port: tunnel.port.unwrap_or_default().into(),
                })
            })
            .transpose()?,
        services,
        ..proto::Workload::default()
    })
}

fn service(local: LocalService) -> Result<proto::Service, String> {
    if local.hostname.is_empty() {
        return Err("hostname is missing".to_owned());
    }
    let addresses = local.vips.iter().map(|text| network_address("vips", text));
    Ok(proto::Service {
        name: local.name,
        namespace: local.namespace,
        hostname: local.hostname,
        addresses: addresses.collect::<Result<_, _>>()?,
        ports: ports(local.ports),
        subject_alt_names: local.subject_alt_names,
        waypoint: local.waypoint.map(gateway).transpose()?,
        load_balancing: Some(load_balancing(&local.load_balancer)?),
        ip_families: one_of(
            "ipFamilies",
            &local.ip_families,
            &[("Automatic", 0), ("IPv4", 1), ("IPv6", 2), ("Dual", 3)],
        )?,
        visibility: one_of(
            "visibility",
            &local.visibility,
            &[("Public", 0), ("Namespace", 1)],
        )?,
        canonical: local.canonical,
        ..proto::Service::default()
    })
}

fn load_balancing(local: &LocalLoadBalancer) -> Result<proto::LoadBalancing, String> {
    let scopes = [
        ("Region", 1),
        ("Zone", 2),
        ("Subzone", 3),
        ("Node", 4),
        ("Cluster", 5),
        ("Network", 6),
    ];
    let modes = [
        ("Standard", 0),
        ("Strict", 1),
        ("Failover", 2),
        ("Passthrough", 3),
    ];
    let health = [("OnlyHealthy", 0), ("AllowAll", 1)];
    let preferences = local.routing_preferences.iter();
    Ok(proto::LoadBalancing {
        routing_preference: preferences
            .map(|scope| one_of("routingPreferences", scope, &scopes))
            .collect::<Result<_, _>>()?,
        mode: one_of("mode", &local.mode, &modes)?,
        health_policy: one_of("healthPolicy", &local.health_policy, &health)?,
    })
}

fn policy(local: LocalPolicy) -> Result<security::Authorization, String> {
    let scopes = [("Namespace", 1), ("Global", 0), ("WorkloadSelector", 2)];
    let mut rules = Vec::new();
    for rule in local.rules {
        let mut clauses = Vec::new();
        for clause in rule {
            let matches = clause.into_iter().map(matching).collect::<Result<_, _>>()?;
            clauses.push(security::Clause { matches });
        }
        rules.push(security::Rule { clauses });
    }
    Ok(security::Authorization {
        name: local.name,
        namespace: local.namespace,
        scope: one_of("scope", &local.scope, &scopes)?,
        action: one_of("action", &local.action, &[("Allow", 0), ("Deny", 1)])?,
        dry_run: local.dry_run,
        rules,
        ..security::Authorization::default()
    })
}

fn matching(local: LocalMatch) -> Result<security::Match, String> {
    let ranges = |list: Vec<String>| {
        list.iter()
            .map(|text| range(text))
            .collect::<Result<_, _>>()
    };
    let strings = |list: Vec<LocalString>| list.into_iter().map(string).collect();
    let ports = |list: Vec<u16>| list.into_iter().map(u32::from).collect();
    Ok(security::Match {
        namespaces: strings(local.namespaces),
        not_namespaces: strings(local.not_namespaces),
        principals: strings(local.principals),
        not_principals: strings(local.not_principals),
        source_ips: ranges(local.source_ips)?,
        not_source_ips: ranges(local.not_source_ips)?,
        destination_ips: ranges(local.destination_ips)?,
        not_destination_ips: ranges(local.not_destination_ips)?,
        destination_ports: ports(local.destination_ports),
        not_destination_ports: ports(local.not_destination_ports),
        ..security::Match::default()
    })
}

fn range(text: &str) -> Result<security::Address, String> {
    let single = text.parse::<IpAddr>().ok().map(IpNet::from);
    let range = single.or_else(|| text.parse().ok());
    let range = range.ok_or_else(|| format!("{text:?} is not an address or range"))?;
    Ok(security::Address {
        address: octets(range.addr()).into(),
        length: range.prefix_len().into(),
    })
}

fn string(local: LocalString) -> security::StringMatch {
    use security::string_match::MatchType;
    let match_type = match local {
        LocalString::Exact(text) => MatchType::Exact(text),
        LocalString::Prefix(text) => MatchType::Prefix(text),
        LocalString::Suffix(text) => MatchType::Suffix(text),
        LocalString::Presence => MatchType::Presence(()),
    };
    security::StringMatch {
        match_type: Some(match_type),
    }
}
