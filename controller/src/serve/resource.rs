//! One resource in the form it is sent in: encoded once, with a version that is a hash of its
//! content, so that it means the same after a restart and on another replica.

use std::sync::Arc;

use ambit_model::{
    AuthorizationPolicy, GatewayDestination, NodeName, Service, ServiceKey, Workload,
};
use ambit_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, discovery, security, workload};
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use sha2::{Digest as _, Sha256};

/// Field of `DeltaDiscoveryResponse` that holds resources.
const RESOURCES_FIELD: u32 = 2;

/// Field of `istio.workload.Workload` that holds its services.
const SERVICES_FIELD: u32 = 22;

/// What a resource is made from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Workload(Arc<Workload>),
    Service(Arc<Service>),
    Policy(Arc<AuthorizationPolicy>),
}

/// The types there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Address,
    Authorization,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Address, Self::Authorization];

    pub(super) fn type_url(self) -> &'static str {
        match self {
            Self::Address => ADDRESS_TYPE,
            Self::Authorization => AUTHORIZATION_TYPE,
        }
    }

    pub(super) fn of(type_url: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.type_url() == type_url)
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Address => 0,
            Self::Authorization => 1,
        }
    }
}

/// A resource, ready to be sent.
#[derive(Debug)]
pub(super) struct Resource {
    /// Its discovery name.
    pub(super) name: Arc<str>,
    /// Hash of the content.
    pub(super) version: u64,
    /// `network/address` for each of its addresses.
    pub(super) aliases: Box<[Arc<str>]>,
    /// As an element of the response's list of resources, with the field's key and length.
    pub(super) encoded: Bytes,
    /// What it is made from.
    pub(super) source: Source,
}

impl Source {
    /// Whether it is the same object, or one with the same content.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Workload(a), Self::Workload(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Service(a), Self::Service(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Policy(a), Self::Policy(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }

    /// The discovery name.
    pub(super) fn name(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Workload(workload) => workload.uid.as_str().into(),
            Self::Service(service) => service.key().to_string().into(),
            Self::Policy(policy) => policy.key.to_string().into(),
        }
    }

    /// The services a workload is an endpoint of.
    pub(super) fn services(&self) -> Vec<&ServiceKey> {
        match self {
            Self::Workload(workload) => workload.services.keys().collect(),
            _ => Vec::new(),
        }
    }

    /// The node a workload runs on.
    pub(super) fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Workload(workload) => Some(&workload.node),
            _ => None,
        }
    }

    /// The service a service's or workload's traffic is sent through.
    pub(super) fn waypoint(&self) -> Option<String> {
        let waypoint = match self {
            Self::Workload(workload) => workload.waypoint.as_ref(),
            Self::Service(service) => service.waypoint.as_ref(),
            Self::Policy(_) => None,
        };
        match &waypoint?.destination {
            GatewayDestination::Hostname(name) => {
                Some(format!("{}/{}", name.namespace, name.hostname))
            }
            GatewayDestination::Address(at) => Some(format!("{}/{}", at.network, at.address)),
        }
    }

    fn aliases(&self) -> Box<[Arc<str>]> {
        let alias = |network: &str, address| Arc::from(format!("{network}/{address}"));
        match self {
            Self::Workload(workload) => {
                let network = workload.network.as_str();
                workload
                    .addresses
                    .iter()
                    .map(|address| alias(network, *address))
                    .collect()
            }
            Self::Service(service) => service
                .addresses
                .iter()
                .map(|address| alias(address.network.as_str(), address.address))
                .collect(),
            Self::Policy(_) => Box::default(),
        }
    }

    fn encode(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::Workload(workload) => (ADDRESS_TYPE, encode_workload(workload)),
            Self::Service(service) => (
                ADDRESS_TYPE,
                workload::Address::from(&**service).encode_to_vec(),
            ),
            Self::Policy(policy) => (
                AUTHORIZATION_TYPE,
                security::Authorization::from(&**policy).encode_to_vec(),
            ),
        }
    }
}

impl Resource {
    pub(super) fn new(source: Source) -> Self {
        let name: Arc<str> = source.name().into();
        let aliases = source.aliases();
        let (type_url, body) = source.encode();
        let digest = Sha256::digest(&body);
        let mut start = [0; 8];
        start.copy_from_slice(&digest[..8]);
        let version = u64::from_be_bytes(start);
        let message = discovery::Resource {
            version: version_text(version),
            resource: Some(prost_types::Any {
                type_url: type_url.to_owned(),
                value: body,
            }),
            name: name.to_string(),
            aliases: aliases.iter().map(ToString::to_string).collect(),
            ttl: None,
        };
        let mut encoded = BytesMut::with_capacity(message.encoded_len() + 8);
        prost::encoding::message::encode(RESOURCES_FIELD, &message, &mut encoded);
        Self {
            name,
            version,
            aliases,
            encoded: Bytes::from(encoded.to_vec()),
            source,
        }
    }
}

/// A version as clients see it.
pub(super) fn version_text(version: u64) -> String {
    format!("{version:016x}")
}

/// The generated type keeps a workload's services in a hash map, whose order differs from run to
/// run, and with it the hash of the encoding. They are written here in their own order.
fn encode_workload(source: &Workload) -> Vec<u8> {
    let mut message = workload::Workload::from(source);
    let services = std::mem::take(&mut message.services);
    let mut body = message.encode_to_vec();
    let mut services: Vec<_> = services.into_iter().collect();
    services.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, ports) in services {
        let mut entry = Vec::new();
        prost::encoding::string::encode(1, &name, &mut entry);
        prost::encoding::message::encode(2, &ports, &mut entry);
        encode_key(SERVICES_FIELD, WireType::LengthDelimited, &mut body);
        encode_varint(entry.len() as u64, &mut body);
        body.put_slice(&entry);
    }
    let mut address = Vec::with_capacity(body.len() + 6);
    encode_key(1, WireType::LengthDelimited, &mut address);
    encode_varint(body.len() as u64, &mut address);
    address.put_slice(&body);
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_stable_and_readable() {
        let services =
            (0..20).map(|i| (ServiceKey::new("shop", &format!("s{i}.shop")), Vec::new()));
        let source = Workload {
            uid: "c//Pod/shop/web".into(),
            services: services.collect(),
            ..Workload::default()
        };
        let encode = || Resource::new(Source::Workload(Arc::new(source.clone())));
        let (first, second) = (encode(), encode());
        assert_eq!(first.encoded, second.encoded);
        assert_eq!(first.version, second.version);
        let response = discovery::DeltaDiscoveryResponse::decode(first.encoded.clone()).unwrap();
        let body = response.resources[0].resource.as_ref().unwrap();
        let address = workload::Address::decode(&body.value[..]).unwrap();
        assert_eq!(address, workload::Address::from(&source));
    }
}
