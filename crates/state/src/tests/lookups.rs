//! Who is who: by uid, address, node, key, host name and range, and which of several is meant.

use ambit_model::{Namespace, Visibility};

use super::*;

fn vip_of(mesh: &Mesh, address: &str, namespace: &str) -> Option<String> {
    let found = mesh
        .reader
        .find_service(&network_address(address), &Namespace::from(namespace));
    found.map(|service| service.key().to_string())
}

fn named(namespace: &str, name: &str) -> Option<String> {
    Some(key(namespace, name).to_string())
}

#[test]
fn an_address_of_several_means_the_pod_with_a_tunnel() {
    let mut mesh = Mesh::new();
    let entry = |name: &str| Workload {
        uid: format!("cluster/networking.istio.io/WorkloadEntry/shop/{name}").into(),
        ..pod("shop", name, "10.0.0.2")
    };
    let found = |mesh: &Mesh| {
        mesh.reader
            .find_workload(&network_address("10.0.0.2"))
            .map(|w| w.name.to_string())
    };
    mesh.add(plain(entry("entry-plain")));
    assert_eq!(found(&mesh).as_deref(), Some("entry-plain"));
    mesh.add(entry("entry"));
    assert_eq!(
        found(&mesh).as_deref(),
        Some("entry"),
        "a tunnel before none"
    );
    mesh.add(plain(pod("shop", "pod-plain", "10.0.0.2")));
    assert_eq!(
        found(&mesh).as_deref(),
        Some("pod-plain"),
        "a pod before others"
    );
    let ill = Workload {
        health: ambit_model::Health::Unhealthy,
        ..pod("shop", "a", "10.0.0.2")
    };
    mesh.add(ill);
    assert_eq!(found(&mesh).as_deref(), Some("a"));
    mesh.add(pod("shop", "b", "10.0.0.2"));
    assert_eq!(
        found(&mesh).as_deref(),
        Some("b"),
        "who had the address before is ending"
    );
    for (gone, then) in [
        ("b", Some("a")),
        ("a", Some("pod-plain")),
        ("pod-plain", Some("entry")),
    ] {
        mesh.remove(uid("shop", gone));
        assert_eq!(found(&mesh).as_deref(), then);
    }
    mesh.remove(entry("entry").uid);
    mesh.remove(entry("entry-plain").uid);
    assert_eq!(found(&mesh), None);
}

#[test]
fn a_virtual_address_of_several_services() {
    let preferred_service_namespace = Some("preferred".into());
    let mut mesh = Mesh::with(Settings {
        preferred_service_namespace,
    });
    for namespace in ["z", "y", "preferred"] {
        mesh.add(service(namespace, "web", "10.9.0.1"));
    }
    assert_eq!(
        vip_of(&mesh, "10.9.0.1", "z"),
        named("z", "web"),
        "the client's namespace"
    );
    assert_eq!(
        vip_of(&mesh, "10.9.0.1", "other"),
        named("preferred", "web")
    );
    mesh.add(Service {
        canonical: true,
        ..service("z", "web", "10.9.0.1")
    });
    assert_eq!(
        vip_of(&mesh, "10.9.0.1", "other"),
        named("z", "web"),
        "canonical"
    );
    assert_eq!(
        vip_of(&mesh, "10.9.0.1", "y"),
        named("y", "web"),
        "own before canonical"
    );
    mesh.remove(key("z", "web"));
    mesh.remove(key("preferred", "web"));
    mesh.add(service("a", "web", "10.9.0.1"));
    assert_eq!(
        vip_of(&mesh, "10.9.0.1", "other"),
        named("a", "web"),
        "the first by name"
    );
}

#[test]
fn a_service_for_its_namespace_is_not_seen_from_others() {
    let mut mesh = Mesh::new();
    let private = |s: Service| Service {
        visibility: Visibility::Namespace,
        ..s
    };
    mesh.add(private(service("bank", "web", "10.9.0.1")));
    mesh.add(private(range_service("bank", "range", "10.8.0.0/16")));
    for address in ["10.9.0.1", "10.8.1.1"] {
        assert_eq!(vip_of(&mesh, address, "shop"), None);
        assert!(vip_of(&mesh, address, "bank").is_some());
    }
    let (bank, shop) = (Namespace::from("bank"), Namespace::from("shop"));
    let host = hostname("bank", "web");
    assert_eq!(mesh.reader.find_services_by_hostname(&host, &shop), vec![]);
    assert_eq!(mesh.reader.find_services_by_hostname(&host, &bank).len(), 1);
    assert_eq!(mesh.reader.find_service_by_name(&host, &shop), None);
    // To the client in `shop` it is as if it did not exist.
    assert!(matches!(mesh.hop("10.9.0.1:80"), Hop::Passthrough { .. }));
}

#[test]
fn a_range_is_found_by_the_longest_prefix_in_the_clients_namespace_first() {
    let mut mesh = Mesh::new();
    mesh.add(range_service("a", "wide", "10.0.0.0/8"));
    mesh.add(range_service("b", "narrow", "10.8.0.0/16"));
    mesh.add(range_service("b", "all", "0.0.0.0/0"));
    mesh.add(range_service("c", "six", "fd00::/8"));
    assert_eq!(vip_of(&mesh, "10.8.1.1", "other"), named("b", "narrow"));
    assert_eq!(
        vip_of(&mesh, "10.8.1.1", "a"),
        named("a", "wide"),
        "own before longer"
    );
    assert_eq!(vip_of(&mesh, "10.9.1.1", "other"), named("a", "wide"));
    assert_eq!(vip_of(&mesh, "192.0.2.1", "other"), named("b", "all"));
    assert_eq!(vip_of(&mesh, "fd00::1", "other"), named("c", "six"));
    assert_eq!(vip_of(&mesh, "2001:db8::1", "other"), None);
    mesh.add(Service {
        canonical: true,
        ..range_service("d", "same", "10.8.0.0/16")
    });
    assert_eq!(
        vip_of(&mesh, "10.8.1.1", "other"),
        named("d", "same"),
        "canonical"
    );
    mesh.remove(key("d", "same"));
    mesh.remove(key("b", "narrow"));
    assert_eq!(vip_of(&mesh, "10.8.1.1", "other"), named("a", "wide"));
}

#[test]
fn host_names_exact_and_by_wildcard() {
    let mut mesh = Mesh::new();
    let with_host = |namespace: &str, host: &str| Service {
        hostname: host.into(),
        ..service(namespace, "s", "10.9.0.1")
    };
    let hosts = [
        "*.example.com",
        "*.deep.example.com",
        "exact.deep.example.com",
    ];
    for host in hosts {
        mesh.add(with_host("shop", host));
    }
    let shop = Namespace::from("shop");
    let found = |mesh: &Mesh, host: &str| {
        mesh.reader
            .find_service_by_name(host, &shop)
            .map(|s| s.hostname.to_string())
    };
    assert_eq!(
        found(&mesh, "exact.deep.example.com").as_deref(),
        Some(hosts[2])
    );
    assert_eq!(
        found(&mesh, "other.deep.example.com").as_deref(),
        Some(hosts[1])
    );
    assert_eq!(
        found(&mesh, "a.b.deep.example.com").as_deref(),
        Some(hosts[1])
    );
    assert_eq!(found(&mesh, "deep.example.com").as_deref(), Some(hosts[0]));
    assert_eq!(
        found(&mesh, "example.com"),
        None,
        "a wildcard is not its parent"
    );
    assert_eq!(found(&mesh, "com"), None);
    assert_eq!(found(&mesh, ""), None);
    mesh.add(with_host("bank", "exact.deep.example.com"));
    let bearers = mesh
        .reader
        .find_services_by_hostname("exact.deep.example.com", &shop);
    let namespaces: Vec<_> = bearers.iter().map(|s| s.namespace.as_str()).collect();
    assert_eq!(namespaces, ["shop", "bank"], "the client's own first");
}

#[test]
fn a_nodes_workloads_and_identities() {
    let mut mesh = Mesh::new();
    let on = |node: &str, workload: Workload| Workload {
        node: node.into(),
        ..workload
    };
    mesh.add(on("n1", pod("shop", "b", "10.0.0.3")));
    mesh.add(on("n1", pod("shop", "a", "10.0.0.2")));
    mesh.add(on("n1", plain(pod("shop", "old", "10.0.0.4"))));
    let twin = Workload {
        service_account: "a".into(),
        ..pod("shop", "a2", "10.0.0.5")
    };
    mesh.add(on("n1", twin));
    mesh.add(on("n2", pod("shop", "c", "10.0.0.6")));
    let names = |mesh: &Mesh, node: &str| -> Vec<String> {
        let workloads = mesh.reader.workloads_on_node(&node.into());
        workloads.iter().map(|w| w.name.to_string()).collect()
    };
    assert_eq!(names(&mesh, "n1"), ["a", "a2", "b", "old"]);
    let identities = mesh.reader.identities_on_node(&"n1".into());
    let identities: Vec<_> = identities.iter().map(ToString::to_string).collect();
    assert_eq!(
        identities,
        [id("shop", "a"), id("shop", "b")],
        "who needs a certificate, once"
    );
    let found = mesh.reader.find_pod(&"n1".into(), "shop", "a").unwrap();
    assert_eq!(found.uid, uid("shop", "a"));
    assert_eq!(mesh.reader.find_pod(&"n2".into(), "shop", "a"), None);
    assert!(
        mesh.reader.find_pod(&"".into(), "shop", "c").is_some(),
        "any node"
    );
    assert_eq!(mesh.reader.find_pod(&"n1".into(), "bank", "a"), None);
    mesh.add(on("n2", pod("shop", "b", "10.0.0.3")));
    assert_eq!(names(&mesh, "n1"), ["a", "a2", "old"], "moved");
    assert_eq!(names(&mesh, "n2"), ["b", "c"]);
}

#[test]
fn endpoints_and_services_know_each_other() {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    let workload = member(pod("shop", "web-1", "10.0.0.2"), &web);
    mesh.add(workload.clone());
    assert_eq!(mesh.reader.services_of(&workload), vec![], "not known yet");
    mesh.add(web.clone());
    assert_eq!(*mesh.reader.services_of(&workload)[0], web);
    assert_eq!(*mesh.reader.endpoints(&web.key())[0], workload);
    assert_eq!(*mesh.reader.find_service_by_key(&web.key()).unwrap(), web);
}
