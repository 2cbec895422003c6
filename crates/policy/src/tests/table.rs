//! Every match type, with and without an identity, and its complement.

use ambit_model::{IpRange, Match, Rule, ServiceAccountMatch, StringMatch};

use super::{connection, identity, ip, rule};
use crate::{Connection, matches};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn exact(text: &str) -> Vec<StringMatch> {
    vec![StringMatch::Exact(text.into())]
}

fn prefix(text: &str) -> Vec<StringMatch> {
    vec![StringMatch::Prefix(text.into())]
}

fn suffix(text: &str) -> Vec<StringMatch> {
    vec![StringMatch::Suffix(text.into())]
}

fn account(namespace: &str, account: &str) -> Vec<ServiceAccountMatch> {
    vec![ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: account.into(),
    }]
}

fn range(text: &str) -> Vec<IpRange> {
    vec![IpRange(text.parse().unwrap())]
}

/// Checks a positive match, and that its complement says the opposite.
fn check(positive: Match, expected: bool, connection: &Connection<'_>) {
    let negative = Match {
        namespaces: positive.not_namespaces.clone(),
        not_namespaces: positive.namespaces.clone(),
        principals: positive.not_principals.clone(),
        not_principals: positive.principals.clone(),
        service_accounts: positive.not_service_accounts.clone(),
        not_service_accounts: positive.service_accounts.clone(),
        source_ips: positive.not_source_ips.clone(),
        not_source_ips: positive.source_ips.clone(),
        destination_ips: positive.not_destination_ips.clone(),
        not_destination_ips: positive.destination_ips.clone(),
        destination_ports: positive.not_destination_ports.clone(),
        not_destination_ports: positive.destination_ports.clone(),
    };
    assert_eq!(
        matches(&[rule(positive.clone())], connection),
        expected,
        "{positive:?}"
    );
    assert_eq!(
        matches(&[rule(negative.clone())], connection),
        !expected,
        "{negative:?}"
    );
}

#[test]
fn principals() {
    let web = identity(WEB);
    let rows = [
        (exact("cluster.local/ns/shop/sa/web"), true),
        (exact(WEB), true),
        (exact("cluster.local/ns/shop/sa/we"), false),
        (exact("cluster.local/ns/shop/sa/web2"), false),
        (exact(""), false),
        (exact("*"), false),
        (prefix("cluster.local/ns/shop/"), true),
        (prefix("spiffe://cluster.local/ns/sh"), true),
        (prefix("cluster.local/ns/shop/sa/web"), true),
        (prefix("cluster.local/ns/shop/sa/web/"), false),
        (prefix("cluster.locale"), false),
        (prefix(""), true),
        (suffix("/sa/web"), true),
        (suffix("op/sa/web"), true),
        (suffix(WEB), true),
        (suffix("cluster.local/ns/shop/sa/web"), true),
        (suffix("x.cluster.local/ns/shop/sa/web"), false),
        (suffix("spiffe://shop/sa/web"), false),
        (suffix("/sa/eb"), false),
        (suffix(""), true),
        (vec![StringMatch::Presence], true),
        ([exact("other"), suffix("/web")].concat(), true),
    ];
    for (principals, expected) in rows {
        let m = Match {
            principals,
            ..Match::default()
        };
        check(m.clone(), expected, &connection(Some(&web)));
        // Who has no identity matches no value, and so every complement.
        check(m, false, &connection(None));
    }
}

#[test]
fn namespaces() {
    let web = identity(WEB);
    let rows = [
        (exact("shop"), true),
        (exact("sho"), false),
        (exact("shopping"), false),
        (prefix("sh"), true),
        (prefix("op"), false),
        (suffix("op"), true),
        (suffix("sh"), false),
        (vec![StringMatch::Presence], true),
    ];
    for (namespaces, expected) in rows {
        let m = Match {
            namespaces,
            ..Match::default()
        };
        check(m.clone(), expected, &connection(Some(&web)));
        check(m, false, &connection(None));
    }
}

#[test]
fn service_accounts() {
    let web = identity(WEB);
    let rows = [
        (account("shop", "web"), true),
        (account("shop", "db"), false),
        (account("bank", "web"), false),
        (
            [account("bank", "web"), account("shop", "web")].concat(),
            true,
        ),
    ];
    for (service_accounts, expected) in rows {
        let m = Match {
            service_accounts,
            ..Match::default()
        };
        check(m.clone(), expected, &connection(Some(&web)));
        check(m, false, &connection(None));
    }
}

#[test]
fn addresses() {
    let rows = [
        ("10.0.0.1/32", true, false),
        ("10.0.0.0/24", true, false),
        ("10.1.0.0/16", false, true),
        ("10.0.0.0/8", true, true),
        ("0.0.0.0/0", true, true),
        ("::/0", false, false),
        ("10.0.0.2/32", false, false),
    ];
    for (text, source, destination) in rows {
        let sources = Match {
            source_ips: range(text),
            ..Match::default()
        };
        check(sources, source, &connection(None));
        let destinations = Match {
            destination_ips: range(text),
            ..Match::default()
        };
        check(destinations, destination, &connection(None));
    }
}

/// A peer on a dual-stack socket is still an IPv4 peer.
#[test]
fn a_mapped_address_is_ipv4() {
    let mapped = Connection {
        source_ip: ip("::ffff:10.0.0.1"),
        ..connection(None)
    };
    check(
        Match {
            source_ips: range("10.0.0.0/24"),
            ..Match::default()
        },
        true,
        &mapped,
    );
    let v6 = Connection {
        source_ip: ip("2001:db8::1"),
        ..connection(None)
    };
    check(
        Match {
            source_ips: range("2001:db8::/32"),
            ..Match::default()
        },
        true,
        &v6,
    );
    check(
        Match {
            source_ips: range("0.0.0.0/0"),
            ..Match::default()
        },
        false,
        &v6,
    );
}

#[test]
fn ports() {
    for (destination_ports, expected) in [
        (vec![80], true),
        (vec![443], false),
        (vec![443, 80], true),
        (vec![0], false),
    ] {
        check(
            Match {
                destination_ports,
                ..Match::default()
            },
            expected,
            &connection(None),
        );
    }
}

#[test]
fn fields_are_anded() {
    let web = identity(WEB);
    let both = |port: u16, namespace: &str| Match {
        destination_ports: vec![port],
        namespaces: exact(namespace),
        ..Match::default()
    };
    let holds = |m: Match| matches(&[rule(m)], &connection(Some(&web)));
    assert!(holds(both(80, "shop")));
    assert!(!holds(both(81, "shop")));
    assert!(!holds(both(80, "bank")));
    let except = Match {
        namespaces: prefix("sh"),
        not_service_accounts: account("shop", "web"),
        ..Match::default()
    };
    assert!(!holds(except));
}

/// Rules are ORed, clauses ANDed, matches ORed; and what is empty at each level.
#[test]
fn the_levels_and_their_empty_forms() {
    let yes = || Match {
        destination_ports: vec![80],
        ..Match::default()
    };
    let no = || Match {
        destination_ports: vec![81],
        ..Match::default()
    };
    let clause = |matches: Vec<Match>| ambit_model::Clause { matches };
    let holds = |rules: &[Rule]| matches(rules, &connection(None));
    assert!(!holds(&[]), "no rules: never");
    assert!(holds(&[Rule::default()]), "a rule without clauses: always");
    assert!(
        holds(&[Rule {
            clauses: vec![clause(vec![])]
        }]),
        "a clause without matches holds"
    );
    assert!(
        !holds(&[rule(Match::default())]),
        "an empty match never does"
    );
    assert!(holds(&[Rule {
        clauses: vec![clause(vec![Match::default(), yes()])]
    }]));
    assert!(
        holds(&[Rule {
            clauses: vec![clause(vec![no(), yes()])]
        }]),
        "matches are ORed"
    );
    assert!(
        !holds(&[Rule {
            clauses: vec![clause(vec![yes()]), clause(vec![no()])]
        }]),
        "ANDed"
    );
    assert!(holds(&[rule(no()), rule(yes())]), "rules are ORed");
    let void = Rule {
        clauses: vec![clause(vec![yes()]), clause(vec![Match::default()])],
    };
    assert!(!holds(&[void]), "an empty match voids its rule");
}
