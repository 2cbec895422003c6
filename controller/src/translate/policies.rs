//! AuthorizationPolicies of a namespace: their scope, what they select, and what takes the place
//! of those that were refused.

use std::sync::Arc;

use ambit_model::{Action, AuthorizationPolicy, PolicyBody, PolicyKey, Rule, Scope};

use super::authorization;
use super::context::{Inputs, RefusedPolicy};
use crate::api::meta::Labels;
use crate::api::{AuthorizationPolicy as ApiPolicy, Kind, security};
use crate::snapshot::{self, MeshSettings};

/// The policies of a namespace and which labels those with a selector select.
pub(super) fn of_namespace(
    inputs: &Inputs,
    mesh: &MeshSettings,
    namespace: &str,
) -> (Vec<Arc<AuthorizationPolicy>>, Vec<(Labels, PolicyKey)>) {
    let mut published = Vec::new();
    let mut selecting = Vec::new();
    for policy in &inputs.policies {
        let translated = translate(&policy.0, mesh);
        if let Some(labels) = selector(&policy.0) {
            selecting.push((labels.clone(), translated.key.clone()));
        }
        published.push(Arc::new(translated));
    }
    for refused in inputs
        .refused
        .iter()
        .filter(|r| r.kind == Kind::AuthorizationPolicy)
    {
        if let Some(labels) = refused
            .selector
            .as_ref()
            .filter(|_| refused.services.is_empty())
        {
            selecting.push((labels.clone(), refused.key.clone()));
        }
        published.push(Arc::new(denial(refused, mesh, namespace)));
    }
    (published, selecting)
}

fn selector(policy: &ApiPolicy) -> Option<&Labels> {
    let labels = &policy.spec.selector.as_ref()?.match_labels;
    (!labels.is_empty()).then_some(labels)
}

fn wide_scope(mesh: &MeshSettings, namespace: &str) -> Scope {
    if namespace == mesh.root_namespace {
        Scope::Global
    } else {
        Scope::Namespace
    }
}

fn translate(policy: &ApiPolicy, mesh: &MeshSettings) -> AuthorizationPolicy {
    let meta = &policy.metadata;
    AuthorizationPolicy {
        key: PolicyKey::new(meta.namespace.as_str(), &meta.name),
        scope: match selector(policy) {
            Some(_) => Scope::WorkloadSelector,
            None => wide_scope(mesh, &meta.namespace),
        },
        action: match policy.spec.action {
            security::Action::Allow => Action::Allow,
            _ => Action::Deny,
        },
        dry_run: meta.annotation("istio.io/dry-run") == Some("true"),
        body: PolicyBody::Rules(authorization::rules(policy).0),
    }
}

/// Denies everything a refused policy was meant for. A rule without clauses matches every
/// connection, in Istio's node agent as in ours; a clause or match without content would not.
fn denial(refused: &RefusedPolicy, mesh: &MeshSettings, namespace: &str) -> AuthorizationPolicy {
    let selects = refused.selector.is_some() || !refused.services.is_empty();
    AuthorizationPolicy {
        key: refused.key.clone(),
        scope: if selects {
            Scope::WorkloadSelector
        } else {
            wide_scope(mesh, namespace)
        },
        action: Action::Deny,
        dry_run: false,
        body: PolicyBody::Rules(vec![Rule::default()]),
    }
}

/// The name of the policy that denies in the place of a refused one. Never that of a policy in
/// force: `:` cannot be part of a name.
pub(super) fn refused(policy: &snapshot::RefusedPolicy) -> RefusedPolicy {
    let name = match policy.name.as_str() {
        "" => format!(
            "refused:{}:{}",
            policy.place.file.replace('/', "."),
            policy.place.line_of("")
        ),
        name => format!("refused:{name}"),
    };
    RefusedPolicy {
        kind: policy.kind,
        key: PolicyKey::new(policy.namespace.as_str(), &name),
        selector: policy.selector.clone(),
        services: policy.services.clone(),
        reason: Arc::clone(&policy.reason),
    }
}
