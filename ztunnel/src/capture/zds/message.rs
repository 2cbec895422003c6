//! The messages of ZDS as values. Pure: every byte string gives a request or says why not.

use ambit_model::PodUid;
use ambit_proto::zds::{
    Ack, Version, WorkloadRequest, WorkloadResponse, ZdsHello, workload_request, workload_response,
};
use prost::Message as _;

use crate::capture::PodInfo;
use crate::capture::limits::REASON;

/// What the CNI agent asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The pod whose namespace is attached is in the mesh.
    Add {
        /// The pod.
        uid: PodUid,
        /// Whose it is.
        info: PodInfo,
    },
    /// A pod of an earlier connection stays.
    Keep {
        /// The pod.
        uid: PodUid,
    },
    /// A pod left.
    Remove {
        /// The pod.
        uid: PodUid,
    },
    /// Every pod was listed.
    SnapshotSent,
}

/// Why a message is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than a message may be.
    #[error("the message is longer than allowed")]
    TooLong,
    /// Not a WorkloadRequest.
    #[error("the message is not a WorkloadRequest: {0}")]
    Encoding(String),
    /// A request of no known kind, perhaps of a newer protocol version.
    #[error("the request is empty or of an unknown kind")]
    UnknownKind,
    /// A request without a pod uid.
    #[error("the request names no pod uid")]
    NoUid,
    /// An add that does not say whose pod it is.
    #[error("the request to add a pod has no workload_info")]
    NoInfo,
    /// An add that leaves part of the identity out.
    #[error("workload_info leaves {0} empty")]
    EmptyInfo(&'static str),
    /// An add with no descriptor, or with several.
    #[error("expected exactly one descriptor, of the pod's network namespace, and got {0}")]
    Descriptors(usize),
}

/// Reads one message that came with so many descriptors.
///
/// # Errors
/// See [`Malformed`].
pub fn decode(bytes: &[u8], descriptors: usize) -> Result<Request, Malformed> {
    let request =
        WorkloadRequest::decode(bytes).map_err(|error| Malformed::Encoding(error.to_string()))?;
    match request.payload.ok_or(Malformed::UnknownKind)? {
        workload_request::Payload::Add(add) => {
            let uid = uid(&add.uid)?;
            let info = add.workload_info.ok_or(Malformed::NoInfo)?;
            for (field, value) in [
                ("name", &info.name),
                ("namespace", &info.namespace),
                ("service_account", &info.service_account),
            ] {
                if value.is_empty() {
                    return Err(Malformed::EmptyInfo(field));
                }
            }
            if descriptors != 1 {
                return Err(Malformed::Descriptors(descriptors));
            }
            let info = PodInfo {
                name: info.name.into(),
                namespace: info.namespace.into(),
                service_account: info.service_account.into(),
            };
            Ok(Request::Add { uid, info })
        }
        workload_request::Payload::Keep(keep) => Ok(Request::Keep {
            uid: uid(&keep.uid)?,
        }),
        workload_request::Payload::Del(del) => Ok(Request::Remove {
            uid: uid(&del.uid)?,
        }),
        workload_request::Payload::SnapshotSent(_) => Ok(Request::SnapshotSent),
    }
}

fn uid(text: &str) -> Result<PodUid, Malformed> {
    if text.is_empty() {
        Err(Malformed::NoUid)
    } else {
        Ok(text.into())
    }
}

/// The first message of a connection.
#[must_use]
pub fn hello() -> Vec<u8> {
    ZdsHello {
        version: Version::V1.into(),
    }
    .encode_to_vec()
}

/// The answer to a request; `None` means done.
#[must_use]
pub fn ack(error: Option<&str>) -> Vec<u8> {
    let error = error.unwrap_or_default().chars().take(REASON).collect();
    let payload = Some(workload_response::Payload::Ack(Ack { error }));
    WorkloadResponse { payload }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use ambit_proto::zds::{AddWorkload, DelWorkload, KeepWorkload, SnapshotSent, WorkloadInfo};

    use super::*;

    fn encode(payload: workload_request::Payload) -> Vec<u8> {
        WorkloadRequest {
            payload: Some(payload),
        }
        .encode_to_vec()
    }

    fn add(uid: &str, info: Option<WorkloadInfo>) -> Vec<u8> {
        encode(workload_request::Payload::Add(AddWorkload {
            uid: uid.into(),
            workload_info: info,
        }))
    }

    fn info(name: &str, namespace: &str, service_account: &str) -> Option<WorkloadInfo> {
        Some(WorkloadInfo {
            name: name.into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
        })
    }

    #[test]
    fn requests_and_refusals() {
        let whole = add("u", info("n", "ns", "sa"));
        assert!(matches!(decode(&whole, 1), Ok(Request::Add { uid, .. }) if uid.as_str() == "u"));
        let keep = encode(workload_request::Payload::Keep(KeepWorkload {
            uid: "u".into(),
        }));
        assert_eq!(decode(&keep, 0), Ok(Request::Keep { uid: "u".into() }));
        let remove = encode(workload_request::Payload::Del(DelWorkload {
            uid: "u".into(),
        }));
        // A descriptor that came along is closed, the request is good.
        assert_eq!(decode(&remove, 1), Ok(Request::Remove { uid: "u".into() }));
        let sent = encode(workload_request::Payload::SnapshotSent(SnapshotSent {}));
        assert_eq!(decode(&sent, 0), Ok(Request::SnapshotSent));
        for (bytes, descriptors, expected) in [
            (whole.clone(), 0, Malformed::Descriptors(0)),
            (whole, 2, Malformed::Descriptors(2)),
            (add("", info("n", "ns", "sa")), 1, Malformed::NoUid),
            (add("u", None), 1, Malformed::NoInfo),
            (
                add("u", info("n", "", "sa")),
                1,
                Malformed::EmptyInfo("namespace"),
            ),
            (Vec::new(), 0, Malformed::UnknownKind),
            // Field 9, length 0: a request of a later version.
            (vec![0x4a, 0x00], 0, Malformed::UnknownKind),
        ] {
            assert_eq!(decode(&bytes, descriptors), Err(expected));
        }
        assert!(matches!(decode(&[0xff; 7], 0), Err(Malformed::Encoding(_))));
    }

    #[test]
    fn wire_forms_are_those_of_the_protocol() {
        assert_eq!(hello(), [0x08, 0x01]);
        assert_eq!(ack(None), [0x0a, 0x00]);
        assert_eq!(ack(Some("no")), [0x0a, 0x04, 0x0a, 0x02, b'n', b'o']);
        assert!(ack(Some(&"x".repeat(10_000))).len() < 1024);
    }
}
