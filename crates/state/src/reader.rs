//! Questions to the store. Each takes the lock once, for as long as it takes to answer, and
//! returns shared objects: nothing is ever awaited under the lock.

use std::sync::Arc;

use ambit_model::{
    AuthorizationPolicy, Identity, Namespace, NetworkAddress, NodeName, PolicyKey, Service,
    ServiceKey, Workload, WorkloadUid,
};
use ambit_policy::PolicySet;
use rand::Rng;
use tokio::sync::watch;

use crate::{
    Counts, Dump, InboundError, InboundRequest, InboundTarget, Outliers, ResolveError,
    ResolveRequest, Settings, Upstream,
};

#[derive(Debug)]
pub(crate) struct Shared {
    settings: Settings,
    changes: watch::Sender<u64>,
    outliers: Outliers,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            changes: watch::Sender::new(0),
            outliers: Outliers::default(),
        }
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

    /// The version: starts at 0 and grows with every applied batch. A receiver that sees it
    /// change decides again about whatever depends on the store.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Endpoints that refuse connections; to be told of every connect by its caller.
    #[must_use]
    pub fn outliers(&self) -> &Outliers {
        &self.shared.outliers
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        todo!()
    }

    /// A workload by its discovery name.
    #[must_use]
    pub fn find_workload_by_uid(&self, uid: &WorkloadUid) -> Option<Arc<Workload>> {
        let _ = uid;
        todo!()
    }

    /// A workload by address; of several a pod before others, then one that speaks HBONE.
    #[must_use]
    pub fn find_workload(&self, address: &NetworkAddress) -> Option<Arc<Workload>> {
        let _ = address;
        todo!()
    }

    /// A pod by what enrolment knows of it; on `node` only, unless that is empty.
    #[must_use]
    pub fn find_pod(&self, node: &NodeName, namespace: &str, name: &str) -> Option<Arc<Workload>> {
        let _ = (node, namespace, name);
        todo!()
    }

    /// The workloads of a node, sorted by uid.
    #[must_use]
    pub fn workloads_on_node(&self, node: &NodeName) -> Vec<Arc<Workload>> {
        let _ = node;
        todo!()
    }

    /// The identities of a node's workloads that speak HBONE, sorted, each once.
    #[must_use]
    pub fn identities_on_node(&self, node: &NodeName) -> Vec<Identity> {
        let _ = node;
        todo!()
    }

    /// A service by its key.
    #[must_use]
    pub fn find_service_by_key(&self, key: &ServiceKey) -> Option<Arc<Service>> {
        let _ = key;
        todo!()
    }

    /// The service a client of `namespace` means by a virtual address (or an address in a
    /// virtual range).
    #[must_use]
    pub fn find_service(
        &self,
        address: &NetworkAddress,
        namespace: &Namespace,
    ) -> Option<Arc<Service>> {
        let _ = (address, namespace);
        todo!()
    }

    /// The services that bear exactly this host name, the best for a client of `namespace` first;
    /// without those it must not see.
    #[must_use]
    pub fn find_services_by_hostname(
        &self,
        hostname: &str,
        namespace: &Namespace,
    ) -> Vec<Arc<Service>> {
        let _ = (hostname, namespace);
        todo!()
    }

    /// The service a client of `namespace` means by a host name: the exact one, else the one
    /// whose wildcard (`*.example.com`) is the longest.
    #[must_use]
    pub fn find_service_by_name(
        &self,
        hostname: &str,
        namespace: &Namespace,
    ) -> Option<Arc<Service>> {
        let _ = (hostname, namespace);
        todo!()
    }

    /// The endpoints of a service, sorted by uid, whatever their health.
    #[must_use]
    pub fn endpoints(&self, service: &ServiceKey) -> Vec<Arc<Workload>> {
        let _ = service;
        todo!()
    }

    /// The known services a workload is an endpoint of, sorted by key.
    #[must_use]
    pub fn services_of(&self, workload: &Workload) -> Vec<Arc<Service>> {
        let _ = workload;
        todo!()
    }

    /// A policy by its key.
    #[must_use]
    pub fn find_policy(&self, key: &PolicyKey) -> Option<Arc<AuthorizationPolicy>> {
        let _ = key;
        todo!()
    }

    /// The policies that apply to connections to `workload`: global ones, those of its namespace,
    /// and those it refers to. A name it refers to that is not known denies.
    #[must_use]
    pub fn policies_for(&self, workload: &Workload) -> PolicySet {
        let _ = workload;
        todo!()
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
        let _ = (request, random);
        todo!()
    }

    /// What a CONNECT request at a local workload is for.
    ///
    /// # Errors
    /// When the workload has no business with the authority: status 400.
    pub fn resolve_inbound(
        &self,
        request: &InboundRequest<'_>,
    ) -> Result<InboundTarget, InboundError> {
        let _ = request;
        todo!()
    }

    /// Everything, for `/config_dump`.
    #[must_use]
    pub fn dump(&self) -> Dump {
        todo!()
    }
}
