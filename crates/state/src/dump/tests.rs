//! The shape of the dump: names and spellings that other programs read.

use ambit_model::{
    Action, ApplicationTunnel, AuthorizationPolicy, Clause, GatewayAddress, GatewayDestination,
    IpRange, LoadBalancing, LoadBalancingMode, LocalityScope, Match, NetworkAddress, NetworkCidr,
    PolicyBody, PolicyKey, Port, Rule, Scope, Service, ServiceAccountMatch, ServiceKey,
    StringMatch, TunnelProtocol, Workload, WorkloadType,
};
use serde_json::{Value, json};

use crate::{Change, Settings};

fn dump(changes: Vec<Change>) -> Value {
    let (mut writer, reader) = crate::new(Settings::default());
    writer.apply(changes);
    serde_json::to_value(reader.dump()).unwrap()
}

fn address(network: &str, ip: &str) -> NetworkAddress {
    NetworkAddress {
        network: network.into(),
        address: ip.parse().unwrap(),
    }
}

fn port(service_port: u16, target_port: u16) -> Port {
    Port {
        service_port,
        target_port,
        app_protocol: ambit_model::AppProtocol::Unknown,
    }
}

fn web() -> Workload {
    let key = ServiceKey::new("shop", "web.shop.svc.cluster.local");
    Workload {
        uid: "cluster//Pod/shop/web-1".into(),
        name: "web-1".into(),
        namespace: "shop".into(),
        service_account: "web".into(),
        addresses: vec!["10.0.0.2".parse().unwrap()],
        tunnel: TunnelProtocol::Hbone,
        node: "n1".into(),
        workload_name: "web".into(),
        workload_type: WorkloadType::Deployment,
        canonical_name: "web".into(),
        canonical_revision: "v1".into(),
        waypoint: Some(GatewayAddress {
            destination: GatewayDestination::Address(address("", "10.9.9.9")),
            hbone_port: 15008,
        }),
        policies: vec![PolicyKey::new("shop", "p")],
        services: [(key, vec![port(80, 8080)])].into_iter().collect(),
        ..Workload::default()
    }
}

#[test]
fn a_workload() {
    let dump = dump(vec![Change::Workload(web())]);
    assert_eq!(
        dump["workloads"],
        json!([{
            "uid": "cluster//Pod/shop/web-1",
            "workloadIps": ["10.0.0.2"],
            "waypoint": {"destination": "/10.9.9.9", "hboneMtlsPort": 15008},
            "protocol": "HBONE",
            "name": "web-1",
            "namespace": "shop",
            "trustDomain": "cluster.local",
            "serviceAccount": "web",
            "workloadName": "web",
            "workloadType": "deployment",
            "canonicalName": "web",
            "canonicalRevision": "v1",
            "node": "n1",
            "nativeTunnel": false,
            "authorizationPolicies": ["shop/p"],
            "status": "Healthy",
            "clusterId": "Kubernetes",
            "networkMode": "Standard",
            "capacity": 1,
            "services": ["shop/web.shop.svc.cluster.local"],
        }])
    );
}

#[test]
fn an_endpoint_without_its_service_is_staged() {
    let endpoint = json!({
        "workloadUid": "cluster//Pod/shop/web-1",
        "service": "shop/web.shop.svc.cluster.local",
        "port": {"80": 8080},
        "status": "Healthy",
    });
    let staged = dump(vec![Change::Workload(web())]);
    let by_uid = json!({"cluster//Pod/shop/web-1": endpoint});
    assert_eq!(
        staged["stagedServices"],
        json!({"shop/web.shop.svc.cluster.local": by_uid})
    );
    assert_eq!(staged["services"], json!([]));
    let service = Service {
        name: "web".into(),
        namespace: "shop".into(),
        hostname: "web.shop.svc.cluster.local".into(),
        addresses: vec![address("net", "10.9.0.1")],
        ranges: vec![NetworkCidr {
            network: "".into(),
            range: "10.8.0.0/16".parse().unwrap(),
        }],
        ports: vec![port(80, 8080)],
        load_balancing: LoadBalancing {
            preference: vec![LocalityScope::Network, LocalityScope::Zone],
            mode: LoadBalancingMode::Failover,
            ..LoadBalancing::default()
        },
        ..Service::default()
    };
    let known = dump(vec![Change::Service(service), Change::Workload(web())]);
    assert_eq!(known["stagedServices"], json!({}));
    assert_eq!(
        known["services"],
        json!([{
            "name": "web",
            "namespace": "shop",
            "hostname": "web.shop.svc.cluster.local",
            "vips": ["net/10.9.0.1", "/10.8.0.0/16"],
            "ports": {"80": 8080},
            "endpoints": by_uid,
            "loadBalancer": {
                "routingPreferences": ["Network", "Zone"],
                "mode": "Failover",
                "healthPolicy": "OnlyHealthy",
            },
            "canonical": false,
            "visibility": "Public",
        }])
    );
}

#[test]
fn a_policy() {
    let m = Match {
        namespaces: vec![
            StringMatch::Exact("shop".into()),
            StringMatch::Suffix("x".into()),
        ],
        not_principals: vec![StringMatch::Presence],
        source_ips: vec![IpRange("10.0.0.0/8".parse().unwrap())],
        not_destination_ports: vec![80],
        service_accounts: vec![ServiceAccountMatch {
            namespace: "shop".into(),
            service_account: "web".into(),
        }],
        ..Match::default()
    };
    let policy = AuthorizationPolicy {
        key: PolicyKey::new("shop", "p"),
        scope: Scope::WorkloadSelector,
        action: Action::Deny,
        dry_run: false,
        body: PolicyBody::Rules(vec![Rule {
            clauses: vec![Clause { matches: vec![m] }],
        }]),
    };
    let broken = AuthorizationPolicy::invalid(PolicyKey::new("shop", "q"), "cannot be read");
    let dump = dump(vec![Change::Policy(broken), Change::Policy(policy)]);
    assert_eq!(
        dump["policies"],
        json!([
            {
                "name": "p",
                "namespace": "shop",
                "scope": "WorkloadSelector",
                "action": "Deny",
                "dryRun": false,
                "rules": [[[{
                    "namespaces": [{"Exact": "shop"}, {"Suffix": "x"}],
                    "notPrincipals": [{"Presence": []}],
                    "serviceAccounts": [{"namespace": "shop", "serviceAccount": "web"}],
                    "sourceIps": ["10.0.0.0/8"],
                    "notDestinationPorts": [80],
                }]]],
            },
            {
                "name": "q",
                "namespace": "shop",
                "scope": "Global",
                "action": "Deny",
                "dryRun": false,
                "rules": [],
                "invalid": "cannot be read",
            },
        ])
    );
}

#[test]
fn an_application_tunnel() {
    let tunnel = ApplicationTunnel {
        proxy_protocol: true,
        port: Some(15088),
    };
    let workload = Workload {
        application_tunnel: Some(tunnel),
        ..web()
    };
    let dump = dump(vec![Change::Workload(workload)]);
    let tunnel = &dump["workloads"][0]["applicationTunnel"];
    assert_eq!(*tunnel, json!({"protocol": "PROXY", "port": 15088}));
}
