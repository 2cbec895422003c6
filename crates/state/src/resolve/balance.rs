//! Which endpoint of a service a connection goes to: those that can take it, of those the ones
//! that do not keep refusing, of those the nearest, of those one at random by weight.

use std::sync::Arc;

use ambit_model::{
    Health, HealthPolicy, LoadBalancing, LoadBalancingMode, LocalityScope, Port, Service, Workload,
};
use rand::{Rng, RngExt};
use smallvec::SmallVec;

use super::{Resolver, hop};

/// The endpoint of a service that was chosen, and its own port.
#[derive(Clone, Debug)]
pub(super) struct Picked {
    pub(super) workload: Arc<Workload>,
    pub(super) port: u16,
}

/// What the endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be the other end.
    Endpoint,
    /// To be a waypoint or gateway: its tunnel port need not be among the service's ports.
    Tunnel,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PickError {
    /// The service does not have the port.
    NoPort,
    /// No endpoint takes traffic on it.
    NoEndpoint,
}

/// An endpoint that can take the connection.
struct Candidate<'s> {
    workload: &'s Arc<Workload>,
    port: u16,
    /// How near it is; `None`: too far.
    nearness: Option<usize>,
    /// It keeps refusing.
    out: bool,
}

type Candidates<'s> = SmallVec<[Candidate<'s>; 8]>;

impl Resolver<'_> {
    pub(super) fn pick(
        &self,
        service: &Service,
        port: u16,
        purpose: Purpose,
        random: &mut impl Rng,
    ) -> Result<Picked, PickError> {
        let candidates = self.candidates(service, port, purpose)?;
        // Endpoints that refuse are better than none.
        let chosen = weighted(nearest(&candidates, false), random)
            .or_else(|| weighted(nearest(&candidates, true), random))
            .ok_or(PickError::NoEndpoint)?;
        Ok(Picked {
            workload: Arc::clone(chosen.workload),
            port: chosen.port,
        })
    }

    fn candidates<'s>(
        &'s self,
        service: &Service,
        port: u16,
        purpose: Purpose,
    ) -> Result<Candidates<'s>, PickError> {
        let key = service.key();
        let outliers = self.outliers.view(self.request.now);
        let mut port_known =
            purpose == Purpose::Tunnel || service.ports.iter().any(|p| p.service_port == port);
        let mut candidates = Candidates::new();
        for workload in self.store.workloads.endpoints(&key) {
            let ports = workload.services.get(&key).unwrap_or_default();
            let Some(target) = target_port(service, ports, workload, port, purpose) else {
                continue;
            };
            port_known = true;
            if !self.takes_traffic(service, workload) {
                continue;
            }
            candidates.push(Candidate {
                workload,
                port: target,
                nearness: nearness(&service.load_balancing, self.request.source, workload),
                out: outliers.is_out(&workload.uid, target),
            });
        }
        if port_known {
            Ok(candidates)
        } else {
            Err(PickError::NoPort)
        }
    }

    fn takes_traffic(&self, service: &Service, workload: &Workload) -> bool {
        let healthy = workload.health == Health::Healthy
            || service.load_balancing.health == HealthPolicy::AllowAll;
        healthy
            && !self.request.exclude.contains(&workload.uid)
            && self.reachable(service, workload)
    }

    /// Another network is reached through its gateway, this one at an address or a host name.
    fn reachable(&self, service: &Service, workload: &Workload) -> bool {
        if workload.network != self.request.source.network {
            return workload.network_gateway.is_some();
        }
        if workload.addresses.is_empty() {
            return workload.hostname.is_some();
        }
        workload
            .addresses
            .iter()
            .any(|ip| hop::allows(service.ip_families, ip.is_ipv6()))
    }
}

/// The endpoint's own port behind a service's port: as the endpoint says, else as the service
/// says, unless there it is left to the endpoints (a named port it does not have).
pub(crate) fn target_port(
    service: &Service,
    endpoint: &[Port],
    workload: &Workload,
    port: u16,
    purpose: Purpose,
) -> Option<u16> {
    let find = |ports: &[Port]| {
        ports
            .iter()
            .find(|p| p.service_port == port && p.target_port != 0)
            .map(|p| p.target_port)
    };
    find(endpoint).or_else(|| find(&service.ports)).or_else(|| {
        // A tunnel takes any port and finds out itself.
        let any = purpose == Purpose::Tunnel || workload.application_tunnel.is_some();
        any.then_some(port)
    })
}

/// How near an endpoint is. STRICT wants every scope to match, though a leading NETWORK only
/// prefers; FAILOVER counts the leading scopes that match.
fn nearness(lb: &LoadBalancing, client: &Workload, endpoint: &Workload) -> Option<usize> {
    let matches = |scope: &&LocalityScope| shares(**scope, client, endpoint);
    match lb.mode {
        LoadBalancingMode::Standard | LoadBalancingMode::Passthrough => Some(0),
        LoadBalancingMode::Failover => Some(lb.preference.iter().take_while(matches).count()),
        LoadBalancingMode::Strict => {
            let (preferred, required) = match lb.preference.split_first() {
                Some((LocalityScope::Network, rest)) => (Some(LocalityScope::Network), rest),
                _ => (None, lb.preference.as_slice()),
            };
            let all = required.iter().all(|scope| matches(&scope));
            all.then(|| usize::from(preferred.is_some_and(|scope| matches(&&scope))))
        }
    }
}

fn shares(scope: LocalityScope, a: &Workload, b: &Workload) -> bool {
    match scope {
        LocalityScope::Region => a.locality.region == b.locality.region,
        LocalityScope::Zone => a.locality.zone == b.locality.zone,
        LocalityScope::Subzone => a.locality.subzone == b.locality.subzone,
        // Two that are on no known node are not on one node.
        LocalityScope::Node => a.node == b.node && !a.node.is_empty(),
        LocalityScope::Cluster => a.cluster == b.cluster,
        LocalityScope::Network => a.network == b.network,
    }
}

/// The nearest candidates, with or without those that keep refusing.
fn nearest<'c, 's>(
    candidates: &'c [Candidate<'s>],
    with_out: bool,
) -> SmallVec<[&'c Candidate<'s>; 8]> {
    let usable = || candidates.iter().filter(move |c| with_out || !c.out);
    let best = usable().filter_map(|c| c.nearness).max();
    usable()
        .filter(|c| c.nearness.is_some() && c.nearness == best)
        .collect()
}

/// One of the candidates, by capacity; where no capacity is above zero, any.
fn weighted<'c, 's>(
    candidates: SmallVec<[&'c Candidate<'s>; 8]>,
    random: &mut impl Rng,
) -> Option<&'c Candidate<'s>> {
    if candidates.len() <= 1 {
        return candidates.first().copied();
    }
    let total: u64 = candidates
        .iter()
        .map(|c| u64::from(c.workload.capacity))
        .sum();
    if total == 0 {
        return Some(candidates[random.random_range(0..candidates.len())]);
    }
    let mut left = random.random_range(0..total);
    candidates.into_iter().find(|candidate| {
        let capacity = u64::from(candidate.workload.capacity);
        let here = left < capacity;
        left = left.saturating_sub(capacity);
        here
    })
}
