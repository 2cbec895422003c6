//! What the mesh knows of a name: services by their virtual addresses, headless services by their
//! endpoints, and single pods of those. Pure: asks the state and nothing else.

use std::net::IpAddr;

use ambit_model::{Health, HealthPolicy, IpFamilies, Namespace, NetworkId, Service};
use ambit_state::Reader;
use hickory_proto::rr::RecordType;
use rand::seq::SliceRandom as _;

use super::limits::ADDRESSES;
use super::names::{Candidate, candidates};

/// Who asks, from where.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The asking pod's namespace.
    pub namespace: &'a Namespace,
    /// Its network.
    pub network: &'a NetworkId,
    /// Suffix of the cluster's service names.
    pub cluster_domain: &'a str,
    /// The pod's own search domains.
    pub search: &'a [String],
    /// Whether IPv6 addresses are answered.
    pub ipv6: bool,
}

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The owner of the addresses: the asked name, or the one it is linked to.
    pub owner: String,
    /// Addresses of the asked kind, shuffled; empty: the name exists without such.
    pub addresses: Vec<IpAddr>,
}

/// Finds `name`; `None` when the mesh does not know it, or what is asked is not an address.
#[must_use]
pub fn find(state: &Reader, asker: Asker<'_>, name: &str, kind: RecordType) -> Option<Known> {
    let v6 = match kind {
        RecordType::A => false,
        RecordType::AAAA => true,
        _ => return None,
    };
    let namespace = asker.namespace.as_str();
    let all = candidates(name, namespace, asker.cluster_domain, asker.search);
    let found = all
        .iter()
        .find_map(|candidate| exact(state, asker, candidate))
        .or_else(|| {
            all.iter()
                .find_map(|candidate| by_wildcard(state, asker, candidate))
        })?;
    let (owner, mut addresses) = found;
    addresses.retain(|address| address.is_ipv6() == v6 && (asker.ipv6 || !v6));
    addresses.sort();
    addresses.dedup();
    addresses.shuffle(&mut rand::rng());
    addresses.truncate(ADDRESSES);
    Some(Known { owner, addresses })
}

type Found = (String, Vec<IpAddr>);

fn exact(state: &Reader, asker: Asker<'_>, candidate: &Candidate) -> Option<Found> {
    let services = state.find_services_by_hostname(&candidate.name, asker.namespace);
    let by_service = services
        .iter()
        .find_map(|service| addresses(state, asker, service, None));
    let found = by_service.or_else(|| pod_of_headless(state, asker, &candidate.name))?;
    Some((candidate.owner.clone(), found))
}

fn by_wildcard(state: &Reader, asker: Asker<'_>, candidate: &Candidate) -> Option<Found> {
    let service = state.find_service_by_name(&candidate.name, asker.namespace)?;
    let found = addresses(state, asker, &service, None)?;
    Some((candidate.owner.clone(), found))
}

/// `<pod>.<service>.<namespace>.svc.<domain>`, where the service is headless.
fn pod_of_headless(state: &Reader, asker: Asker<'_>, name: &str) -> Option<Vec<IpAddr>> {
    let (pod, service) = name.split_once('.')?;
    let services = state.find_services_by_hostname(service, asker.namespace);
    let found = services
        .iter()
        .find_map(|service| addresses(state, asker, service, Some(pod)))?;
    // The cluster's own DNS may know the pod by another host name.
    (!found.is_empty()).then_some(found)
}

/// Virtual addresses; without those, for a service of the cluster, its endpoints' (of one pod, if
/// named). `None`: not ours to answer.
fn addresses(
    state: &Reader,
    asker: Asker<'_>,
    service: &Service,
    pod: Option<&str>,
) -> Option<Vec<IpAddr>> {
    let virtuals: Vec<IpAddr> = service
        .addresses
        .iter()
        .filter(|at| at.network == *asker.network)
        .map(|at| at.address)
        .filter(|address| family_allowed(service.ip_families, *address))
        .collect();
    if pod.is_none() && !service.addresses.is_empty() {
        return Some(virtuals);
    }
    let in_cluster = service
        .hostname
        .as_str()
        .strip_suffix(asker.cluster_domain)
        .is_some_and(|rest| rest.ends_with(".svc."));
    let headless = service.addresses.is_empty() && service.ranges.is_empty();
    if !in_cluster || !headless {
        return None;
    }
    let all = service.load_balancing.health == HealthPolicy::AllowAll;
    let endpoints = state.endpoints(&service.key());
    let addresses = endpoints
        .iter()
        .filter(|workload| all || workload.health == Health::Healthy)
        .filter(|workload| workload.network == *asker.network)
        .filter(|workload| pod.is_none_or(|pod| *workload.name == *pod))
        .flat_map(|workload| workload.addresses.iter().copied())
        .filter(|address| family_allowed(service.ip_families, *address));
    Some(addresses.collect())
}

fn family_allowed(families: IpFamilies, address: IpAddr) -> bool {
    match families {
        IpFamilies::Automatic | IpFamilies::Dual => true,
        IpFamilies::Ipv4Only => address.is_ipv4(),
        IpFamilies::Ipv6Only => address.is_ipv6(),
    }
}
