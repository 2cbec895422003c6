//! Which kinds there are, which of them the mesh reads, and what becomes of the others.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::meta::Object as _;
use super::{
    AuthorizationPolicy, EndpointSlice, Gateway, GatewayClass, Namespace, Node, ObjectMeta,
    PeerAuthentication, Pod, Service, ServiceEntry, WorkloadEntry,
};

macro_rules! kinds {
    ($($kind:ident, $group:literal, $versions:expr, $namespaced:literal;)+) => {
        /// A kind the mesh reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[expect(missing_docs, reason = "named as in their APIs")]
        pub enum Kind { $($kind),+ }

        /// An object of any kind the mesh reads.
        #[derive(Clone, Debug)]
        #[expect(missing_docs, reason = "named as in their APIs")]
        pub enum AnyObject { $($kind(Arc<$kind>)),+ }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// As written in `kind:`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind)),+ }
            }

            /// API group; empty for Kubernetes' own.
            #[must_use]
            pub fn group(self) -> &'static str {
                match self { $(Self::$kind => $group),+ }
            }

            /// Versions that are read.
            #[must_use]
            pub fn versions(self) -> &'static [&'static str] {
                match self { $(Self::$kind => $versions),+ }
            }

            /// Whether its objects belong to a namespace.
            #[must_use]
            pub fn is_namespaced(self) -> bool {
                match self { $(Self::$kind => $namespaced),+ }
            }

            /// Decodes an object of this kind; an elided namespace becomes `default`.
            pub fn decode<'de, D: Deserializer<'de>>(self, from: D) -> Result<AnyObject, D::Error> {
                match self {
                    $(Self::$kind => {
                        let mut object = $kind::deserialize(from)?;
                        fill(object.meta_mut(), $namespaced);
                        Ok(AnyObject::$kind(Arc::new(object)))
                    })+
                }
            }
        }

        impl AnyObject {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind),+ }
            }

            /// Its metadata.
            #[must_use]
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => object.meta()),+ }
            }
        }
    };
}

const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const SECURITY: &[&str] = &["v1", "v1beta1"];
const GATEWAY: &[&str] = &["v1", "v1beta1"];

kinds! {
    Namespace, "", &["v1"], false;
    Node, "", &["v1"], false;
    Pod, "", &["v1"], true;
    Service, "", &["v1"], true;
    EndpointSlice, "discovery.k8s.io", &["v1", "v1beta1"], true;
    ServiceEntry, "networking.istio.io", NETWORKING, true;
    WorkloadEntry, "networking.istio.io", NETWORKING, true;
    AuthorizationPolicy, "security.istio.io", SECURITY, true;
    PeerAuthentication, "security.istio.io", SECURITY, true;
    Gateway, "gateway.networking.k8s.io", GATEWAY, true;
    GatewayClass, "gateway.networking.k8s.io", GATEWAY, false;
}

fn fill(meta: &mut ObjectMeta, namespaced: bool) {
    if !namespaced {
        meta.namespace.clear();
    } else if meta.namespace.is_empty() {
        meta.namespace.push_str("default");
    }
    // Others can be of any size, and nothing reads them.
    meta.annotations = meta
        .annotations
        .only(|name| name.contains("istio.io/") || name.contains("ambit.dev/"));
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an `apiVersion` and `kind` stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// The mesh reads it.
    Known(Kind),
    /// It is not the mesh's business, such as a Deployment.
    Foreign,
    /// It means something to a mesh, but not to this version, or it is nothing at all.
    Unknown(String),
}

/// Groups whose kinds describe a mesh: passing one over silently would be a lie.
const MESH_GROUPS: &[&str] = &[
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    "gateway.networking.k8s.io",
    "gateway.networking.x-k8s.io",
];

/// Kubernetes' groups without a domain.
const PLAIN_GROUPS: &[&str] = &["apps", "batch", "autoscaling", "policy", "extensions"];

/// Kinds of the core group that are passed over.
const CORE_KINDS: &[&str] = &[
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Endpoints",
    "Event",
    "LimitRange",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Binding",
];

/// Finds out what `apiVersion` and `kind` stand for.
#[must_use]
pub fn recognise(api_version: &str, kind: &str) -> Recognised {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if let Some(known) = Kind::ALL
        .iter()
        .find(|k| k.as_str() == kind && k.group() == group)
    {
        if known.versions().contains(&version) {
            return Recognised::Known(*known);
        }
        let forms: Vec<String> = known.versions().iter().map(|v| join(group, v)).collect();
        return Recognised::Unknown(format!(
            "apiVersion {api_version:?} is not read for {kind}; expected {}",
            forms.join(" or ")
        ));
    }
    if MESH_GROUPS.contains(&group) {
        return Recognised::Unknown(format!(
            "{kind} of {group} is not supported by this version and would have no effect; remove it"
        ));
    }
    if let Some(known) = Kind::ALL.iter().find(|k| k.as_str() == kind) {
        let form = join(known.group(), known.versions()[0]);
        return Recognised::Unknown(format!(
            "there is no {kind} in apiVersion {api_version:?}; expected {form}"
        ));
    }
    let foreign = match group {
        "" => version == "v1" && CORE_KINDS.contains(&kind),
        group => PLAIN_GROUPS.contains(&group) || group.contains('.'),
    };
    if foreign {
        return Recognised::Foreign;
    }
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let hint = crate::watch::decode::closest(kind, &names).map_or_else(
        || format!("the kinds are {}", names.join(", ")),
        |near| format!("did you mean {near}?"),
    );
    Recognised::Unknown(format!(
        "there is no kind {kind:?} in apiVersion {api_version:?}; {hint}"
    ))
}

fn join(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_recognised_in_their_versions() {
        for (api, kind, expected) in [
            ("v1", "Pod", Ok(Kind::Pod)),
            (
                "networking.istio.io/v1",
                "ServiceEntry",
                Ok(Kind::ServiceEntry),
            ),
            (
                "networking.istio.io/v1alpha3",
                "ServiceEntry",
                Ok(Kind::ServiceEntry),
            ),
            (
                "security.istio.io/v1beta1",
                "PeerAuthentication",
                Ok(Kind::PeerAuthentication),
            ),
            (
                "security.istio.io/v2",
                "PeerAuthentication",
                Err("expected security.istio.io/v1 or"),
            ),
            (
                "v1",
                "AuthorizationPolicy",
                Err("expected security.istio.io/v1"),
            ),
            ("v1", "Servise", Err("did you mean Service?")),
            ("v1", "Banana", Err("the kinds are Namespace, Node, Pod")),
            (
                "networking.istio.io/v1",
                "VirtualService",
                Err("not supported by this version"),
            ),
        ] {
            match (recognise(api, kind), expected) {
                (Recognised::Known(found), Ok(kind)) => assert_eq!(found, kind),
                (Recognised::Unknown(reason), Err(part)) => {
                    assert!(reason.contains(part), "{reason}");
                }
                (found, expected) => panic!("{api} {kind}: {found:?}, expected {expected:?}"),
            }
        }
        assert_eq!(recognise("apps/v1", "Deployment"), Recognised::Foreign);
        assert_eq!(recognise("v1", "ConfigMap"), Recognised::Foreign);
        assert_eq!(
            recognise("cert-manager.io/v1", "Issuer"),
            Recognised::Foreign
        );
    }
}
