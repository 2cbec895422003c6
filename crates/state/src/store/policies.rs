//! Policies by key and by what they apply to.

use std::collections::HashMap;
use std::sync::Arc;

use ambit_model::{AuthorizationPolicy, Namespace, PolicyKey, Scope, Workload};
use ambit_policy::PolicySet;

use super::{Sorted, insert_sorted, remove_sorted};

impl Sorted for AuthorizationPolicy {
    type Key = PolicyKey;

    fn sort_key(&self) -> &PolicyKey {
        &self.key
    }
}

/// All policies.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    by_key: HashMap<PolicyKey, Arc<AuthorizationPolicy>>,
    global: Vec<Arc<AuthorizationPolicy>>,
    by_namespace: HashMap<Namespace, Vec<Arc<AuthorizationPolicy>>>,
}

impl Policies {
    /// Adds or replaces; returns what was there before.
    pub(crate) fn insert(
        &mut self,
        policy: Arc<AuthorizationPolicy>,
    ) -> Option<Arc<AuthorizationPolicy>> {
        let old = self.remove(&policy.key);
        match policy.scope {
            Scope::Global => insert_sorted(&mut self.global, Arc::clone(&policy)),
            Scope::Namespace => {
                let namespace = self
                    .by_namespace
                    .entry(policy.key.namespace.clone())
                    .or_default();
                insert_sorted(namespace, Arc::clone(&policy));
            }
            Scope::WorkloadSelector => {}
        }
        self.by_key.insert(policy.key.clone(), policy);
        old
    }

    pub(crate) fn remove(&mut self, key: &PolicyKey) -> Option<Arc<AuthorizationPolicy>> {
        let old = self.by_key.remove(key)?;
        match old.scope {
            Scope::Global => remove_sorted(&mut self.global, key),
            Scope::Namespace => {
                if let Some(namespace) = self.by_namespace.get_mut(&key.namespace) {
                    remove_sorted(namespace, key);
                    if namespace.is_empty() {
                        self.by_namespace.remove(&key.namespace);
                    }
                }
            }
            Scope::WorkloadSelector => {}
        }
        Some(old)
    }

    pub(crate) fn by_key(&self, key: &PolicyKey) -> Option<&Arc<AuthorizationPolicy>> {
        self.by_key.get(key)
    }

    /// Global policies, those of the workload's namespace, and those it refers to.
    pub(crate) fn of(&self, workload: &Workload) -> PolicySet {
        let namespace = self.by_namespace.get(&workload.namespace);
        let mut policies: Vec<_> = self
            .global
            .iter()
            .chain(namespace.into_iter().flatten())
            .map(Arc::clone)
            .collect();
        let mut unknown = Vec::new();
        for key in &workload.policies {
            match self.by_key.get(key) {
                Some(policy) => policies.push(Arc::clone(policy)),
                None => unknown.push(key.clone()),
            }
        }
        PolicySet::new(policies, unknown)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<AuthorizationPolicy>> {
        self.by_key.values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.global.is_empty() && self.by_namespace.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }
}
