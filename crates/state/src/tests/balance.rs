//! Which endpoint: health, weight and locality.

use ambit_model::{
    Health, HealthPolicy, LoadBalancing, LoadBalancingMode, Locality, LocalityScope,
};

use super::*;

fn place(workload: Workload, region: &str, zone: &str, node: &str) -> Workload {
    let locality = Locality {
        region: region.into(),
        zone: zone.into(),
        subzone: Arc::default(),
    };
    Workload {
        locality,
        node: node.into(),
        ..workload
    }
}

/// A service with endpoints at places, and a client at r1/z1/n1.
fn placed(lb: LoadBalancing, endpoints: &[(&str, &str, &str, &str)]) -> Mesh {
    let mut mesh = Mesh::new();
    let client = mesh.client.clone();
    mesh.set_client(place(client, "r1", "z1", "n1"));
    let web = Service {
        load_balancing: lb,
        ..service("shop", "web", "10.9.0.1")
    };
    for (i, (name, region, zone, node)) in endpoints.iter().enumerate() {
        let workload = member(pod("shop", name, &format!("10.0.1.{i}")), &web);
        mesh.add(place(workload, region, zone, node));
    }
    mesh.add(web);
    mesh
}

fn lb(mode: LoadBalancingMode, preference: &[LocalityScope]) -> LoadBalancing {
    LoadBalancing {
        preference: preference.to_vec(),
        mode,
        ..LoadBalancing::default()
    }
}

#[test]
fn all_endpoints_are_used_alike_without_weights() {
    let mut mesh = placed(
        LoadBalancing::default(),
        &[
            ("a", "r1", "z1", "n1"),
            ("b", "r2", "z2", "n2"),
            ("c", "", "", ""),
        ],
    );
    let spread = mesh.spread("10.9.0.1:80", 3000);
    assert_eq!(spread.len(), 3);
    assert!(
        spread.values().all(|n| (850..1150).contains(n)),
        "{spread:?}"
    );
}

#[test]
fn connections_are_spread_by_capacity() {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    for (name, address, capacity) in [
        ("one", "10.0.0.2", 1),
        ("three", "10.0.0.3", 3),
        ("none", "10.0.0.4", 0),
    ] {
        mesh.add(Workload {
            capacity,
            ..member(pod("shop", name, address), &web)
        });
    }
    mesh.add(web.clone());
    let spread = mesh.spread("10.9.0.1:80", 4000);
    assert_eq!(
        spread.keys().collect::<Vec<_>>(),
        ["one", "three"],
        "none has no share"
    );
    assert!((850..1150).contains(&spread["one"]), "{spread:?}");
    for name in ["one", "three"] {
        mesh.remove(uid("shop", name));
    }
    assert_eq!(
        mesh.names("10.9.0.1:80"),
        ["none"],
        "but is better than nothing"
    );
    let huge = |name, address| Workload {
        capacity: u32::MAX,
        ..member(pod("shop", name, address), &web)
    };
    mesh.add(huge("a", "10.0.0.5"));
    mesh.add(huge("b", "10.0.0.6"));
    assert_eq!(
        mesh.names("10.9.0.1:80"),
        ["a", "b"],
        "sums do not overflow"
    );
}

#[test]
fn unhealthy_endpoints_are_left_out_unless_the_service_wants_all() {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    mesh.add(member(pod("shop", "well", "10.0.0.2"), &web));
    let ill = Workload {
        health: Health::Unhealthy,
        ..pod("shop", "ill", "10.0.0.3")
    };
    mesh.add(member(ill, &web));
    mesh.add(web.clone());
    assert_eq!(mesh.names("10.9.0.1:80"), ["well"]);
    let health = HealthPolicy::AllowAll;
    mesh.add(Service {
        load_balancing: LoadBalancing {
            health,
            ..LoadBalancing::default()
        },
        ..web.clone()
    });
    assert_eq!(mesh.names("10.9.0.1:80"), ["ill", "well"]);
    mesh.add(web);
    mesh.remove(uid("shop", "well"));
    assert!(matches!(
        mesh.resolve("10.9.0.1:80"),
        Err(ResolveError::NoHealthyUpstream { .. })
    ));
    assert_eq!(mesh.names("10.0.0.3:80"), ["ill"], "who names it gets it");
}

#[test]
fn failover_takes_the_nearest() {
    use LocalityScope::{Node, Region, Zone};
    let endpoints = [
        ("node", "r1", "z1", "n1"),
        ("zone", "r1", "z1", "n2"),
        ("region", "r1", "z2", "n3"),
        // Matches a scope that does not count, since the one before does not match.
        ("far", "r2", "z1", "n4"),
    ];
    let mut mesh = placed(
        lb(LoadBalancingMode::Failover, &[Region, Zone, Node]),
        &endpoints,
    );
    for near in ["node", "zone", "region", "far"] {
        assert_eq!(mesh.names("10.9.0.1:80"), [near]);
        mesh.remove(uid("shop", near));
    }
    assert!(mesh.resolve("10.9.0.1:80").is_err());
}

#[test]
fn strict_takes_only_what_matches() {
    use LocalityScope::{Node, Region, Zone};
    let endpoints = [
        ("node", "r1", "z1", "n1"),
        ("zone", "r1", "z1", "n2"),
        ("far", "r2", "z1", "n4"),
    ];
    let mut mesh = placed(lb(LoadBalancingMode::Strict, &[Region, Zone]), &endpoints);
    assert_eq!(mesh.names("10.9.0.1:80"), ["node", "zone"]);
    let mut mesh = placed(lb(LoadBalancingMode::Strict, &[Node]), &endpoints);
    assert_eq!(mesh.names("10.9.0.1:80"), ["node"]);
    mesh.remove(uid("shop", "node"));
    assert!(matches!(
        mesh.resolve("10.9.0.1:80"),
        Err(ResolveError::NoHealthyUpstream { .. })
    ));
}

#[test]
fn two_that_are_on_no_node_are_not_on_one() {
    let lb = lb(LoadBalancingMode::Strict, &[LocalityScope::Node]);
    let mut mesh = placed(lb, &[("external", "", "", "")]);
    let client = mesh.client.clone();
    mesh.set_client(Workload {
        node: "".into(),
        ..client
    });
    assert!(mesh.resolve("10.9.0.1:80").is_err());
}

#[test]
fn every_scope_compares_its_own_property() {
    use LocalityScope::{Cluster, Network, Node, Region, Subzone, Zone};
    for scope in [Region, Zone, Subzone, Node, Cluster, Network] {
        let mut mesh = Mesh::new();
        let here = |workload: Workload| Workload {
            locality: Locality {
                region: "r".into(),
                zone: "z".into(),
                subzone: "s".into(),
            },
            node: "n".into(),
            cluster: "c".into(),
            ..workload
        };
        mesh.set_client(here(mesh.client.clone()));
        let lb = lb(LoadBalancingMode::Failover, &[scope]);
        let web = Service {
            load_balancing: lb,
            ..service("shop", "web", "10.9.0.1")
        };
        let gateway = Workload {
            network: "far".into(),
            ..pod("gw", "gw", "10.5.0.1")
        };
        let gateway_at = NetworkAddress {
            network: "far".into(),
            address: ip("10.5.0.1"),
        };
        mesh.add(gateway);
        mesh.add(here(member(pod("shop", "near", "10.0.0.2"), &web)));
        let far = here(member(pod("shop", "far", "10.0.0.3"), &web));
        mesh.add(match scope {
            Region => place(far, "x", "z", "n"),
            Zone => place(far, "r", "x", "n"),
            Subzone => place(far, "r", "z", "n"),
            Node => Workload {
                node: "x".into(),
                ..far
            },
            Cluster => Workload {
                cluster: "x".into(),
                ..far
            },
            Network => Workload {
                network: "far".into(),
                network_gateway: Some(GatewayAddress {
                    destination: GatewayDestination::Address(gateway_at),
                    hbone_port: 15008,
                }),
                ..far
            },
        });
        mesh.add(web);
        assert_eq!(mesh.names("10.9.0.1:80"), ["near"], "{scope:?}");
        mesh.remove(uid("shop", "near"));
        assert_eq!(mesh.names("10.9.0.1:80"), ["far"], "{scope:?}");
    }
}
