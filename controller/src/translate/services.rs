//! Services of Kubernetes and hosts of ServiceEntries as services of the mesh: addresses, ports,
//! load balancing, and who bears a host name that several declare.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ambit_model::{
    HealthPolicy, IpFamilies, LoadBalancing, LoadBalancingMode, LocalityScope, NetworkAddress,
    NetworkCidr, Service, ServiceKey, Visibility,
};

use super::context::{Context, service_key};
use super::vip::Allocator;
use super::waypoints::{Asker, Attached, Traffic};
use super::{Shared, ports};
use crate::api::meta::Object;
use crate::api::networking::Resolution;
use crate::api::{Kind, Namespace, ObjectMeta, Service as ApiService, ServiceEntry};
use crate::finding::{Finding, Problem};
use crate::snapshot::{Entry, MeshSettings, Snapshot};
use crate::validate::{address, range};

const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// A Kubernetes service; `None` for an ExternalName.
pub(super) fn of_service(
    service: &ApiService,
    context: &Context,
    shared: &Shared,
) -> Option<(Service, Vec<Problem>)> {
    if service.spec.r#type == "ExternalName" {
        return None;
    }
    let key = service_key(service, &shared.mesh);
    let attached = attach(&service.metadata, context, shared);
    let translated = Service {
        name: service.metadata.name.as_str().into(),
        namespace: key.namespace,
        hostname: key.hostname,
        addresses: virtual_addresses(service)
            .map(|address| on_network(address, shared))
            .collect(),
        ports: ports::of_service(service),
        waypoint: attached.waypoint,
        weighted_waypoints: attached.weighted,
        load_balancing: load_balancing(service, context.namespace()),
        ip_families: ip_families(&service.spec.ip_families),
        canonical: true,
        ingress_use_waypoint: ingress(&service.metadata, context.namespace()),
        ..Service::default()
    };
    Some((translated, attached.problems))
}

/// A service's virtual addresses, each once.
pub(super) fn virtual_addresses(service: &ApiService) -> impl Iterator<Item = std::net::IpAddr> {
    let spec = &service.spec;
    let mut found: Vec<std::net::IpAddr> = Vec::new();
    for text in std::iter::once(&spec.cluster_ip).chain(&spec.cluster_ips) {
        if let Some(address) = address(text).filter(|address| !found.contains(address)) {
            found.push(address);
        }
    }
    found.into_iter()
}

fn on_network(address: std::net::IpAddr, shared: &Shared) -> NetworkAddress {
    NetworkAddress {
        network: shared.mesh.network.as_str().into(),
        address,
    }
}

fn attach(meta: &ObjectMeta, context: &Context, shared: &Shared) -> Attached {
    let namespace = context.namespace();
    shared.waypoints.attach(&Asker {
        meta,
        namespace,
        traffic: Traffic::Service,
    })
}

fn ingress(meta: &ObjectMeta, namespace: Option<&Namespace>) -> bool {
    let name = "istio.io/ingress-use-waypoint";
    meta.label(name).or_else(|| namespace?.metadata.label(name)) == Some("true")
}

fn ip_families(families: &[String]) -> IpFamilies {
    let has = |family: &str| families.iter().any(|f| f == family);
    match (has("IPv4"), has("IPv6")) {
        (true, true) => IpFamilies::Dual,
        (true, false) => IpFamilies::Ipv4Only,
        (false, true) => IpFamilies::Ipv6Only,
        (false, false) => IpFamilies::Automatic,
    }
}

fn load_balancing(service: &ApiService, namespace: Option<&Namespace>) -> LoadBalancing {
    let mut found = if service.spec.internal_traffic_policy == "Local" {
        LoadBalancing {
            preference: vec![LocalityScope::Node],
            mode: LoadBalancingMode::Strict,
            ..LoadBalancing::default()
        }
    } else {
        distribution(
            &service.spec.traffic_distribution,
            &service.metadata,
            namespace,
        )
    };
    if service.spec.publish_not_ready_addresses {
        found.health = HealthPolicy::AllowAll;
    }
    found
}

/// `trafficDistribution`, else the annotation of the object, else that of its namespace.
fn distribution(field: &str, meta: &ObjectMeta, namespace: Option<&Namespace>) -> LoadBalancing {
    let declared = Some(field).filter(|field| !field.is_empty());
    let value = declared
        .or_else(|| meta.annotation(DISTRIBUTION))
        .or_else(|| namespace?.metadata.annotation(DISTRIBUTION));
    let mut preference = vec![
        LocalityScope::Network,
        LocalityScope::Region,
        LocalityScope::Zone,
    ];
    match value {
        Some("PreferClose" | "PreferSameZone") => {}
        Some("PreferSameNode") => preference.extend([LocalityScope::Subzone, LocalityScope::Node]),
        _ => return LoadBalancing::default(),
    }
    LoadBalancing {
        preference,
        mode: LoadBalancingMode::Failover,
        ..LoadBalancing::default()
    }
}

/// What depends on all service entries together.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The hosts of each entry that are in force, by the entry's position.
    pub(super) hosts: Vec<Vec<ServiceKey>>,
    addresses: HashMap<ServiceKey, Vec<std::net::IpAddr>>,
    canonical: HashSet<ServiceKey>,
    /// Hosts somebody else bears already.
    pub(super) findings: Vec<Finding>,
}

/// Decides who bears which host name and which addresses are given.
pub(super) fn plan(snapshot: &Snapshot, mesh: &MeshSettings) -> Plan {
    let entries = &snapshot.service_entries;
    let mut plan = Plan {
        hosts: vec![Vec::new(); entries.len()],
        ..Plan::default()
    };
    if entries.is_empty() {
        return plan;
    }
    let kubernetes: HashMap<ServiceKey, &Entry<ApiService>> = snapshot
        .services
        .iter()
        .map(|service| (service_key(service, mesh), service))
        .collect();
    let names: HashSet<&str> = kubernetes.keys().map(|key| key.hostname.as_str()).collect();
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|index| entries[*index].object.metadata.age());
    let mut bearers: BTreeMap<ServiceKey, usize> = BTreeMap::new();
    for &index in &order {
        let entry = &entries[index];
        for (i, host) in entry.spec.hosts.iter().enumerate() {
            let key = ServiceKey::new(
                entry.metadata.namespace.as_str(),
                &host.to_ascii_lowercase(),
            );
            let first = match (kubernetes.get(&key), bearers.get(&key)) {
                (Some(service), _) => Some((Kind::Service, &service.place, &service.metadata)),
                (None, Some(other)) if *other != index => {
                    let other = &entries[*other];
                    Some((Kind::ServiceEntry, &other.place, &other.metadata))
                }
                (None, Some(_)) => continue,
                (None, None) => None,
            };
            if let Some((kind, place, meta)) = first {
                let at = format!("{}:{}", place.file, place.line_of("metadata.name"));
                let message = format!(
                    "{host:?} is a host of {kind} {} already, at {at}, which stays in force; remove it from one of them",
                    meta.name
                );
                let meta = entry.object.meta();
                plan.findings
                    .push(Problem::refused(format!("spec.hosts[{i}]"), message).of(
                        Kind::ServiceEntry,
                        &meta.namespace,
                        &meta.name,
                        &entry.place,
                    ));
                continue;
            }
            bearers.insert(key.clone(), index);
            plan.hosts[index].push(key);
        }
    }
    plan.canonical = canonical(&order, entries, &plan.hosts, &names);
    plan.addresses = allocate(entries, &plan.hosts);
    plan
}

/// The oldest public bearer of each host name, unless a Kubernetes service bears it.
fn canonical(
    order: &[usize],
    entries: &[Entry<ServiceEntry>],
    hosts: &[Vec<ServiceKey>],
    kubernetes: &HashSet<&str>,
) -> HashSet<ServiceKey> {
    let mut taken: HashSet<&str> = kubernetes.clone();
    let mut found = HashSet::new();
    for &index in order {
        for key in &hosts[index] {
            let public = visibility(&entries[index]) == Visibility::Public;
            if public && taken.insert(key.hostname.as_str()) {
                found.insert(key.clone());
            }
        }
    }
    found
}

/// Gives addresses to hosts without any, in the order of their names.
fn allocate(
    entries: &[Entry<ServiceEntry>],
    hosts: &[Vec<ServiceKey>],
) -> HashMap<ServiceKey, Vec<std::net::IpAddr>> {
    let mut allocator = Allocator::default();
    let mut wanting: BTreeMap<String, ServiceKey> = BTreeMap::new();
    let mut found = HashMap::new();
    for (entry, hosts) in entries.iter().zip(hosts) {
        for text in &entry.spec.addresses {
            if let Some(address) = address(text) {
                allocator.reserve(address);
            }
        }
        for key in hosts.iter().filter(|key| wants_address(entry, key)) {
            let given = entry.status.addresses.iter();
            let given = given.filter(|a| a.host.is_empty() || a.host == key.hostname.as_str());
            let given: Vec<_> = given.filter_map(|a| address(&a.value)).collect();
            if given.is_empty() {
                wanting.insert(format!("{key}"), key.clone());
            } else {
                given.iter().for_each(|address| allocator.reserve(*address));
                found.insert(key.clone(), given);
            }
        }
    }
    for (name, key) in wanting {
        found.extend(
            allocator
                .allocate(&name)
                .map(|addresses| (key, addresses.to_vec())),
        );
    }
    found
}

fn wants_address(entry: &ServiceEntry, key: &ServiceKey) -> bool {
    let wildcard = key.hostname.as_str().starts_with('*');
    entry.spec.addresses.is_empty()
        && entry.spec.resolution != Resolution::None
        && (!wildcard || entry.spec.resolution == Resolution::DynamicDns)
        && entry
            .metadata
            .label("networking.istio.io/enable-autoallocate-ip")
            != Some("false")
}

fn visibility(entry: &ServiceEntry) -> Visibility {
    let export = &entry.spec.export_to;
    if !export.is_empty() && export.iter().all(|target| target == ".") {
        Visibility::Namespace
    } else {
        Visibility::Public
    }
}

/// One service per host of a service entry.
pub(super) fn of_service_entry(
    entry: &ServiceEntry,
    hosts: &[ServiceKey],
    plan: &Plan,
    context: &Context,
    shared: &Shared,
) -> (Vec<Service>, Vec<Problem>) {
    let attached = attach(&entry.metadata, context, shared);
    let network = || shared.mesh.network.as_str().into();
    let (mut single, mut ranges) = (Vec::new(), Vec::new());
    for range in entry.spec.addresses.iter().filter_map(|text| range(text)) {
        if range.prefix_len() == range.max_prefix_len() {
            single.push(NetworkAddress {
                network: network(),
                address: range.addr(),
            });
        } else {
            ranges.push(NetworkCidr {
                network: network(),
                range,
            });
        }
    }
    let load_balancing = match entry.spec.resolution {
        Resolution::None => LoadBalancing {
            mode: LoadBalancingMode::Passthrough,
            ..LoadBalancing::default()
        },
        _ => distribution("", &entry.metadata, context.namespace()),
    };
    let service = |key: &ServiceKey| {
        let allocated = plan.addresses.get(key).into_iter().flatten();
        let allocated = allocated.map(|address| on_network(*address, shared));
        Service {
            name: entry.metadata.name.as_str().into(),
            namespace: key.namespace.clone(),
            hostname: key.hostname.clone(),
            addresses: single.iter().cloned().chain(allocated).collect(),
            ranges: ranges.clone(),
            ports: ports::of_entry(&entry.spec.ports, |_| None),
            subject_alt_names: entry
                .spec
                .subject_alt_names
                .iter()
                .map(|name| Arc::from(name.as_str()))
                .collect(),
            waypoint: attached.waypoint.clone(),
            weighted_waypoints: attached.weighted.clone(),
            load_balancing: load_balancing.clone(),
            canonical: plan.canonical.contains(key),
            ingress_use_waypoint: ingress(&entry.metadata, context.namespace()),
            visibility: visibility(entry),
            ..Service::default()
        }
    };
    (hosts.iter().map(service).collect(), attached.problems)
}
