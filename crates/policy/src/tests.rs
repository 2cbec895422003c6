//! Each match type by table; the laws of deciding by property.

mod laws;
mod order;
mod table;

use std::net::IpAddr;

use ambit_model::{
    Action, AuthorizationPolicy, Clause, Identity, Match, PolicyBody, PolicyKey, Rule, Scope,
};

use crate::Connection;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

/// From 10.0.0.1 to 10.1.0.2:80.
fn connection(source_identity: Option<&Identity>) -> Connection<'_> {
    Connection {
        source_identity,
        source_ip: ip("10.0.0.1"),
        destination_ip: ip("10.1.0.2"),
        destination_port: 80,
    }
}

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy {
        key: PolicyKey::new("shop", name),
        scope: Scope::Namespace,
        action,
        dry_run: false,
        body: PolicyBody::Rules(rules),
    }
}

/// A rule with one clause of one match.
fn rule(m: Match) -> Rule {
    Rule {
        clauses: vec![Clause { matches: vec![m] }],
    }
}

/// A rule that always matches.
fn anything() -> Rule {
    Rule::default()
}

/// A rule that never matches.
fn nothing() -> Rule {
    rule(Match::default())
}
