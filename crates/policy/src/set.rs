//! The policies that apply to one workload, and the ones it refers to that nobody knows.

use std::sync::Arc;

use ambit_model::{AuthorizationPolicy, PolicyKey};

use crate::decide::Tally;
use crate::{Connection, Decision};

/// Policies of one workload, sorted by name so that reports do not depend on arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySet {
    policies: Vec<Arc<AuthorizationPolicy>>,
    unknown: Vec<PolicyKey>,
}

impl PolicySet {
    /// A set of known policies and of names that could not be found: each of those denies.
    #[must_use]
    pub fn new(mut policies: Vec<Arc<AuthorizationPolicy>>, mut unknown: Vec<PolicyKey>) -> Self {
        policies.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        policies.dedup_by(|a, b| a.key == b.key);
        unknown.sort_unstable();
        unknown.dedup();
        Self { policies, unknown }
    }

    /// Decides about `connection`.
    #[must_use]
    pub fn decide(&self, connection: &Connection<'_>) -> Decision {
        let mut tally = Tally::default();
        for policy in &self.policies {
            tally.count(policy, connection);
        }
        // After the known ones: a DENY that matches is the better explanation.
        for key in &self.unknown {
            tally.unknown(key);
        }
        tally.decision()
    }

    /// The known policies.
    #[must_use]
    pub fn policies(&self) -> &[Arc<AuthorizationPolicy>] {
        &self.policies
    }

    /// Names that are referred to but not known.
    #[must_use]
    pub fn unknown(&self) -> &[PolicyKey] {
        &self.unknown
    }

    /// Whether nothing applies, so that everything is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.unknown.is_empty()
    }
}
