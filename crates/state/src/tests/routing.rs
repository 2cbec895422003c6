//! Where a connection goes: addressed to a workload, a service, a range, or the unknown.

use ambit_model::{Hostname, IpFamilies, LoadBalancing, LoadBalancingMode, NetworkMode, Workload};

use super::*;
use crate::upstream::AppliedTo;
use crate::{Authority, PendingName};

fn hbone(gateway: &str, authority: &str, names: &[String]) -> Hop {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    Hop::Hbone {
        gateway: at(gateway),
        authority: Authority::Address(at(authority)),
        expected: expected(&names),
    }
}

#[test]
fn an_unknown_destination_is_passed_through() {
    let mut mesh = Mesh::new();
    let upstream = mesh.resolve("192.0.2.1:443").unwrap();
    assert_eq!(
        upstream.hop,
        Hop::Passthrough {
            to: at("192.0.2.1:443")
        }
    );
    assert_eq!(
        (upstream.workload, upstream.destination_service),
        (None, None)
    );
}

#[test]
fn a_pod_in_the_mesh_is_reached_by_tunnel_and_others_in_clear() {
    let mut mesh = Mesh::new();
    mesh.add(pod("shop", "web", "10.0.0.2"));
    mesh.add(plain(pod("shop", "old", "10.0.0.3")));
    let upstream = mesh.resolve("10.0.0.2:80").unwrap();
    assert_eq!(
        upstream.hop,
        hbone("10.0.0.2:15008", "10.0.0.2:80", &[id("shop", "web")])
    );
    assert_eq!(upstream.workload.unwrap().name.as_ref(), "web");
    assert_eq!(upstream.endpoint, None, "there is no other to try");
    assert_eq!(
        mesh.hop("10.0.0.3:80"),
        Hop::Direct {
            to: at("10.0.0.3:80")
        }
    );
}

#[test]
fn a_mapped_destination_is_the_ipv4_one() {
    let mut mesh = Mesh::new();
    mesh.add(pod("shop", "web", "10.0.0.2"));
    let hop = mesh.hop("[::ffff:10.0.0.2]:80");
    assert_eq!(
        hop,
        hbone("10.0.0.2:15008", "10.0.0.2:80", &[id("shop", "web")])
    );
}

#[test]
fn a_service_is_reached_at_an_endpoint_and_its_own_port() {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    mesh.add(member(pod("shop", "web-1", "10.0.0.2"), &web));
    mesh.add(web.clone());
    let upstream = mesh.resolve("10.9.0.1:80").unwrap();
    assert_eq!(
        upstream.hop,
        hbone("10.0.0.2:15008", "10.0.0.2:8080", &[id("shop", "web-1")])
    );
    assert_eq!(*upstream.destination_service.unwrap(), web);
    let endpoint = upstream.endpoint.unwrap();
    assert_eq!(
        (endpoint.workload, endpoint.port),
        (uid("shop", "web-1"), 8080)
    );
}

#[test]
fn target_ports_come_from_the_endpoint_then_from_the_service() {
    let mut mesh = Mesh::new();
    let web = Service {
        ports: vec![port(80, 8080), port(81, 0)],
        ..service("shop", "web", "10.9.0.1")
    };
    let own = vec![port(80, 9090), port(82, 9292)];
    mesh.add(member_with(pod("shop", "web-1", "10.0.0.2"), &web, own));
    mesh.add(web.clone());
    let target = |mesh: &mut Mesh, to: &str| mesh.resolve(to).map(|u| u.endpoint.unwrap().port);
    assert_eq!(target(&mut mesh, "10.9.0.1:80"), Ok(9090), "the endpoint's");
    assert_eq!(
        target(&mut mesh, "10.9.0.1:82"),
        Ok(9292),
        "the endpoint's alone"
    );
    let no_endpoint = ResolveError::NoHealthyUpstream {
        service: web.key().to_string(),
    };
    assert_eq!(
        target(&mut mesh, "10.9.0.1:81"),
        Err(no_endpoint),
        "a named port it lacks"
    );
    mesh.add(member_with(pod("shop", "web-1", "10.0.0.2"), &web, vec![]));
    assert_eq!(target(&mut mesh, "10.9.0.1:80"), Ok(8080), "the service's");
    let unknown = ResolveError::UnknownPort {
        service: web.key().to_string(),
        port: 99,
    };
    assert_eq!(target(&mut mesh, "10.9.0.1:99"), Err(unknown));
}

#[test]
fn a_service_without_endpoints_is_an_error_and_never_passed_through() {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    mesh.add(web.clone());
    let error = mesh.resolve("10.9.0.1:80").unwrap_err();
    assert_eq!(
        error,
        ResolveError::NoHealthyUpstream {
            service: web.key().to_string()
        }
    );
}

#[test]
fn names_of_the_service_may_answer_too() {
    let mut mesh = Mesh::new();
    let names = [
        id("shop", "alias"),
        "not-an-identity".into(),
        id("shop", "web-1"),
    ];
    let web = Service {
        subject_alt_names: names.iter().map(|name| name.as_str().into()).collect(),
        ..service("shop", "web", "10.9.0.1")
    };
    mesh.add(member(pod("shop", "web-1", "10.0.0.2"), &web));
    mesh.add(web);
    let names = [id("shop", "alias"), id("shop", "web-1")];
    assert_eq!(
        mesh.hop("10.9.0.1:80"),
        hbone("10.0.0.2:15008", "10.0.0.2:8080", &names)
    );
}

#[test]
fn the_client_itself_is_reached_directly() {
    let mut mesh = Mesh::new();
    let own = service("shop", "own", "10.9.0.1");
    mesh.set_client(Workload {
        waypoint: Some(by_name("shop", "waypoint")),
        ..member(mesh.client.clone(), &own)
    });
    mesh.add(own);
    assert_eq!(
        mesh.hop("10.0.0.1:80"),
        Hop::Direct {
            to: at("10.0.0.1:80")
        }
    );
    assert_eq!(
        mesh.hop("10.9.0.1:80"),
        Hop::Direct {
            to: at("10.0.0.1:8080")
        }
    );
    // An address of the client that discovery does not know (yet).
    let hop = mesh
        .resolve_from(ip("10.0.0.99"), "10.0.0.99:80")
        .unwrap()
        .hop;
    assert_eq!(
        hop,
        Hop::Direct {
            to: at("10.0.0.99:80")
        }
    );
}

#[test]
fn a_passthrough_service_keeps_the_original_destination() {
    let mut mesh = Mesh::new();
    let lb = LoadBalancing {
        mode: LoadBalancingMode::Passthrough,
        ..LoadBalancing::default()
    };
    let external = Service {
        load_balancing: lb,
        ..range_service("shop", "out", "192.0.2.0/24")
    };
    mesh.add(external.clone());
    let upstream = mesh.resolve("192.0.2.7:4711").unwrap();
    assert_eq!(
        upstream.hop,
        Hop::Passthrough {
            to: at("192.0.2.7:4711")
        }
    );
    assert_eq!(
        *upstream.destination_service.unwrap(),
        external,
        "it is still counted for it"
    );
}

#[test]
fn a_range_is_a_service_too_and_an_address_comes_before_it() {
    let mut mesh = Mesh::new();
    let wide = range_service("shop", "wide", "10.8.0.0/16");
    let vip = service("shop", "vip", "10.8.0.1");
    mesh.add(member(pod("shop", "in-range", "10.0.0.2"), &wide));
    mesh.add(member(pod("shop", "at-vip", "10.0.0.3"), &vip));
    mesh.add(wide);
    mesh.add(vip);
    assert_eq!(mesh.names("10.8.7.6:80"), ["in-range"]);
    assert_eq!(mesh.names("10.8.0.1:80"), ["at-vip"]);
    mesh.add(pod("shop", "pod", "10.8.7.6"));
    assert_eq!(
        mesh.names("10.8.7.6:80"),
        ["pod"],
        "a workload comes before a range"
    );
}

#[test]
fn host_network_is_not_found_by_address_but_serves_its_service() {
    let mut mesh = Mesh::new();
    let agent = service("shop", "agent", "10.9.0.1");
    let on_host = Workload {
        network_mode: NetworkMode::HostNetwork,
        ..plain(member(pod("shop", "agent-1", "172.16.0.1"), &agent))
    };
    mesh.add(on_host);
    mesh.add(agent);
    assert_eq!(
        mesh.hop("172.16.0.1:80"),
        Hop::Passthrough {
            to: at("172.16.0.1:80")
        }
    );
    assert_eq!(
        mesh.hop("10.9.0.1:80"),
        Hop::Direct {
            to: at("172.16.0.1:8080")
        }
    );
}

#[test]
fn the_family_is_the_one_the_client_used_if_there_is_a_choice() {
    let mut mesh = Mesh::new();
    let mut dual = service("shop", "dual", "10.9.0.1");
    dual.addresses.push(network_address("fd00::9"));
    let mut workload = member(pod("shop", "web", "10.0.0.2"), &dual);
    workload.addresses.push(ip("fd00::2"));
    mesh.add(plain(workload));
    mesh.add(dual.clone());
    assert_eq!(
        mesh.hop("10.9.0.1:80"),
        Hop::Direct {
            to: at("10.0.0.2:8080")
        }
    );
    assert_eq!(
        mesh.hop("[fd00::9]:80"),
        Hop::Direct {
            to: at("[fd00::2]:8080")
        }
    );
    mesh.add(Service {
        ip_families: IpFamilies::Ipv4Only,
        ..dual.clone()
    });
    assert_eq!(
        mesh.hop("[fd00::9]:80"),
        Hop::Direct {
            to: at("10.0.0.2:8080")
        }
    );
    mesh.add(Service {
        ip_families: IpFamilies::Ipv6Only,
        ..dual.clone()
    });
    assert_eq!(
        mesh.hop("10.9.0.1:80"),
        Hop::Direct {
            to: at("[fd00::2]:8080")
        }
    );
    mesh.add(plain(member(pod("shop", "web", "10.0.0.2"), &dual)));
    let error = ResolveError::NoHealthyUpstream {
        service: dual.key().to_string(),
    };
    assert_eq!(
        mesh.resolve("10.9.0.1:80"),
        Err(error),
        "no address of the service's family"
    );
}

#[test]
fn an_endpoint_with_a_name_only_waits_for_dns() {
    let mut mesh = Mesh::new();
    let api = service("shop", "api", "10.9.0.1");
    let external = Workload {
        addresses: vec![],
        hostname: Some("api.example.com".into()),
        ..plain(member(pod("shop", "api", "10.0.0.2"), &api))
    };
    mesh.add(external.clone());
    mesh.add(api.clone());
    let pending = |then: AppliedTo| PendingName {
        hostname: Hostname::from("api.example.com"),
        prefer_ipv6: false,
        allow_ipv4: true,
        allow_ipv6: true,
        then,
    };
    let hop = mesh.hop("10.9.0.1:80");
    assert_eq!(
        hop,
        Hop::Hostname(pending(AppliedTo::Direct { port: 8080 }))
    );
    let Hop::Hostname(name) = hop else {
        unreachable!()
    };
    let answers = [ip("2001:db8::1"), ip("192.0.2.1")];
    assert_eq!(
        name.choose(&answers),
        Some(ip("192.0.2.1")),
        "the client used IPv4"
    );
    assert_eq!(name.choose(&answers[..1]), Some(answers[0]));
    assert_eq!(name.choose(&[]), None);
    let resolved = name.with_address(answers[1]);
    assert_eq!(
        resolved,
        Hop::Direct {
            to: at("192.0.2.1:8080")
        }
    );
    mesh.add(Workload {
        tunnel: TunnelProtocol::Hbone,
        ..external
    });
    mesh.add(Service {
        ip_families: IpFamilies::Ipv6Only,
        ..api
    });
    let Hop::Hostname(name) = mesh.hop("10.9.0.1:80") else {
        panic!("must wait for DNS")
    };
    assert_eq!(
        name.choose(&[ip("192.0.2.1")]),
        None,
        "not of the service's family"
    );
    let resolved = name.with_address(ip("2001:db8::1"));
    let tunnel = hbone(
        "[2001:db8::1]:15008",
        "[2001:db8::1]:8080",
        &[id("shop", "api")],
    );
    assert_eq!(resolved, tunnel);
}

#[test]
fn another_endpoint_is_found_for_another_try_until_there_is_none() {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    for i in 2..5 {
        mesh.add(member(
            pod("shop", &format!("web-{i}"), &format!("10.0.0.{i}")),
            &web,
        ));
    }
    mesh.add(web.clone());
    let mut tried = Vec::new();
    for _ in 0..3 {
        let upstream = mesh
            .resolve_without(ip("10.0.0.1"), "10.9.0.1:80", &tried)
            .unwrap();
        let endpoint = upstream.endpoint.unwrap();
        assert!(!tried.contains(&endpoint.workload));
        tried.push(endpoint.workload);
    }
    let error = mesh
        .resolve_without(ip("10.0.0.1"), "10.9.0.1:80", &tried)
        .unwrap_err();
    assert_eq!(
        error,
        ResolveError::NoHealthyUpstream {
            service: web.key().to_string()
        }
    );
}
