//! What the objects of one namespace have in common: its services and what they select, its
//! policies, its modes. Rebuilt only when one of the objects it is made of changed, so that a
//! changed pod costs a pod.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::{AuthorizationPolicy, PolicyKey, Port, ServiceKey};

use super::peer_authentication::{self, PeerModes};
use super::{policies, ports};
use crate::api::meta::{Labels, selects};
use crate::api::{AuthorizationPolicy as ApiPolicy, Kind};
use crate::api::{EndpointSlice, Namespace, PeerAuthentication, Pod, Service, ServiceEntry};
use crate::snapshot::MeshSettings;
use crate::validate::address;

/// An object that is compared by which one it is.
#[derive(Debug)]
pub(super) struct Same<T>(pub(super) Arc<T>);

impl<T> PartialEq for Same<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A service entry that is in force, for some of its hosts perhaps.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) object: Same<ServiceEntry>,
    pub(super) hosts: Vec<ServiceKey>,
}

/// The objects a context is made of.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Inputs {
    pub(super) namespace: Option<Same<Namespace>>,
    pub(super) services: Vec<Same<Service>>,
    pub(super) slices: Vec<Same<EndpointSlice>>,
    pub(super) entries: Vec<Entry>,
    pub(super) policies: Vec<Same<ApiPolicy>>,
    pub(super) peers: Vec<Same<PeerAuthentication>>,
    pub(super) refused: Vec<RefusedPolicy>,
}

/// A refused policy, without its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RefusedPolicy {
    pub(super) kind: Kind,
    pub(super) key: PolicyKey,
    pub(super) selector: Option<Labels>,
    pub(super) services: Vec<String>,
    pub(super) reason: Arc<str>,
}

/// The context of one namespace.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) inputs: Inputs,
    root: Option<Arc<Context>>,
    /// What selects workloads, indexed by one label of the selector.
    members: Vec<Member>,
    by_label: ByLabel,
    by_pod: BySlice<String>,
    by_address: BySlice<IpAddr>,
    selecting: Vec<(Labels, PolicyKey)>,
    modes: PeerModes,
    /// The policies of the namespace.
    pub(super) published: Vec<Arc<AuthorizationPolicy>>,
}

/// A service or service entry that selects workloads.
#[derive(Debug)]
struct Member {
    selector: Labels,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Service { index: usize, key: ServiceKey },
    Entry { index: usize },
}

/// A workload as selectors see it.
pub(super) struct Selected<'a> {
    pub(super) labels: &'a Labels,
    pub(super) name: &'a str,
    pub(super) addresses: &'a [IpAddr],
    pub(super) behind: Behind<'a>,
}

/// How the ports of a workload are found.
#[derive(Clone, Copy)]
pub(super) enum Behind<'a> {
    Pod(&'a Pod),
    Machine(&'a BTreeMap<String, u16>),
}

/// The discovery name of a Kubernetes service.
pub(super) fn service_key(service: &Service, mesh: &MeshSettings) -> ServiceKey {
    let meta = &service.metadata;
    let hostname = format!(
        "{}.{}.svc.{}",
        meta.name, meta.namespace, mesh.cluster_domain
    );
    ServiceKey::new(meta.namespace.as_str(), &hostname)
}

impl Context {
    pub(super) fn build(
        name: &str,
        inputs: Inputs,
        mesh: &MeshSettings,
        root: Option<Arc<Self>>,
    ) -> Self {
        let arcs = |peers: &[Same<PeerAuthentication>]| -> Vec<Arc<PeerAuthentication>> {
            peers.iter().map(|peer| Arc::clone(&peer.0)).collect()
        };
        let own = arcs(&inputs.peers);
        let in_mesh = root.as_ref().map_or_else(
            || {
                if name == mesh.root_namespace {
                    own.clone()
                } else {
                    Vec::new()
                }
            },
            |root| arcs(&root.inputs.peers),
        );
        let refused_wide = |inputs: &Inputs| -> Vec<Option<Labels>> {
            let peers = inputs
                .refused
                .iter()
                .filter(|r| r.kind == Kind::PeerAuthentication);
            peers.map(|r| r.selector.clone()).collect()
        };
        let mut refused = refused_wide(&inputs);
        // One that is refused in the root namespace applies to all namespaces.
        refused.extend(root.iter().flat_map(|root| refused_wide(&root.inputs)));
        let (modes, converted) = peer_authentication::resolve(&peer_authentication::Inputs {
            root: &mesh.root_namespace,
            namespace: name,
            mesh: &in_mesh,
            own: &own,
            refused: &refused,
        });
        let (mut published, selecting) = policies::of_namespace(&inputs, mesh, name);
        published.extend(converted.into_iter().map(Arc::new));
        let (members, by_label) = members(&inputs, mesh);
        let (by_pod, by_address) = slices(&inputs, mesh);
        Self {
            inputs,
            root,
            members,
            by_label,
            by_pod,
            by_address,
            selecting,
            modes,
            published,
        }
    }

    /// Whether it would be built the same from these.
    pub(super) fn is_built_from(&self, inputs: &Inputs, root: Option<&Arc<Self>>) -> bool {
        let same_root = match (&self.root, root) {
            (Some(own), Some(root)) => Arc::ptr_eq(own, root),
            (None, None) => true,
            _ => false,
        };
        same_root && self.inputs == *inputs
    }

    /// The namespace's object, if there is one.
    pub(super) fn namespace(&self) -> Option<&Namespace> {
        self.inputs
            .namespace
            .as_ref()
            .map(|namespace| &*namespace.0)
    }

    /// The services a workload is an endpoint of, with the ports as it serves them.
    pub(super) fn services_of(&self, selected: &Selected<'_>) -> Vec<(ServiceKey, Arc<[Port]>)> {
        let mut found = Vec::new();
        for label in selected.labels.iter() {
            let Some(candidates) = self.by_label.get(&(Box::from(label.0), Box::from(label.1)))
            else {
                continue;
            };
            for member in candidates.iter().map(|index| &self.members[*index]) {
                if selects(&member.selector, selected.labels) {
                    self.add(&member.source, selected.behind, &mut found);
                }
            }
        }
        let slices = matches!(selected.behind, Behind::Pod(_))
            .then(|| self.by_pod.get(selected.name).into_iter().flatten())
            .into_iter()
            .flatten();
        let addressed = selected
            .addresses
            .iter()
            .filter_map(|a| self.by_address.get(a))
            .flatten();
        for (key, ports) in slices.chain(addressed) {
            if !found.iter().any(|(known, _)| known == key) {
                found.push((key.clone(), Arc::clone(ports)));
            }
        }
        found
    }

    fn add(&self, source: &Source, behind: Behind<'_>, found: &mut Vec<(ServiceKey, Arc<[Port]>)>) {
        match source {
            Source::Service { index, key } => {
                let service = &self.inputs.services[*index].0;
                let ports = match behind {
                    Behind::Pod(pod) => ports::of_pod(service, pod),
                    Behind::Machine(named) => ports::of_machine(service, named),
                };
                found.push((key.clone(), ports.into()));
            }
            Source::Entry { index } => {
                let entry = &self.inputs.entries[*index];
                let named = |name: &str| match behind {
                    Behind::Pod(pod) => ports::container_port(pod, name),
                    Behind::Machine(named) => named.get(name).copied(),
                };
                let ports: Arc<[Port]> = ports::of_entry(&entry.object.0.spec.ports, named).into();
                found.extend(
                    entry
                        .hosts
                        .iter()
                        .map(|host| (host.clone(), Arc::clone(&ports))),
                );
            }
        }
    }

    /// The policies that select a workload, sorted.
    pub(super) fn policies_for(
        &self,
        labels: &Labels,
        services: &[(ServiceKey, Arc<[Port]>)],
    ) -> Vec<PolicyKey> {
        let mut found = self.modes.policies_for(labels);
        let wide = self.root.iter().flat_map(|root| &root.selecting);
        let by_labels = self
            .selecting
            .iter()
            .chain(wide)
            .filter(|(wanted, _)| selects(wanted, labels));
        found.extend(by_labels.map(|(_, key)| key.clone()));
        for refused in self
            .inputs
            .refused
            .iter()
            .filter(|refused| !refused.services.is_empty())
        {
            let behind = |name: &String| {
                let prefix = format!("{name}.{}.svc.", refused.key.namespace);
                services
                    .iter()
                    .any(|(key, _)| key.hostname.as_str().starts_with(&prefix))
                    || self.inputs.entries.iter().any(|entry| {
                        entry.object.0.metadata.name == *name
                            && entry
                                .hosts
                                .iter()
                                .any(|host| services.iter().any(|(key, _)| key == host))
                    })
            };
            if refused.services.iter().any(behind) {
                found.push(refused.key.clone());
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

type ByLabel = HashMap<(Box<str>, Box<str>), Vec<usize>>;

fn members(inputs: &Inputs, mesh: &MeshSettings) -> (Vec<Member>, ByLabel) {
    let services = inputs
        .services
        .iter()
        .enumerate()
        .filter_map(|(index, service)| {
            let selector = service.0.spec.selector.clone();
            let external = service.0.spec.r#type == "ExternalName";
            let source = Source::Service {
                index,
                key: service_key(&service.0, mesh),
            };
            (!external).then_some(Member { selector, source })
        });
    let entries = inputs
        .entries
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| {
            let selector = entry
                .object
                .0
                .spec
                .workload_selector
                .as_ref()?
                .match_labels
                .clone();
            Some(Member {
                selector,
                source: Source::Entry { index },
            })
        });
    let members: Vec<Member> = services.chain(entries).collect();
    let mut by_label = ByLabel::new();
    for (index, member) in members.iter().enumerate() {
        if let Some((key, value)) = member.selector.iter().next() {
            by_label
                .entry((key.into(), value.into()))
                .or_default()
                .push(index);
        }
    }
    (members, by_label)
}

type BySlice<K> = HashMap<K, Vec<(ServiceKey, Arc<[Port]>)>>;

/// Which pods and addresses the endpoint slices name.
fn slices(inputs: &Inputs, mesh: &MeshSettings) -> (BySlice<String>, BySlice<IpAddr>) {
    let (mut by_pod, mut by_address) = (BySlice::new(), BySlice::new());
    let services: HashMap<&str, &Service> = inputs
        .services
        .iter()
        .map(|s| (s.0.metadata.name.as_str(), &*s.0))
        .collect();
    for slice in &inputs.slices {
        let name = slice
            .0
            .metadata
            .label("kubernetes.io/service-name")
            .unwrap_or_default();
        let Some(service) = services.get(name) else {
            continue;
        };
        let entry = (
            service_key(service, mesh),
            Arc::from(ports::of_slice(service, &slice.0)),
        );
        for endpoint in &slice.0.endpoints {
            match endpoint
                .target_ref
                .as_ref()
                .filter(|target| target.kind == "Pod")
            {
                Some(target) => by_pod
                    .entry(target.name.clone())
                    .or_default()
                    .push(entry.clone()),
                None => {
                    if let Some(address) = endpoint.addresses.first().and_then(|text| address(text))
                    {
                        by_address.entry(address).or_default().push(entry.clone());
                    }
                }
            }
        }
    }
    (by_pod, by_address)
}
