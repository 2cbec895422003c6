//! The policies that PeerAuthentication becomes: refuse whoever has no identity, on all ports or
//! on all but some.

use ambit_model::{
    Action, AuthorizationPolicy, Clause, Match, Namespace, PolicyBody, PolicyKey, Rule, Scope,
    StringMatch,
};

/// Name of the policy, in the root namespace, that STRICT workloads refer to.
pub const STRICT_POLICY_NAME: &str = "istio_converted_static_strict";

/// Name of the policy for a PeerAuthentication with settings of its own for some ports.
#[must_use]
pub fn converted_name(peer_authentication: &str) -> String {
    format!("converted_peer_authentication_{peer_authentication}")
}

/// Denies peers without an identity; workloads refer to it by name.
#[must_use]
pub fn strict(root_namespace: impl Into<Namespace>) -> AuthorizationPolicy {
    deny(
        PolicyKey::new(root_namespace, STRICT_POLICY_NAME),
        vec![Rule {
            clauses: vec![no_identity()],
        }],
    )
}

/// Denies peers without an identity according to port: with `strict_by_default` everywhere except
/// on `exceptions`, otherwise only on `exceptions`. One without any effect never matches.
#[must_use]
pub fn strict_ports(
    key: PolicyKey,
    strict_by_default: bool,
    exceptions: &[u16],
) -> AuthorizationPolicy {
    let ports = exceptions.to_vec();
    let rules = match (strict_by_default, ports.is_empty()) {
        (true, true) => vec![Rule {
            clauses: vec![no_identity()],
        }],
        (false, true) => Vec::new(),
        (true, false) => vec![Rule {
            clauses: vec![
                no_identity(),
                one(Match {
                    not_destination_ports: ports,
                    ..Match::default()
                }),
            ],
        }],
        (false, false) => vec![Rule {
            clauses: vec![
                no_identity(),
                one(Match {
                    destination_ports: ports,
                    ..Match::default()
                }),
            ],
        }],
    };
    deny(key, rules)
}

fn deny(key: PolicyKey, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy {
        key,
        scope: Scope::WorkloadSelector,
        action: Action::Deny,
        dry_run: false,
        body: PolicyBody::Rules(rules),
    }
}

fn no_identity() -> Clause {
    one(Match {
        not_principals: vec![StringMatch::Presence],
        ..Match::default()
    })
}

fn one(m: Match) -> Clause {
    Clause { matches: vec![m] }
}
