//! What an object must be, by itself, to be in force: names, addresses, ports, values. What
//! depends on other objects is found while translating. Pure.

mod core;
mod networking;
mod security;

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::api::{AnyObject, ObjectMeta};
use crate::finding::Problem;
use crate::watch::decode::{alternatives, shown};

/// Everything wrong with an object by itself.
#[must_use]
pub fn check(object: &AnyObject) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_meta(object.meta(), &mut problems);
    match object {
        AnyObject::Pod(pod) => core::check_pod(pod, &mut problems),
        AnyObject::Service(service) => core::check_service(service, &mut problems),
        AnyObject::EndpointSlice(slice) => core::check_slice(slice, &mut problems),
        AnyObject::ServiceEntry(entry) => networking::check_service_entry(entry, &mut problems),
        AnyObject::WorkloadEntry(entry) => networking::check_workload_entry(entry, &mut problems),
        AnyObject::AuthorizationPolicy(p) => security::check_authorization(p, &mut problems),
        AnyObject::PeerAuthentication(p) => security::check_peer_authentication(p, &mut problems),
        AnyObject::Namespace(_)
        | AnyObject::Node(_)
        | AnyObject::Gateway(_)
        | AnyObject::GatewayClass(_) => {}
    }
    problems
}

fn check_meta(meta: &ObjectMeta, problems: &mut Vec<Problem>) {
    if meta.name.is_empty() {
        problems.push(Problem::refused(
            "metadata.name",
            "is missing; every object needs a name",
        ));
    } else if !is_name(&meta.name) {
        problems.push(not("metadata.name", &meta.name, NAME_FORM));
    }
    if !meta.namespace.is_empty() && !is_label(&meta.namespace) {
        problems.push(not("metadata.namespace", &meta.namespace, LABEL_FORM));
    }
    if let Some(mode) = meta.label("istio.io/dataplane-mode")
        && !matches!(mode, "ambient" | "none")
    {
        let field = "metadata.labels[\"istio.io/dataplane-mode\"]";
        problems.push(Problem {
            level: crate::finding::Level::Warning,
            ..not(field, mode, "ambient or none")
        });
    }
}

const NAME_FORM: &str = "lower-case letters, digits, '-' and '.', at most 253";
const LABEL_FORM: &str = "lower-case letters, digits and '-', at most 63";

/// A value that is not of the form it must have.
pub(crate) fn not(field: impl Into<String>, value: &str, form: &str) -> Problem {
    Problem::refused(field, format!("is {}; expected {form}", shown(value)))
}

/// A value that is none of those it may be.
pub(crate) fn one_of(field: &str, value: &str, values: &[&str], problems: &mut Vec<Problem>) {
    if !value.is_empty() && !values.contains(&value) {
        problems.push(not(field, value, &alternatives(values)));
    }
}

/// A Kubernetes object name.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 253
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

/// A Kubernetes namespace or service account part.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_name(text)
}

/// A host name, perhaps with a wildcard as its first part.
pub(crate) fn is_hostname(text: &str) -> bool {
    let rest = text.strip_prefix("*.").unwrap_or(text);
    !rest.is_empty()
        && rest.len() <= 253
        && rest.split('.').all(|part| {
            !part.is_empty()
                && part.len() <= 63
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                && !part.starts_with('-')
                && !part.ends_with('-')
        })
}

/// An address in its canonical form.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    IpAddr::from_str(text.trim())
        .ok()
        .map(|address| address.to_canonical())
}

/// A range, or an address as the range of one; host bits are cleared.
pub(crate) fn range(text: &str) -> Option<IpNet> {
    match text.split_once('/') {
        Some(_) => IpNet::from_str(text.trim()).ok().map(|net| net.trunc()),
        None => address(text).map(IpNet::from),
    }
}

/// A port number, never 0.
pub(crate) fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}
