//! Workloads by uid, address, node and service.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::{
    Health, NetworkId, NetworkMode, NodeName, ServiceKey, TunnelProtocol, Workload, WorkloadUid,
};

use super::{Shared, Sorted, insert_sorted, remove_sorted};

impl Sorted for Workload {
    type Key = WorkloadUid;

    fn sort_key(&self) -> &WorkloadUid {
        &self.uid
    }
}

/// All workloads.
#[derive(Debug, Default)]
pub(crate) struct Workloads {
    by_uid: HashMap<WorkloadUid, Arc<Workload>>,
    /// The bearers of an address, best first.
    by_address: HashMap<NetworkId, HashMap<IpAddr, Shared<Workload>>>,
    by_node: HashMap<NodeName, Vec<Arc<Workload>>>,
    /// Kept for services that are not known, too: they may be on their way.
    endpoints: HashMap<ServiceKey, Vec<Arc<Workload>>>,
}

impl Workloads {
    /// Adds or replaces; returns what was there before.
    pub(crate) fn insert(&mut self, workload: Arc<Workload>) -> Option<Arc<Workload>> {
        let old = self.remove(&workload.uid);
        if workload.network_mode == NetworkMode::Standard && !workload.addresses.is_empty() {
            let network = self.by_address.entry(workload.network.clone()).or_default();
            for address in &workload.addresses {
                let bearers = network.entry(*address).or_default();
                let at = bearers.partition_point(|other| rank(other) < rank(&workload));
                bearers.insert(at, Arc::clone(&workload));
            }
        }
        if !workload.node.is_empty() {
            let node = self.by_node.entry(workload.node.clone()).or_default();
            insert_sorted(node, Arc::clone(&workload));
        }
        for service in workload.services.keys() {
            let endpoints = self.endpoints.entry(service.clone()).or_default();
            insert_sorted(endpoints, Arc::clone(&workload));
        }
        self.by_uid.insert(workload.uid.clone(), workload);
        old
    }

    pub(crate) fn remove(&mut self, uid: &WorkloadUid) -> Option<Arc<Workload>> {
        let old = self.by_uid.remove(uid)?;
        self.remove_addresses(&old);
        if let Some(node) = self.by_node.get_mut(&old.node) {
            remove_sorted(node, uid);
            if node.is_empty() {
                self.by_node.remove(&old.node);
            }
        }
        for service in old.services.keys() {
            if let Some(endpoints) = self.endpoints.get_mut(service) {
                remove_sorted(endpoints, uid);
                if endpoints.is_empty() {
                    self.endpoints.remove(service);
                }
            }
        }
        Some(old)
    }

    fn remove_addresses(&mut self, old: &Workload) {
        let Some(network) = self.by_address.get_mut(&old.network) else {
            return;
        };
        for address in &old.addresses {
            if let Some(bearers) = network.get_mut(address) {
                bearers.retain(|other| other.uid != old.uid);
                if bearers.is_empty() {
                    network.remove(address);
                }
            }
        }
        if network.is_empty() {
            self.by_address.remove(&old.network);
        }
    }

    pub(crate) fn by_uid(&self, uid: &WorkloadUid) -> Option<&Arc<Workload>> {
        self.by_uid.get(uid)
    }

    /// The best bearer of an address.
    pub(crate) fn by_address(
        &self,
        network: &NetworkId,
        address: IpAddr,
    ) -> Option<&Arc<Workload>> {
        self.by_address
            .get(network)?
            .get(&address.to_canonical())?
            .first()
    }

    pub(crate) fn on_node(&self, node: &NodeName) -> &[Arc<Workload>] {
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }

    /// Endpoints of a service, sorted by uid.
    pub(crate) fn endpoints(&self, service: &ServiceKey) -> &[Arc<Workload>] {
        self.endpoints.get(service).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.by_uid.values()
    }

    pub(crate) fn services_with_endpoints(&self) -> impl Iterator<Item = &ServiceKey> {
        self.endpoints.keys()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
            && self.by_address.is_empty()
            && self.by_node.is_empty()
            && self.endpoints.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_uid.len()
    }

    pub(crate) fn address_count(&self) -> usize {
        self.by_address.values().map(HashMap::len).sum()
    }

    pub(crate) fn endpoint_count(&self) -> usize {
        self.endpoints.values().map(Vec::len).sum()
    }
}

/// Which of several bearers of an address is meant: a pod, one with a tunnel, one that is well
/// (not the pod that had the address before), and to be definite, the first by name.
fn rank(workload: &Workload) -> (Reverse<bool>, Reverse<bool>, Reverse<bool>, &WorkloadUid) {
    (
        Reverse(is_pod(&workload.uid)),
        Reverse(workload.tunnel == TunnelProtocol::Hbone),
        Reverse(workload.health == Health::Healthy),
        &workload.uid,
    )
}

/// Whether the uid is of the form `cluster//Pod/namespace/name`.
pub(crate) fn is_pod(uid: &WorkloadUid) -> bool {
    let mut parts = uid.as_str().split('/').skip(1);
    parts.next() == Some("") && parts.next() == Some("Pod")
}
