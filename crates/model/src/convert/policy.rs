//! Authorization policies. One that cannot be understood as a whole becomes one that denies: a
//! match that was dropped, or a field that was ignored, would let through what its author shut out.

use ambit_proto::security as proto;

use super::address::{ip_to_proto, part, port, range};
use super::intern::Interner;
use super::{ConvertError, PolicyError, text};
use crate::{
    Action, AuthorizationPolicy, Clause, IpRange, Match, PolicyBody, PolicyKey, Rule, Scope,
    ServiceAccountMatch, StringMatch,
};

/// Principals may be written with or without it; the model holds them without.
const SCHEME: &str = "spiffe://";

pub(super) fn from_proto(
    p: proto::Authorization,
    shared: &mut Interner,
) -> Result<AuthorizationPolicy, PolicyError> {
    let key = key(&p, shared).map_err(|error| PolicyError {
        error,
        refusing: None,
    })?;
    let scope = scope(p.scope);
    // Where the scope is not known the widest keeps shut whatever it was to keep shut.
    let known_scope = *scope.as_ref().unwrap_or(&Scope::Global);
    let parsed = scope.and_then(|_| Ok((action(p.action)?, rules(&p.rules, shared)?)));
    match parsed {
        Ok((action, rules)) => Ok(AuthorizationPolicy {
            key,
            scope: known_scope,
            action,
            dry_run: p.dry_run,
            body: PolicyBody::Rules(rules),
        }),
        Err(error) => {
            let error = error.of("policy", &key.to_string());
            let refusing = AuthorizationPolicy {
                scope: known_scope,
                dry_run: p.dry_run,
                ..AuthorizationPolicy::invalid(key, &error.to_string())
            };
            Err(PolicyError {
                error,
                refusing: Some(Box::new(refusing)),
            })
        }
    }
}

fn key(p: &proto::Authorization, shared: &mut Interner) -> Result<PolicyKey, ConvertError> {
    let named = |e: ConvertError| e.of("policy", &format!("{}/{}", p.namespace, p.name));
    Ok(PolicyKey {
        namespace: part("namespace", &p.namespace, shared)
            .map_err(named)?
            .into(),
        name: part("name", &p.name, shared).map_err(named)?,
    })
}

fn scope(value: i32) -> Result<Scope, ConvertError> {
    match proto::Scope::try_from(value) {
        Ok(proto::Scope::Global) => Ok(Scope::Global),
        Ok(proto::Scope::Namespace) => Ok(Scope::Namespace),
        Ok(proto::Scope::WorkloadSelector) => Ok(Scope::WorkloadSelector),
        Err(_) => Err(ConvertError::new("scope", value, "a known scope")),
    }
}

fn action(value: i32) -> Result<Action, ConvertError> {
    match proto::Action::try_from(value) {
        Ok(proto::Action::Allow) => Ok(Action::Allow),
        Ok(proto::Action::Deny) => Ok(Action::Deny),
        Err(_) => Err(ConvertError::new("action", value, "ALLOW or DENY")),
    }
}

fn rules(rules: &[proto::Rule], shared: &mut Interner) -> Result<Vec<Rule>, ConvertError> {
    let mut clause = |c: &proto::Clause| {
        let matches = c
            .matches
            .iter()
            .map(|m| one_match(m, shared))
            .collect::<Result<_, _>>()?;
        Ok(Clause { matches })
    };
    let rule = |r: &proto::Rule| {
        let clauses = r
            .clauses
            .iter()
            .map(&mut clause)
            .collect::<Result<_, _>>()?;
        Ok(Rule { clauses })
    };
    rules.iter().map(rule).collect()
}

fn one_match(m: &proto::Match, shared: &mut Interner) -> Result<Match, ConvertError> {
    if let Some(extension) = m.extensions.first() {
        // A match is an AND: without a part of it, it would hold more often.
        return Err(ConvertError::new(
            "extensions",
            &extension.name,
            "no extension",
        ));
    }
    Ok(Match {
        namespaces: strings("namespaces", &m.namespaces, shared)?,
        not_namespaces: strings("not_namespaces", &m.not_namespaces, shared)?,
        principals: principals("principals", &m.principals, shared)?,
        not_principals: principals("not_principals", &m.not_principals, shared)?,
        service_accounts: accounts("service_accounts", &m.service_accounts, shared)?,
        not_service_accounts: accounts("not_service_accounts", &m.not_service_accounts, shared)?,
        source_ips: ranges("source_ips", &m.source_ips)?,
        not_source_ips: ranges("not_source_ips", &m.not_source_ips)?,
        destination_ips: ranges("destination_ips", &m.destination_ips)?,
        not_destination_ips: ranges("not_destination_ips", &m.not_destination_ips)?,
        destination_ports: ports("destination_ports", &m.destination_ports)?,
        not_destination_ports: ports("not_destination_ports", &m.not_destination_ports)?,
    })
}

fn strings(
    field: &'static str,
    values: &[proto::StringMatch],
    shared: &mut Interner,
) -> Result<Vec<StringMatch>, ConvertError> {
    use proto::string_match::MatchType;
    let convert = |value: &proto::StringMatch| match &value.match_type {
        Some(MatchType::Exact(text)) => Ok(StringMatch::Exact(shared.text(text))),
        Some(MatchType::Prefix(text)) => Ok(StringMatch::Prefix(shared.text(text))),
        Some(MatchType::Suffix(text)) => Ok(StringMatch::Suffix(shared.text(text))),
        Some(MatchType::Presence(_)) => Ok(StringMatch::Presence),
        None => Err(ConvertError::new(
            field,
            "",
            "exact, prefix, suffix or presence",
        )),
    };
    values.iter().map(convert).collect()
}

fn principals(
    field: &'static str,
    values: &[proto::StringMatch],
    shared: &mut Interner,
) -> Result<Vec<StringMatch>, ConvertError> {
    let values = strings(field, values, shared)?;
    Ok(values
        .into_iter()
        .map(|value| without_scheme(value, shared))
        .collect())
}

/// The same test for an identity that is written without its scheme.
fn without_scheme(value: StringMatch, shared: &mut Interner) -> StringMatch {
    let (StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Suffix(text)) = &value
    else {
        return value;
    };
    let Some(rest) = text.strip_prefix(SCHEME).map(|rest| shared.text(rest)) else {
        return value;
    };
    match value {
        StringMatch::Prefix(_) => StringMatch::Prefix(rest),
        // A suffix that starts with the scheme is the whole.
        _ => StringMatch::Exact(rest),
    }
}

fn accounts(
    field: &'static str,
    values: &[proto::ServiceAccountMatch],
    shared: &mut Interner,
) -> Result<Vec<ServiceAccountMatch>, ConvertError> {
    let convert = |value: &proto::ServiceAccountMatch| {
        Ok(ServiceAccountMatch {
            namespace: part(field, &value.namespace, shared)?.into(),
            service_account: part(field, &value.service_account, shared)?.into(),
        })
    };
    values.iter().map(convert).collect()
}

fn ranges(field: &'static str, values: &[proto::Address]) -> Result<Vec<IpRange>, ConvertError> {
    values
        .iter()
        .map(|a| range(field, &a.address, a.length).map(IpRange))
        .collect()
}

fn ports(field: &'static str, values: &[u32]) -> Result<Vec<u16>, ConvertError> {
    values.iter().map(|value| port(field, *value)).collect()
}

pub(super) fn to_proto(p: &AuthorizationPolicy) -> proto::Authorization {
    let (action, rules) = match &p.body {
        PolicyBody::Rules(rules) => (p.action, rules.iter().map(rule_to_proto).collect()),
        // A rule without clauses matches everything.
        PolicyBody::Invalid(_) => (Action::Deny, vec![proto::Rule::default()]),
    };
    proto::Authorization {
        name: text(&p.key.name),
        namespace: text(&p.key.namespace),
        scope: match p.scope {
            Scope::Global => proto::Scope::Global,
            Scope::Namespace => proto::Scope::Namespace,
            Scope::WorkloadSelector => proto::Scope::WorkloadSelector,
        }
        .into(),
        action: match action {
            Action::Allow => proto::Action::Allow,
            Action::Deny => proto::Action::Deny,
        }
        .into(),
        rules,
        dry_run: p.dry_run,
        extensions: Vec::new(),
    }
}

fn rule_to_proto(rule: &Rule) -> proto::Rule {
    let clause = |c: &Clause| proto::Clause {
        matches: c.matches.iter().map(match_to_proto).collect(),
    };
    proto::Rule {
        clauses: rule.clauses.iter().map(clause).collect(),
    }
}

fn match_to_proto(m: &Match) -> proto::Match {
    let strings = |values: &[StringMatch]| values.iter().map(string_to_proto).collect();
    let ranges = |values: &[IpRange]| values.iter().map(range_to_proto).collect();
    let ports = |values: &[u16]| values.iter().map(|port| u32::from(*port)).collect();
    let accounts = |values: &[ServiceAccountMatch]| {
        values
            .iter()
            .map(|a| proto::ServiceAccountMatch {
                namespace: text(&a.namespace),
                service_account: text(&a.service_account),
            })
            .collect()
    };
    proto::Match {
        namespaces: strings(&m.namespaces),
        not_namespaces: strings(&m.not_namespaces),
        principals: strings(&m.principals),
        not_principals: strings(&m.not_principals),
        source_ips: ranges(&m.source_ips),
        not_source_ips: ranges(&m.not_source_ips),
        destination_ips: ranges(&m.destination_ips),
        not_destination_ips: ranges(&m.not_destination_ips),
        destination_ports: ports(&m.destination_ports),
        not_destination_ports: ports(&m.not_destination_ports),
        service_accounts: accounts(&m.service_accounts),
        not_service_accounts: accounts(&m.not_service_accounts),
        extensions: Vec::new(),
    }
}

fn string_to_proto(value: &StringMatch) -> proto::StringMatch {
    use proto::string_match::MatchType;
    let match_type = match value {
        StringMatch::Exact(value) => MatchType::Exact(text(value)),
        StringMatch::Prefix(value) => MatchType::Prefix(text(value)),
        StringMatch::Suffix(value) => MatchType::Suffix(text(value)),
        StringMatch::Presence => MatchType::Presence(()),
    };
    proto::StringMatch {
        match_type: Some(match_type),
    }
}

fn range_to_proto(range: &IpRange) -> proto::Address {
    proto::Address {
        address: ip_to_proto(range.0.network()).into(),
        length: range.0.prefix_len().into(),
    }
}
