//! Services.

use ambit_proto::workload as proto;

use super::address::{
    Vip, address_to_proto, gateway, gateway_to_proto, hostname, part, port_to_proto, ports,
    range_to_proto, vip,
};
use super::intern::Interner;
use super::{ConvertError, text};
use crate::{
    AppProtocol, HealthPolicy, IpFamilies, LoadBalancing, LoadBalancingMode, LocalityScope,
    Service, Visibility, WeightedWaypoint,
};

pub(super) fn from_proto(
    s: proto::Service,
    shared: &mut Interner,
) -> Result<Service, ConvertError> {
    let mut addresses = Vec::with_capacity(s.addresses.len());
    let mut ranges = Vec::new();
    for address in &s.addresses {
        match vip(address, shared)? {
            Vip::Address(address) => addresses.push(address),
            Vip::Range(range) => ranges.push(range),
        }
    }
    Ok(Service {
        name: s.name.into(),
        namespace: part("namespace", &s.namespace, shared)?.into(),
        hostname: hostname("hostname", &s.hostname, shared)?,
        addresses,
        ranges,
        ports: ports(&s.ports)?,
        subject_alt_names: sans(&s.subject_alt_names, shared)?,
        waypoint: s
            .waypoint
            .map(|g| gateway("waypoint", &g, shared))
            .transpose()?,
        weighted_waypoints: weighted(&s.weighted_waypoints, shared)?,
        load_balancing: s
            .load_balancing
            .map(load_balancing)
            .transpose()?
            .unwrap_or_default(),
        ip_families: ip_families(s.ip_families)?,
        canonical: s.canonical,
        ingress_use_waypoint: s.ingress_use_waypoint,
        visibility: visibility(s.visibility)?,
    })
}

fn sans(names: &[String], shared: &mut Interner) -> Result<Vec<std::sync::Arc<str>>, ConvertError> {
    let convert = |name: &String| match name.is_empty() {
        true => Err(ConvertError::new("subject_alt_names", "", "a name")),
        false => Ok(shared.text(name)),
    };
    names.iter().map(convert).collect()
}

fn weighted(
    waypoints: &[proto::WeightedWaypoint],
    shared: &mut Interner,
) -> Result<Vec<WeightedWaypoint>, ConvertError> {
    let convert = |w: &proto::WeightedWaypoint| {
        let destination = w
            .destination
            .as_ref()
            .map(|g| gateway("weighted_waypoints", g, shared))
            .transpose()?;
        Ok(WeightedWaypoint {
            destination,
            weight: w.weight,
        })
    };
    waypoints.iter().map(convert).collect()
}

fn load_balancing(lb: proto::LoadBalancing) -> Result<LoadBalancing, ConvertError> {
    use proto::load_balancing::{HealthPolicy as ProtoHealth, Mode};
    let mode = match Mode::try_from(lb.mode) {
        Ok(Mode::UnspecifiedMode) => LoadBalancingMode::Standard,
        Ok(Mode::Strict) => LoadBalancingMode::Strict,
        Ok(Mode::Failover) => LoadBalancingMode::Failover,
        Ok(Mode::Passthrough) => LoadBalancingMode::Passthrough,
        Err(_) => {
            return Err(ConvertError::new(
                "load_balancing.mode",
                lb.mode,
                "a known mode",
            ));
        }
    };
    let health = match ProtoHealth::try_from(lb.health_policy) {
        Ok(ProtoHealth::OnlyHealthy) => HealthPolicy::OnlyHealthy,
        Ok(ProtoHealth::AllowAll) => HealthPolicy::AllowAll,
        Err(_) => {
            let value = lb.health_policy;
            return Err(ConvertError::new(
                "load_balancing.health_policy",
                value,
                "a known policy",
            ));
        }
    };
    let preference = lb
        .routing_preference
        .into_iter()
        .map(scope)
        .collect::<Result<_, _>>()?;
    Ok(LoadBalancing {
        preference,
        mode,
        health,
    })
}

fn scope(value: i32) -> Result<LocalityScope, ConvertError> {
    use proto::load_balancing::Scope;
    match Scope::try_from(value) {
        Ok(Scope::Region) => Ok(LocalityScope::Region),
        Ok(Scope::Zone) => Ok(LocalityScope::Zone),
        Ok(Scope::Subzone) => Ok(LocalityScope::Subzone),
        Ok(Scope::Node) => Ok(LocalityScope::Node),
        Ok(Scope::Cluster) => Ok(LocalityScope::Cluster),
        Ok(Scope::Network) => Ok(LocalityScope::Network),
        Ok(Scope::UnspecifiedScope) | Err(_) => Err(ConvertError::new(
            "load_balancing.routing_preference",
            value,
            "a known scope",
        )),
    }
}

fn ip_families(value: i32) -> Result<IpFamilies, ConvertError> {
    match proto::IpFamilies::try_from(value) {
        Ok(proto::IpFamilies::Automatic) => Ok(IpFamilies::Automatic),
        Ok(proto::IpFamilies::Ipv4Only) => Ok(IpFamilies::Ipv4Only),
        Ok(proto::IpFamilies::Ipv6Only) => Ok(IpFamilies::Ipv6Only),
        Ok(proto::IpFamilies::Dual) => Ok(IpFamilies::Dual),
        Err(_) => Err(ConvertError::new(
            "ip_families",
            value,
            "known address families",
        )),
    }
}

fn visibility(value: i32) -> Result<Visibility, ConvertError> {
    match proto::ServiceVisibility::try_from(value) {
        Ok(proto::ServiceVisibility::Public) => Ok(Visibility::Public),
        Ok(proto::ServiceVisibility::Namespace) => Ok(Visibility::Namespace),
        Err(_) => Err(ConvertError::new(
            "visibility",
            value,
            "PUBLIC or NAMESPACE",
        )),
    }
}

pub(super) fn app_protocol(value: i32) -> Result<AppProtocol, ConvertError> {
    match proto::AppProtocol::try_from(value) {
        Ok(proto::AppProtocol::Unknown) => Ok(AppProtocol::Unknown),
        Ok(proto::AppProtocol::Http11) => Ok(AppProtocol::Http11),
        Ok(proto::AppProtocol::Http2) => Ok(AppProtocol::Http2),
        Ok(proto::AppProtocol::Grpc) => Ok(AppProtocol::Grpc),
        Ok(proto::AppProtocol::Tcp) => Ok(AppProtocol::Tcp),
        Ok(proto::AppProtocol::Tls) => Ok(AppProtocol::Tls),
        Err(_) => Err(ConvertError::new(
            "ports.app_protocol",
            value,
            "a known protocol",
        )),
    }
}

pub(super) fn app_protocol_to_proto(value: AppProtocol) -> proto::AppProtocol {
    match value {
        AppProtocol::Unknown => proto::AppProtocol::Unknown,
        AppProtocol::Http11 => proto::AppProtocol::Http11,
        AppProtocol::Http2 => proto::AppProtocol::Http2,
        AppProtocol::Grpc => proto::AppProtocol::Grpc,
        AppProtocol::Tcp => proto::AppProtocol::Tcp,
        AppProtocol::Tls => proto::AppProtocol::Tls,
    }
}

pub(super) fn to_proto(s: &Service) -> proto::Service {
    let addresses = s.addresses.iter().map(address_to_proto);
    proto::Service {
        name: text(&s.name),
        namespace: text(&s.namespace),
        hostname: text(&s.hostname),
        addresses: addresses
            .chain(s.ranges.iter().map(range_to_proto))
            .collect(),
        ports: s.ports.iter().map(port_to_proto).collect(),
        subject_alt_names: s.subject_alt_names.iter().map(text).collect(),
        waypoint: s.waypoint.as_ref().map(gateway_to_proto),
        load_balancing: load_balancing_to_proto(&s.load_balancing),
        ip_families: match s.ip_families {
            IpFamilies::Automatic => proto::IpFamilies::Automatic,
            IpFamilies::Ipv4Only => proto::IpFamilies::Ipv4Only,
            IpFamilies::Ipv6Only => proto::IpFamilies::Ipv6Only,
            IpFamilies::Dual => proto::IpFamilies::Dual,
        }
        .into(),
        extensions: Vec::new(),
        canonical: s.canonical,
        ingress_use_waypoint: s.ingress_use_waypoint,
        weighted_waypoints: s.weighted_waypoints.iter().map(weighted_to_proto).collect(),
        visibility: match s.visibility {
            Visibility::Public => proto::ServiceVisibility::Public,
            Visibility::Namespace => proto::ServiceVisibility::Namespace,
        }
        .into(),
    }
}

fn weighted_to_proto(w: &WeightedWaypoint) -> proto::WeightedWaypoint {
    proto::WeightedWaypoint {
        destination: w.destination.as_ref().map(gateway_to_proto),
        weight: w.weight,
    }
}

fn load_balancing_to_proto(lb: &LoadBalancing) -> Option<proto::LoadBalancing> {
    use proto::load_balancing::{HealthPolicy as ProtoHealth, Mode};
    (*lb != LoadBalancing::default()).then(|| proto::LoadBalancing {
        routing_preference: lb
            .preference
            .iter()
            .map(|s| scope_to_proto(*s).into())
            .collect(),
        mode: match lb.mode {
            LoadBalancingMode::Standard => Mode::UnspecifiedMode,
            LoadBalancingMode::Strict => Mode::Strict,
            LoadBalancingMode::Failover => Mode::Failover,
            LoadBalancingMode::Passthrough => Mode::Passthrough,
        }
        .into(),
        health_policy: match lb.health {
            HealthPolicy::OnlyHealthy => ProtoHealth::OnlyHealthy,
            HealthPolicy::AllowAll => ProtoHealth::AllowAll,
        }
        .into(),
    })
}

fn scope_to_proto(scope: LocalityScope) -> proto::load_balancing::Scope {
    use proto::load_balancing::Scope;
    match scope {
        LocalityScope::Region => Scope::Region,
        LocalityScope::Zone => Scope::Zone,
        LocalityScope::Subzone => Scope::Subzone,
        LocalityScope::Node => Scope::Node,
        LocalityScope::Cluster => Scope::Cluster,
        LocalityScope::Network => Scope::Network,
    }
}
