//! Laws that hold for all policies and connections.

use ambit_model::{
    Action, AuthorizationPolicy, Clause, Identity, IpRange, Match, PolicyBody, PolicyKey, Rule,
    Scope, ServiceAccountMatch, StringMatch,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{anything, ip, policy as plain};
use crate::{Connection, decide, matches};

/// Few values, so that matches happen.
fn texts() -> impl Strategy<Value = StringMatch> {
    let text = select(vec![
        "a",
        "b",
        "td/ns/a/sa/a",
        "td/ns/b/sa/a",
        "td/",
        "/sa/a",
        "a/sa/a",
    ]);
    (text, 0..4).prop_map(|(text, kind)| match kind {
        0 => StringMatch::Exact(text.into()),
        1 => StringMatch::Prefix(text.into()),
        2 => StringMatch::Suffix(text.into()),
        _ => StringMatch::Presence,
    })
}

fn accounts() -> impl Strategy<Value = ServiceAccountMatch> {
    (select(vec!["a", "b"]), select(vec!["a", "b"])).prop_map(|(namespace, account)| {
        ServiceAccountMatch {
            namespace: namespace.into(),
            service_account: account.into(),
        }
    })
}

fn ranges() -> impl Strategy<Value = IpRange> {
    select(vec![
        "10.0.0.0/24",
        "10.0.1.0/24",
        "10.0.0.1/32",
        "0.0.0.0/0",
        "::/0",
    ])
    .prop_map(|text| IpRange(text.parse().unwrap()))
}

fn a_match() -> impl Strategy<Value = Match> {
    let few = || vec(texts(), 0..2);
    let port = || vec(select(vec![80u16, 81]), 0..2);
    (
        (few(), few(), few(), few()),
        (vec(accounts(), 0..2), vec(accounts(), 0..2)),
        (
            vec(ranges(), 0..2),
            vec(ranges(), 0..2),
            vec(ranges(), 0..2),
            vec(ranges(), 0..2),
        ),
        (port(), port()),
    )
        .prop_map(|(texts, accounts, ips, ports)| Match {
            namespaces: texts.0,
            not_namespaces: texts.1,
            principals: texts.2,
            not_principals: texts.3,
            service_accounts: accounts.0,
            not_service_accounts: accounts.1,
            source_ips: ips.0,
            not_source_ips: ips.1,
            destination_ips: ips.2,
            not_destination_ips: ips.3,
            destination_ports: ports.0,
            not_destination_ports: ports.1,
        })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let clause = vec(a_match(), 0..3).prop_map(|matches| Clause { matches });
    vec(vec(clause, 0..3).prop_map(|clauses| Rule { clauses }), 0..3)
}

fn policy() -> impl Strategy<Value = AuthorizationPolicy> {
    let body = prop_oneof![
        8 => rules().prop_map(PolicyBody::Rules),
        1 => Just(PolicyBody::Invalid("test".into())),
    ];
    let action = select(vec![Action::Allow, Action::Deny]);
    ("[a-z]{3}", action, prop::bool::weighted(0.2), body).prop_map(
        |(name, action, dry_run, body)| AuthorizationPolicy {
            key: PolicyKey::new("ns", &name),
            scope: Scope::Namespace,
            action,
            dry_run,
            body,
        },
    )
}

fn policies() -> impl Strategy<Value = Vec<AuthorizationPolicy>> {
    vec(policy(), 0..6)
}

#[derive(Clone, Debug)]
struct Peer {
    identity: Option<Identity>,
    ips: (&'static str, &'static str),
    port: u16,
}

impl Peer {
    fn connection(&self) -> Connection<'_> {
        Connection {
            source_identity: self.identity.as_ref(),
            source_ip: ip(self.ips.0),
            destination_ip: ip(self.ips.1),
            destination_port: self.port,
        }
    }
}

fn peer() -> impl Strategy<Value = Peer> {
    let name = || select(vec!["a", "b"]);
    let identity = (name(), name()).prop_map(|(namespace, account)| {
        Identity::new("td".into(), namespace.into(), account.into())
    });
    let address = || select(vec!["10.0.0.1", "10.0.1.1", "::1", "::ffff:10.0.0.1"]);
    (
        option::of(identity),
        (address(), address()),
        select(vec![80u16, 81]),
    )
        .prop_map(|(identity, ips, port)| Peer {
            identity,
            ips,
            port,
        })
}

fn allowed<'a>(policies: impl IntoIterator<Item = &'a AuthorizationPolicy>, peer: &Peer) -> bool {
    decide(policies, &peer.connection()).is_allowed()
}

proptest! {
    #[test]
    fn a_deny_that_matches_is_never_overridden(policies in policies(), peer in peer()) {
        let deny = plain("deny", Action::Deny, vec![anything()]);
        prop_assert!(!allowed(policies.iter().chain([&deny]), &peer));
        prop_assert!(!allowed([&deny].into_iter().chain(&policies), &peer));
    }

    #[test]
    fn an_invalid_policy_is_never_overridden(policies in policies(), peer in peer()) {
        let invalid = AuthorizationPolicy::invalid(PolicyKey::new("ns", "x"), "test");
        prop_assert!(!allowed(policies.iter().chain([&invalid]), &peer));
    }

    #[test]
    fn the_order_of_policies_and_rules_is_irrelevant(
        policies in policies().prop_flat_map(|p| (Just(p.clone()), Just(p).prop_shuffle())),
        peer in peer(),
    ) {
        let (original, mut shuffled) = policies;
        for policy in &mut shuffled {
            if let PolicyBody::Rules(rules) = &mut policy.body {
                rules.reverse();
                for rule in rules {
                    rule.clauses.reverse();
                    for clause in &mut rule.clauses {
                        clause.matches.reverse();
                    }
                }
            }
        }
        prop_assert_eq!(allowed(&original, &peer), allowed(&shuffled, &peer));
    }

    #[test]
    fn a_dry_run_never_changes_the_verdict(policies in policies(), peer in peer()) {
        let enforced: Vec<_> = policies.iter().filter(|p| !p.dry_run).cloned().collect();
        let all = decide(&policies, &peer.connection());
        let only = decide(&enforced, &peer.connection());
        prop_assert_eq!(&all.verdict, &only.verdict);
        prop_assert_eq!(all.dry_run.len(), policies.len() - enforced.len());
        prop_assert!(only.dry_run.is_empty());
    }

    #[test]
    fn a_policy_more_that_does_not_match_never_opens(
        policies in policies(),
        action in select(vec![Action::Allow, Action::Deny]),
        peer in peer(),
    ) {
        let other = plain("other", action, vec![]);
        let before = allowed(&policies, &peer);
        let after = allowed(policies.iter().chain([&other]), &peer);
        prop_assert!(before || !after);
    }

    #[test]
    fn a_deny_more_never_opens(policies in policies(), rules in rules(), peer in peer()) {
        let deny = plain("deny", Action::Deny, rules);
        let before = allowed(&policies, &peer);
        let after = allowed(policies.iter().chain([&deny]), &peer);
        prop_assert!(before || !after);
    }

    #[test]
    fn an_allow_that_matches_opens_what_only_lacked_one(policies in policies(), peer in peer()) {
        let denies: Vec<_> =
            policies.iter().filter(|p| p.action == Action::Deny).cloned().collect();
        let allow = plain("allow", Action::Allow, vec![anything()]);
        let after = allowed(policies.iter().chain([&allow]), &peer);
        let invalid = policies.iter().any(|p| !p.dry_run && matches!(p.body, PolicyBody::Invalid(_)));
        prop_assert_eq!(after, allowed(&denies, &peer) && !invalid);
    }

    /// `not_x` holds exactly where `x` does not, for each field by itself.
    #[test]
    fn negation_is_the_complement(m in a_match(), peer in peer()) {
        let of = |m: Match| matches(&[super::rule(m)], &peer.connection());
        let none = Match::default;
        let pairs = [
            (Match { namespaces: m.namespaces.clone(), ..none() },
             Match { not_namespaces: m.namespaces, ..none() }),
            (Match { principals: m.principals.clone(), ..none() },
             Match { not_principals: m.principals, ..none() }),
            (Match { service_accounts: m.service_accounts.clone(), ..none() },
             Match { not_service_accounts: m.service_accounts, ..none() }),
            (Match { source_ips: m.source_ips.clone(), ..none() },
             Match { not_source_ips: m.source_ips, ..none() }),
            (Match { destination_ips: m.destination_ips.clone(), ..none() },
             Match { not_destination_ips: m.destination_ips, ..none() }),
            (Match { destination_ports: m.destination_ports.clone(), ..none() },
             Match { not_destination_ports: m.destination_ports, ..none() }),
        ];
        for (positive, negative) in pairs {
            if !positive.is_empty() {
                prop_assert_eq!(of(positive.clone()), !of(negative), "{:?}", positive);
            }
        }
    }

    /// Testing in pieces is testing the identity as it is written.
    #[test]
    fn principals_are_matched_as_text(value in texts(), peer in peer()) {
        let Some(identity) = peer.identity.clone() else { return Ok(()) };
        let text = identity.to_string();
        let text = text.strip_prefix("spiffe://").unwrap();
        let expected = match &value {
            StringMatch::Exact(value) => text == &**value,
            StringMatch::Prefix(value) => text.starts_with(&**value),
            StringMatch::Suffix(value) => text.ends_with(&**value),
            StringMatch::Presence => true,
        };
        let m = Match { principals: vec![value], ..Match::default() };
        prop_assert_eq!(matches(&[super::rule(m)], &peer.connection()), expected);
    }
}

/// The cut of an identity at every place, as prefix and as suffix.
#[test]
fn every_prefix_and_suffix_of_an_identity_matches() {
    let identity: Identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    let text = "cluster.local/ns/shop/sa/web";
    let connection = super::connection(Some(&identity));
    let of = |value: StringMatch| {
        let m = Match {
            principals: vec![value],
            ..Match::default()
        };
        matches(&[super::rule(m)], &connection)
    };
    for at in 0..=text.len() {
        let (head, tail) = text.split_at(at);
        assert!(of(StringMatch::Prefix(head.into())), "{head}");
        assert!(of(StringMatch::Suffix(tail.into())), "{tail}");
        assert!(
            !of(StringMatch::Prefix(format!("{head}~").into())),
            "{head}~"
        );
        assert!(
            !of(StringMatch::Suffix(format!("~{tail}").into())),
            "~{tail}"
        );
        assert_eq!(
            of(StringMatch::Exact(head.into())),
            at == text.len(),
            "{head}"
        );
    }
}
