//! Arbitrary values of the model, as they are after a conversion.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::*;

pub(super) fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,6}"
}

fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just(Arc::default()), name().prop_map(Arc::from)]
}

fn some(name: impl Strategy<Value = String>) -> impl Strategy<Value = Arc<str>> {
    name.prop_map(Arc::from)
}

fn hostname() -> impl Strategy<Value = Hostname> {
    "(\\*\\.)?[a-z]{1,4}(\\.[a-z]{1,4}){0,2}".prop_map(Hostname::from)
}

/// Without IPv4 in IPv6 clothes, which the model does not hold.
pub(super) fn ip() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>().prop_map(|ip| ip.to_canonical())
}

fn range() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u32>(), 0u8..32).prop_map(|(ip, len)| IpNet::new(IpAddr::V4(ip.into()), len));
    // Above the range of addresses that are IPv4 in disguise.
    let v6 = (any::<u128>(), 0u8..128)
        .prop_map(|(ip, len)| IpNet::new(IpAddr::V6((ip | 1 << 127).into()), len));
    prop_oneof![v4, v6].prop_map(|net| net.unwrap().trunc())
}

fn network_address() -> impl Strategy<Value = NetworkAddress> {
    (text(), ip()).prop_map(|(network, address)| NetworkAddress {
        network: network.into(),
        address,
    })
}

fn gateway() -> impl Strategy<Value = GatewayAddress> {
    let by_name = (name(), hostname()).prop_map(|(namespace, hostname)| {
        GatewayDestination::Hostname(NamespacedHostname {
            namespace: namespace.into(),
            hostname,
        })
    });
    let destination = prop_oneof![
        by_name,
        network_address().prop_map(GatewayDestination::Address)
    ];
    (destination, 1u16..).prop_map(|(destination, hbone_port)| GatewayAddress {
        destination,
        hbone_port,
    })
}

fn port() -> impl Strategy<Value = Port> {
    use AppProtocol::*;
    let protocol = select(vec![Unknown, Http11, Http2, Grpc, Tcp, Tls]);
    (any::<u16>(), any::<u16>(), protocol).prop_map(|(service_port, target_port, app_protocol)| {
        Port {
            service_port,
            target_port,
            app_protocol,
        }
    })
}

fn services() -> impl Strategy<Value = ServicePorts> {
    let key = (name(), hostname()).prop_map(|(namespace, hostname)| ServiceKey {
        namespace: namespace.into(),
        hostname,
    });
    vec((key, vec(port(), 0..3)), 0..4).prop_map(|entries| entries.into_iter().collect())
}

fn unique(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut unique = Vec::new();
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    unique
}

pub(super) fn workload() -> impl Strategy<Value = Workload> {
    let who = (
        some(name()),
        text(),
        some(name()),
        some(name()),
        some(name()),
    );
    let place = (
        vec(ip(), 0..3),
        option::of(hostname()),
        text(),
        option::of(gateway()),
        text(),
    );
    let tunnel = (
        any::<bool>(),
        any::<bool>(),
        option::of((any::<bool>(), option::of(1u16..))),
    );
    let owner = (
        text(),
        text(),
        0usize..4,
        text(),
        vec((name(), name()), 0..3),
    );
    let rest = (
        any::<bool>(),
        some(name()),
        (text(), text(), text()),
        any::<bool>(),
        any::<u32>(),
    );
    (
        who,
        place,
        tunnel,
        owner,
        rest,
        option::of(gateway()),
        services(),
    )
        .prop_map(|(who, place, tunnel, owner, rest, waypoint, services)| {
            use WorkloadType::*;
            Workload {
                uid: who.0.into(),
                name: who.1,
                namespace: who.2.into(),
                service_account: who.3.into(),
                trust_domain: who.4.into(),
                addresses: unique(place.0),
                hostname: place.1,
                network: place.2.into(),
                network_gateway: place.3,
                node: place.4.into(),
                tunnel: if tunnel.0 {
                    TunnelProtocol::Hbone
                } else {
                    TunnelProtocol::None
                },
                native_tunnel: tunnel.1,
                application_tunnel: tunnel.2.map(|(proxy_protocol, port)| ApplicationTunnel {
                    proxy_protocol,
                    port,
                }),
                canonical_name: owner.0,
                canonical_revision: owner.1,
                workload_type: [Deployment, CronJob, Pod, Job][owner.2],
                workload_name: owner.3,
                policies: owner
                    .4
                    .iter()
                    .map(|(ns, n)| PolicyKey::new(ns.as_str(), n))
                    .collect(),
                health: if rest.0 {
                    Health::Healthy
                } else {
                    Health::Unhealthy
                },
                cluster: rest.1.into(),
                locality: Locality {
                    region: rest.2.0,
                    zone: rest.2.1,
                    subzone: rest.2.2,
                },
                network_mode: match rest.3 {
                    true => NetworkMode::Standard,
                    false => NetworkMode::HostNetwork,
                },
                capacity: rest.4,
                waypoint,
                services,
            }
        })
}

fn load_balancing() -> impl Strategy<Value = LoadBalancing> {
    use LoadBalancingMode::*;
    use LocalityScope::*;
    let scopes = vec(
        select(vec![Region, Zone, Subzone, Node, Cluster, Network]),
        0..4,
    );
    let mode = select(vec![Standard, Strict, Failover, Passthrough]);
    let health = select(vec![HealthPolicy::OnlyHealthy, HealthPolicy::AllowAll]);
    (scopes, mode, health).prop_map(|(preference, mode, health)| LoadBalancing {
        preference,
        mode,
        health,
    })
}

pub(super) fn service() -> impl Strategy<Value = Service> {
    use IpFamilies::*;
    let weighted =
        (option::of(gateway()), any::<u32>()).prop_map(|(destination, weight)| WeightedWaypoint {
            destination,
            weight,
        });
    let named = (text(), name(), hostname());
    let ranges = (text(), range()).prop_map(|(network, range)| NetworkCidr {
        network: network.into(),
        range,
    });
    let at = (
        vec(network_address(), 0..3),
        vec(ranges, 0..3),
        vec(port(), 0..3),
    );
    let via = (option::of(gateway()), vec(weighted, 0..3), load_balancing());
    let families = select(vec![Automatic, Ipv4Only, Ipv6Only, Dual]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (named, at, vec(some(name()), 0..2), via, families, flags).prop_map(
        |(named, at, subject_alt_names, via, ip_families, flags)| Service {
            name: named.0,
            namespace: named.1.into(),
            hostname: named.2,
            addresses: at.0,
            ranges: at.1,
            ports: at.2,
            subject_alt_names,
            waypoint: via.0,
            weighted_waypoints: via.1,
            load_balancing: via.2,
            ip_families,
            canonical: flags.0,
            ingress_use_waypoint: flags.1,
            visibility: if flags.2 {
                Visibility::Public
            } else {
                Visibility::Namespace
            },
        },
    )
}

fn string_match() -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        text().prop_map(StringMatch::Exact),
        text().prop_map(StringMatch::Prefix),
        text().prop_map(StringMatch::Suffix),
        Just(StringMatch::Presence),
    ]
}

fn account() -> impl Strategy<Value = ServiceAccountMatch> {
    (name(), name()).prop_map(|(namespace, account)| ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: account.into(),
    })
}

fn a_match() -> impl Strategy<Value = Match> {
    let strings = || (vec(string_match(), 0..3), vec(string_match(), 0..3));
    let accounts = (vec(account(), 0..2), vec(account(), 0..2));
    let ranges = || vec(range().prop_map(IpRange), 0..2);
    let ports = (vec(any::<u16>(), 0..3), vec(any::<u16>(), 0..3));
    (
        strings(),
        strings(),
        accounts,
        (ranges(), ranges()),
        (ranges(), ranges()),
        ports,
    )
        .prop_map(
            |(namespaces, principals, accounts, sources, destinations, ports)| Match {
                namespaces: namespaces.0,
                not_namespaces: namespaces.1,
                principals: principals.0,
                not_principals: principals.1,
                service_accounts: accounts.0,
                not_service_accounts: accounts.1,
                source_ips: sources.0,
                not_source_ips: sources.1,
                destination_ips: destinations.0,
                not_destination_ips: destinations.1,
                destination_ports: ports.0,
                not_destination_ports: ports.1,
            },
        )
}

pub(super) fn policy() -> impl Strategy<Value = AuthorizationPolicy> {
    let clause = vec(a_match(), 0..3).prop_map(|matches| Clause { matches });
    let rule = vec(clause, 0..3).prop_map(|clauses| Rule { clauses });
    let scope = select(vec![
        Scope::Global,
        Scope::Namespace,
        Scope::WorkloadSelector,
    ]);
    let action = select(vec![Action::Allow, Action::Deny]);
    (
        name(),
        name(),
        scope,
        action,
        any::<bool>(),
        vec(rule, 0..3),
    )
        .prop_map(
            |(namespace, name, scope, action, dry_run, rules)| AuthorizationPolicy {
                key: PolicyKey::new(namespace, &name),
                scope,
                action,
                dry_run,
                body: PolicyBody::Rules(rules),
            },
        )
}
