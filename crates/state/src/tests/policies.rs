//! Which policies apply to a workload, and that what is missing or broken denies.

use ambit_model::{Action, AuthorizationPolicy, PolicyBody, PolicyKey, Rule, Scope};
use ambit_policy::{Connection, DenyReason, Verdict};

use super::*;

fn policy(namespace: &str, name: &str, scope: Scope, action: Action) -> AuthorizationPolicy {
    AuthorizationPolicy {
        key: PolicyKey::new(namespace, name),
        scope,
        action,
        dry_run: false,
        body: PolicyBody::Rules(vec![Rule::default()]),
    }
}

fn verdict(mesh: &Mesh, workload: &Workload) -> Verdict {
    let connection = Connection {
        source_identity: None,
        source_ip: ip("10.0.0.1"),
        destination_ip: ip("10.0.0.2"),
        destination_port: 80,
    };
    mesh.reader
        .policies_for(workload)
        .decide(&connection)
        .verdict
}

#[test]
fn global_namespace_and_selected_policies_apply() {
    let mut mesh = Mesh::new();
    mesh.add(policy("root", "all", Scope::Global, Action::Allow));
    mesh.add(policy("shop", "here", Scope::Namespace, Action::Allow));
    mesh.add(policy("bank", "there", Scope::Namespace, Action::Allow));
    mesh.add(policy(
        "shop",
        "chosen",
        Scope::WorkloadSelector,
        Action::Allow,
    ));
    mesh.add(policy(
        "shop",
        "unchosen",
        Scope::WorkloadSelector,
        Action::Allow,
    ));
    let names = |workload: &Workload| -> Vec<String> {
        let set = mesh.reader.policies_for(workload);
        assert!(set.unknown().is_empty());
        set.policies()
            .iter()
            .map(|policy| policy.key.to_string())
            .collect()
    };
    let mut web = pod("shop", "web", "10.0.0.2");
    assert_eq!(names(&web), ["root/all", "shop/here"]);
    web.policies = vec![
        PolicyKey::new("shop", "chosen"),
        PolicyKey::new("root", "all"),
    ];
    assert_eq!(
        names(&web),
        ["root/all", "shop/chosen", "shop/here"],
        "each once"
    );
    assert_eq!(names(&pod("other", "x", "10.0.0.3")), ["root/all"]);
}

#[test]
fn a_policy_that_is_not_known_denies_until_it_is() {
    let mut mesh = Mesh::new();
    let key = PolicyKey::new("shop", "late");
    let web = Workload {
        policies: vec![key.clone()],
        ..pod("shop", "web", "10.0.0.2")
    };
    mesh.add(policy("root", "allow", Scope::Global, Action::Allow));
    let denied = Verdict::Deny {
        by: Some(key.clone()),
        reason: DenyReason::Unknown,
    };
    assert_eq!(verdict(&mesh, &web), denied);
    mesh.add(policy(
        "shop",
        "late",
        Scope::WorkloadSelector,
        Action::Allow,
    ));
    assert!(matches!(verdict(&mesh, &web), Verdict::Allow { .. }));
    mesh.writer.apply(vec![Change::RemovePolicy(key)]);
    assert_eq!(verdict(&mesh, &web), denied);
}

#[test]
fn a_policy_that_turns_invalid_denies_and_changes_its_scope() {
    let mut mesh = Mesh::new();
    let web = pod("shop", "web", "10.0.0.2");
    mesh.add(policy("bank", "p", Scope::Namespace, Action::Allow));
    assert_eq!(verdict(&mesh, &web), Verdict::Allow { by: None });
    let key = PolicyKey::new("bank", "p");
    mesh.add(AuthorizationPolicy::invalid(key.clone(), "cannot be read"));
    let denied = Verdict::Deny {
        by: Some(key.clone()),
        reason: DenyReason::Invalid,
    };
    assert_eq!(verdict(&mesh, &web), denied, "what it is for is not known");
    mesh.add(policy("bank", "p", Scope::Namespace, Action::Allow));
    assert_eq!(verdict(&mesh, &web), Verdict::Allow { by: None });
    assert_eq!(
        mesh.reader.find_policy(&key).unwrap().scope,
        Scope::Namespace
    );
}

/// STRICT as discovery tells of it: a reference to the static policy.
#[test]
fn strict_refuses_plaintext_from_the_moment_the_workload_refers_to_it() {
    let mut mesh = Mesh::new();
    let strict = ambit_policy::strict("istio-system");
    let web = pod("shop", "web", "10.0.0.2");
    mesh.add(strict.clone());
    assert!(matches!(verdict(&mesh, &web), Verdict::Allow { .. }));
    let web = Workload {
        policies: vec![strict.key.clone()],
        ..web
    };
    let denied = Verdict::Deny {
        by: Some(strict.key),
        reason: DenyReason::Matched,
    };
    assert_eq!(verdict(&mesh, &web), denied);
}
