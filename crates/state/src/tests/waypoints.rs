//! Waypoints: passed with the original destination as authority, by services and by workloads,
//! found in several ways, never skipped because they are missing.

use ambit_model::WeightedWaypoint;

use super::*;
use crate::Authority;

/// A waypoint service `shop/waypoint` at 10.9.9.9 with the given instances.
fn waypoint_service(instances: &[(&str, &str)]) -> (Service, Vec<Workload>) {
    let service = Service {
        ports: vec![port(15008, 15008)],
        ..service("shop", "waypoint", "10.9.9.9")
    };
    let instance = |(name, address): &(&str, &str)| {
        let workload = Workload {
            service_account: "waypoint".into(),
            ..pod("shop", name, address)
        };
        member_with(workload, &service, vec![port(15008, 15008)])
    };
    let instances = instances.iter().map(instance).collect();
    (service, instances)
}

fn with_waypoint(instances: &[(&str, &str)]) -> Mesh {
    let mut mesh = Mesh::new();
    let (service, workloads) = waypoint_service(instances);
    mesh.add(service);
    for workload in workloads {
        mesh.add(workload);
    }
    mesh
}

fn to_waypoint(gateway: &str, authority: &str) -> Hop {
    Hop::Waypoint {
        gateway: at(gateway),
        authority: Authority::Address(at(authority)),
        expected: expected(&[&id("shop", "waypoint")]),
    }
}

#[test]
fn a_service_passes_its_waypoint_however_that_is_named() {
    for waypoint in [
        by_name("shop", "waypoint"),
        by_address("10.9.9.9"),
        by_address("10.0.0.8"),
    ] {
        let mut mesh = with_waypoint(&[("wp", "10.0.0.8")]);
        let web = Service {
            waypoint: Some(waypoint.clone()),
            ..service("shop", "web", "10.9.0.1")
        };
        mesh.add(member(pod("shop", "web-1", "10.0.0.2"), &web));
        mesh.add(web.clone());
        let upstream = mesh.resolve("10.9.0.1:80").unwrap();
        assert_eq!(
            upstream.hop,
            to_waypoint("10.0.0.8:15008", "10.9.0.1:80"),
            "{waypoint:?}"
        );
        assert_eq!(*upstream.destination_service.unwrap(), web);
        assert_eq!(upstream.workload.unwrap().name.as_ref(), "wp");
        // A port the service does not have is the waypoint's business.
        assert_eq!(
            mesh.hop("10.9.0.1:99"),
            to_waypoint("10.0.0.8:15008", "10.9.0.1:99")
        );
        // Who addresses the pod does not pass the service's waypoint.
        assert!(matches!(mesh.hop("10.0.0.2:80"), Hop::Hbone { .. }));
    }
}

#[test]
fn a_workload_passes_its_waypoint() {
    let mut mesh = with_waypoint(&[("wp", "10.0.0.8")]);
    mesh.add(Workload {
        waypoint: Some(by_name("shop", "waypoint")),
        ..pod("shop", "web-1", "10.0.0.2")
    });
    assert_eq!(
        mesh.hop("10.0.0.2:80"),
        to_waypoint("10.0.0.8:15008", "10.0.0.2:80")
    );
    // Also one outside the mesh: the waypoint is what protects it.
    mesh.add(plain(Workload {
        waypoint: Some(by_name("shop", "waypoint")),
        ..pod("shop", "old", "10.0.0.3")
    }));
    assert_eq!(
        mesh.hop("10.0.0.3:80"),
        to_waypoint("10.0.0.8:15008", "10.0.0.3:80")
    );
}

/// Service-addressed traffic that has no service waypoint does not pass the endpoint's.
#[test]
fn an_endpoints_own_waypoint_is_not_for_the_service() {
    let mut mesh = with_waypoint(&[("wp", "10.0.0.8")]);
    let web = service("shop", "web", "10.9.0.1");
    mesh.add(member(
        Workload {
            waypoint: Some(by_name("shop", "waypoint")),
            ..pod("shop", "web-1", "10.0.0.2")
        },
        &web,
    ));
    mesh.add(web);
    assert!(matches!(mesh.hop("10.9.0.1:80"), Hop::Hbone { .. }));
}

#[test]
fn instances_of_a_waypoint_are_balanced_and_retried() {
    let mut mesh = with_waypoint(&[("wp-1", "10.0.0.8"), ("wp-2", "10.0.0.9")]);
    mesh.add(Service {
        waypoint: Some(by_name("shop", "waypoint")),
        ..service("shop", "web", "10.9.0.1")
    });
    assert_eq!(mesh.names("10.9.0.1:80"), ["wp-1", "wp-2"]);
    let first = mesh.resolve("10.9.0.1:80").unwrap().endpoint.unwrap();
    assert_eq!(first.port, 15008);
    let tried = [first.workload.clone()];
    let second = mesh
        .resolve_without(ip("10.0.0.1"), "10.9.0.1:80", &tried)
        .unwrap();
    assert_ne!(second.endpoint.unwrap().workload, first.workload);
}

#[test]
fn an_ill_instance_is_left_out() {
    let mut mesh = with_waypoint(&[("wp-1", "10.0.0.8"), ("wp-2", "10.0.0.9")]);
    let (_, mut instances) = waypoint_service(&[("wp-2", "10.0.0.9")]);
    let health = ambit_model::Health::Unhealthy;
    mesh.add(Workload {
        health,
        ..instances.remove(0)
    });
    mesh.add(Service {
        waypoint: Some(by_name("shop", "waypoint")),
        ..service("shop", "web", "10.9.0.1")
    });
    assert_eq!(mesh.names("10.9.0.1:80"), ["wp-1"]);
}

#[test]
fn a_missing_waypoint_refuses() {
    for waypoint in [by_name("shop", "waypoint"), by_address("10.9.9.9")] {
        let mut mesh = Mesh::new();
        let web = Service {
            waypoint: Some(waypoint.clone()),
            ..service("shop", "web", "10.9.0.1")
        };
        mesh.add(member(pod("shop", "web-1", "10.0.0.2"), &web));
        mesh.add(Workload {
            waypoint: Some(waypoint),
            ..pod("shop", "db", "10.0.0.3")
        });
        mesh.add(web);
        for to in ["10.9.0.1:80", "10.0.0.3:80"] {
            let error = mesh.resolve(to).unwrap_err();
            assert!(
                matches!(error, ResolveError::UnknownWaypoint { .. }),
                "{error}"
            );
        }
        let (service, _) = waypoint_service(&[]);
        mesh.add(service);
        for to in ["10.9.0.1:80", "10.0.0.3:80"] {
            let error = mesh.resolve(to).unwrap_err();
            assert!(
                matches!(error, ResolveError::NoHealthyWaypoint { .. }),
                "{error}"
            );
        }
    }
}

#[test]
fn the_waypoint_itself_goes_straight_to_the_endpoint() {
    for waypoint in [
        by_name("shop", "waypoint"),
        by_address("10.9.9.9"),
        by_address("10.0.0.8"),
    ] {
        let mut mesh = with_waypoint(&[("wp", "10.0.0.8")]);
        let web = Service {
            waypoint: Some(waypoint.clone()),
            ..service("shop", "web", "10.9.0.1")
        };
        mesh.add(Workload {
            waypoint: Some(waypoint.clone()),
            ..member(pod("shop", "web-1", "10.0.0.2"), &web)
        });
        mesh.add(web);
        let (_, mut instances) = waypoint_service(&[("wp", "10.0.0.8")]);
        mesh.set_client(instances.remove(0));
        assert!(
            matches!(mesh.hop("10.0.0.2:80"), Hop::Hbone { .. }),
            "{waypoint:?}"
        );
        assert!(
            matches!(mesh.hop("10.9.0.1:80"), Hop::Hbone { .. }),
            "{waypoint:?}"
        );
    }
}

/// The identity alone, or the address alone, does not make a client the waypoint.
#[test]
fn a_client_that_only_resembles_the_waypoint_passes_it() {
    let mut mesh = with_waypoint(&[("wp", "10.0.0.8")]);
    mesh.add(Workload {
        waypoint: Some(by_name("shop", "waypoint")),
        ..pod("shop", "web-1", "10.0.0.2")
    });
    let passes = to_waypoint("10.0.0.8:15008", "10.0.0.2:80");
    let same_identity = Workload {
        service_account: "waypoint".into(),
        ..pod("shop", "other", "10.0.0.7")
    };
    mesh.set_client(same_identity);
    assert_eq!(mesh.hop("10.0.0.2:80"), passes);
    let (_, mut instances) = waypoint_service(&[("wp", "10.0.0.8")]);
    mesh.set_client(instances.remove(0));
    let from_elsewhere = mesh.resolve_from(ip("10.0.0.7"), "10.0.0.2:80").unwrap();
    assert_eq!(from_elsewhere.hop, passes, "not at the waypoint's address");
}

#[test]
fn weighted_waypoints_are_sampled_per_connection() {
    let mut mesh = with_waypoint(&[("main", "10.0.0.8")]);
    mesh.add(pod("shop", "canary", "10.0.0.9"));
    let weighted = |destination, weight| WeightedWaypoint {
        destination,
        weight,
    };
    let web = Service {
        waypoint: Some(by_name("shop", "waypoint")),
        weighted_waypoints: vec![
            weighted(Some(by_name("shop", "waypoint")), 75),
            weighted(Some(by_address("10.0.0.9")), 25),
        ],
        ..service("shop", "web", "10.9.0.1")
    };
    mesh.add(web.clone());
    let spread = mesh.spread("10.9.0.1:80", 4000);
    assert!((850..1150).contains(&spread["canary"]), "{spread:?}");
    assert_eq!(spread["canary"] + spread["main"], 4000);
    // A share for no waypoint goes straight to an endpoint.
    mesh.add(member(pod("shop", "web-1", "10.0.0.2"), &web));
    mesh.add(Service {
        weighted_waypoints: vec![weighted(None, 1)],
        ..web.clone()
    });
    assert_eq!(mesh.names("10.9.0.1:80"), ["web-1"]);
    // Weights that are all zero say nothing.
    let zero = vec![weighted(Some(by_address("10.0.0.9")), 0)];
    mesh.add(Service {
        weighted_waypoints: zero,
        ..web.clone()
    });
    assert_eq!(mesh.names("10.9.0.1:80"), ["main"]);
    let last = vec![
        weighted(Some(by_name("shop", "waypoint")), 100),
        weighted(None, 0),
    ];
    mesh.add(Service {
        weighted_waypoints: last,
        ..web
    });
    assert_eq!(mesh.names("10.9.0.1:80"), ["main"]);
}

/// Else the canary would send to the main waypoint, and that to the canary.
#[test]
fn a_weighted_waypoint_does_not_pass_its_siblings() {
    let mut mesh = with_waypoint(&[("main", "10.0.0.8")]);
    let canary = pod("shop", "canary", "10.0.0.9");
    let web = Service {
        weighted_waypoints: vec![
            WeightedWaypoint {
                destination: Some(by_name("shop", "waypoint")),
                weight: 75,
            },
            WeightedWaypoint {
                destination: Some(by_address("10.0.0.9")),
                weight: 25,
            },
        ],
        ..service("shop", "web", "10.9.0.1")
    };
    mesh.add(member(pod("shop", "web-1", "10.0.0.2"), &web));
    mesh.add(web);
    mesh.set_client(canary);
    assert_eq!(mesh.names("10.9.0.1:80"), ["web-1"]);
}

/// Passing a waypoint comes before keeping the original destination.
#[test]
fn a_passthrough_service_passes_its_waypoint_first() {
    let mut mesh = with_waypoint(&[("wp", "10.0.0.8")]);
    let mut external = range_service("shop", "out", "192.0.2.0/24");
    external.load_balancing.mode = ambit_model::LoadBalancingMode::Passthrough;
    external.waypoint = Some(by_name("shop", "waypoint"));
    mesh.add(external);
    assert_eq!(
        mesh.hop("192.0.2.7:443"),
        to_waypoint("10.0.0.8:15008", "192.0.2.7:443")
    );
}
