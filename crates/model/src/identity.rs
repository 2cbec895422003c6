//! SPIFFE identities as the mesh uses them: trust domain, namespace, service account.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use crate::{Namespace, ServiceAccount};

/// What an elided trust domain stands for; shared, since nearly every workload has it.
static DEFAULT_TRUST_DOMAIN: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("cluster.local"));

/// The scheme every identity is written with.
const SCHEME: &str = "spiffe://";

/// The root of trust an identity belongs to, such as `cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    /// `cluster.local`, what an elided trust domain stands for.
    fn default() -> Self {
        Self(Arc::clone(&DEFAULT_TRUST_DOMAIN))
    }
}

impl From<&str> for TrustDomain {
    fn from(value: &str) -> Self {
        Self(Arc::from(value))
    }
}

impl From<Arc<str>> for TrustDomain {
    fn from(value: Arc<str>) -> Self {
        Self(value)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The root of trust.
    pub trust_domain: TrustDomain,
    /// The Kubernetes namespace.
    pub namespace: Namespace,
    /// The Kubernetes service account.
    pub service_account: ServiceAccount,
}

/// Why a text is not an identity of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{value:?} is not an identity: expected spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
)]
pub struct IdentityError {
    /// The refused text, cut to a printable length.
    pub value: String,
}

impl Identity {
    /// Joins the three parts.
    #[must_use]
    pub fn new(
        trust_domain: TrustDomain,
        namespace: Namespace,
        service_account: ServiceAccount,
    ) -> Self {
        Self {
            trust_domain,
            namespace,
            service_account,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{SCHEME}{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl serde::Serialize for Identity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(value: &str) -> Result<Self, IdentityError> {
        let refuse = || IdentityError {
            value: value.chars().take(256).collect(),
        };
        let rest = value.strip_prefix(SCHEME).ok_or_else(refuse)?;
        let mut parts = rest.split('/');
        let (Some(td), Some("ns"), Some(ns), Some("sa"), Some(sa), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(refuse());
        };
        if td.is_empty() || ns.is_empty() || sa.is_empty() {
            return Err(refuse());
        }
        Ok(Self::new(td.into(), ns.into(), sa.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_parsed_again() {
        let text = "spiffe://cluster.local/ns/shop/sa/web";
        let id: Identity = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in [
            "",
            "spiffe://",
            "cluster.local/ns/a/sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://td/ns//sa/b",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://td/sa/a/ns/b",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
