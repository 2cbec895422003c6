//! Whether a policy's rules match a connection. Values are tested against the peer's identity
//! in place: nothing is built or copied.

use ambit_model::{Clause, Identity, Match, Rule, ServiceAccountMatch, StringMatch};

use crate::Connection;

/// A value may be written with or without it.
const SCHEME: &str = "spiffe://";

/// Whether any of the rules matches: all its clauses hold.
#[must_use]
pub fn matches(rules: &[Rule], connection: &Connection<'_>) -> bool {
    rules.iter().any(|rule| {
        rule.clauses
            .iter()
            .all(|clause| clause_holds(clause, connection))
    })
}

/// A clause without any match is not a constraint; one with empty matches only never holds.
fn clause_holds(clause: &Clause, connection: &Connection<'_>) -> bool {
    clause.matches.is_empty() || clause.matches.iter().any(|m| match_holds(m, connection))
}

fn match_holds(m: &Match, connection: &Connection<'_>) -> bool {
    let id = connection.source_identity;
    let port = connection.destination_port;
    !m.is_empty()
        && field(&m.namespaces, &m.not_namespaces, |v| {
            id.is_some_and(|id| namespace(v, id))
        })
        && field(&m.principals, &m.not_principals, |v| {
            id.is_some_and(|id| principal(v, id))
        })
        && field(&m.service_accounts, &m.not_service_accounts, |v| {
            id.is_some_and(|id| service_account(v, id))
        })
        && field(&m.source_ips, &m.not_source_ips, |r| {
            r.contains(connection.source_ip)
        })
        && field(&m.destination_ips, &m.not_destination_ips, |r| {
            r.contains(connection.destination_ip)
        })
        && field(&m.destination_ports, &m.not_destination_ports, |p| {
            *p == port
        })
}

/// One field and its complement; an empty list is not a constraint.
fn field<T>(positive: &[T], negative: &[T], holds: impl Fn(&T) -> bool) -> bool {
    (positive.is_empty() || positive.iter().any(&holds)) && !negative.iter().any(&holds)
}

fn namespace(value: &StringMatch, identity: &Identity) -> bool {
    let namespace = identity.namespace.as_str();
    match value {
        StringMatch::Exact(text) => namespace == &**text,
        StringMatch::Prefix(text) => namespace.starts_with(&**text),
        StringMatch::Suffix(text) => namespace.ends_with(&**text),
        StringMatch::Presence => !namespace.is_empty(),
    }
}

fn service_account(value: &ServiceAccountMatch, identity: &Identity) -> bool {
    value.namespace == identity.namespace && value.service_account == identity.service_account
}

/// Tests the identity as written without its scheme.
fn principal(value: &StringMatch, identity: &Identity) -> bool {
    let parts = parts(identity);
    match value {
        StringMatch::Exact(text) => equals(&parts, text.strip_prefix(SCHEME).unwrap_or(text)),
        StringMatch::Prefix(text) => starts(&parts, text.strip_prefix(SCHEME).unwrap_or(text)),
        StringMatch::Suffix(text) => match text.strip_prefix(SCHEME) {
            // The scheme occurs only at the start, so the suffix is the whole.
            Some(whole) => equals(&parts, whole),
            None => ends(&parts, text),
        },
        StringMatch::Presence => true,
    }
}

fn parts(identity: &Identity) -> [&str; 5] {
    [
        identity.trust_domain.as_str(),
        "/ns/",
        identity.namespace.as_str(),
        "/sa/",
        identity.service_account.as_str(),
    ]
}

fn equals(parts: &[&str], text: &str) -> bool {
    parts.iter().map(|part| part.len()).sum::<usize>() == text.len() && starts(parts, text)
}

/// Whether the joined parts start with `text`.
fn starts(parts: &[&str], mut text: &str) -> bool {
    for part in parts {
        if text.len() <= part.len() {
            return part.starts_with(text);
        }
        match text.strip_prefix(part) {
            Some(rest) => text = rest,
            None => return false,
        }
    }
    text.is_empty()
}

/// Whether the joined parts end with `text`.
fn ends(parts: &[&str], mut text: &str) -> bool {
    for part in parts.iter().rev() {
        if text.len() <= part.len() {
            return part.ends_with(text);
        }
        match text.strip_suffix(part) {
            Some(rest) => text = rest,
            None => return false,
        }
    }
    text.is_empty()
}
