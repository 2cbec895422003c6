//! Questions to the store. Each takes the lock once, for as long as it takes to answer, and
//! returns shared objects: nothing is ever awaited under the lock.

use std::sync::Arc;

use ambit_model::{
    AuthorizationPolicy, Identity, Namespace, NetworkAddress, NodeName, PolicyKey, Service,
    ServiceKey, TunnelProtocol, Workload, WorkloadUid,
};
use ambit_policy::PolicySet;
use parking_lot::RwLock;
use rand::Rng;
use tokio::sync::watch;

use crate::inbound;
use crate::resolve::Resolver;
use crate::store::{Asker, Store, is_pod};
use crate::{
    Counts, Dump, InboundError, InboundRequest, InboundTarget, Outliers, ResolveError,
    ResolveRequest, Settings, Upstream,
};

/// What the writer and all readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    store: RwLock<Store>,
    settings: Settings,
    changes: watch::Sender<u64>,
    outliers: Outliers,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            store: RwLock::default(),
            settings,
            changes: watch::Sender::new(0),
            outliers: Outliers::default(),
        }
    }

    /// Runs `change` with the store to itself, then tells the receivers.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.store.write());
        self.changes
            .send_modify(|version| *version = version.wrapping_add(1));
    }
}

/// Reads the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn asker<'a>(&'a self, namespace: &'a Namespace) -> Asker<'a> {
        let preferred = self.shared.settings.preferred_service_namespace.as_ref();
        Asker {
            namespace,
            preferred,
        }
    }

    /// The version: starts at 0 and grows with every applied batch. A receiver that sees it
    /// change decides again about whatever depends on the store.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Waits until `look` finds something, looking again after every change. How long to wait is
    /// the caller's business; dropping the future costs nothing.
    pub async fn wait_for<T>(&self, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let mut changes = self.changes();
        loop {
            // Seen before looking, so that no change slips between.
            changes.borrow_and_update();
            if let Some(found) = look(self) {
                return found;
            }
            if changes.changed().await.is_err() {
                // Cannot be: `self` keeps the sender. Then there is nothing to come.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Endpoints that refuse connections; to be told of every connect by its caller.
    #[must_use]
    pub fn outliers(&self) -> &Outliers {
        &self.shared.outliers
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let store = self.shared.store.read();
        Counts {
            workloads: store.workloads.len(),
            services: store.services.len(),
            policies: store.policies.len(),
            addresses: store.workloads.address_count(),
            endpoints: store.workloads.endpoint_count(),
        }
    }

    /// Whether nothing is known at all: every index is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let store = self.shared.store.read();
        store.workloads.is_empty() && store.services.is_empty() && store.policies.is_empty()
    }

    /// A workload by its discovery name.
    #[must_use]
    pub fn find_workload_by_uid(&self, uid: &WorkloadUid) -> Option<Arc<Workload>> {
        self.shared
            .store
            .read()
            .workloads
            .by_uid(uid)
            .map(Arc::clone)
    }

    /// A workload by address; of several a pod before others, then one that speaks HBONE.
    #[must_use]
    pub fn find_workload(&self, address: &NetworkAddress) -> Option<Arc<Workload>> {
        let store = self.shared.store.read();
        store
            .workloads
            .by_address(&address.network, address.address)
            .map(Arc::clone)
    }

    /// A pod by what enrolment knows of it; on `node` only, unless that is empty.
    #[must_use]
    pub fn find_pod(&self, node: &NodeName, namespace: &str, name: &str) -> Option<Arc<Workload>> {
        let store = self.shared.store.read();
        let is_it = |w: &&Arc<Workload>| {
            *w.name == *name && w.namespace.as_str() == namespace && is_pod(&w.uid)
        };
        let found = match node.is_empty() {
            false => store.workloads.on_node(node).iter().find(is_it),
            true => store
                .workloads
                .all()
                .filter(is_it)
                .min_by(|a, b| a.uid.cmp(&b.uid)),
        };
        found.map(Arc::clone)
    }

    /// The workloads of a node, sorted by uid.
    #[must_use]
    pub fn workloads_on_node(&self, node: &NodeName) -> Vec<Arc<Workload>> {
        self.shared.store.read().workloads.on_node(node).to_vec()
    }

    /// The identities of a node's workloads that speak HBONE, sorted, each once.
    #[must_use]
    pub fn identities_on_node(&self, node: &NodeName) -> Vec<Identity> {
        let store = self.shared.store.read();
        let tunnelled = |w: &&Arc<Workload>| w.tunnel == TunnelProtocol::Hbone;
        let mut identities: Vec<_> = store
            .workloads
            .on_node(node)
            .iter()
            .filter(tunnelled)
            .map(|w| w.identity())
            .collect();
        drop(store);
        identities.sort_unstable();
        identities.dedup();
        identities
    }

    /// A service by its key.
    #[must_use]
    pub fn find_service_by_key(&self, key: &ServiceKey) -> Option<Arc<Service>> {
        self.shared
            .store
            .read()
            .services
            .by_key(key)
            .map(Arc::clone)
    }

    /// The service a client of `namespace` means by a virtual address (or an address in a
    /// virtual range).
    #[must_use]
    pub fn find_service(
        &self,
        address: &NetworkAddress,
        namespace: &Namespace,
    ) -> Option<Arc<Service>> {
        let store = self.shared.store.read();
        let asker = self.asker(namespace);
        store
            .services
            .by_address(&address.network, address.address, asker)
            .map(Arc::clone)
    }

    /// The services that bear exactly this host name, the best for a client of `namespace` first;
    /// without those it must not see.
    #[must_use]
    pub fn find_services_by_hostname(
        &self,
        hostname: &str,
        namespace: &Namespace,
    ) -> Vec<Arc<Service>> {
        let asker = self.asker(namespace);
        let store = self.shared.store.read();
        let bearers = store.services.by_hostname(hostname).iter();
        let mut visible: Vec<_> = bearers
            .filter(|s| asker.may_see(s))
            .map(Arc::clone)
            .collect();
        drop(store);
        // Stable: of equals the first by name stays first.
        visible.sort_by_key(|s| asker.rank(s));
        visible
    }

    /// The service a client of `namespace` means by a host name: the exact one, else the one
    /// whose wildcard (`*.example.com`) is the longest.
    #[must_use]
    pub fn find_service_by_name(
        &self,
        hostname: &str,
        namespace: &Namespace,
    ) -> Option<Arc<Service>> {
        let asker = self.asker(namespace);
        let store = self.shared.store.read();
        if let Some(service) = asker.choose(store.services.by_hostname(hostname)) {
            return Some(Arc::clone(service));
        }
        let mut wildcard = String::with_capacity(hostname.len() + 2);
        let mut rest = hostname;
        while let Some((_, parent)) = rest.split_once('.') {
            wildcard.clear();
            wildcard.push_str("*.");
            wildcard.push_str(parent);
            if let Some(service) = asker.choose(store.services.by_hostname(&wildcard)) {
                return Some(Arc::clone(service));
            }
            rest = parent;
        }
        None
    }

    /// The endpoints of a service, sorted by uid, whatever their health.
    #[must_use]
    pub fn endpoints(&self, service: &ServiceKey) -> Vec<Arc<Workload>> {
        self.shared
            .store
            .read()
            .workloads
            .endpoints(service)
            .to_vec()
    }

    /// The known services a workload is an endpoint of, sorted by key.
    #[must_use]
    pub fn services_of(&self, workload: &Workload) -> Vec<Arc<Service>> {
        let store = self.shared.store.read();
        workload
            .services
            .keys()
            .filter_map(|key| store.services.by_key(key))
            .cloned()
            .collect()
    }

    /// A policy by its key.
    #[must_use]
    pub fn find_policy(&self, key: &PolicyKey) -> Option<Arc<AuthorizationPolicy>> {
        self.shared
            .store
            .read()
            .policies
            .by_key(key)
            .map(Arc::clone)
    }

    /// The policies that apply to connections to `workload`: global ones, those of its namespace,
    /// and those it refers to. A name it refers to that is not known denies.
    #[must_use]
    pub fn policies_for(&self, workload: &Workload) -> PolicySet {
        self.shared.store.read().policies.of(workload)
    }

    /// Where a captured connection goes.
    ///
    /// # Errors
    /// Those of [`ResolveError`]: the connection is to be refused, never sent in clear instead.
    pub fn resolve(
        &self,
        request: &ResolveRequest<'_>,
        random: &mut impl Rng,
    ) -> Result<Upstream, ResolveError> {
        let store = self.shared.store.read();
        let asker = self.asker(&request.source.namespace);
        Resolver::new(&store, asker, &self.shared.outliers, request).resolve(random)
    }

    /// What a CONNECT request at a local workload is for.
    ///
    /// # Errors
    /// When the workload has no business with the authority: status 400.
    pub fn resolve_inbound(
        &self,
        request: &InboundRequest<'_>,
    ) -> Result<InboundTarget, InboundError> {
        inbound::resolve(&self.shared.store.read(), request)
    }

    /// The service an inbound connection to `port` of `workload` is counted for: the one the
    /// client says it addressed (`forwarded`'s `host`), if the workload is an endpoint of it;
    /// else the only one whose target port fits.
    #[must_use]
    pub fn find_inbound_service(
        &self,
        workload: &Workload,
        forwarded_host: Option<&str>,
        port: u16,
    ) -> Option<Arc<Service>> {
        inbound::find_service(&self.shared.store.read(), workload, forwarded_host, port)
    }

    /// Everything, for `/config_dump`.
    #[must_use]
    pub fn dump(&self) -> Dump {
        Dump::of(&self.shared.store.read())
    }
}
