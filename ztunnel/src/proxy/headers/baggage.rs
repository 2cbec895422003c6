//! The `baggage` header: what one agent tells the other of a workload, for metrics and logs only.
//! It is a claim of the peer, never an input of policy.

use std::fmt::Write;

use ambit_model::{Workload, WorkloadType};
use ambit_telemetry::Declared;
use http::{HeaderMap, HeaderValue};

use super::BAGGAGE;

/// Longest value taken from a peer, in bytes. Kubernetes names have at most 253; the bound keeps
/// a peer from filling labels and logs.
const MAX_VALUE: usize = 253;
/// Most members read from one message.
const MAX_MEMBERS: usize = 32;

/// Describes a workload. Parts that are not known are left out; `None` when a name holds what a
/// header cannot.
#[must_use]
pub fn describe(workload: &Workload) -> Option<HeaderValue> {
    let mut text = String::with_capacity(256);
    let kind = match workload.workload_type {
        WorkloadType::Deployment => "k8s.deployment.name",
        WorkloadType::CronJob => "k8s.cronjob.name",
        WorkloadType::Pod => "k8s.pod.name",
        WorkloadType::Job => "k8s.job.name",
    };
    let members = [
        ("k8s.cluster.name", workload.cluster.as_str()),
        ("k8s.namespace.name", workload.namespace.as_str()),
        (kind, &workload.workload_name),
        ("service.name", &workload.canonical_name),
        ("service.version", &workload.canonical_revision),
        ("cloud.region", &workload.locality.region),
        ("cloud.availability_zone", &workload.locality.zone),
    ];
    for (key, value) in members.into_iter().filter(|(_, value)| !value.is_empty()) {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        write!(text, "{comma}{key}={value}").ok()?;
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

/// Reads what a peer says of itself; `None` when it says nothing that is known.
#[must_use]
pub fn parse(headers: &HeaderMap) -> Option<Declared> {
    let mut declared = Declared::default();
    let members = headers
        .get_all(BAGGAGE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .take(MAX_MEMBERS);
    for member in members {
        // Properties after a semicolon are not for us.
        let pair = member.split(';').next().unwrap_or_default();
        let Some((key, value)) = pair.split_once('=') else {
            continue;
        };
        let value = value.trim();
        if let Some(field) = field(&mut declared, key.trim())
            && !value.is_empty()
            && value.len() <= MAX_VALUE
        {
            *field = value.into();
        }
    }
    (declared != Declared::default()).then_some(declared)
}

fn field<'a>(declared: &'a mut Declared, key: &str) -> Option<&'a mut Box<str>> {
    Some(match key {
        "k8s.cluster.name" => &mut declared.cluster,
        "k8s.namespace.name" => &mut declared.namespace,
        "k8s.deployment.name" | "k8s.cronjob.name" | "k8s.pod.name" | "k8s.job.name" => {
            &mut declared.workload
        }
        "service.name" => &mut declared.canonical_service,
        "service.version" => &mut declared.canonical_revision,
        "cloud.region" => &mut declared.region,
        "cloud.availability_zone" => &mut declared.zone,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Declared> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(BAGGAGE, value.parse().unwrap());
        }
        parse(&headers)
    }

    #[test]
    fn what_the_reference_sends_is_read() {
        let declared = read(&[
            "k8s.cluster.name=c1,k8s.namespace.name=shop,k8s.deployment.name=web,\
             service.name=web,service.version=v1,cloud.region=r,cloud.availability_zone=z",
        ])
        .unwrap();
        assert_eq!(
            declared,
            Declared {
                workload: "web".into(),
                namespace: "shop".into(),
                cluster: "c1".into(),
                canonical_service: "web".into(),
                canonical_revision: "v1".into(),
                region: "r".into(),
                zone: "z".into(),
            }
        );
    }

    #[test]
    fn several_headers_spaces_properties_and_unknown_keys_are_taken() {
        let declared = read(&["foo=bar, service.name = web ;ttl=3", "k8s.job.name=once"]).unwrap();
        assert_eq!(&*declared.canonical_service, "web");
        assert_eq!(&*declared.workload, "once");
    }

    #[test]
    fn nothing_known_is_nothing() {
        for values in [&[][..], &[""], &["a"], &["service.name="], &["x=y"]] {
            assert_eq!(read(values), None, "{values:?}");
        }
        let long = format!("service.name={}", "x".repeat(MAX_VALUE + 1));
        assert_eq!(read(&[&long]), None);
        let far = format!("{}service.name=web", "a=b,".repeat(MAX_MEMBERS));
        assert_eq!(read(&[&far]), None);
    }
}
