//! The rules of an AuthorizationPolicy as node agents enforce them. What cannot be expressed at
//! L4 either makes a policy stricter, with a warning, or refuses it; it never makes it weaker.

use ambit_model::{Clause, IpRange, Match, Rule, ServiceAccountMatch, StringMatch};

use crate::api::AuthorizationPolicy;
use crate::api::security::{self, Action, Condition, Operation, Source};
use crate::finding::Problem;
use crate::validate::{is_label, not, port, range};

/// Translates the rules of a policy with action ALLOW or DENY. The rules count only when no
/// problem refuses the policy.
#[must_use]
pub fn rules(policy: &AuthorizationPolicy) -> (Vec<Rule>, Vec<Problem>) {
    let mut translator = Translator {
        namespace: &policy.metadata.namespace,
        action: policy.spec.action,
        problems: Vec::new(),
    };
    let mut rules = Vec::new();
    for (i, rule) in policy.spec.rules.iter().enumerate() {
        rules.extend(translator.rule(rule, &format!("spec.rules[{i}]")));
    }
    (rules, translator.problems)
}

struct Translator<'a> {
    namespace: &'a str,
    action: Action,
    problems: Vec<Problem>,
}

/// Which attributes an entry of a rule uses.
struct Attributes<'a> {
    /// The first that needs HTTP.
    http: Option<&'a str>,
    /// Whether any is known at L4.
    plain: bool,
}

impl Translator<'_> {
    /// `None` when an ALLOW rule needs HTTP: without it the policy allows less.
    fn rule(&mut self, rule: &security::Rule, path: &str) -> Option<Rule> {
        let mut clauses = Vec::new();
        let mut needs_http = false;
        if let Some(from) = &rule.from {
            let path = format!("{path}.from");
            self.refuse_empty(from.is_empty(), &path);
            let mut matches = Vec::new();
            for (i, from) in from.iter().enumerate() {
                let path = format!("{path}[{i}].source");
                let source = from.source.clone().unwrap_or_default();
                needs_http |= self.http(&source_attributes(&source), &path);
                matches.push(self.source(&source, &path));
            }
            clauses.push(Clause { matches });
        }
        if let Some(to) = &rule.to {
            let path = format!("{path}.to");
            self.refuse_empty(to.is_empty(), &path);
            let mut matches = Vec::new();
            for (i, to) in to.iter().enumerate() {
                let path = format!("{path}[{i}].operation");
                let operation = to.operation.clone().unwrap_or_default();
                needs_http |= self.http(&operation_attributes(&operation), &path);
                matches.push(Match {
                    destination_ports: self.ports(&operation.ports, &format!("{path}.ports")),
                    not_destination_ports: self
                        .ports(&operation.not_ports, &format!("{path}.notPorts")),
                    ..Match::default()
                });
            }
            clauses.push(Clause { matches });
        }
        for (i, condition) in rule.when.iter().flatten().enumerate() {
            let path = format!("{path}.when[{i}]");
            match self.condition(condition, &path) {
                Some(found) => clauses.push(Clause {
                    matches: vec![found],
                }),
                None => needs_http = true,
            }
        }
        if needs_http && self.action == Action::Allow {
            let message = "uses HTTP attributes, which a node agent does not see: the rule is left out, so what it would allow is denied";
            self.problems.push(Problem::warning(path, message));
            return None;
        }
        Some(Rule { clauses })
    }

    fn refuse_empty(&mut self, empty: bool, path: &str) {
        if empty {
            let message = "is an empty list, which never matches; leave it out to match everything";
            self.problems.push(Problem::refused(path, message));
        }
    }

    /// Whether an entry uses HTTP attributes. In a DENY policy the L4 part beside them is kept,
    /// which denies more; without one there would be nothing left that denies.
    fn http(&mut self, attributes: &Attributes<'_>, path: &str) -> bool {
        let Some(http) = attributes.http else {
            if !attributes.plain {
                let message = "is empty; name at least one attribute, or leave the entry out";
                self.problems.push(Problem::refused(path, message));
            }
            return false;
        };
        if self.action == Action::Deny {
            let field = format!("{path}.{http}");
            self.problems.push(if attributes.plain {
                Problem::warning(field, "needs HTTP, which a node agent does not see: it is left out, so the rule denies more than it says")
            } else {
                Problem::refused(field, WITHOUT_HTTP)
            });
        }
        true
    }

    fn source(&mut self, source: &Source, path: &str) -> Match {
        Match {
            principals: self.principals(&source.principals, &format!("{path}.principals")),
            not_principals: self
                .principals(&source.not_principals, &format!("{path}.notPrincipals")),
            namespaces: self.strings(&source.namespaces, &format!("{path}.namespaces"), is_label),
            not_namespaces: self.strings(
                &source.not_namespaces,
                &format!("{path}.notNamespaces"),
                is_label,
            ),
            service_accounts: self
                .accounts(&source.service_accounts, &format!("{path}.serviceAccounts")),
            not_service_accounts: self.accounts(
                &source.not_service_accounts,
                &format!("{path}.notServiceAccounts"),
            ),
            source_ips: self.ranges(&source.ip_blocks, &format!("{path}.ipBlocks")),
            not_source_ips: self.ranges(&source.not_ip_blocks, &format!("{path}.notIpBlocks")),
            ..Match::default()
        }
    }

    /// `None` for a condition that needs HTTP.
    fn condition(&mut self, condition: &Condition, path: &str) -> Option<Match> {
        if condition.values.is_empty() && condition.not_values.is_empty() {
            let message = "has neither values nor notValues; list at least one value";
            self.problems.push(Problem::refused(path, message));
        }
        let (is, is_not) = (format!("{path}.values"), format!("{path}.notValues"));
        let (values, not_values) = (&condition.values, &condition.not_values);
        let mut found = Match::default();
        match condition.key.as_str() {
            "source.ip" => {
                found.source_ips = self.ranges(values, &is);
                found.not_source_ips = self.ranges(not_values, &is_not);
            }
            "source.namespace" => {
                found.namespaces = self.strings(values, &is, is_label);
                found.not_namespaces = self.strings(not_values, &is_not, is_label);
            }
            "source.principal" => {
                found.principals = self.principals(values, &is);
                found.not_principals = self.principals(not_values, &is_not);
            }
            "source.serviceAccount" => {
                found.service_accounts = self.accounts(values, &is);
                found.not_service_accounts = self.accounts(not_values, &is_not);
            }
            "destination.ip" => {
                found.destination_ips = self.ranges(values, &is);
                found.not_destination_ips = self.ranges(not_values, &is_not);
            }
            "destination.port" => {
                found.destination_ports = self.ports(values, &is);
                found.not_destination_ports = self.ports(not_values, &is_not);
            }
            key if self.needs_http(key, path) => return None,
            _ => {}
        }
        Some(found)
    }

    /// Whether an attribute is one of HTTP, or of nothing that is known.
    fn needs_http(&mut self, key: &str, path: &str) -> bool {
        let field = format!("{path}.key");
        let http = [
            "request.",
            "remote.ip",
            "connection.sni",
            "experimental.",
            "source.trustDomain",
        ];
        let known = http.iter().any(|prefix| key.starts_with(prefix));
        if !known {
            let form = "source.ip, source.namespace, source.principal, source.serviceAccount, destination.ip or destination.port";
            self.problems.push(not(field, key, form));
        } else if self.action == Action::Deny {
            self.problems.push(Problem::refused(field, WITHOUT_HTTP));
        }
        known
    }

    fn strings(
        &mut self,
        values: &[String],
        path: &str,
        valid: fn(&str) -> bool,
    ) -> Vec<StringMatch> {
        let mut found = Vec::new();
        for (i, value) in values.iter().enumerate() {
            let matcher = string_match(value);
            let exact_is_valid = match &matcher {
                Some(StringMatch::Exact(text)) => valid(text),
                matcher => matcher.is_some(),
            };
            match matcher.filter(|_| exact_is_valid) {
                Some(matcher) => found.push(matcher),
                None => self.problems.push(not(
                    format!("{path}[{i}]"),
                    value,
                    "a name, or one with * at its start or end",
                )),
            }
        }
        found
    }

    fn principals(&mut self, values: &[String], path: &str) -> Vec<StringMatch> {
        let mut found = Vec::new();
        for (i, value) in values.iter().enumerate() {
            let text = value.strip_prefix("spiffe://").unwrap_or(value);
            let matcher = string_match(text).filter(|matcher| match matcher {
                StringMatch::Exact(text) => is_principal(text),
                _ => true,
            });
            match matcher {
                Some(matcher) => found.push(matcher),
                None => self.problems.push(not(
                    format!("{path}[{i}]"),
                    value,
                    "<trust domain>/ns/<namespace>/sa/<service account>, with * allowed at its start or end",
                )),
            }
        }
        found
    }

    fn accounts(&mut self, values: &[String], path: &str) -> Vec<ServiceAccountMatch> {
        let mut found = Vec::new();
        for (i, value) in values.iter().enumerate() {
            let (namespace, account) = value.split_once('/').unwrap_or((self.namespace, value));
            if is_label(namespace) && crate::validate::is_name(account) {
                found.push(ServiceAccountMatch {
                    namespace: namespace.into(),
                    service_account: account.into(),
                });
            } else {
                let form = "<service account> or <namespace>/<service account>, without *";
                self.problems.push(not(format!("{path}[{i}]"), value, form));
            }
        }
        found
    }

    fn ranges(&mut self, values: &[String], path: &str) -> Vec<IpRange> {
        let mut found = Vec::new();
        for (i, value) in values.iter().enumerate() {
            match range(value) {
                Some(range) => found.push(IpRange(range)),
                None => self.problems.push(not(
                    format!("{path}[{i}]"),
                    value,
                    "an IP address or a range such as 10.1.0.0/16",
                )),
            }
        }
        found
    }

    fn ports(&mut self, values: &[String], path: &str) -> Vec<u16> {
        let mut found = Vec::new();
        for (i, value) in values.iter().enumerate() {
            match port(value) {
                Some(port) => found.push(port),
                None => {
                    self.problems
                        .push(not(format!("{path}[{i}]"), value, "a port from 1 to 65535"))
                }
            }
        }
        found
    }
}

const WITHOUT_HTTP: &str = "needs HTTP, which a node agent does not see, and nothing else is left here that could deny; \
    use L4 attributes (principals, namespaces, serviceAccounts, ipBlocks, ports), or a waypoint once there is one";

/// `None` where `*` stands in the middle.
fn string_match(text: &str) -> Option<StringMatch> {
    let (starts, ends) = (text.starts_with('*'), text.ends_with('*'));
    let found = match text {
        "" => return None,
        "*" => StringMatch::Presence,
        _ if starts && ends => return None,
        _ if starts => StringMatch::Suffix(text[1..].into()),
        _ if ends => StringMatch::Prefix(text[..text.len() - 1].into()),
        _ => StringMatch::Exact(text.into()),
    };
    let rest = text.trim_start_matches('*').trim_end_matches('*');
    (!rest.contains('*')).then_some(found)
}

/// `<trust domain>/ns/<namespace>/sa/<service account>`.
fn is_principal(text: &str) -> bool {
    format!("spiffe://{text}")
        .parse::<ambit_model::Identity>()
        .is_ok()
}

fn source_attributes(source: &Source) -> Attributes<'static> {
    let http = [
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ];
    let plain = [
        &source.principals,
        &source.not_principals,
        &source.namespaces,
        &source.not_namespaces,
        &source.service_accounts,
        &source.not_service_accounts,
        &source.ip_blocks,
        &source.not_ip_blocks,
    ];
    attributes(&http, &plain)
}

fn operation_attributes(operation: &Operation) -> Attributes<'static> {
    let http = [
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
    ];
    attributes(&http, &[&operation.ports, &operation.not_ports])
}

fn attributes(
    http: &[(&'static str, &Vec<String>)],
    plain: &[&Vec<String>],
) -> Attributes<'static> {
    Attributes {
        http: http
            .iter()
            .find(|(_, values)| !values.is_empty())
            .map(|(name, _)| *name),
        plain: plain.iter().any(|values| !values.is_empty()),
    }
}
