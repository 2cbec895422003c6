//! The store and its answers, row by row of what a proxy relies on.

mod balance;
mod inbound;
mod lookups;
mod networks;
mod order;
mod outliers;
mod policies;
mod routing;
mod scale;
mod waypoints;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ambit_model::{
    AppProtocol, GatewayAddress, GatewayDestination, Hostname, NamespacedHostname, NetworkAddress,
    NetworkCidr, Port, Service, ServiceKey, TunnelProtocol, Workload, WorkloadUid,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::{
    Change, ExpectedIdentities, Hop, Reader, ResolveError, ResolveRequest, Settings, Upstream,
    Writer,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn network_address(text: &str) -> NetworkAddress {
    NetworkAddress {
        network: "".into(),
        address: ip(text),
    }
}

/// A pod `namespace/name` that speaks HBONE, with service account `name`.
fn pod(namespace: &str, name: &str, address: &str) -> Workload {
    Workload {
        uid: uid(namespace, name),
        name: name.into(),
        namespace: namespace.into(),
        service_account: name.into(),
        addresses: vec![ip(address)],
        tunnel: TunnelProtocol::Hbone,
        ..Workload::default()
    }
}

fn uid(namespace: &str, name: &str) -> WorkloadUid {
    format!("cluster//Pod/{namespace}/{name}").into()
}

fn plain(workload: Workload) -> Workload {
    Workload {
        tunnel: TunnelProtocol::None,
        ..workload
    }
}

fn key(namespace: &str, name: &str) -> ServiceKey {
    ServiceKey::new(namespace, &hostname(namespace, name))
}

fn hostname(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

fn port(service_port: u16, target_port: u16) -> Port {
    Port {
        service_port,
        target_port,
        app_protocol: AppProtocol::Unknown,
    }
}

/// A service with port 80 to 8080.
fn service(namespace: &str, name: &str, vip: &str) -> Service {
    Service {
        name: name.into(),
        namespace: namespace.into(),
        hostname: hostname(namespace, name).into(),
        addresses: vec![network_address(vip)],
        ports: vec![port(80, 8080)],
        ..Service::default()
    }
}

fn range_service(namespace: &str, name: &str, range: &str) -> Service {
    let range = NetworkCidr {
        network: "".into(),
        range: range.parse().unwrap(),
    };
    Service {
        addresses: vec![],
        ranges: vec![range],
        ..service(namespace, name, "0.0.0.0")
    }
}

/// Makes a workload an endpoint that serves port 80 of the service on 8080.
fn member(workload: Workload, service: &Service) -> Workload {
    member_with(workload, service, vec![port(80, 8080)])
}

fn member_with(workload: Workload, service: &Service, ports: Vec<Port>) -> Workload {
    let had = workload
        .services
        .iter()
        .map(|(key, ports)| (key.clone(), Arc::clone(ports)));
    let services = had.chain([(service.key(), ports.into())]).collect();
    Workload {
        services,
        ..workload
    }
}

fn by_name(namespace: &str, name: &str) -> GatewayAddress {
    let hostname = Hostname::from(hostname(namespace, name));
    let name = NamespacedHostname {
        namespace: namespace.into(),
        hostname,
    };
    GatewayAddress {
        destination: GatewayDestination::Hostname(name),
        hbone_port: 15008,
    }
}

fn by_address(address: &str) -> GatewayAddress {
    let destination = GatewayDestination::Address(network_address(address));
    GatewayAddress {
        destination,
        hbone_port: 15008,
    }
}

fn expected(names: &[&str]) -> ExpectedIdentities {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn id(namespace: &str, account: &str) -> String {
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
}

/// A store with a client pod `shop/client` at 10.0.0.1 and whatever is added.
struct Mesh {
    writer: Writer,
    reader: Reader,
    client: Workload,
    random: SmallRng,
    now: Instant,
}

impl Mesh {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let (writer, reader) = crate::new(settings);
        let client = pod("shop", "client", "10.0.0.1");
        let random = SmallRng::seed_from_u64(7);
        let mut mesh = Self {
            writer,
            reader,
            client,
            random,
            now: Instant::now(),
        };
        mesh.add(mesh.client.clone());
        mesh
    }

    fn add(&mut self, change: impl Into<Change>) {
        self.writer.apply(vec![change.into()]);
    }

    fn remove(&mut self, name: impl ToString) {
        self.writer
            .apply(vec![Change::RemoveAddress(name.to_string())]);
    }

    fn set_client(&mut self, client: Workload) {
        self.client = client.clone();
        self.add(client);
    }

    fn resolve_from(&mut self, source_ip: IpAddr, to: &str) -> Result<Upstream, ResolveError> {
        self.resolve_without(source_ip, to, &[])
    }

    fn resolve_without(
        &mut self,
        source_ip: IpAddr,
        to: &str,
        exclude: &[WorkloadUid],
    ) -> Result<Upstream, ResolveError> {
        let (source, destination, now) = (&self.client, at(to), self.now);
        let request = ResolveRequest {
            source,
            source_ip,
            destination,
            exclude,
            now,
        };
        self.reader.resolve(&request, &mut self.random)
    }

    fn resolve(&mut self, to: &str) -> Result<Upstream, ResolveError> {
        let source_ip = self
            .client
            .addresses
            .first()
            .copied()
            .unwrap_or(ip("10.0.0.1"));
        self.resolve_from(source_ip, to)
    }

    fn hop(&mut self, to: &str) -> Hop {
        self.resolve(to).unwrap().hop
    }

    /// Names of the workloads that many connections to `to` went to, with how many each.
    fn spread(
        &mut self,
        to: &str,
        connections: usize,
    ) -> std::collections::BTreeMap<String, usize> {
        let mut spread = std::collections::BTreeMap::new();
        for _ in 0..connections {
            let workload = self.resolve(to).unwrap().workload.unwrap();
            *spread.entry(workload.name.to_string()).or_default() += 1;
        }
        spread
    }

    fn names(&mut self, to: &str) -> Vec<String> {
        self.spread(to, 200).into_keys().collect()
    }
}

impl From<Workload> for Change {
    fn from(workload: Workload) -> Self {
        Self::Workload(workload)
    }
}

impl From<Service> for Change {
    fn from(service: Service) -> Self {
        Self::Service(service)
    }
}

impl From<ambit_model::AuthorizationPolicy> for Change {
    fn from(policy: ambit_model::AuthorizationPolicy) -> Self {
        Self::Policy(policy)
    }
}
