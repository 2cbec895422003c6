//! Values a field cannot have are refused with the field's name; elided ones get their meaning.

use ambit_proto::{security, workload as proto};

use crate::{
    Action, AuthorizationPolicy, GatewayDestination, PolicyBody, PolicyError, Scope, Service,
    StringMatch, Workload,
};

fn pod() -> proto::Workload {
    proto::Workload {
        uid: "cluster//Pod/shop/web".into(),
        name: "web".into(),
        namespace: "shop".into(),
        tunnel_protocol: proto::TunnelProtocol::Hbone.into(),
        addresses: vec![vec![10, 0, 0, 1].into()],
        ..Default::default()
    }
}

fn web() -> proto::Service {
    proto::Service {
        name: "web".into(),
        namespace: "shop".into(),
        hostname: "web.shop.svc.cluster.local".into(),
        ..Default::default()
    }
}

fn vip(bytes: &[u8], length: Option<u32>) -> proto::NetworkAddress {
    proto::NetworkAddress {
        network: String::new(),
        address: bytes.to_vec().into(),
        length,
    }
}

fn mapped(last: u8) -> Vec<u8> {
    let mut bytes = vec![0; 10];
    bytes.extend([255, 255, 10, 0, 0, last]);
    bytes
}

#[test]
fn elided_fields_have_their_meaning() {
    let workload = Workload::try_from(pod()).unwrap();
    assert_eq!(
        workload.identity().to_string(),
        "spiffe://cluster.local/ns/shop/sa/default"
    );
    assert_eq!(workload.cluster.as_str(), "Kubernetes");
    assert_eq!(workload.capacity, 1);
    assert_eq!(workload.hostname, None);
}

#[test]
fn addresses_are_canonical_and_once() {
    let addresses = vec![mapped(1).into(), vec![10, 0, 0, 1].into()];
    let workload = Workload::try_from(proto::Workload { addresses, ..pod() }).unwrap();
    assert_eq!(
        workload.addresses,
        ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]
    );
}

#[test]
fn host_names_are_canonical() {
    let service = proto::Service {
        hostname: "Web.Shop.Example.".into(),
        ..web()
    };
    assert_eq!(
        Service::try_from(service).unwrap().hostname.as_str(),
        "web.shop.example"
    );
}

#[test]
fn a_full_range_is_an_address_and_host_bits_are_cleared() {
    let addresses = vec![
        vip(&[10, 0, 0, 1], Some(32)),
        vip(&[10, 9, 8, 7], Some(16)),
        vip(&mapped(9), Some(120)),
    ];
    let service = Service::try_from(proto::Service { addresses, ..web() }).unwrap();
    assert_eq!(service.addresses.len(), 1);
    let ranges: Vec<_> = service.ranges.iter().map(|r| r.range.to_string()).collect();
    assert_eq!(ranges, ["10.9.0.0/16", "10.0.0.0/24"]);
}

#[test]
fn a_gateway_without_port_listens_where_hbone_does() {
    let hostname = proto::NamespacedHostname {
        namespace: "shop".into(),
        hostname: "waypoint.shop".into(),
    };
    let waypoint = Some(proto::GatewayAddress {
        destination: Some(proto::gateway_address::Destination::Hostname(hostname)),
        hbone_mtls_port: 0,
    });
    let service = Service::try_from(proto::Service { waypoint, ..web() }).unwrap();
    let waypoint = service.waypoint.unwrap();
    assert_eq!(waypoint.hbone_port, 15008);
    assert!(matches!(
        waypoint.destination,
        GatewayDestination::Hostname(_)
    ));
}

#[test]
fn workloads_with_impossible_values_are_refused_by_field() {
    let check = |field: &str, change: &dyn Fn(&mut proto::Workload)| {
        let mut workload = pod();
        change(&mut workload);
        let error = Workload::try_from(workload).expect_err(field);
        assert_eq!(error.field, field);
        assert!(error.to_string().contains(field), "{error}");
    };
    check("uid", &|w| w.uid.clear());
    check("namespace", &|w| w.namespace.clear());
    check("namespace", &|w| w.namespace = "a/sa/b".into());
    check("service_account", &|w| w.service_account = "a/b".into());
    check("trust_domain", &|w| w.trust_domain = "td/ns/x".into());
    check("addresses", &|w| w.addresses = vec![vec![1, 2, 3].into()]);
    check("addresses", &|w| w.addresses.push(vec![0; 17].into()));
    check("tunnel_protocol", &|w| {
        w.tunnel_protocol = proto::TunnelProtocol::LegacyIstioMtls.into();
    });
    check("tunnel_protocol", &|w| w.tunnel_protocol = 77);
    check("workload_type", &|w| w.workload_type = 77);
    check("status", &|w| w.status = 77);
    check("network_mode", &|w| w.network_mode = -1);
    check("hostname", &|w| w.hostname = ".".into());
    check("authorization_policies", &|w| {
        w.authorization_policies = vec!["nameless".into()]
    });
    check("authorization_policies", &|w| {
        w.authorization_policies = vec!["/name".into()]
    });
    check("services", &|w| {
        drop(w.services.insert("nameless".into(), Default::default()))
    });
    check("waypoint", &|w| w.waypoint = Some(Default::default()));
    check("network_gateway", &|w| {
        w.network_gateway = Some(Default::default())
    });
    check("application_tunnel.protocol", &|w| {
        w.application_tunnel = Some(proto::ApplicationTunnel {
            protocol: 9,
            port: 1,
        });
    });
    check("application_tunnel.port", &|w| {
        w.application_tunnel = Some(proto::ApplicationTunnel {
            protocol: 1,
            port: 65536,
        });
    });
    check("ports.target_port", &|w| {
        let port = proto::Port {
            service_port: 80,
            target_port: 70000,
            app_protocol: 0,
        };
        w.services
            .insert("shop/web".into(), proto::PortList { ports: vec![port] });
    });
}

#[test]
fn services_with_impossible_values_are_refused_by_field() {
    let check = |field: &str, change: &dyn Fn(&mut proto::Service)| {
        let mut service = web();
        change(&mut service);
        let error = Service::try_from(service).expect_err(field);
        assert_eq!(error.field, field);
    };
    let balanced = |s: &mut proto::Service, scope: i32, mode: i32, health_policy: i32| {
        let routing_preference = vec![scope];
        s.load_balancing = Some(proto::LoadBalancing {
            routing_preference,
            mode,
            health_policy,
        });
    };
    check("namespace", &|s| s.namespace.clear());
    check("hostname", &|s| s.hostname.clear());
    check("addresses", &|s| s.addresses = vec![vip(&[10, 0, 0], None)]);
    check("addresses", &|s| {
        s.addresses = vec![vip(&[10, 0, 0, 1], Some(33))]
    });
    check("addresses", &|s| {
        s.addresses = vec![vip(&[1; 16], Some(129))]
    });
    check("addresses", &|s| {
        s.addresses = vec![vip(&mapped(1), Some(95))]
    });
    check("ports.service_port", &|s| {
        s.ports = vec![proto::Port {
            service_port: 65536,
            target_port: 1,
            app_protocol: 0,
        }];
    });
    check("ports.app_protocol", &|s| {
        s.ports = vec![proto::Port {
            service_port: 1,
            target_port: 1,
            app_protocol: 99,
        }];
    });
    check("load_balancing.routing_preference", &|s| {
        balanced(s, 0, 0, 0)
    });
    check("load_balancing.mode", &|s| balanced(s, 1, 9, 0));
    check("load_balancing.health_policy", &|s| balanced(s, 1, 1, 9));
    check("ip_families", &|s| s.ip_families = 9);
    check("visibility", &|s| s.visibility = 9);
    check("weighted_waypoints", &|s| {
        let destination = Some(proto::GatewayAddress::default());
        s.weighted_waypoints = vec![proto::WeightedWaypoint {
            destination,
            weight: 1,
        }];
    });
}

fn refused(policy: security::Authorization) -> PolicyError {
    AuthorizationPolicy::try_from(policy).expect_err("must be refused")
}

fn with_match(m: security::Match) -> security::Authorization {
    let clauses = vec![security::Clause { matches: vec![m] }];
    security::Authorization {
        name: "p".into(),
        namespace: "shop".into(),
        scope: security::Scope::Namespace.into(),
        action: security::Action::Allow.into(),
        rules: vec![security::Rule { clauses }],
        ..Default::default()
    }
}

/// A dropped part of a match would weaken the policy: the whole is refused, and denies.
#[test]
fn a_policy_with_an_impossible_match_denies_its_scope() {
    let range = |address: &[u8], length| {
        vec![security::Address {
            address: address.to_vec().into(),
            length,
        }]
    };
    let untyped = vec![security::StringMatch { match_type: None }];
    let nobody = vec![security::ServiceAccountMatch::default()];
    let extension = vec![security::Extension {
        name: "time".into(),
        config: None,
    }];
    let matches = [
        (
            "source_ips",
            security::Match {
                source_ips: range(&[1, 2], 8),
                ..Default::default()
            },
        ),
        (
            "not_source_ips",
            security::Match {
                not_source_ips: range(&[1, 2, 3, 4], 33),
                ..Default::default()
            },
        ),
        (
            "destination_ips",
            security::Match {
                destination_ips: range(&[0; 16], 129),
                ..Default::default()
            },
        ),
        (
            "principals",
            security::Match {
                principals: untyped.clone(),
                ..Default::default()
            },
        ),
        (
            "not_namespaces",
            security::Match {
                not_namespaces: untyped,
                ..Default::default()
            },
        ),
        (
            "destination_ports",
            security::Match {
                destination_ports: vec![65616],
                ..Default::default()
            },
        ),
        (
            "service_accounts",
            security::Match {
                service_accounts: nobody,
                ..Default::default()
            },
        ),
        (
            "extensions",
            security::Match {
                extensions: extension,
                ..Default::default()
            },
        ),
    ];
    for (field, m) in matches {
        let error = refused(with_match(m));
        assert_eq!(error.error.field, field);
        let policy = error.refusing.unwrap();
        assert_eq!(policy.key.to_string(), "shop/p");
        assert_eq!(policy.scope, Scope::Namespace);
        assert_eq!(policy.action, Action::Deny);
        assert!(matches!(policy.body, PolicyBody::Invalid(_)), "{field}");
    }
}

#[test]
fn a_policy_of_unknown_scope_denies_everything_and_one_without_name_cannot() {
    let error = refused(security::Authorization {
        scope: 7,
        ..with_match(Default::default())
    });
    assert_eq!(error.error.field, "scope");
    assert_eq!(error.refusing.unwrap().scope, Scope::Global);
    let error = refused(security::Authorization {
        action: 7,
        ..with_match(Default::default())
    });
    assert_eq!(error.error.field, "action");
    assert_eq!(error.key().unwrap().to_string(), "shop/p");
    let nameless = security::Authorization {
        name: String::new(),
        ..with_match(Default::default())
    };
    let error = refused(nameless);
    assert_eq!((error.error.field, error.refusing), ("name", None));
}

/// What cannot be read at all is known by the name it is published by, and denies.
#[test]
fn garbage_denies_under_its_resource_name() {
    let mut converter = crate::Converter::default();
    let garbage = [0xff; 7];
    let error = converter.decode_policy("shop/p", &garbage).unwrap_err();
    assert_eq!(error.key().unwrap().to_string(), "shop/p");
    assert_eq!(error.refusing.unwrap().scope, Scope::Global);
    let empty = converter.decode_policy("shop/p", &[]).unwrap_err();
    assert_eq!(
        (empty.error.field, empty.key().is_some()),
        ("namespace", true)
    );
    assert_eq!(
        converter
            .decode_policy("nameless", &garbage)
            .unwrap_err()
            .refusing,
        None
    );
    assert_eq!(
        converter.decode_address(&garbage).unwrap_err().field,
        "message"
    );
    assert_eq!(converter.decode_address(&[]).unwrap_err().field, "type");
}

#[test]
fn what_is_on_the_wire_is_read() {
    use prost::Message;
    let mut converter = crate::Converter::default();
    let workload = Workload::try_from(pod()).unwrap();
    let read = converter.decode_address(&proto::Address::from(&workload).encode_to_vec());
    assert_eq!(read, Ok(crate::AddressResource::Workload(workload)));
    let policy = with_match(security::Match {
        destination_ports: vec![80],
        ..Default::default()
    });
    let read = converter
        .decode_policy("other/name", &policy.encode_to_vec())
        .unwrap();
    assert_eq!(read.key.to_string(), "shop/p");
}

#[test]
fn a_dry_run_that_is_refused_stays_a_dry_run() {
    let policy = security::Authorization {
        dry_run: true,
        ..with_match(security::Match {
            destination_ports: vec![70000],
            ..Default::default()
        })
    };
    assert!(refused(policy).refusing.unwrap().dry_run);
}

#[test]
fn principals_are_held_without_the_scheme() {
    use security::string_match::MatchType;
    let principal = |match_type| security::StringMatch {
        match_type: Some(match_type),
    };
    let policy = AuthorizationPolicy::try_from(with_match(security::Match {
        principals: vec![
            principal(MatchType::Exact("spiffe://td/ns/a/sa/b".into())),
            principal(MatchType::Exact("td/ns/a/sa/b".into())),
            principal(MatchType::Prefix("spiffe://td/".into())),
            principal(MatchType::Suffix("spiffe://td/ns/a/sa/b".into())),
            principal(MatchType::Suffix("/sa/b".into())),
        ],
        ..Default::default()
    }))
    .unwrap();
    let PolicyBody::Rules(rules) = policy.body else {
        panic!("has rules")
    };
    assert_eq!(
        rules[0].clauses[0].matches[0].principals,
        [
            StringMatch::Exact("td/ns/a/sa/b".into()),
            StringMatch::Exact("td/ns/a/sa/b".into()),
            StringMatch::Prefix("td/".into()),
            StringMatch::Exact("td/ns/a/sa/b".into()),
            StringMatch::Suffix("/sa/b".into()),
        ]
    );
}

/// On the wire there is no invalid policy; the next hop must deny as well.
#[test]
fn an_invalid_policy_goes_out_as_a_denial() {
    let refusing = refused(with_match(security::Match {
        destination_ports: vec![70000],
        ..Default::default()
    }))
    .refusing
    .unwrap();
    let back = AuthorizationPolicy::try_from(security::Authorization::from(&*refusing)).unwrap();
    assert_eq!(back.action, Action::Deny);
    let PolicyBody::Rules(rules) = back.body else {
        panic!("has rules")
    };
    assert!(
        rules.len() == 1 && rules[0].clauses.is_empty(),
        "matches everything"
    );
}
