//! Names as types, so that a namespace is never taken for a service account. Cheap to clone:
//! each is one shared string.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the name is the empty string.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                // The default shares one allocation between all empty names.
                if value.is_empty() { Self::default() } else { Self(Arc::from(value)) }
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self::from(value.as_str())
            }
        }

        impl From<Arc<str>> for $name {
            fn from(value: Arc<str>) -> Self {
                Self(value)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A Kubernetes namespace.
    Namespace
);
name!(
    /// A Kubernetes service account, without its namespace.
    ServiceAccount
);
name!(
    /// A host name, lower case, without a trailing dot; may start with `*.`.
    Hostname
);
name!(
    /// The network an address belongs to; empty for the only one.
    NetworkId
);
name!(
    /// A node of the cluster.
    NodeName
);
name!(
    /// A cluster of the mesh.
    ClusterId
);
name!(
    /// A pod's Kubernetes uid: what enrolment is keyed by.
    PodUid
);
name!(
    /// A workload's discovery name, such as `cluster//Pod/ns/name`.
    WorkloadUid
);

/// `namespace/name` of an authorization policy: its discovery name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKey {
    /// The policy's namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
}

/// `namespace/hostname` of a service: its discovery name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The service's namespace.
    pub namespace: Namespace,
    /// Its host name.
    pub hostname: Hostname,
}

macro_rules! pair {
    ($pair:ident, $second:ident) => {
        impl $pair {
            /// Joins the two parts.
            pub fn new(namespace: impl Into<Namespace>, second: &str) -> Self {
                Self {
                    namespace: namespace.into(),
                    $second: second.into(),
                }
            }

            /// Splits the discovery name at its first slash; `None` without one.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                let (namespace, second) = name.split_once('/')?;
                (!namespace.is_empty() && !second.is_empty()).then(|| Self::new(namespace, second))
            }
        }

        impl fmt::Display for $pair {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.$second)
            }
        }

        impl serde::Serialize for $pair {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

pair!(PolicyKey, name);
pair!(ServiceKey, hostname);
