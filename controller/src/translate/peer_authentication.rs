//! PeerAuthentication as policies of node agents: a workload that accepts no plain text refers to
//! a policy that denies peers without an identity.

use std::sync::Arc;

use ambit_model::{
    Action, AuthorizationPolicy, Clause, Match, PolicyBody, PolicyKey, Rule, Scope, StringMatch,
};

use crate::api::PeerAuthentication;
use crate::api::meta::{Labels, selects};
use crate::api::security::Mode;
use crate::validate::port;

/// Name of the policy that denies all peers without an identity, in the root namespace.
const STATIC_STRICT: &str = "istio_converted_static_strict";

/// Names of policies for exceptions of single ports start with this.
const CONVERTED: &str = "converted_peer_authentication_";

/// What the workloads of a namespace accept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PeerModes {
    strict: Option<PolicyKey>,
    /// Without an own policy.
    default_strict: bool,
    /// Own policies, the oldest first.
    selecting: Vec<Selecting>,
    /// What refused policies select: strict, whatever else says.
    refused: Vec<Labels>,
}

#[derive(Clone, Debug, PartialEq)]
struct Selecting {
    labels: Labels,
    policy: Option<PolicyKey>,
}

/// The policies that apply to one namespace, and what was refused of them.
pub(super) struct Inputs<'a> {
    pub(super) root: &'a str,
    pub(super) namespace: &'a str,
    pub(super) mesh: &'a [Arc<PeerAuthentication>],
    pub(super) own: &'a [Arc<PeerAuthentication>],
    /// Selectors of refused ones; `None` for the whole namespace.
    pub(super) refused: &'a [Option<Labels>],
}

/// The policy `istio_converted_static_strict`.
pub(super) fn static_strict(root: &str) -> AuthorizationPolicy {
    policy(
        PolicyKey::new(root, STATIC_STRICT),
        vec![without_identity(None)],
    )
}

fn policy(key: PolicyKey, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy {
        key,
        scope: Scope::WorkloadSelector,
        action: Action::Deny,
        dry_run: false,
        body: PolicyBody::Rules(rules),
    }
}

fn without_identity(ports: Option<Match>) -> Rule {
    let peer = Match {
        not_principals: vec![StringMatch::Presence],
        ..Match::default()
    };
    let clauses = std::iter::once(peer)
        .chain(ports)
        .map(|m| Clause { matches: vec![m] });
    Rule {
        clauses: clauses.collect(),
    }
}

fn labels(policy: &PeerAuthentication) -> Option<&Labels> {
    let labels = &policy.spec.selector.as_ref()?.match_labels;
    (!labels.is_empty()).then_some(labels)
}

/// The mode of the oldest policy without a selector.
fn wide_mode(policies: &[Arc<PeerAuthentication>]) -> Mode {
    let oldest = policies
        .iter()
        .filter(|p| labels(p).is_none())
        .min_by_key(|p| p.metadata.age());
    oldest.map_or(Mode::Unset, |p| p.spec.mtls.mode)
}

fn or(mode: Mode, inherited: Mode) -> Mode {
    if mode == Mode::Unset { inherited } else { mode }
}

/// Works out what the workloads of a namespace accept, and the policies that takes.
pub(super) fn resolve(inputs: &Inputs<'_>) -> (PeerModes, Vec<AuthorizationPolicy>) {
    let is_root = inputs.namespace == inputs.root;
    let mesh = wide_mode(inputs.mesh);
    let wide = if is_root {
        mesh
    } else {
        or(wide_mode(inputs.own), mesh)
    };
    let strict = PolicyKey::new(inputs.root, STATIC_STRICT);
    let mut modes = PeerModes {
        default_strict: wide == Mode::Strict || inputs.refused.contains(&None),
        refused: inputs.refused.iter().flatten().cloned().collect(),
        ..PeerModes::default()
    };
    let mut policies = Vec::new();
    let mut own: Vec<_> = inputs.own.iter().filter(|p| labels(p).is_some()).collect();
    own.sort_by_key(|p| p.metadata.age());
    // A selector in the root namespace has no effect.
    for peer in own.into_iter().filter(|_| !is_root) {
        let key = PolicyKey::new(
            inputs.namespace,
            &format!("{CONVERTED}{}", peer.metadata.name),
        );
        let mode = or(peer.spec.mtls.mode, wide);
        let converted = convert(peer, mode, key.clone());
        let policy = match &converted {
            Some(_) => Some(key),
            None => (mode == Mode::Strict).then(|| strict.clone()),
        };
        policies.extend(converted);
        modes.selecting.push(Selecting {
            labels: labels(peer).cloned().unwrap_or_default(),
            policy,
        });
    }
    if inputs.refused.contains(&None) {
        // The whole namespace, exceptions included.
        modes.selecting.clear();
    }
    modes.strict = Some(strict);
    (modes, policies)
}

/// A policy of its own when ports differ from the rest.
fn convert(peer: &PeerAuthentication, mode: Mode, key: PolicyKey) -> Option<AuthorizationPolicy> {
    let is_strict = mode == Mode::Strict;
    let differing = peer
        .spec
        .port_level_mtls
        .iter()
        .filter_map(|(number, mtls)| {
            let differs = (or(mtls.mode, mode) == Mode::Strict) != is_strict;
            port(number).filter(|_| differs)
        });
    let mut ports: Vec<u16> = differing.collect();
    ports.sort_unstable();
    if ports.is_empty() {
        return None;
    }
    let mut found = Match::default();
    if is_strict {
        found.not_destination_ports = ports;
    } else {
        found.destination_ports = ports;
    }
    Some(policy(key, vec![without_identity(Some(found))]))
}

impl PeerModes {
    /// The policies a workload with these labels refers to.
    pub(super) fn policies_for(&self, labels: &Labels) -> Vec<PolicyKey> {
        let own = self.selecting.iter().find(|s| selects(&s.labels, labels));
        let mut found: Vec<PolicyKey> = match own {
            Some(selecting) => selecting.policy.iter().cloned().collect(),
            None if self.default_strict => self.strict.iter().cloned().collect(),
            None => Vec::new(),
        };
        if self.refused.iter().any(|refused| selects(refused, labels)) {
            found.extend(
                self.strict
                    .iter()
                    .filter(|strict| !found.contains(strict))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
        found
    }
}
