//! The resources of one type: by name, by alias, and which workloads stand behind a service.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ambit_model::NodeName;

use super::resource::{Resource, Source};
use crate::maps::FastMap;

/// The resources of one type.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_name: FastMap<Arc<str>, Slot>,
    by_alias: HashMap<Arc<str>, Arc<str>>,
    by_node: HashMap<NodeName, HashSet<Arc<str>>>,
    members: HashMap<String, HashSet<Arc<str>>>,
    generation: u64,
}

#[derive(Debug)]
struct Slot {
    resource: Arc<Resource>,
    generation: u64,
}

/// What a change touched.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// New or with new content.
    pub(super) changed: Vec<Arc<Resource>>,
    /// Gone.
    pub(super) removed: Vec<Arc<str>>,
}

impl Table {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.by_name.get(name).map(|slot| &slot.resource)
    }

    /// By name, or by one of its addresses.
    pub(super) fn find(&self, name_or_alias: &str) -> Option<&Arc<Resource>> {
        self.get(name_or_alias)
            .or_else(|| self.get(self.by_alias.get(name_or_alias)?))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_name.values().map(|slot| &slot.resource)
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The workloads behind a service.
    pub(super) fn members(&self, service: &str) -> impl Iterator<Item = &Arc<str>> {
        self.members.get(service).into_iter().flatten()
    }

    /// The workloads on a node.
    pub(super) fn on_node(&self, node: &NodeName) -> impl Iterator<Item = &Arc<str>> {
        self.by_node.get(node).into_iter().flatten()
    }

    /// Takes what there is now. Of two sources with one name the first counts.
    pub(super) fn update(&mut self, sources: impl Iterator<Item = Source>) -> Change {
        self.generation += 1;
        let generation = self.generation;
        let mut change = Change::default();
        for source in sources {
            let name = source.name();
            if let Some(slot) = self.by_name.get_mut(&*name) {
                if slot.generation == generation {
                    continue;
                }
                slot.generation = generation;
                if slot.resource.source.is_same(&source) {
                    continue;
                }
            }
            let resource = Arc::new(Resource::new(source));
            if let Some(old) = self.get(&resource.name).map(Arc::clone) {
                self.unlink(&old);
                if old.version != resource.version {
                    change.changed.push(Arc::clone(&resource));
                }
            } else {
                change.changed.push(Arc::clone(&resource));
            }
            self.link(&resource);
            self.by_name.insert(
                Arc::clone(&resource.name),
                Slot {
                    resource,
                    generation,
                },
            );
        }
        let gone = self
            .by_name
            .values()
            .filter(|slot| slot.generation != generation);
        let gone: Vec<_> = gone.map(|slot| Arc::clone(&slot.resource)).collect();
        for resource in gone {
            self.unlink(&resource);
            self.by_name.remove(&resource.name);
            change.removed.push(Arc::clone(&resource.name));
        }
        // An address can have moved from a removed resource to a new one.
        for resource in &change.changed {
            for alias in &resource.aliases {
                self.by_alias
                    .insert(Arc::clone(alias), Arc::clone(&resource.name));
            }
        }
        change
    }

    fn link(&mut self, resource: &Arc<Resource>) {
        for alias in &resource.aliases {
            self.by_alias
                .insert(Arc::clone(alias), Arc::clone(&resource.name));
        }
        for service in resource.source.services() {
            self.members
                .entry(service.to_string())
                .or_default()
                .insert(Arc::clone(&resource.name));
        }
        if let Some(node) = resource.source.node().filter(|node| !node.is_empty()) {
            self.by_node
                .entry(node.clone())
                .or_default()
                .insert(Arc::clone(&resource.name));
        }
    }

    fn unlink(&mut self, resource: &Resource) {
        for alias in &resource.aliases {
            if self.by_alias.get(alias) == Some(&resource.name) {
                self.by_alias.remove(alias);
            }
        }
        for service in resource.source.services() {
            remove(&mut self.members, &service.to_string(), &resource.name);
        }
        if let Some(node) = resource.source.node() {
            remove(&mut self.by_node, node, &resource.name);
        }
    }
}

fn remove<K: std::hash::Hash + Eq>(sets: &mut HashMap<K, HashSet<Arc<str>>>, key: &K, name: &str) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(name);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
