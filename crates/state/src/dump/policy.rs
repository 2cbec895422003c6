//! A policy in the dump.

use std::sync::Arc;

use ambit_model::{
    Action, AuthorizationPolicy, IpRange, Match, Namespace, PolicyBody, Rule, Scope, StringMatch,
};
use serde::Serialize;

/// A policy in the dump.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of a policy")]
pub struct PolicyDump {
    pub name: Arc<str>,
    pub namespace: Namespace,
    pub scope: Scope,
    pub action: Action,
    pub dry_run: bool,
    /// Rules, their clauses, their matches.
    pub rules: Vec<Vec<Vec<MatchDump>>>,
    /// Why the policy could not be understood; it then denies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid: Option<Arc<str>>,
}

/// A match in the dump.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of a match")]
pub struct MatchDump {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<StringDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_namespaces: Vec<StringDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<StringDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_principals: Vec<StringDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<AccountDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_service_accounts: Vec<AccountDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<IpRange>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_source_ips: Vec<IpRange>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_ips: Vec<IpRange>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_destination_ips: Vec<IpRange>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_ports: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_destination_ports: Vec<u16>,
}

/// A text test in the dump, such as `{"Exact": "web"}`.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the variants are those of a text test")]
pub enum StringDump {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Suffix(Arc<str>),
    Presence([(); 0]),
}

/// A service account in the dump.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of a service account")]
pub struct AccountDump {
    pub namespace: Namespace,
    pub service_account: ambit_model::ServiceAccount,
}

impl PolicyDump {
    pub(super) fn of(p: &AuthorizationPolicy) -> Self {
        let (rules, invalid) = match &p.body {
            PolicyBody::Rules(rules) => (rules.iter().map(rule).collect(), None),
            PolicyBody::Invalid(reason) => (Vec::new(), Some(Arc::clone(reason))),
        };
        Self {
            name: Arc::clone(&p.key.name),
            namespace: p.key.namespace.clone(),
            scope: p.scope,
            action: p.action,
            dry_run: p.dry_run,
            rules,
            invalid,
        }
    }
}

fn rule(rule: &Rule) -> Vec<Vec<MatchDump>> {
    rule.clauses
        .iter()
        .map(|clause| clause.matches.iter().map(MatchDump::of).collect())
        .collect()
}

impl MatchDump {
    fn of(m: &Match) -> Self {
        let texts = |values: &[StringMatch]| values.iter().map(StringDump::of).collect();
        let accounts = |values: &[ambit_model::ServiceAccountMatch]| {
            values
                .iter()
                .map(|value| AccountDump {
                    namespace: value.namespace.clone(),
                    service_account: value.service_account.clone(),
                })
                .collect()
        };
        Self {
            namespaces: texts(&m.namespaces),
            not_namespaces: texts(&m.not_namespaces),
            principals: texts(&m.principals),
            not_principals: texts(&m.not_principals),
            service_accounts: accounts(&m.service_accounts),
            not_service_accounts: accounts(&m.not_service_accounts),
            source_ips: m.source_ips.clone(),
            not_source_ips: m.not_source_ips.clone(),
            destination_ips: m.destination_ips.clone(),
            not_destination_ips: m.not_destination_ips.clone(),
            destination_ports: m.destination_ports.clone(),
            not_destination_ports: m.not_destination_ports.clone(),
        }
    }
}

impl StringDump {
    fn of(value: &StringMatch) -> Self {
        match value {
            StringMatch::Exact(text) => Self::Exact(Arc::clone(text)),
            StringMatch::Prefix(text) => Self::Prefix(Arc::clone(text)),
            StringMatch::Suffix(text) => Self::Suffix(Arc::clone(text)),
            StringMatch::Presence => Self::Presence([]),
        }
    }
}
