//! Bad input: the exact message, and what stays in force.

use super::*;

fn store(files: &[(&str, &str)]) -> Store {
    let mut store = Store::new(MeshSettings::default());
    for (name, text) in files {
        store.update(name, text);
    }
    store
}

fn messages(store: &Store) -> Vec<String> {
    store
        .snapshot()
        .findings
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn messages_name_file_line_object_field_value_and_form() {
    const DENIED: &str = " (until it is mended, connections to what it selects are denied)";
    const STRICT: &str = " (until it is mended, what it selects accepts no plain text)";
    const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n";
    const PEER: &str = "apiVersion: security.istio.io/v1beta1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\nspec:\n";
    const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop}\nspec:\n";
    const SERVICE: &str =
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec:\n";
    for (text, message) in [
        ("a: b: c\n".to_owned(), "f.yaml:1: object: this is not valid YAML: mapping values are not allowed in this context".to_owned()),
        ("kind: Pod\nmetadata: {name: p}\n".into(), "f.yaml:1: Pod default/p: apiVersion is missing; write for example \"apiVersion: v1\"".into()),
        ("apiVersion: v1\nmetadata: {name: p}\n".into(), "f.yaml:1: object p: kind is missing; write for example \"kind: Pod\"".into()),
        ("- 1\n- 2\n".into(), "f.yaml:1: object: this is not an object; expected apiVersion, kind, metadata and spec".into()),
        ("apiVersion: v1\nkind: Sevice\nmetadata: {name: s}\n".into(), "f.yaml:2: Sevice s: kind is refused: there is no kind \"Sevice\" in apiVersion \"v1\"; did you mean Service?".into()),
        ("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n".into(), "f.yaml:2: VirtualService v: kind is refused: VirtualService of networking.istio.io is not supported by this version and would have no effect; remove it".into()),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\n".into(), "f.yaml:3: Pod: metadata.name is missing; every object needs a name".into()),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: My_Pod}\n".into(), "f.yaml:3: Pod default/My_Pod: metadata.name is \"My_Pod\"; expected lower-case letters, digits, '-' and '.', at most 253".into()),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus:\n  podIP: 10.0.0.256\n".into(), "f.yaml:5: Pod default/p: status.podIP is \"10.0.0.256\"; expected an IP address such as 10.0.0.1".into()),
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n    ambit.dev/netns: run/p\n".into(), "f.yaml:6: Pod default/p: metadata.annotations[\"ambit.dev/netns\"] is \"run/p\"; expected the absolute path of a network namespace, such as /run/netns/web".into()),
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels:\n    version: 2\n".into(), "f.yaml:6: Pod default/p: metadata.labels.version is the number 2; expected a text: write \"2\"".into()),
        (format!("{SERVICE}  ports:\n  - port: http\n"), "f.yaml:6: Service shop/s: spec.ports[0].port is \"http\"; expected a whole number from 0 to 65535".into()),
        (format!("{SERVICE}  ports:\n  - port: 80\n    targetPort: 70000\n"), "f.yaml:7: Service shop/s: spec.ports[0].targetPort is the number 70000; expected a port number up to 65535 or the name of a port".into()),
        (format!("{SERVICE}  clusterIP: ten\n"), "f.yaml:5: Service shop/s: spec.clusterIP is \"ten\"; expected an IP address, or None for a headless service".into()),
        (format!("{SERVICE}  ports:\n  - port: 80\n  - port: 80\n"), "f.yaml:7: Service shop/s: spec.ports[1].port 80 is listed twice; every port must be there once".into()),
        (format!("{ENTRY}  hosts: []\n"), "f.yaml:5: ServiceEntry shop/e: spec.hosts is empty; list at least one host name".into()),
        (format!("{ENTRY}  hosts: [\"a b\"]\n"), "f.yaml:5: ServiceEntry shop/e: spec.hosts[0] is \"a b\"; expected a host name such as api.example.com or *.example.com".into()),
        (format!("{ENTRY}  hosts: [a.b]\n  resolution: MAGIC\n"), "f.yaml:6: ServiceEntry shop/e: spec.resolution is \"MAGIC\"; expected NONE, STATIC, DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS".into()),
        (format!("{ENTRY}  hosts: [a.b]\n  adresses: [10.0.0.1]\n"), "f.yaml:6: ServiceEntry shop/e: spec.adresses is not a field here; did you mean addresses?".into()),
        (format!("{ENTRY}  hosts: [a.b]\n  resolution: STATIC\n  ports: [{{number: 80}}]\n  endpoints:\n  - address: a.example.com\n"), "f.yaml:9: ServiceEntry shop/e: spec.endpoints[0].address is \"a.example.com\"; expected an IP address; host names need resolution: DNS".into()),
        (format!("{POLICY}  action: REJECT\n"), format!("f.yaml:5: AuthorizationPolicy shop/p: spec.action is \"REJECT\"; expected ALLOW, DENY, AUDIT or CUSTOM{DENIED}")),
        (format!("{POLICY}  action: DENY\n"), format!("f.yaml:4: AuthorizationPolicy shop/p: spec.rules is missing: a DENY policy without rules never applies; write `rules: [{{}}]` to deny everything{DENIED}")),
        (format!("{POLICY}  rules:\n  - from: []\n"), format!("f.yaml:6: AuthorizationPolicy shop/p: spec.rules[0].from is an empty list, which never matches; leave it out to match everything{DENIED}")),
        (format!("{POLICY}  rules:\n  - from:\n    - source: {{}}\n"), format!("f.yaml:7: AuthorizationPolicy shop/p: spec.rules[0].from[0].source is empty; name at least one attribute, or leave the entry out{DENIED}")),
        (format!("{POLICY}  rules:\n  - from:\n    - source:\n        principals: [web]\n"), format!("f.yaml:8: AuthorizationPolicy shop/p: spec.rules[0].from[0].source.principals[0] is \"web\"; expected <trust domain>/ns/<namespace>/sa/<service account>, with * allowed at its start or end{DENIED}")),
        (format!("{POLICY}  rules:\n  - from:\n    - source:\n        ipBlocks: [10.0.0.0/33]\n"), format!("f.yaml:8: AuthorizationPolicy shop/p: spec.rules[0].from[0].source.ipBlocks[0] is \"10.0.0.0/33\"; expected an IP address or a range such as 10.1.0.0/16{DENIED}")),
        (format!("{POLICY}  rules:\n  - to:\n    - operation:\n        ports: [\"0\"]\n"), format!("f.yaml:8: AuthorizationPolicy shop/p: spec.rules[0].to[0].operation.ports[0] is \"0\"; expected a port from 1 to 65535{DENIED}")),
        (format!("{POLICY}  rules:\n  - to:\n    - operation:\n        ports: [80]\n"), format!("f.yaml:8: AuthorizationPolicy shop/p: spec.rules[0].to[0].operation.ports[0] is the number 80; expected a text: write \"80\"{DENIED}")),
        (format!("{POLICY}  rules:\n  - when:\n    - key: source.pod\n      values: [x]\n"), format!("f.yaml:7: AuthorizationPolicy shop/p: spec.rules[0].when[0].key is \"source.pod\"; expected source.ip, source.namespace, source.principal, source.serviceAccount, destination.ip or destination.port{DENIED}")),
        (format!("{POLICY}  rules:\n  - form:\n    - source: {{}}\n"), format!("f.yaml:6: AuthorizationPolicy shop/p: spec.rules[0].form is not a field here; did you mean from?{DENIED}")),
        (format!("{PEER}  mtls:\n    mode: strict\n"), format!("f.yaml:6: PeerAuthentication shop/p: spec.mtls.mode is \"strict\"; expected UNSET, DISABLE, PERMISSIVE or STRICT{STRICT}")),
        (format!("{PEER}  portLevelMtls:\n    \"80\": {{mode: STRICT}}\n"), format!("f.yaml:5: PeerAuthentication shop/p: spec.portLevelMtls needs spec.selector.matchLabels; modes of single ports can only be set for selected workloads{STRICT}")),
    ] {
        assert_eq!(messages(&store(&[("f.yaml", &text)])), [message], "{text}");
    }
}

const GOOD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nstatus: {podIP: 10.0.0.1}\n";

#[test]
fn lines_count_within_the_file() {
    let text = format!(
        "# comment\n{GOOD}---\n\n---\n{}",
        GOOD.replace("name: a", "name: b").replace("10.0.0.1", "x")
    );
    assert_eq!(
        messages(&store(&[("d/f.yaml", &text)])),
        ["d/f.yaml:12: Pod shop/b: status.podIP is \"x\"; expected an IP address such as 10.0.0.1"]
    );
}

#[test]
fn one_bad_document_leaves_the_others_in_force() {
    let text = format!(
        "{GOOD}---\na: [1\n---\n{}",
        GOOD.replace("name: a", "name: b")
    );
    let snapshot = store(&[("f.yaml", &text)]).snapshot();
    assert_eq!((snapshot.pods.len(), snapshot.findings.len()), (2, 1));
}

#[test]
fn an_object_that_turns_bad_stays_in_force_as_it_was() {
    let mut store = store(&[("f.yaml", GOOD)]);
    assert!(store.update("f.yaml", &GOOD.replace("10.0.0.1", "10.0.0.300")));
    let snapshot = store.snapshot();
    assert_eq!(snapshot.pods[0].status.pod_ip, "10.0.0.1");
    assert!(
        snapshot.findings[0]
            .to_string()
            .ends_with("(what was in force before stays in force)"),
        "{:?}",
        snapshot.findings
    );
    // Another bad edit changes nothing in that.
    store.update(
        "f.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop\n",
    );
    assert_eq!(store.snapshot().pods.len(), 1);
    // Half of a file whose objects cannot be told: all it held stays.
    store.update("f.yaml", "apiVersi: [");
    assert_eq!(store.snapshot().pods.len(), 1);
    // Mended: the new one counts.
    store.update("f.yaml", &GOOD.replace("10.0.0.1", "10.0.0.3"));
    assert_eq!(store.snapshot().pods[0].status.pod_ip, "10.0.0.3");
    // Taken out on purpose: it is gone.
    store.update("f.yaml", "# nothing\n");
    assert_eq!(store.snapshot().pods.len(), 0);
}

#[test]
fn a_held_object_that_was_moved_is_no_duplicate() {
    let mut store = store(&[("a.yaml", GOOD)]);
    store.update("a.yaml", "x: [");
    store.update("b.yaml", GOOD);
    let snapshot = store.snapshot();
    assert_eq!(
        (snapshot.pods.len(), &*snapshot.pods[0].place.file),
        (1, "b.yaml")
    );
}

#[test]
fn a_policy_that_turns_bad_denies_and_keeps_what_it_said() {
    let good = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {action: DENY, rules: [{}]}\n";
    let mut store = store(&[("f.yaml", good)]);
    for bad in [
        good.replace("rules: [{}]", "rules: 7"),
        good.replace("rules: [{}]}", "rules: [{}"),
    ] {
        store.update("f.yaml", &bad);
        let snapshot = store.snapshot();
        assert_eq!(
            (
                snapshot.authorization_policies.len(),
                snapshot.refused_policies.len()
            ),
            (1, 1),
            "{bad}"
        );
        assert_eq!(
            (
                &*snapshot.refused_policies[0].namespace,
                &*snapshot.refused_policies[0].name
            ),
            ("shop", "p")
        );
    }
    // Its namespace cannot be told: the refusal is of another scope, but the old policy stays.
    store.update("f.yaml", "kind: AuthorizationPolicy\nspec: [");
    let snapshot = store.snapshot();
    assert_eq!(
        (
            snapshot.authorization_policies.len(),
            &*snapshot.refused_policies[0].namespace
        ),
        (1, "default")
    );
}

#[test]
fn the_first_of_two_objects_with_one_name_counts() {
    let store = store(&[
        ("b.yaml", GOOD),
        ("a.yaml", &GOOD.replace("10.0.0.1", "10.0.0.9")),
    ]);
    assert_eq!(store.snapshot().pods[0].status.pod_ip, "10.0.0.9");
    assert_eq!(
        messages(&store),
        [
            "b.yaml:3: Pod shop/a: metadata.name \"a\" is the name of another Pod, at a.yaml:3, which stays in force; rename or remove one of them"
        ]
    );
}

#[test]
fn a_second_policy_of_one_name_denies() {
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}}\n";
    let snapshot = store(&[("a.yaml", policy), ("b.yaml", policy)]).snapshot();
    assert_eq!(snapshot.authorization_policies.len(), 1);
    assert_eq!(
        snapshot.refused_policies[0]
            .selector
            .as_ref()
            .unwrap()
            .get("app"),
        Some("web")
    );
}

#[test]
fn an_unreadable_file_keeps_what_it_held() {
    let mut store = store(&[("f.yaml", GOOD)]);
    assert!(store.set_unreadable("f.yaml", "the file cannot be read: no"));
    assert!(!store.set_unreadable("f.yaml", "the file cannot be read: no"));
    assert_eq!(store.snapshot().pods.len(), 1);
    assert_eq!(
        messages(&store),
        ["f.yaml:1: file: the file cannot be read: no; what it held before stays in force"]
    );
    assert!(store.update("f.yaml", GOOD), "readable again");
    assert!(messages(&store).is_empty());
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let text = |port| {
        format!(
            "{GOOD}---\n{}",
            GOOD.replace("name: a", "name: b").replace("0.0.1", port)
        )
    };
    let mut store = store(&[("f.yaml", &text("0.0.2"))]);
    let before = store.snapshot();
    assert!(!store.update("f.yaml", &text("0.0.2")));
    store.update("f.yaml", &format!("# shifted\n---\n{}", text("0.0.3")));
    let after = store.snapshot();
    assert!(Arc::ptr_eq(&before.pods[0].object, &after.pods[0].object));
    assert!(!Arc::ptr_eq(&before.pods[1].object, &after.pods[1].object));
    assert_eq!(after.pods[0].place.line_of("metadata.name"), 5);
}

#[test]
fn the_same_text_twice_stays_two() {
    let mut store = store(&[("f.yaml", &format!("{GOOD}---\n{GOOD}"))]);
    for i in 0..3 {
        store.update("f.yaml", &format!("{GOOD}---\n{GOOD}# {i}\n---\n"));
        assert_eq!(messages(&store).len(), 1, "one of them is refused");
    }
}

#[test]
fn lists_are_their_items() {
    let item = "  - {apiVersion: v1, kind: Pod, metadata: {name: NAME}, status: {podIP: ADDR}}\n";
    let text = format!(
        "apiVersion: v1\nkind: List\nitems:\n{}{}",
        item.replace("NAME", "a").replace("ADDR", "10.0.0.1"),
        item.replace("NAME", "b").replace("ADDR", "x")
    );
    let mut store = store(&[("f.json", &text)]);
    assert_eq!(store.snapshot().pods.len(), 1);
    assert_eq!(
        messages(&store),
        ["f.json:5: Pod default/b: status.podIP is \"x\"; expected an IP address such as 10.0.0.1"]
    );
    store.update("f.json", &format!("{text}# more\n"));
    assert_eq!(store.snapshot().pods.len(), 1);
}

#[test]
fn what_is_not_for_the_mesh_is_passed_over() {
    let snapshot = store(&[("f.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n")]).snapshot();
    assert_eq!((snapshot.foreign, snapshot.findings.len()), (2, 0));
}

proptest::proptest! {
    /// No text makes it panic, and what was in force survives any text that is not understood.
    #[test]
    fn any_text_is_survived(text in "(?s).{0,200}") {
        let mut store = store(&[("f.yaml", GOOD)]);
        store.update("f.yaml", &text);
        let snapshot = store.snapshot();
        if snapshot.findings.iter().any(|finding| finding.kind.is_empty()) {
            proptest::prop_assert_eq!(snapshot.pods.len(), 1);
        }
    }
}
