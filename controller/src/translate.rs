//! From objects to what the mesh is told: workloads, services, policies, and who is captured on
//! which node. Pure: no API call, no clock, nothing awaited. What a [`Translator`] remembers
//! between snapshots saves work and changes no result.

pub mod authorization;
mod context;
mod machines;
mod overlap;
mod peer_authentication;
mod pods;
mod policies;
mod ports;
mod services;
mod vip;
mod waypoints;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::{
    AuthorizationPolicy, Identity, Namespace, NodeName, PodUid, Service, ServiceAccount, Workload,
};

use self::context::{Context, Inputs, Same};
use self::waypoints::Waypoints;
use crate::api::meta::Object;
use crate::api::{Kind, Node, Pod};
use crate::finding::{Finding, Problem};
use crate::maps::FastMap;
use crate::snapshot::{Entry, MeshSettings, Snapshot};

/// What the mesh is told.
#[derive(Clone, Debug, Default)]
pub struct Translated {
    /// Endpoints.
    pub workloads: Vec<Arc<Workload>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// Policies.
    pub policies: Vec<Arc<AuthorizationPolicy>>,
    /// Pods by node.
    pub nodes: BTreeMap<NodeName, NodeContent>,
    /// What was found wrong while translating.
    pub findings: Vec<Finding>,
}

/// What is on a node.
#[derive(Clone, Debug, Default)]
pub struct NodeContent {
    /// Pods to capture, in the order of the snapshot.
    pub enrolled: Vec<Arc<EnrolledPod>>,
    /// Its workloads: what its agent may ask certificates for.
    pub workloads: Vec<Arc<Workload>>,
}

impl NodeContent {
    /// Whether a workload with this identity is here.
    #[must_use]
    pub fn has_identity(&self, identity: &Identity) -> bool {
        let is = |workload: &Arc<Workload>| {
            workload.service_account == identity.service_account
                && workload.namespace == identity.namespace
                && workload.trust_domain == identity.trust_domain
        };
        self.workloads.iter().any(is)
    }
}

/// A pod to capture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnrolledPod {
    /// Kubernetes uid; `namespace/name` where there is none.
    pub uid: PodUid,
    /// Name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Namespace,
    /// Service account.
    pub service_account: ServiceAccount,
    /// Node it runs on.
    pub node: NodeName,
    /// Addresses, the main one first.
    pub addresses: Vec<IpAddr>,
    /// Path of its network namespace; empty where the agent has to find it.
    pub netns: Arc<str>,
    /// Steer DNS to the agent.
    pub dns_capture: bool,
}

/// What holds for all objects.
#[derive(Debug)]
struct Shared {
    mesh: Arc<MeshSettings>,
    waypoints: Waypoints,
}

/// Translates a snapshot, remembering nothing.
#[must_use]
pub fn translate(snapshot: &Snapshot) -> Translated {
    Translator::default().translate(snapshot)
}

/// Translates snapshots one after the other and does again only what changed.
#[derive(Debug, Default)]
pub struct Translator {
    shared: Option<Arc<Shared>>,
    contexts: FastMap<String, Arc<Context>>,
    pods: FastMap<usize, Remembered>,
    generation: u64,
}

/// A pod, all it was translated from, and the result. Holding the objects keeps their addresses
/// from being given to others.
#[derive(Debug)]
struct Remembered {
    pod: Arc<Pod>,
    context: Arc<Context>,
    node: Option<Arc<Node>>,
    shared: Arc<Shared>,
    result: pods::Translated,
    /// The run that saw it last.
    generation: u64,
}

impl Remembered {
    fn is_of(
        &self,
        context: &Arc<Context>,
        node: Option<&Arc<Node>>,
        shared: &Arc<Shared>,
    ) -> bool {
        let same_node = match (&self.node, node) {
            (Some(own), Some(node)) => Arc::ptr_eq(own, node),
            (None, None) => true,
            _ => false,
        };
        same_node && Arc::ptr_eq(&self.context, context) && Arc::ptr_eq(&self.shared, shared)
    }
}

impl Translator {
    /// Translates a snapshot.
    pub fn translate(&mut self, snapshot: &Snapshot) -> Translated {
        let mut out = Translated::default();
        let known = |pod: &Arc<Pod>| {
            let remembered = self.pods.get(&(Arc::as_ptr(pod) as usize))?;
            // The default network may be another one now.
            let same = self.shared.as_ref()?.mesh == snapshot.mesh;
            remembered.result.workload.as_deref().filter(|_| same)
        };
        let overlaps = overlap::find(snapshot, &known);
        let plan = services::plan(snapshot, &snapshot.mesh);
        let shared = self.share(snapshot);
        let contexts = self.contexts(snapshot, &overlaps, &plan);
        let nodes: FastMap<&str, &Arc<Node>> = snapshot
            .nodes
            .iter()
            .map(|node| (node.metadata.name.as_str(), &node.object))
            .collect();
        out.findings
            .extend(overlaps.findings.iter().chain(&plan.findings).cloned());
        let run = Run {
            snapshot,
            shared: &shared,
            contexts: &contexts,
            nodes: &nodes,
        };
        self.pods(&run, &overlaps, &mut out);
        run.machines(&overlaps, &plan, &mut out);
        run.services(&overlaps, &plan, &mut out);
        run.policies(&mut out);
        self.contexts = contexts;
        self.shared = Some(shared);
        out
    }

    /// The same value as before as long as nothing in it changed.
    fn share(&self, snapshot: &Snapshot) -> Arc<Shared> {
        let waypoints = Waypoints::collect(snapshot);
        match &self.shared {
            Some(old) if old.waypoints == waypoints && old.mesh == snapshot.mesh => Arc::clone(old),
            _ => Arc::new(Shared {
                mesh: Arc::clone(&snapshot.mesh),
                waypoints,
            }),
        }
    }

    fn contexts(
        &self,
        snapshot: &Snapshot,
        overlaps: &overlap::Overlaps,
        plan: &services::Plan,
    ) -> FastMap<String, Arc<Context>> {
        let mut inputs = gather(snapshot, overlaps, plan);
        let root_name = &snapshot.mesh.root_namespace;
        let build =
            |name: &str, inputs: Inputs, root: Option<&Arc<Context>>| match self.contexts.get(name)
            {
                Some(old) if old.is_built_from(&inputs, root) => Arc::clone(old),
                _ => Arc::new(Context::build(name, inputs, &snapshot.mesh, root.cloned())),
            };
        let root = build(
            root_name,
            inputs.remove(root_name.as_str()).unwrap_or_default(),
            None,
        );
        let mut contexts: FastMap<String, Arc<Context>> = inputs
            .into_iter()
            .map(|(name, inputs)| (name.to_owned(), build(name, inputs, Some(&root))))
            .collect();
        contexts.insert(root_name.clone(), root);
        contexts
    }

    fn pods(&mut self, run: &Run<'_>, overlaps: &overlap::Overlaps, out: &mut Translated) {
        self.generation += 1;
        let generation = self.generation;
        for (index, entry) in run.snapshot.pods.iter().enumerate() {
            if overlaps.pods.contains(&index) {
                continue;
            }
            let pod = &entry.object;
            let context = run.context(&pod.metadata.namespace);
            let node = run.nodes.get(pod.spec.node_name.as_str()).copied();
            let translate = || Remembered {
                result: pods::translate(pod, context, node.map(|node| &**node), run.shared),
                pod: Arc::clone(pod),
                context: Arc::clone(context),
                node: node.cloned(),
                shared: Arc::clone(run.shared),
                generation,
            };
            let address = Arc::as_ptr(pod) as usize;
            let found = self.pods.entry(address).or_insert_with(translate);
            if !found.is_of(context, node, run.shared) {
                *found = translate();
            }
            found.generation = generation;
            add_pod(entry, found, out);
        }
        self.pods
            .retain(|_, remembered| remembered.generation == generation);
    }
}

fn add_pod(entry: &Entry<Pod>, found: &Remembered, out: &mut Translated) {
    let meta = &found.pod.metadata;
    for problem in &found.result.problems {
        out.findings.push(
            problem
                .clone()
                .of(Kind::Pod, &meta.namespace, &meta.name, &entry.place),
        );
    }
    let Some(workload) = &found.result.workload else {
        return;
    };
    if !workload.node.is_empty() {
        let content = out.nodes.entry(workload.node.clone()).or_default();
        content
            .enrolled
            .extend(found.result.enrolled.iter().map(Arc::clone));
        content.workloads.push(Arc::clone(workload));
    }
    out.workloads.push(Arc::clone(workload));
}

/// What every namespace's context is made of.
fn gather<'a>(
    snapshot: &'a Snapshot,
    overlaps: &overlap::Overlaps,
    plan: &services::Plan,
) -> FastMap<&'a str, Inputs> {
    let mut inputs: FastMap<&str, Inputs> = FastMap::default();
    for namespace in &snapshot.namespaces {
        inputs
            .entry(&namespace.object.metadata.name)
            .or_default()
            .namespace = Some(Same(Arc::clone(&namespace.object)));
    }
    for (index, service) in snapshot.services.iter().enumerate() {
        if !overlaps.services.contains(&index) {
            let own = inputs
                .entry(&service.object.metadata.namespace)
                .or_default();
            own.services.push(Same(Arc::clone(&service.object)));
        }
    }
    for (entry, hosts) in snapshot.service_entries.iter().zip(&plan.hosts) {
        let own = inputs.entry(&entry.object.metadata.namespace).or_default();
        let object = Same(Arc::clone(&entry.object));
        own.entries.push(context::Entry {
            object,
            hosts: hosts.clone(),
        });
    }
    macro_rules! collect {
        ($from:ident, $into:ident) => {
            for entry in &snapshot.$from {
                let own = inputs.entry(&entry.object.meta().namespace).or_default();
                own.$into.push(Same(Arc::clone(&entry.object)));
            }
        };
    }
    collect!(slices, slices);
    collect!(authorization_policies, policies);
    collect!(peer_authentications, peers);
    for refused in &snapshot.refused_policies {
        inputs
            .entry(&refused.namespace)
            .or_default()
            .refused
            .push(policies::refused(refused));
    }
    for pod in &snapshot.pods {
        if !inputs.contains_key(pod.object.metadata.namespace.as_str()) {
            inputs.insert(&pod.object.metadata.namespace, Inputs::default());
        }
    }
    for entry in &snapshot.workload_entries {
        inputs.entry(&entry.object.metadata.namespace).or_default();
    }
    inputs
}

/// One translation.
struct Run<'a> {
    snapshot: &'a Snapshot,
    shared: &'a Arc<Shared>,
    contexts: &'a FastMap<String, Arc<Context>>,
    nodes: &'a FastMap<&'a str, &'a Arc<Node>>,
}

impl Run<'_> {
    fn context(&self, namespace: &str) -> &Arc<Context> {
        // Every namespace that holds anything has one; the root's is always there.
        self.contexts
            .get(namespace)
            .or_else(|| self.contexts.get(&self.shared.mesh.root_namespace))
            .expect("invariant: the context of the root namespace is always built")
    }

    fn report<T: Object>(
        kind: Kind,
        entry: &Entry<T>,
        problems: Vec<Problem>,
        out: &mut Translated,
    ) {
        let meta = entry.object.meta();
        let placed = problems
            .into_iter()
            .map(|p| p.of(kind, &meta.namespace, &meta.name, &entry.place));
        out.findings.extend(placed);
    }

    fn machines(&self, overlaps: &overlap::Overlaps, plan: &services::Plan, out: &mut Translated) {
        for (index, entry) in self.snapshot.workload_entries.iter().enumerate() {
            if overlaps.workload_entries.contains(&index) {
                continue;
            }
            let context = self.context(&entry.metadata.namespace);
            let (workload, problems) =
                machines::of_workload_entry(&entry.object, context, self.shared);
            out.workloads.push(Arc::new(workload));
            Self::report(Kind::WorkloadEntry, entry, problems, out);
        }
        for (entry, hosts) in self.snapshot.service_entries.iter().zip(&plan.hosts) {
            let context = self.context(&entry.metadata.namespace);
            let found = machines::of_service_entry(&entry.object, hosts, context, self.shared);
            out.workloads.extend(found.into_iter().map(Arc::new));
        }
        let node = |name: &str| self.nodes.get(name).map(|node| Arc::clone(node));
        let known: HashSet<IpAddr> = if self.snapshot.slices.is_empty() {
            HashSet::new()
        } else {
            out.workloads
                .iter()
                .flat_map(|workload| workload.addresses.iter().copied())
                .collect()
        };
        for slice in &self.snapshot.slices {
            let context = self.context(&slice.metadata.namespace);
            let is_known = |address| known.contains(&address);
            let found = machines::of_slice(&slice.object, context, self.shared, &node, &is_known);
            out.workloads.extend(found.into_iter().map(Arc::new));
        }
    }

    fn services(&self, overlaps: &overlap::Overlaps, plan: &services::Plan, out: &mut Translated) {
        for (index, entry) in self.snapshot.services.iter().enumerate() {
            let context = self.context(&entry.metadata.namespace);
            if overlaps.services.contains(&index) {
                continue;
            }
            if let Some((service, problems)) =
                services::of_service(&entry.object, context, self.shared)
            {
                out.services.push(Arc::new(service));
                Self::report(Kind::Service, entry, problems, out);
            }
        }
        for (entry, hosts) in self.snapshot.service_entries.iter().zip(&plan.hosts) {
            let context = self.context(&entry.metadata.namespace);
            let (found, problems) =
                services::of_service_entry(&entry.object, hosts, plan, context, self.shared);
            out.services.extend(found.into_iter().map(Arc::new));
            Self::report(Kind::ServiceEntry, entry, problems, out);
        }
    }

    fn policies(&self, out: &mut Translated) {
        let mut contexts: Vec<_> = self.contexts.iter().collect();
        contexts.sort_by_key(|(name, _)| *name);
        for (_, context) in contexts {
            out.policies
                .extend(context.published.iter().map(Arc::clone));
        }
        let refused = self.snapshot.refused_policies.iter();
        let wants_strict = !self.snapshot.peer_authentications.is_empty()
            || refused
                .clone()
                .any(|refused| refused.kind == Kind::PeerAuthentication);
        if wants_strict {
            let root = &self.shared.mesh.root_namespace;
            out.policies
                .push(Arc::new(peer_authentication::static_strict(root)));
        }
    }
}
