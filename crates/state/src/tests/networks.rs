//! Several networks: addresses belong to one, and endpoints of others are behind their gateway.

use super::*;
use crate::Authority;

/// The address of network `far`'s gateway as it is reached from here.
fn gateway_at(address: &str) -> GatewayAddress {
    let address = NetworkAddress {
        network: "far".into(),
        address: ip(address),
    };
    GatewayAddress {
        destination: GatewayDestination::Address(address),
        hbone_port: 15010,
    }
}

fn far(workload: Workload) -> Workload {
    Workload {
        network: "far".into(),
        ..workload
    }
}

/// A service with one endpoint in network `far`.
fn with_far_endpoint() -> (Mesh, Service) {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    mesh.add(Workload {
        network_gateway: Some(gateway_at("198.51.100.1")),
        ..far(member(pod("shop", "web-far", "10.0.0.2"), &web))
    });
    mesh.add(web.clone());
    (mesh, web)
}

#[test]
fn an_endpoint_of_another_network_is_reached_in_two_tunnels() {
    let (mut mesh, web) = with_far_endpoint();
    mesh.add(far(pod("gw", "gateway", "198.51.100.1")));
    let authority = Authority::Hostname {
        hostname: web.hostname.clone(),
        port: 80,
    };
    let hop = |inner: &str| Hop::DoubleHbone {
        gateway: at("198.51.100.1:15010"),
        authority: authority.clone(),
        expected: expected(&[&id("gw", "gateway")]),
        inner_expected: expected(&[inner]),
    };
    assert_eq!(mesh.hop("10.9.0.1:80"), hop(&id("shop", "web-far")));
    // The service's names count inside, not what the far workload is called from here.
    let subject_alt_names = vec![id("shop", "web").into()];
    mesh.add(Service {
        subject_alt_names,
        ..web
    });
    assert_eq!(mesh.hop("10.9.0.1:80"), hop(&id("shop", "web")));
}

#[test]
fn an_unknown_gateway_refuses() {
    let (mut mesh, _) = with_far_endpoint();
    let error = mesh.resolve("10.9.0.1:80").unwrap_err();
    assert_eq!(
        error,
        ResolveError::UnknownGateway {
            network: "far".into()
        }
    );
}

#[test]
fn an_endpoint_without_gateway_cannot_be_reached() {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    mesh.add(far(member(pod("shop", "web-far", "10.0.0.2"), &web)));
    mesh.add(web.clone());
    assert!(matches!(
        mesh.resolve("10.9.0.1:80"),
        Err(ResolveError::NoHealthyUpstream { .. })
    ));
    mesh.add(member(pod("shop", "web-near", "10.0.0.3"), &web));
    assert_eq!(mesh.names("10.9.0.1:80"), ["web-near"]);
}

#[test]
fn a_gateway_may_be_a_service_and_have_a_name_only() {
    let (mut mesh, web) = with_far_endpoint();
    let gateway = service("gw", "gateway", "10.9.0.9");
    let to_service = GatewayAddress {
        hbone_port: 15010,
        ..by_name("gw", "gateway")
    };
    mesh.add(Workload {
        network_gateway: Some(to_service),
        ..far(member(pod("shop", "web-far", "10.0.0.2"), &web))
    });
    mesh.add(gateway.clone());
    let instance = Workload {
        addresses: vec![],
        hostname: Some("gw.example.com".into()),
        ..member(pod("gw", "gateway", "10.0.0.5"), &gateway)
    };
    mesh.add(instance);
    let Hop::Hostname(name) = mesh.hop("10.9.0.1:80") else {
        panic!("must wait for DNS")
    };
    assert_eq!(name.hostname.as_str(), "gw.example.com");
    let Hop::DoubleHbone { gateway, .. } = name.with_address(ip("198.51.100.7")) else {
        panic!("must be two tunnels")
    };
    assert_eq!(gateway, at("198.51.100.7:15010"));
}

#[test]
fn addresses_are_looked_up_in_the_clients_network() {
    let mut mesh = Mesh::new();
    mesh.add(far(pod("shop", "elsewhere", "10.0.0.2")));
    assert!(matches!(mesh.hop("10.0.0.2:80"), Hop::Passthrough { .. }));
    let client = far(mesh.client.clone());
    mesh.set_client(client);
    assert!(matches!(mesh.hop("10.0.0.2:80"), Hop::Hbone { .. }));
}

#[test]
fn a_waypoint_of_another_network_is_passed_inside() {
    let mut mesh = Mesh::new();
    let waypoint = Service {
        ports: vec![port(15008, 15008)],
        ..service("shop", "waypoint", "10.9.9.9")
    };
    mesh.add(Workload {
        network_gateway: Some(gateway_at("198.51.100.1")),
        ..far(member(pod("shop", "wp", "10.0.0.8"), &waypoint))
    });
    mesh.add(far(pod("gw", "gateway", "198.51.100.1")));
    mesh.add(waypoint);
    let web = Service {
        waypoint: Some(by_name("shop", "waypoint")),
        ..service("shop", "web", "10.9.0.1")
    };
    mesh.add(web.clone());
    let Hop::DoubleHbone {
        authority,
        inner_expected,
        ..
    } = mesh.hop("10.9.0.1:80")
    else {
        panic!("must be two tunnels")
    };
    assert_eq!(
        authority,
        Authority::Hostname {
            hostname: web.hostname,
            port: 80
        }
    );
    assert_eq!(inner_expected, expected(&[&id("shop", "wp")]));
}
