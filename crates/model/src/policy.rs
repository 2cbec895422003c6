//! Authorization policies as data. What they decide is in `ambit-policy`.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::{Namespace, PolicyKey, ServiceAccount};

/// An authorization policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorizationPolicy {
    /// Discovery name.
    pub key: PolicyKey,
    /// What it applies to.
    pub scope: Scope,
    /// What a match means.
    pub action: Action,
    /// Evaluated and reported, never enforced.
    pub dry_run: bool,
    /// The rules, or why there are none.
    pub body: PolicyBody,
}

/// The content of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PolicyBody {
    /// ORed rules; an empty list never matches.
    Rules(Vec<Rule>),
    /// It could not be understood: whatever it applies to is denied.
    Invalid(Arc<str>),
}

/// What a policy applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Scope {
    /// Every workload.
    Global,
    /// Every workload of the policy's namespace.
    Namespace,
    /// Workloads that refer to it by name.
    WorkloadSelector,
}

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Action {
    /// Matching connections are let through, and others only by another policy.
    Allow,
    /// Matching connections are refused, whatever else says.
    Deny,
}

/// ANDed clauses; an empty list matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The clauses.
    pub clauses: Vec<Clause>,
}

/// ORed matches; one without any is not a constraint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Clause {
    /// The matches.
    pub matches: Vec<Match>,
}

/// ANDed fields, ORed inside one; a match with no field at all never matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "the fields are named as in AuthorizationPolicy"
)]
pub struct Match {
    pub namespaces: Vec<StringMatch>,
    pub not_namespaces: Vec<StringMatch>,
    pub principals: Vec<StringMatch>,
    pub not_principals: Vec<StringMatch>,
    pub service_accounts: Vec<ServiceAccountMatch>,
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    pub source_ips: Vec<IpRange>,
    pub not_source_ips: Vec<IpRange>,
    pub destination_ips: Vec<IpRange>,
    pub not_destination_ips: Vec<IpRange>,
    pub destination_ports: Vec<u16>,
    pub not_destination_ports: Vec<u16>,
}

impl Match {
    /// Whether no field is set at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
            && self.not_namespaces.is_empty()
            && self.principals.is_empty()
            && self.not_principals.is_empty()
            && self.service_accounts.is_empty()
            && self.not_service_accounts.is_empty()
            && self.source_ips.is_empty()
            && self.not_source_ips.is_empty()
            && self.destination_ips.is_empty()
            && self.not_destination_ips.is_empty()
            && self.destination_ports.is_empty()
            && self.not_destination_ports.is_empty()
    }
}

impl AuthorizationPolicy {
    /// A policy nothing is known of but its name: it denies everything it may have been meant
    /// for, so its scope is the widest.
    #[must_use]
    pub fn invalid(key: PolicyKey, reason: &str) -> Self {
        Self {
            key,
            scope: Scope::Global,
            action: Action::Deny,
            dry_run: false,
            body: PolicyBody::Invalid(reason.into()),
        }
    }
}

/// A text test.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// Not empty.
    Presence,
}

/// A service account of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ServiceAccountMatch {
    /// Namespace.
    pub namespace: Namespace,
    /// Service account.
    pub service_account: ServiceAccount,
}

/// A range of addresses; a single one has the full prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct IpRange(pub IpNet);

impl IpRange {
    /// Whether `address` lies in the range; a v4-mapped address counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}
