//! CONNECT requests at a local workload: what is for it, and what it must not be made to relay.

use ambit_model::ApplicationTunnel;

use super::*;
use crate::{Authority, InboundError, InboundRequest, InboundTarget};

fn to_address(text: &str) -> Authority {
    Authority::Address(at(text))
}

fn to_host(host: String, port: u16) -> Authority {
    Authority::Hostname {
        hostname: host.into(),
        port,
    }
}

fn ask(
    mesh: &Mesh,
    local: &Workload,
    authority: &Authority,
) -> Result<InboundTarget, InboundError> {
    let address = local.addresses[0];
    let connection_destination = SocketAddr::new(address, 15008);
    mesh.reader.resolve_inbound(&InboundRequest {
        local,
        connection_destination,
        authority,
    })
}

#[test]
fn the_workloads_own_address_is_accepted() {
    let mut mesh = Mesh::new();
    let web = pod("shop", "web", "10.0.0.2");
    mesh.add(web.clone());
    let target = ask(&mesh, &web, &to_address("10.0.0.2:8080")).unwrap();
    assert_eq!(target.destination, at("10.0.0.2:8080"));
    assert_eq!(target.connect_to, at("10.0.0.2:8080"));
    assert_eq!((target.proxy_protocol, target.service), (None, None));
    let mapped = ask(&mesh, &web, &to_address("[::ffff:10.0.0.2]:8080")).unwrap();
    assert_eq!(mapped.connect_to, at("10.0.0.2:8080"));
}

#[test]
fn another_address_is_refused() {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    let local = member(pod("shop", "web-1", "10.0.0.2"), &web);
    mesh.add(local.clone());
    mesh.add(web);
    mesh.add(pod("shop", "db", "10.0.0.3"));
    for other in [
        "10.0.0.3:80",
        "10.9.0.1:80",
        "127.0.0.1:80",
        "192.0.2.1:80",
        "[::1]:80",
    ] {
        let error = ask(&mesh, &local, &to_address(other)).unwrap_err();
        assert!(matches!(error, InboundError::NotHere { .. }), "{error}");
    }
}

#[test]
fn an_application_that_takes_tunnelled_traffic_gets_everything_on_its_port() {
    let mut mesh = Mesh::new();
    let with = |proxy_protocol, port| Workload {
        application_tunnel: Some(ApplicationTunnel {
            proxy_protocol,
            port,
        }),
        ..pod("shop", "waypoint", "10.0.0.2")
    };
    let local = with(true, Some(15088));
    mesh.add(local.clone());
    let target = ask(&mesh, &local, &to_address("10.9.0.1:80")).unwrap();
    assert_eq!(target.connect_to, at("10.0.0.2:15088"));
    assert_eq!(target.proxy_protocol, Some(at("10.9.0.1:80")));
    assert_eq!(
        target.destination,
        at("10.0.0.2:80"),
        "policies see the port asked for"
    );
    let target = ask(&mesh, &with(false, None), &to_address("10.9.0.1:80")).unwrap();
    assert_eq!(target.connect_to, at("10.0.0.2:80"));
    assert_eq!(target.proxy_protocol, None);
}

#[test]
fn a_waypoint_is_asked_for_what_it_is_the_waypoint_of() {
    let mut mesh = Mesh::new();
    let waypoint = service("shop", "waypoint", "10.9.9.9");
    let local = member(pod("shop", "wp", "10.0.0.8"), &waypoint);
    mesh.add(local.clone());
    mesh.add(waypoint);
    mesh.add(Service {
        waypoint: Some(by_name("shop", "waypoint")),
        ..service("shop", "web", "10.9.0.1")
    });
    mesh.add(Workload {
        waypoint: Some(by_address("10.9.9.9")),
        ..pod("shop", "db", "10.0.0.3")
    });
    mesh.add(Workload {
        waypoint: Some(by_name("shop", "x")),
        ..pod("shop", "no", "10.0.0.4")
    });
    for mine in ["10.9.0.1:80", "10.0.0.3:5432"] {
        assert!(ask(&mesh, &local, &to_address(mine)).is_ok(), "{mine}");
    }
    assert!(ask(&mesh, &local, &to_address("10.0.0.4:80")).is_err());
    let by_host = ask(&mesh, &local, &to_host(hostname("shop", "web"), 80)).unwrap();
    assert_eq!(by_host.destination, at("10.0.0.8:80"));
}

#[test]
fn a_host_name_means_a_service_of_the_workload_and_its_own_port() {
    let mut mesh = Mesh::new();
    let web = service("shop", "web", "10.9.0.1");
    let local = member_with(pod("shop", "web-1", "10.0.0.2"), &web, vec![port(80, 9090)]);
    mesh.add(local.clone());
    mesh.add(web.clone());
    mesh.add(service("shop", "db", "10.9.0.2"));
    let target = ask(&mesh, &local, &to_host(hostname("shop", "web"), 80)).unwrap();
    assert_eq!(target.connect_to, at("10.0.0.2:9090"));
    assert_eq!(*target.service.unwrap(), web);
    let others = [
        (hostname("shop", "db"), 80),
        (hostname("shop", "web"), 81),
        ("x".into(), 80),
    ];
    for (host, port) in others {
        let error = ask(&mesh, &local, &to_host(host, port)).unwrap_err();
        assert!(
            matches!(error, InboundError::UnknownService { .. }),
            "{error}"
        );
    }
}

#[test]
fn the_service_an_inbound_connection_is_counted_for() {
    let mut mesh = Mesh::new();
    let (web, admin) = (
        service("shop", "web", "10.9.0.1"),
        service("shop", "admin", "10.9.0.2"),
    );
    let local = member(pod("shop", "web-1", "10.0.0.2"), &web);
    let local = member_with(local, &admin, vec![port(80, 9090)]);
    mesh.add(local.clone());
    mesh.add(web.clone());
    mesh.add(admin.clone());
    mesh.add(service("shop", "db", "10.9.0.3"));
    let find = |host: Option<&str>, port| {
        let found = mesh.reader.find_inbound_service(&local, host, port);
        found.map(|service| service.name.to_string())
    };
    assert_eq!(find(None, 8080).as_deref(), Some("web"));
    assert_eq!(find(None, 9090).as_deref(), Some("admin"));
    assert_eq!(find(None, 7070), None);
    assert_eq!(
        find(Some(&hostname("shop", "admin")), 8080).as_deref(),
        Some("admin")
    );
    assert_eq!(
        find(Some(&hostname("shop", "db")), 8080).as_deref(),
        Some("web"),
        "not its"
    );
    let target = ask(&mesh, &local, &to_address("10.0.0.2:8080")).unwrap();
    assert_eq!(target.service.unwrap().name.as_ref(), "web");
}
