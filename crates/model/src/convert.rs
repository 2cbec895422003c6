//! From the protocol's types to the model's and back. Strict: a resource with a value it cannot
//! have is refused as a whole, with the field and the value named; nothing is dropped silently.

mod address;
mod error;
mod intern;
mod policy;
mod service;
mod workload;

#[cfg(test)]
mod tests;

pub use error::{ConvertError, PolicyError};

use std::sync::Arc;

use ambit_proto::{security, workload as proto};
use prost::Message;

use crate::{AuthorizationPolicy, Service, Workload};
use intern::Interner;

/// One resource of the type `istio.workload.Address`.
#[derive(Clone, Debug, PartialEq)]
pub enum AddressResource {
    /// A workload.
    Workload(Workload),
    /// A service.
    Service(Service),
}

/// Converts resources and shares the strings they have in common: namespaces, nodes, host names.
/// Kept for as long as updates arrive, it also shares between updates.
#[derive(Debug, Default)]
pub struct Converter {
    shared: Interner,
}

impl Converter {
    /// Converts a workload or service.
    ///
    /// # Errors
    /// Names the first field with a value it cannot have.
    pub fn address(&mut self, address: proto::Address) -> Result<AddressResource, ConvertError> {
        match address.r#type {
            Some(proto::address::Type::Workload(w)) => {
                self.workload(w).map(AddressResource::Workload)
            }
            Some(proto::address::Type::Service(s)) => self.service(s).map(AddressResource::Service),
            None => Err(ConvertError::new("type", "", "a workload or a service")),
        }
    }

    /// Reads a workload or service as it is on the wire.
    ///
    /// # Errors
    /// When the bytes are not such a message, or name the first field with a value it cannot have.
    pub fn decode_address(&mut self, bytes: &[u8]) -> Result<AddressResource, ConvertError> {
        let address = proto::Address::decode(bytes).map_err(|error| not_a_message(&error))?;
        self.address(address)
    }

    /// Reads an authorization policy as it is on the wire; `name` is the resource's, by which a
    /// policy that says nothing readable is still known and denies.
    ///
    /// # Errors
    /// As [`Converter::policy`], or when the bytes are not such a message.
    pub fn decode_policy(
        &mut self,
        name: &str,
        bytes: &[u8],
    ) -> Result<AuthorizationPolicy, PolicyError> {
        let policy = match security::Authorization::decode(bytes) {
            Ok(policy) => self.policy(policy),
            Err(error) => {
                let error = not_a_message(&error).of("policy", name);
                Err(PolicyError {
                    error,
                    refusing: None,
                })
            }
        };
        policy.map_err(|refused| refused.known_as(name))
    }

    /// Converts a workload.
    ///
    /// # Errors
    /// Names the first field with a value it cannot have.
    pub fn workload(&mut self, workload: proto::Workload) -> Result<Workload, ConvertError> {
        let name = workload.uid.clone();
        workload::from_proto(workload, &mut self.shared).map_err(|e| e.of("workload", &name))
    }

    /// Converts a service.
    ///
    /// # Errors
    /// Names the first field with a value it cannot have.
    pub fn service(&mut self, service: proto::Service) -> Result<Service, ConvertError> {
        let name = format!("{}/{}", service.namespace, service.hostname);
        service::from_proto(service, &mut self.shared).map_err(|e| e.of("service", &name))
    }

    /// Converts an authorization policy.
    ///
    /// # Errors
    /// Names the first field with a value it cannot have, and holds the policy that refuses
    /// everything in its place.
    pub fn policy(
        &mut self,
        policy: security::Authorization,
    ) -> Result<AuthorizationPolicy, PolicyError> {
        policy::from_proto(policy, &mut self.shared)
    }

    /// Forgets strings that no resource uses any more. To be called now and then by whoever keeps
    /// a converter; costs a look at each string.
    pub fn sweep(&mut self) {
        self.shared.sweep();
    }

    /// Number of strings and lists that are shared.
    #[must_use]
    pub fn shared_len(&self) -> usize {
        self.shared.len()
    }
}

impl TryFrom<proto::Address> for AddressResource {
    type Error = ConvertError;

    fn try_from(address: proto::Address) -> Result<Self, ConvertError> {
        Converter::default().address(address)
    }
}

impl TryFrom<proto::Workload> for Workload {
    type Error = ConvertError;

    fn try_from(workload: proto::Workload) -> Result<Self, ConvertError> {
        Converter::default().workload(workload)
    }
}

impl TryFrom<proto::Service> for Service {
    type Error = ConvertError;

    fn try_from(service: proto::Service) -> Result<Self, ConvertError> {
        Converter::default().service(service)
    }
}

impl TryFrom<security::Authorization> for AuthorizationPolicy {
    type Error = PolicyError;

    fn try_from(policy: security::Authorization) -> Result<Self, PolicyError> {
        Converter::default().policy(policy)
    }
}

impl From<&Workload> for proto::Workload {
    fn from(workload: &Workload) -> Self {
        workload::to_proto(workload)
    }
}

impl From<&Service> for proto::Service {
    fn from(service: &Service) -> Self {
        service::to_proto(service)
    }
}

impl From<&AuthorizationPolicy> for security::Authorization {
    /// An invalid policy becomes the nearest there is on the wire: a DENY with a rule that
    /// matches everything.
    fn from(policy: &AuthorizationPolicy) -> Self {
        policy::to_proto(policy)
    }
}

impl From<&Workload> for proto::Address {
    fn from(workload: &Workload) -> Self {
        Self {
            r#type: Some(proto::address::Type::Workload(workload.into())),
        }
    }
}

impl From<&Service> for proto::Address {
    fn from(service: &Service) -> Self {
        Self {
            r#type: Some(proto::address::Type::Service(service.into())),
        }
    }
}

impl From<&AddressResource> for proto::Address {
    fn from(resource: &AddressResource) -> Self {
        match resource {
            AddressResource::Workload(workload) => workload.into(),
            AddressResource::Service(service) => service.into(),
        }
    }
}

fn not_a_message(error: &prost::DecodeError) -> ConvertError {
    ConvertError::new("message", error, "a resource of its type")
}

/// The text of a shared string for the wire.
fn text(value: impl AsRef<str>) -> String {
    value.as_ref().to_owned()
}

/// `None` stands for an empty text.
fn optional(value: Arc<str>) -> Option<Arc<str>> {
    (!value.is_empty()).then_some(value)
}
