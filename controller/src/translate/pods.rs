//! A pod as a workload, and as something a node agent captures.

use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::{
    ApplicationTunnel, Health, Locality, NetworkMode, TunnelProtocol, Workload, WorkloadType,
};

use super::context::{Behind, Context, Selected};
use super::waypoints::{Asker, Traffic};
use super::{EnrolledPod, Shared};
use crate::api::{Namespace, Node, ObjectMeta, Pod};
use crate::finding::Problem;
use crate::validate::address;

/// Namespaces whose pods are never captured: what the node itself needs.
const EXCLUDED_NAMESPACES: &[&str] = &["kube-system"];

/// What becomes of a pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Translated {
    pub(super) workload: Option<Arc<Workload>>,
    pub(super) enrolled: Option<Arc<EnrolledPod>>,
    pub(super) problems: Vec<Problem>,
}

/// A pod's addresses, canonical, each once.
pub(super) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let all = pod
        .status
        .pod_ips
        .iter()
        .map(|ip| &ip.ip)
        .chain(std::iter::once(&pod.status.pod_ip));
    let mut found = Vec::new();
    for address in all.filter_map(|text| address(text)) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    // The first is the pod's main address.
    if let Some(main) = address(&pod.status.pod_ip) {
        found.sort_by_key(|address| *address != main);
    }
    found
}

/// Whether it has ended for good.
pub(super) fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.phase.as_str(), "Succeeded" | "Failed")
}

pub(super) fn translate(
    pod: &Pod,
    context: &Context,
    node: Option<&Node>,
    shared: &Shared,
) -> Translated {
    let addresses = addresses(pod);
    if is_terminal(pod) {
        return Translated::default();
    }
    if addresses.is_empty() {
        let message = "is missing; a pod without an address is not part of the mesh yet";
        return Translated {
            problems: vec![Problem::warning("status.podIP", message)],
            ..Translated::default()
        };
    }
    let meta = &pod.metadata;
    let enrolled = is_enrolled(pod, context.namespace());
    let attached = shared.waypoints.attach(&Asker {
        meta,
        namespace: context.namespace(),
        traffic: Traffic::Workload,
    });
    let services = context.services_of(&Selected {
        labels: &meta.labels,
        name: &meta.name,
        addresses: &addresses,
        behind: Behind::Pod(pod),
    });
    let (owner_type, owner_name) = owner(meta);
    let native = meta
        .label("networking.istio.io/tunnel")
        .is_some_and(|value| value.contains("http"));
    let annotated = meta.annotation("ambient.istio.io/redirection") == Some("enabled");
    let hbone = (enrolled || native || annotated) && !pod.spec.host_network;
    let name = |label: &str| meta.label(label).map(Arc::from);
    let workload = Workload {
        uid: format!(
            "{}//Pod/{}/{}",
            shared.mesh.cluster, meta.namespace, meta.name
        )
        .into(),
        name: meta.name.as_str().into(),
        namespace: meta.namespace.as_str().into(),
        service_account: service_account(pod).into(),
        trust_domain: shared.mesh.trust_domain.as_str().into(),
        network: network(meta, shared).into(),
        tunnel: if hbone {
            TunnelProtocol::Hbone
        } else {
            TunnelProtocol::None
        },
        native_tunnel: native,
        application_tunnel: application_tunnel(meta, shared),
        waypoint: attached.waypoint,
        node: pod.spec.node_name.as_str().into(),
        canonical_name: canonical_name(meta).unwrap_or_else(|| Arc::clone(&owner_name)),
        canonical_revision: canonical_revision(meta),
        workload_type: owner_type,
        workload_name: name("service.istio.io/workload-name").unwrap_or(owner_name),
        policies: context.policies_for(&meta.labels, &services),
        health: health(pod),
        cluster: shared.mesh.cluster.as_str().into(),
        locality: node.map(locality).unwrap_or_default(),
        network_mode: if pod.spec.host_network {
            NetworkMode::HostNetwork
        } else {
            NetworkMode::Standard
        },
        services: services.into_iter().collect(),
        addresses: addresses.clone(),
        ..Workload::default()
    };
    Translated {
        workload: Some(Arc::new(workload)),
        enrolled: enrolled.then(|| Arc::new(enrolment(pod, addresses))),
        problems: attached.problems,
    }
}

fn service_account(pod: &Pod) -> &str {
    match pod.spec.service_account_name.as_str() {
        "" => ambit_model::DEFAULT_SERVICE_ACCOUNT,
        name => name,
    }
}

/// The pod's own label counts before that of its namespace.
fn is_enrolled(pod: &Pod, namespace: Option<&Namespace>) -> bool {
    let name = "istio.io/dataplane-mode";
    let mode = pod
        .metadata
        .label(name)
        .or_else(|| namespace?.metadata.label(name));
    mode == Some("ambient")
        && !pod.spec.host_network
        && !EXCLUDED_NAMESPACES.contains(&pod.metadata.namespace.as_str())
        && pod.metadata.annotation("sidecar.istio.io/status").is_none()
        && pod.metadata.label("app") != Some("ztunnel")
}

fn enrolment(pod: &Pod, addresses: Vec<IpAddr>) -> EnrolledPod {
    let meta = &pod.metadata;
    let uid = match meta.uid.as_str() {
        // Written by hand: the name is as good.
        "" => format!("{}/{}", meta.namespace, meta.name),
        uid => uid.to_owned(),
    };
    EnrolledPod {
        uid: uid.into(),
        name: meta.name.as_str().into(),
        namespace: meta.namespace.as_str().into(),
        service_account: service_account(pod).into(),
        node: pod.spec.node_name.as_str().into(),
        addresses,
        netns: meta
            .annotation("ambit.dev/netns")
            .unwrap_or_default()
            .into(),
        dns_capture: meta.annotation("ambient.istio.io/dns-capture") != Some("false"),
    }
}

/// Without any condition, as in files written by hand, a pod counts as ready.
fn health(pod: &Pod) -> Health {
    let ready = pod
        .status
        .conditions
        .iter()
        .find(|condition| condition.r#type == "Ready");
    let is_ready = match ready {
        Some(condition) => condition.status == "True",
        None => pod.status.conditions.is_empty() && pod.status.phase != "Pending",
    };
    if is_ready && pod.metadata.deletion_timestamp.is_none() {
        Health::Healthy
    } else {
        Health::Unhealthy
    }
}

pub(super) fn network<'a>(meta: &'a ObjectMeta, shared: &'a Shared) -> &'a str {
    meta.label("topology.istio.io/network")
        .unwrap_or(&shared.mesh.network)
}

pub(super) fn locality(node: &Node) -> Locality {
    let label = |name: &str| node.metadata.label(name).unwrap_or_default().into();
    Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    }
}

pub(super) fn canonical_name(meta: &ObjectMeta) -> Option<Arc<str>> {
    [
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ]
    .iter()
    .find_map(|name| meta.label(name))
    .map(Arc::from)
}

pub(super) fn canonical_revision(meta: &ObjectMeta) -> Arc<str> {
    [
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ]
    .iter()
    .find_map(|name| meta.label(name))
    .unwrap_or("latest")
    .into()
}

/// A waypoint's pods may want to be spoken to differently.
fn application_tunnel(meta: &ObjectMeta, shared: &Shared) -> Option<ApplicationTunnel> {
    let gateway = meta.label("gateway.networking.k8s.io/gateway-name")?;
    shared.waypoints.tunnel_of(&meta.namespace, gateway)
}

/// Kind and name of what created the pod, seen through ReplicaSets and the Jobs of CronJobs.
fn owner(meta: &ObjectMeta) -> (WorkloadType, Arc<str>) {
    let owners = &meta.owner_references;
    let Some(owner) = owners
        .iter()
        .find(|owner| owner.controller)
        .or_else(|| owners.first())
    else {
        return (WorkloadType::Pod, meta.name.as_str().into());
    };
    let name = owner.name.as_str();
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = meta.label("pod-template-hash");
            let deployment = hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
            match deployment {
                Some(deployment) => (WorkloadType::Deployment, deployment.into()),
                None => (WorkloadType::Pod, name.into()),
            }
        }
        "Job" => match scheduled(name) {
            Some(cron_job) => (WorkloadType::CronJob, cron_job.into()),
            None => (WorkloadType::Job, name.into()),
        },
        _ => (WorkloadType::Pod, name.into()),
    }
}

/// The CronJob of a Job, whose name ends with the time it was scheduled for.
fn scheduled(job: &str) -> Option<&str> {
    let (name, time) = job.rsplit_once('-')?;
    (matches!(time.len(), 8..=10) && time.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}
