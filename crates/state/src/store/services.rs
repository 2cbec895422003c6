//! Services by key, virtual address, virtual range and host name, and which of several is meant.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::{Hostname, Namespace, NetworkId, Service, ServiceKey, Visibility};

use super::Shared;
use super::ranges::Ranges;

/// Who asks for a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) preferred: Option<&'a Namespace>,
}

/// All services.
#[derive(Debug, Default)]
pub(crate) struct Services {
    by_key: HashMap<ServiceKey, Arc<Service>>,
    by_address: HashMap<NetworkId, HashMap<IpAddr, Shared<Service>>>,
    by_range: HashMap<NetworkId, Ranges>,
    by_hostname: HashMap<Hostname, Shared<Service>>,
}

impl Services {
    /// Adds or replaces; returns what was there before.
    pub(crate) fn insert(&mut self, service: Arc<Service>) -> Option<Arc<Service>> {
        let key = service.key();
        let old = self.remove(&key);
        for vip in &service.addresses {
            let network = self.by_address.entry(vip.network.clone()).or_default();
            add(network.entry(vip.address).or_default(), &service);
        }
        for range in &service.ranges {
            let network = self.by_range.entry(range.network.clone()).or_default();
            network.insert(range.range, &service);
        }
        add(
            self.by_hostname
                .entry(service.hostname.clone())
                .or_default(),
            &service,
        );
        self.by_key.insert(key, service);
        old
    }

    pub(crate) fn remove(&mut self, key: &ServiceKey) -> Option<Arc<Service>> {
        let old = self.by_key.remove(key)?;
        for vip in &old.addresses {
            let Some(network) = self.by_address.get_mut(&vip.network) else {
                continue;
            };
            if let Some(bearers) = network.get_mut(&vip.address) {
                take(bearers, key);
                if bearers.is_empty() {
                    network.remove(&vip.address);
                }
            }
            if network.is_empty() {
                self.by_address.remove(&vip.network);
            }
        }
        for range in &old.ranges {
            let Some(network) = self.by_range.get_mut(&range.network) else {
                continue;
            };
            network.remove(range.range, key);
            if network.is_empty() {
                self.by_range.remove(&range.network);
            }
        }
        if let Some(bearers) = self.by_hostname.get_mut(&old.hostname) {
            take(bearers, key);
            if bearers.is_empty() {
                self.by_hostname.remove(&old.hostname);
            }
        }
        Some(old)
    }

    pub(crate) fn by_key(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.by_key.get(key)
    }

    /// The service meant by an address: a bearer of the address itself, else one of a range that
    /// holds it: in the asker's namespace, else with the longest prefix.
    pub(crate) fn by_address(
        &self,
        network: &NetworkId,
        address: IpAddr,
        asker: Asker<'_>,
    ) -> Option<&Arc<Service>> {
        let address = address.to_canonical();
        let bearers = self
            .by_address
            .get(network)
            .and_then(|network| network.get(&address));
        if let Some(service) = bearers.and_then(|bearers| asker.choose(bearers)) {
            return Some(service);
        }
        self.by_range(network, address, asker)
    }

    fn by_range(
        &self,
        network: &NetworkId,
        address: IpAddr,
        asker: Asker<'_>,
    ) -> Option<&Arc<Service>> {
        let mut best = None;
        for bearers in self.by_range.get(network)?.find(address) {
            let Some(service) = asker.choose(bearers) else {
                continue;
            };
            if service.namespace == *asker.namespace {
                return Some(service);
            }
            best = best.or(Some(service));
        }
        best
    }

    /// All bearers of an address, whoever may see them.
    pub(crate) fn all_at(&self, network: &NetworkId, address: IpAddr) -> &[Arc<Service>] {
        let bearers = self
            .by_address
            .get(network)
            .and_then(|n| n.get(&address.to_canonical()));
        bearers.map_or(&[], |bearers| bearers.as_slice())
    }

    /// All bearers of exactly this host name, whoever may see them.
    pub(crate) fn by_hostname(&self, hostname: &str) -> &[Arc<Service>] {
        self.by_hostname
            .get(hostname)
            .map_or(&[], |bearers| bearers.as_slice())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_key.values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
            && self.by_address.is_empty()
            && self.by_range.is_empty()
            && self.by_hostname.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }
}

impl Asker<'_> {
    pub(crate) fn may_see(&self, service: &Service) -> bool {
        match service.visibility {
            Visibility::Public => true,
            Visibility::Namespace => service.namespace == *self.namespace,
        }
    }

    /// Smaller is better.
    pub(crate) fn rank(&self, service: &Service) -> (bool, bool, bool) {
        (
            service.namespace != *self.namespace,
            !service.canonical,
            Some(&service.namespace) != self.preferred,
        )
    }

    /// The best of what the asker may see; of equals the first by name.
    pub(crate) fn choose<'s>(&self, bearers: &'s [Arc<Service>]) -> Option<&'s Arc<Service>> {
        bearers
            .iter()
            .filter(|s| self.may_see(s))
            .min_by_key(|s| self.rank(s))
    }
}

/// Adds to the bearers, which are sorted by namespace and host name.
pub(super) fn add(bearers: &mut Shared<Service>, service: &Arc<Service>) {
    let at = bearers.partition_point(|other| name(other) < name(service));
    // A service may bear an address twice.
    if bearers
        .get(at)
        .is_none_or(|other| name(other) != name(service))
    {
        bearers.insert(at, Arc::clone(service));
    }
}

fn name(service: &Service) -> (&Namespace, &Hostname) {
    (&service.namespace, &service.hostname)
}

/// Takes out the service with this key.
pub(super) fn take(bearers: &mut Shared<Service>, key: &ServiceKey) {
    bearers.retain(|other| other.namespace != key.namespace || other.hostname != key.hostname);
}
