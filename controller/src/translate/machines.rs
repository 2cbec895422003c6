//! Workloads that are no pods: WorkloadEntries, endpoints of ServiceEntries, addresses of
//! EndpointSlices.

use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::{Health, Locality, NetworkMode, ServiceKey, TunnelProtocol, Workload};

use super::context::{Behind, Context, Selected, service_key};
use super::pods::{canonical_name, canonical_revision, locality};
use super::waypoints::{Asker, Traffic};
use super::{Shared, ports};
use crate::api::meta::Labels;
use crate::api::networking::{Resolution, WorkloadEntrySpec};
use crate::api::{EndpointSlice, Node, ObjectMeta, ServiceEntry, WorkloadEntry};
use crate::finding::Problem;
use crate::validate::address;

/// A WorkloadEntry.
pub(super) fn of_workload_entry(
    entry: &WorkloadEntry,
    context: &Context,
    shared: &Shared,
) -> (Workload, Vec<Problem>) {
    let meta = labelled(&entry.metadata, &entry.spec.labels);
    let (workload, attached) = machine(&entry.spec, &meta, context, shared);
    let services = context.services_of(&Selected {
        labels: &meta.labels,
        name: &meta.name,
        addresses: &workload.addresses,
        behind: Behind::Machine(&entry.spec.ports),
    });
    let uid = format!(
        "{}/networking.istio.io/WorkloadEntry/{}/{}",
        shared.mesh.cluster, meta.namespace, meta.name
    );
    let workload = Workload {
        uid: uid.into(),
        policies: context.policies_for(&meta.labels, &services),
        services: services.into_iter().collect(),
        ..workload
    };
    (workload, attached)
}

/// The endpoints written in a ServiceEntry, or the host itself where DNS is to find them.
pub(super) fn of_service_entry(
    entry: &ServiceEntry,
    hosts: &[ServiceKey],
    context: &Context,
    shared: &Shared,
) -> Vec<Workload> {
    let spec = &entry.spec;
    let mut endpoints: Vec<(WorkloadEntrySpec, &[ServiceKey])> = Vec::new();
    let dns = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if dns && spec.endpoints.is_empty() && spec.workload_selector.is_none() {
        for host in hosts {
            let address = host.hostname.as_str().to_owned();
            let implicit = WorkloadEntrySpec {
                address,
                ..WorkloadEntrySpec::default()
            };
            endpoints.push((implicit, std::slice::from_ref(host)));
        }
    }
    if spec.resolution != Resolution::None {
        endpoints.extend(
            spec.endpoints
                .iter()
                .map(|endpoint| (endpoint.clone(), hosts)),
        );
    }
    let mut found: Vec<Workload> = Vec::new();
    for (endpoint, hosts) in endpoints {
        let meta = labelled(&entry.metadata, &endpoint.labels);
        let (workload, _) = machine(&endpoint, &meta, context, shared);
        let ports: Arc<[_]> =
            ports::of_entry(&spec.ports, |name| endpoint.ports.get(name).copied()).into();
        let services: Vec<_> = hosts
            .iter()
            .map(|host| (host.clone(), Arc::clone(&ports)))
            .collect();
        let uid = format!(
            "{}/networking.istio.io/ServiceEntry/{}/{}/{}",
            shared.mesh.cluster, meta.namespace, meta.name, endpoint.address
        );
        let workload = Workload {
            uid: uid.into(),
            policies: context.policies_for(&meta.labels, &services),
            services: services.into_iter().collect(),
            // The labels of the entry ask for a waypoint of its hosts, not of its endpoints.
            waypoint: None,
            ..workload
        };
        if !found.iter().any(|known| known.uid == workload.uid) {
            found.push(workload);
        }
    }
    found
}

/// The addresses of an EndpointSlice behind which there is no pod.
pub(super) fn of_slice(
    slice: &EndpointSlice,
    context: &Context,
    shared: &Shared,
    nodes: &dyn Fn(&str) -> Option<Arc<Node>>,
    is_known: &dyn Fn(IpAddr) -> bool,
) -> Vec<Workload> {
    let meta = &slice.metadata;
    let name = meta.label("kubernetes.io/service-name").unwrap_or_default();
    let service = context
        .inputs
        .services
        .iter()
        .find(|service| service.0.metadata.name == name);
    let Some(service) = service else {
        return Vec::new();
    };
    let key = service_key(&service.0, &shared.mesh);
    let ports: Arc<[_]> = ports::of_slice(&service.0, slice).into();
    let mut found = Vec::new();
    for endpoint in slice
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.target_ref.is_none())
    {
        let Some(address) = endpoint.addresses.first().and_then(|text| address(text)) else {
            continue;
        };
        if is_known(address) {
            continue;
        }
        let uid = format!(
            "{}/discovery.k8s.io/EndpointSlice/{}/{}/{address}",
            shared.mesh.cluster, meta.namespace, meta.name
        );
        found.push(Workload {
            uid: uid.into(),
            name: meta.name.as_str().into(),
            namespace: meta.namespace.as_str().into(),
            trust_domain: shared.mesh.trust_domain.as_str().into(),
            cluster: shared.mesh.cluster.as_str().into(),
            network: shared.mesh.network.as_str().into(),
            addresses: vec![address],
            network_mode: NetworkMode::HostNetwork,
            node: endpoint.node_name.as_str().into(),
            locality: nodes(&endpoint.node_name)
                .map(|node| locality(&node))
                .unwrap_or_default(),
            health: match endpoint.conditions.ready {
                Some(false) => Health::Unhealthy,
                _ => Health::Healthy,
            },
            services: std::iter::once((key.clone(), Arc::clone(&ports))).collect(),
            ..Workload::default()
        });
    }
    found
}

/// Metadata with the labels of the machine itself before those of its object.
fn labelled(meta: &ObjectMeta, labels: &Labels) -> ObjectMeta {
    let mut meta = meta.clone();
    meta.labels = meta.labels.with(labels);
    meta
}

/// What all machines have in common.
fn machine(
    spec: &WorkloadEntrySpec,
    meta: &ObjectMeta,
    context: &Context,
    shared: &Shared,
) -> (Workload, Vec<Problem>) {
    let attached = shared.waypoints.attach(&Asker {
        meta,
        namespace: context.namespace(),
        traffic: Traffic::Workload,
    });
    let native = meta
        .label("networking.istio.io/tunnel")
        .is_some_and(|value| value.contains("http"));
    let annotated = meta.annotation("ambient.istio.io/redirection") == Some("enabled");
    let address = address(&spec.address);
    let network = match spec.network.as_str() {
        "" => super::pods::network(meta, shared),
        network => network,
    };
    let workload_name = meta
        .label("service.istio.io/workload-name")
        .unwrap_or(&meta.name);
    let workload = Workload {
        name: meta.name.as_str().into(),
        namespace: meta.namespace.as_str().into(),
        service_account: match spec.service_account.as_str() {
            "" => ambit_model::DEFAULT_SERVICE_ACCOUNT.into(),
            account => account.into(),
        },
        trust_domain: shared.mesh.trust_domain.as_str().into(),
        addresses: address.into_iter().collect(),
        hostname: address
            .is_none()
            .then(|| spec.address.to_ascii_lowercase().into()),
        network: network.into(),
        tunnel: if native || annotated {
            TunnelProtocol::Hbone
        } else {
            TunnelProtocol::None
        },
        native_tunnel: native,
        waypoint: attached.waypoint,
        canonical_name: canonical_name(meta).unwrap_or_else(|| workload_name.into()),
        canonical_revision: canonical_revision(meta),
        workload_name: workload_name.into(),
        cluster: shared.mesh.cluster.as_str().into(),
        locality: region_zone_subzone(&spec.locality),
        capacity: spec.weight.max(1),
        ..Workload::default()
    };
    (workload, attached.problems)
}

fn region_zone_subzone(text: &str) -> Locality {
    let mut parts = text.splitn(3, '/').map(Arc::from);
    Locality {
        region: parts.next().unwrap_or_default(),
        zone: parts.next().unwrap_or_default(),
        subzone: parts.next().unwrap_or_default(),
    }
}
