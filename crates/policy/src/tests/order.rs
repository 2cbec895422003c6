//! Which policy wins, what the decision names, and PeerAuthentication's policies.

use std::sync::Arc;

use ambit_model::{Action, AuthorizationPolicy, Match, PolicyKey, Scope};

use super::{anything, connection, identity, nothing, policy, rule};
use crate::{
    Connection, DenyReason, PolicySet, STRICT_POLICY_NAME, Verdict, converted_name, decide, strict,
    strict_ports,
};

fn key(name: &str) -> Option<PolicyKey> {
    Some(PolicyKey::new("shop", name))
}

fn verdict(policies: &[AuthorizationPolicy]) -> Verdict {
    decide(policies, &connection(None)).verdict
}

#[test]
fn deny_goes_before_allow_and_no_allow_policy_allows() {
    let allow = || policy("allow", Action::Allow, vec![anything()]);
    let allow_none = || policy("allow-none", Action::Allow, vec![]);
    let allow_other = || policy("allow-other", Action::Allow, vec![nothing()]);
    let deny = || policy("deny", Action::Deny, vec![anything()]);
    let deny_other = || policy("deny-other", Action::Deny, vec![nothing()]);
    let denied = |name, reason| Verdict::Deny {
        by: key(name),
        reason,
    };
    let rows = [
        (vec![], Verdict::Allow { by: None }),
        (vec![deny_other()], Verdict::Allow { by: None }),
        (vec![deny()], denied("deny", DenyReason::Matched)),
        (vec![allow()], Verdict::Allow { by: key("allow") }),
        (vec![allow(), deny()], denied("deny", DenyReason::Matched)),
        (
            vec![allow(), deny_other()],
            Verdict::Allow { by: key("allow") },
        ),
        (
            vec![allow_none()],
            denied("allow-none", DenyReason::NoAllowMatched),
        ),
        (
            vec![allow_other()],
            denied("allow-other", DenyReason::NoAllowMatched),
        ),
        (
            vec![allow_other(), allow()],
            Verdict::Allow { by: key("allow") },
        ),
        (
            vec![allow_other(), deny()],
            denied("deny", DenyReason::Matched),
        ),
        (
            vec![allow_none(), deny_other()],
            denied("allow-none", DenyReason::NoAllowMatched),
        ),
    ];
    for (policies, expected) in rows {
        assert_eq!(verdict(&policies), expected, "{policies:?}");
    }
}

#[test]
fn what_is_not_understood_or_not_known_denies() {
    let invalid = AuthorizationPolicy::invalid(PolicyKey::new("shop", "broken"), "why");
    let allow = policy("allow", Action::Allow, vec![anything()]);
    let denied = |name, reason| Verdict::Deny {
        by: key(name),
        reason,
    };
    assert_eq!(
        verdict(&[allow.clone(), invalid]),
        denied("broken", DenyReason::Invalid)
    );
    let set = PolicySet::new(
        vec![Arc::new(allow)],
        vec![PolicyKey::new("shop", "missing")],
    );
    assert!(!set.is_empty());
    let decision = set.decide(&connection(None));
    assert_eq!(decision.verdict, denied("missing", DenyReason::Unknown));
}

#[test]
fn a_set_names_the_first_by_name_whatever_the_order() {
    let deny = |name| Arc::new(policy(name, Action::Deny, vec![anything()]));
    let one = PolicySet::new(vec![deny("a"), deny("b"), deny("b")], vec![]);
    let other = PolicySet::new(vec![deny("b"), deny("a")], vec![]);
    assert_eq!(one, other);
    let verdict = one.decide(&connection(None)).verdict;
    assert_eq!(
        verdict,
        Verdict::Deny {
            by: key("a"),
            reason: DenyReason::Matched
        }
    );
}

#[test]
fn dry_runs_are_reported_each_and_decide_nothing() {
    let dry = |name, action, rules| AuthorizationPolicy {
        dry_run: true,
        ..policy(name, action, rules)
    };
    let invalid = AuthorizationPolicy {
        dry_run: true,
        ..AuthorizationPolicy::invalid(PolicyKey::new("shop", "broken"), "why")
    };
    let policies = [
        dry("deny", Action::Deny, vec![anything()]),
        dry("deny-other", Action::Deny, vec![nothing()]),
        dry("allow-none", Action::Allow, vec![]),
        invalid,
    ];
    let decision = decide(&policies, &connection(None));
    assert_eq!(decision.verdict, Verdict::Allow { by: None });
    let seen: Vec<_> = decision
        .dry_run
        .iter()
        .map(|run| (run.policy.name.to_string(), run.action, run.matched))
        .collect();
    let expected = [
        ("deny", Action::Deny, true),
        ("deny-other", Action::Deny, false),
        ("allow-none", Action::Allow, false),
        ("broken", Action::Deny, true),
    ];
    assert_eq!(
        seen,
        expected.map(|(name, action, hit)| (name.to_owned(), action, hit))
    );
}

#[test]
fn strict_refuses_whoever_has_no_identity() {
    let web = identity("spiffe://cluster.local/ns/shop/sa/web");
    let strict = strict("istio-system");
    assert_eq!(
        strict.key.to_string(),
        format!("istio-system/{STRICT_POLICY_NAME}")
    );
    assert_eq!(strict.scope, Scope::WorkloadSelector);
    assert!(!decide([&strict], &connection(None)).is_allowed());
    assert!(decide([&strict], &connection(Some(&web))).is_allowed());
}

#[test]
fn strict_by_port() {
    let web = identity("spiffe://cluster.local/ns/shop/sa/web");
    let key = || PolicyKey::new("shop", &converted_name("ports"));
    // (strict by default, exceptions, allowed on 80, allowed on 81), for who has no identity.
    let rows = [
        (true, vec![], false, false),
        (true, vec![80], true, false),
        (true, vec![80, 81], true, true),
        (false, vec![80], false, true),
        (false, vec![], true, true),
    ];
    for (by_default, exceptions, on_80, on_81) in rows {
        let policy = strict_ports(key(), by_default, &exceptions);
        let at = |port, source_identity| {
            let connection = Connection {
                destination_port: port,
                ..connection(source_identity)
            };
            decide([&policy], &connection).is_allowed()
        };
        assert_eq!(
            (at(80, None), at(81, None)),
            (on_80, on_81),
            "{by_default} {exceptions:?}"
        );
        assert!(at(80, Some(&web)) && at(81, Some(&web)));
    }
}

/// Regression: a policy written with the scheme must not be silently without effect.
#[test]
fn both_spellings_of_a_principal_are_the_same() {
    let web = identity("spiffe://cluster.local/ns/shop/sa/web");
    for value in [
        "cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/web",
    ] {
        let principals = vec![ambit_model::StringMatch::Exact(value.into())];
        let deny = policy(
            "deny",
            Action::Deny,
            vec![rule(Match {
                principals,
                ..Match::default()
            })],
        );
        assert!(
            !decide([&deny], &connection(Some(&web))).is_allowed(),
            "{value}"
        );
    }
}
