//! From discovery's resources to changes of the state. Decoding and conversion happen before the
//! store is touched; a resource that makes no sense spoils only itself. A policy that makes no
//! sense is refused *and* stands as one that denies.

use std::sync::Arc;

use ambit_model::{
    Action, AddressResource, AuthorizationPolicy, Converter, PolicyBody, PolicyKey, Scope,
};
use ambit_proto::{security, workload};
use ambit_state::{Change, Writer};
use ambit_xds::{Handler, Rejected, Resource, Update};
use parking_lot::Mutex;
use prost::Message as _;
use tracing::warn;

use super::limits::SWEEP_EVERY;

/// The store's one writer, as the handlers share it. Locked only to apply a finished batch.
pub type SharedWriter = Arc<Mutex<Writer>>;

/// Workloads and services.
pub struct Addresses {
    writer: SharedWriter,
    converter: Converter,
    messages: u32,
}

/// Authorization policies.
pub struct Policies {
    writer: SharedWriter,
    converter: Converter,
}

impl Addresses {
    /// Applies to `writer`.
    #[must_use]
    pub fn new(writer: SharedWriter) -> Self {
        Self {
            writer,
            converter: Converter::default(),
            messages: 0,
        }
    }
}

impl Policies {
    /// Applies to `writer`.
    #[must_use]
    pub fn new(writer: SharedWriter) -> Self {
        Self {
            writer,
            converter: Converter::default(),
        }
    }
}

impl Handler for Addresses {
    fn apply(&mut self, update: Update) -> Vec<Rejected> {
        let mut changes: Vec<_> = update
            .removed
            .into_iter()
            .map(Change::RemoveAddress)
            .collect();
        let mut rejected = Vec::new();
        changes.reserve(update.resources.len());
        for resource in update.resources {
            match address(&mut self.converter, &resource) {
                Ok(change) => changes.push(change),
                Err(reason) => rejected.push(reject("address", resource.name, reason)),
            }
        }
        self.writer.lock().apply(changes);
        self.messages += 1;
        if self.messages.is_multiple_of(SWEEP_EVERY) {
            self.converter.sweep();
        }
        rejected
    }
}

impl Handler for Policies {
    fn apply(&mut self, update: Update) -> Vec<Rejected> {
        let mut changes: Vec<_> = update
            .removed
            .iter()
            .filter_map(|name| PolicyKey::parse(name))
            .map(Change::RemovePolicy)
            .collect();
        let mut rejected = Vec::new();
        for resource in update.resources {
            match policy(&mut self.converter, &resource) {
                Ok(policy) => changes.push(Change::Policy(policy)),
                Err((refusing, reason)) => {
                    changes.extend(refusing.map(Change::Policy));
                    rejected.push(reject("policy", resource.name, reason));
                }
            }
        }
        self.writer.lock().apply(changes);
        rejected
    }
}

fn reject(kind: &str, name: String, reason: String) -> Rejected {
    warn!(
        kind,
        name, reason, "refused a resource of the control plane"
    );
    Rejected { name, reason }
}

/// A workload or service as the change it makes. Public for fuzzing.
///
/// # Errors
/// What is wrong with it.
pub fn address(converter: &mut Converter, resource: &Resource) -> Result<Change, String> {
    let decoded = workload::Address::decode(resource.body.clone())
        .map_err(|error| format!("not an istio.workload.Address: {error}"))?;
    match converter
        .address(decoded)
        .map_err(|error| error.to_string())?
    {
        AddressResource::Workload(workload) => Ok(Change::Workload(workload)),
        AddressResource::Service(service) => Ok(Change::Service(service)),
    }
}

/// A policy. Public for fuzzing.
///
/// # Errors
/// What is wrong with it, and what stands in its place, unless its name cannot be read either.
pub fn policy(
    converter: &mut Converter,
    resource: &Resource,
) -> Result<AuthorizationPolicy, (Option<AuthorizationPolicy>, String)> {
    let decoded = security::Authorization::decode(resource.body.clone()).map_err(|error| {
        let reason = format!("not an istio.security.Authorization: {error}");
        (refusing(&resource.name, &reason), reason)
    })?;
    converter.policy(decoded).map_err(|error| {
        let reason = error.to_string();
        let stands = error.refusing.map(|policy| *policy);
        (stands.or_else(|| refusing(&resource.name, &reason)), reason)
    })
}

/// What stands in place of a policy of which only the resource name is known. Its scope is not
/// known, so it denies in its whole namespace, and for whatever refers to it by name.
fn refusing(name: &str, reason: &str) -> Option<AuthorizationPolicy> {
    Some(AuthorizationPolicy {
        key: PolicyKey::parse(name)?,
        scope: Scope::Namespace,
        action: Action::Deny,
        dry_run: false,
        body: PolicyBody::Invalid(reason.into()),
    })
}

#[cfg(test)]
mod tests {
    use ambit_model::{Namespace, Workload, WorkloadUid};
    use ambit_state::{Reader, Settings};
    use bytes::Bytes;

    use super::*;

    fn store() -> (SharedWriter, Reader) {
        let (writer, reader) = ambit_state::new(Settings::default());
        (Arc::new(Mutex::new(writer)), reader)
    }

    fn resource(name: &str, body: impl Into<Bytes>) -> Resource {
        Resource {
            name: name.to_owned(),
            version: "1".to_owned(),
            aliases: Vec::new(),
            body: body.into(),
        }
    }

    fn workload_resource(uid: &str, address: &[u8]) -> Resource {
        let inner = workload::Workload {
            uid: uid.to_owned(),
            name: "w".to_owned(),
            namespace: "shop".to_owned(),
            addresses: vec![address.to_vec().into()],
            ..workload::Workload::default()
        };
        let wrapped = workload::Address {
            r#type: Some(workload::address::Type::Workload(inner)),
        };
        resource(uid, wrapped.encode_to_vec())
    }

    #[test]
    fn a_bad_resource_spoils_only_itself() {
        let (writer, reader) = store();
        let mut handler = Addresses::new(writer);
        let rejected = handler.apply(Update {
            resources: vec![
                workload_resource("good", &[10, 0, 0, 1]),
                workload_resource("bad", &[10, 0, 0]),
                resource("garbage", vec![0xff; 9]),
            ],
            removed: Vec::new(),
        });
        let names: Vec<_> = rejected.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["bad", "garbage"]);
        assert!(
            reader
                .find_workload_by_uid(&WorkloadUid::from("good"))
                .is_some()
        );
        handler.apply(Update {
            resources: Vec::new(),
            removed: vec!["good".to_owned()],
        });
        assert_eq!(reader.counts().workloads, 0);
    }

    #[test]
    fn a_bad_policy_is_refused_and_denies() {
        let (writer, reader) = store();
        let mut handler = Policies::new(writer);
        let unreadable = resource("shop/unreadable", vec![0xff; 9]);
        let bad = security::Authorization {
            name: "bad".to_owned(),
            namespace: "shop".to_owned(),
            scope: 77,
            ..security::Authorization::default()
        };
        let bad = resource("shop/bad", bad.encode_to_vec());
        let rejected = handler.apply(Update {
            resources: vec![unreadable, bad],
            removed: Vec::new(),
        });
        assert_eq!(rejected.len(), 2);
        for name in ["unreadable", "bad"] {
            let policy = reader.find_policy(&PolicyKey::new("shop", name)).unwrap();
            assert!(matches!(policy.body, PolicyBody::Invalid(_)), "{name}");
        }
        let workload = Workload {
            namespace: Namespace::from("shop"),
            ..Workload::default()
        };
        let connection = ambit_policy::Connection {
            source_identity: None,
            source_ip: "10.0.0.1".parse().unwrap(),
            destination_ip: "10.0.0.2".parse().unwrap(),
            destination_port: 80,
        };
        let decision = reader.policies_for(&workload).decide(&connection);
        assert!(matches!(
            decision.verdict,
            ambit_policy::Verdict::Deny { .. }
        ));
        handler.apply(Update {
            resources: Vec::new(),
            removed: vec!["shop/unreadable".to_owned(), "shop/bad".to_owned()],
        });
        assert_eq!(reader.counts().policies, 0);
    }
}
