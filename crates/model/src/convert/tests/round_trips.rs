//! What goes out comes back the same, also through bytes; and nothing that comes in panics.

use ambit_proto::{security, workload as proto};
use proptest::prelude::*;

use super::strategies;
use crate::{AddressResource, AuthorizationPolicy, Service, Workload};

/// Encodes and decodes, so that what the wire elides is elided.
fn by_wire<M: prost::Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn a_workload_survives(workload in strategies::workload()) {
        let message: proto::Workload = by_wire(&proto::Workload::from(&workload));
        prop_assert_eq!(Workload::try_from(message).unwrap(), workload);
    }

    #[test]
    fn a_service_survives(service in strategies::service()) {
        let message: proto::Service = by_wire(&proto::Service::from(&service));
        prop_assert_eq!(Service::try_from(message).unwrap(), service);
    }

    #[test]
    fn an_address_survives(workload in strategies::workload(), service in strategies::service()) {
        let resources =
            [AddressResource::Workload(workload), AddressResource::Service(service)];
        for resource in resources {
            let message: proto::Address = by_wire(&proto::Address::from(&resource));
            prop_assert_eq!(AddressResource::try_from(message).unwrap(), resource);
        }
    }

    #[test]
    fn a_policy_survives(policy in strategies::policy()) {
        let message: security::Authorization = by_wire(&security::Authorization::from(&policy));
        prop_assert_eq!(AuthorizationPolicy::try_from(message).unwrap(), policy);
    }

    /// Any bytes that decode either convert or are refused with words of bounded length, and what
    /// converts is stable: to the wire and back it stays what it is.
    #[test]
    fn damaged_bytes_are_refused_or_stable(
        workload in strategies::workload(),
        policy in strategies::policy(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        };
        let bytes = damaged(prost::Message::encode_to_vec(&proto::Workload::from(&workload)));
        if let Ok(message) = <proto::Workload as prost::Message>::decode(bytes.as_slice()) {
            match Workload::try_from(message) {
                Ok(read) => {
                    let again = by_wire(&proto::Workload::from(&read));
                    prop_assert_eq!(Workload::try_from(again).unwrap(), read);
                }
                Err(error) => prop_assert!(error.to_string().len() < 1024),
            }
        }
        let bytes = damaged(prost::Message::encode_to_vec(&security::Authorization::from(&policy)));
        if let Ok(message) = <security::Authorization as prost::Message>::decode(bytes.as_slice()) {
            match AuthorizationPolicy::try_from(message) {
                Ok(read) => {
                    let again = by_wire(&security::Authorization::from(&read));
                    prop_assert_eq!(AuthorizationPolicy::try_from(again).unwrap(), read);
                }
                Err(error) => prop_assert!(error.to_string().len() < 1024),
            }
        }
    }
}
