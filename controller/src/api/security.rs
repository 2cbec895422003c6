//! `security.istio.io`: who may talk to whom. Unknown fields are refused: a misspelt condition
//! would make a policy mean something else.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::meta::{ObjectMeta, WorkloadSelector, object};

object!(AuthorizationPolicy, PeerAuthentication);

/// Who may connect.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AuthorizationPolicy {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Its content.
    pub spec: AuthorizationPolicySpec,
}

/// An authorization policy's content.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationPolicySpec {
    /// Workloads it applies to; elided means all of the namespace.
    pub selector: Option<WorkloadSelector>,
    /// The older form of `targetRefs`.
    pub target_ref: Option<PolicyTarget>,
    /// Services and gateways whose waypoint applies it.
    pub target_refs: Vec<PolicyTarget>,
    /// Rules; any of them may match.
    pub rules: Vec<Rule>,
    /// What a match means.
    pub action: Action,
    /// For `CUSTOM`.
    pub provider: Option<Provider>,
}

/// An object a policy is attached to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicyTarget {
    /// API group; empty for Kubernetes' own.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; elided means the policy's.
    pub namespace: String,
}

/// What a match means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Let through.
    #[default]
    Allow,
    /// Refuse.
    Deny,
    /// Record.
    Audit,
    /// Ask somebody else.
    Custom,
}

/// Who is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// Name in the mesh configuration.
    pub name: String,
}

/// A rule: all its parts must match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Sources, any of which may match.
    pub from: Option<Vec<From>>,
    /// Operations, any of which may match.
    pub to: Option<Vec<To>>,
    /// Conditions, all of which must match.
    pub when: Option<Vec<Condition>>,
}

/// Wraps a source.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct From {
    /// The source.
    pub source: Option<Source>,
}

/// Wraps an operation.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct To {
    /// The operation.
    pub operation: Option<Operation>,
}

/// Where a connection comes from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the fields are named and described by the API")]
pub struct Source {
    pub principals: Vec<String>,
    pub not_principals: Vec<String>,
    pub request_principals: Vec<String>,
    pub not_request_principals: Vec<String>,
    pub namespaces: Vec<String>,
    pub not_namespaces: Vec<String>,
    pub service_accounts: Vec<String>,
    pub not_service_accounts: Vec<String>,
    pub ip_blocks: Vec<String>,
    pub not_ip_blocks: Vec<String>,
    pub remote_ip_blocks: Vec<String>,
    pub not_remote_ip_blocks: Vec<String>,
}

/// What a connection is for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the fields are named and described by the API")]
pub struct Operation {
    pub hosts: Vec<String>,
    pub not_hosts: Vec<String>,
    pub ports: Vec<String>,
    pub not_ports: Vec<String>,
    pub methods: Vec<String>,
    pub not_methods: Vec<String>,
    pub paths: Vec<String>,
    pub not_paths: Vec<String>,
}

/// A condition on an attribute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Condition {
    /// The attribute.
    pub key: String,
    /// Any of these.
    pub values: Vec<String>,
    /// None of these.
    pub not_values: Vec<String>,
}

/// Whether plain text is accepted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PeerAuthentication {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Its content.
    pub spec: PeerAuthenticationSpec,
}

/// A peer authentication's content.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PeerAuthenticationSpec {
    /// Workloads it applies to; elided means all of the namespace.
    pub selector: Option<WorkloadSelector>,
    /// For all ports.
    pub mtls: MutualTls,
    /// For single ports, by number.
    pub port_level_mtls: BTreeMap<String, MutualTls>,
}

/// Whether plain text is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MutualTls {
    /// The mode.
    pub mode: Mode,
}

/// Whether plain text is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// As the next wider policy says.
    #[default]
    Unset,
    /// It is; as `PERMISSIVE` in an ambient mesh.
    Disable,
    /// It is.
    Permissive,
    /// It is not.
    Strict,
}
