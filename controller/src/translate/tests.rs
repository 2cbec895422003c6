//! Tables: objects in, resources out. One test per area; each row names what it proves.

use ambit_model::{
    Action, AppProtocol, AuthorizationPolicy, GatewayDestination, Health, HealthPolicy, IpFamilies,
    LoadBalancingMode, LocalityScope, NetworkMode, PolicyBody, Scope, Service, StringMatch,
    TunnelProtocol, Visibility, Workload, WorkloadType,
};

use super::*;
use crate::finding::Level;
use crate::watch::Store;

/// Translates documents; what is refused or warned about is in the findings of both stages.
struct Mesh {
    translated: Translated,
    findings: Vec<Finding>,
}

fn mesh(yaml: &str) -> Mesh {
    let mut store = Store::new(MeshSettings::default());
    store.update("mesh.yaml", yaml);
    let snapshot = store.snapshot();
    let translated = translate(&snapshot);
    let findings = crate::status::findings(&snapshot, &translated);
    Mesh {
        translated,
        findings,
    }
}

/// The same, with nothing to complain about.
fn clean(yaml: &str) -> Translated {
    let mesh = mesh(yaml);
    assert_eq!(mesh.findings, [], "{yaml}");
    mesh.translated
}

impl Mesh {
    fn messages(&self, level: Level) -> Vec<String> {
        let of_level = self
            .findings
            .iter()
            .filter(|finding| finding.level == level);
        of_level
            .map(|f| format!("{} {}", f.field, f.message))
            .collect()
    }
}

impl Translated {
    fn workload(&self, uid_end: &str) -> &Workload {
        let found = self
            .workloads
            .iter()
            .find(|w| w.uid.as_str().ends_with(uid_end));
        found.unwrap_or_else(|| panic!("no {uid_end} in {:#?}", self.workloads))
    }

    fn service(&self, hostname: &str) -> &Service {
        let found = self
            .services
            .iter()
            .find(|s| s.hostname.as_str() == hostname);
        found.unwrap_or_else(|| panic!("no {hostname} in {:#?}", self.services))
    }

    fn policy(&self, key: &str) -> &AuthorizationPolicy {
        let found = self.policies.iter().find(|p| p.key.to_string() == key);
        found.unwrap_or_else(|| panic!("no {key} in {:#?}", self.policies))
    }
}

fn namespace(name: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n---\n"
    )
}

fn pod(name: &str, meta: &str, spec: &str, status: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, {meta}}}\n\
         spec: {{{spec}}}\nstatus: {{{status}}}\n---\n"
    )
}

fn simple_pod(name: &str, ip: &str, labels: &str) -> String {
    pod(
        name,
        &format!("labels: {{{labels}}}"),
        "nodeName: a",
        &format!("podIP: {ip}"),
    )
}

const AMBIENT: &str = "istio.io/dataplane-mode: ambient";

#[test]
fn a_pod_becomes_a_workload() {
    let yaml = namespace("shop", AMBIENT)
        + "apiVersion: v1\nkind: Node\nmetadata:\n  name: a\n  labels:\n    \
           topology.kubernetes.io/region: eu\n    topology.kubernetes.io/zone: eu-1\n    \
           topology.istio.io/subzone: rack-7\n---\n"
        + &pod(
            "web-5f-x",
            "labels: {app: web, version: v2, pod-template-hash: 5f}, \
             ownerReferences: [{kind: ReplicaSet, name: web-5f, controller: true}]",
            "nodeName: a, serviceAccountName: web",
            "podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: \"fd00::1\"}], phase: Running, \
             conditions: [{type: Ready, status: \"True\"}]",
        );
    let translated = clean(&yaml);
    let web = translated.workload("//Pod/shop/web-5f-x");
    assert_eq!(web.uid.as_str(), "Kubernetes//Pod/shop/web-5f-x");
    assert_eq!(
        web.addresses,
        [
            "10.0.0.1".parse::<IpAddr>().unwrap(),
            "fd00::1".parse().unwrap()
        ]
    );
    assert_eq!(
        web.identity().to_string(),
        "spiffe://cluster.local/ns/shop/sa/web"
    );
    assert_eq!(
        (web.workload_type, &*web.workload_name),
        (WorkloadType::Deployment, "web")
    );
    assert_eq!(
        (&*web.canonical_name, &*web.canonical_revision),
        ("web", "v2")
    );
    assert_eq!(
        (web.tunnel, web.health),
        (TunnelProtocol::Hbone, Health::Healthy)
    );
    assert_eq!(
        (
            &*web.locality.region,
            &*web.locality.zone,
            &*web.locality.subzone
        ),
        ("eu", "eu-1", "rack-7")
    );
    assert_eq!(web.node.as_str(), "a");
    let node = &translated.nodes["a"];
    assert_eq!(node.enrolled[0].uid.as_str(), "shop/web-5f-x");
    assert!(node.has_identity(&web.identity()));
}

#[test]
fn who_created_a_pod() {
    for (meta, kind, name) in [
        ("labels: {}", WorkloadType::Pod, "p"),
        (
            "ownerReferences: [{kind: ReplicaSet, name: web-5f}]",
            WorkloadType::Pod,
            "web-5f",
        ),
        (
            "ownerReferences: [{kind: Job, name: backup-29384756}]",
            WorkloadType::CronJob,
            "backup",
        ),
        (
            "ownerReferences: [{kind: Job, name: migrate-1}]",
            WorkloadType::Job,
            "migrate-1",
        ),
        (
            "ownerReferences: [{kind: StatefulSet, name: db}]",
            WorkloadType::Pod,
            "db",
        ),
        (
            "labels: {service.istio.io/workload-name: own}",
            WorkloadType::Pod,
            "own",
        ),
    ] {
        let translated = clean(&pod("p", meta, "", "podIP: 10.0.0.1"));
        let found = translated.workload("/p");
        assert_eq!(
            (found.workload_type, &*found.workload_name),
            (kind, name),
            "{meta}"
        );
    }
}

#[test]
fn which_pods_are_captured() {
    for (in_namespace, meta, spec, captured) in [
        (AMBIENT, "", "", true),
        ("", "labels: {istio.io/dataplane-mode: ambient}", "", true),
        (
            AMBIENT,
            "labels: {istio.io/dataplane-mode: none}",
            "",
            false,
        ),
        (
            "istio.io/dataplane-mode: none",
            "labels: {istio.io/dataplane-mode: ambient}",
            "",
            true,
        ),
        ("", "", "", false),
        (AMBIENT, "", "hostNetwork: true", false),
        (
            AMBIENT,
            "annotations: {sidecar.istio.io/status: there}",
            "",
            false,
        ),
        (AMBIENT, "labels: {app: ztunnel}", "", false),
    ] {
        let spec = format!("nodeName: a, {spec}");
        let yaml = namespace("shop", in_namespace) + &pod("p", meta, &spec, "podIP: 10.0.0.1");
        let translated = clean(&yaml);
        let tunnel = translated.workload("/p").tunnel;
        assert_eq!(
            !translated.nodes["a"].enrolled.is_empty(),
            captured,
            "{meta} {spec}"
        );
        assert_eq!(tunnel == TunnelProtocol::Hbone, captured, "{meta} {spec}");
    }
}

#[test]
fn what_an_agent_is_told_of_a_pod() {
    let meta = "uid: 123-abc, annotations: {ambit.dev/netns: /run/netns/p, ambient.istio.io/dns-capture: \"false\"}";
    let yaml =
        namespace("shop", AMBIENT) + &pod("p", meta, "nodeName: a", "podIP: \"::ffff:10.0.0.1\"");
    let translated = clean(&yaml);
    let enrolled = &translated.nodes["a"].enrolled[0];
    assert_eq!(
        (enrolled.uid.as_str(), &*enrolled.netns),
        ("123-abc", "/run/netns/p")
    );
    assert_eq!(
        enrolled.addresses,
        ["10.0.0.1".parse::<IpAddr>().unwrap()],
        "mapped addresses are canonical"
    );
    assert!(!enrolled.dns_capture);
}

#[test]
fn pods_outside_of_the_usual() {
    for (meta, spec, status, check) in [
        (
            "",
            "",
            "podIP: 10.0.0.1, conditions: [{type: Ready, status: \"False\"}]",
            Health::Unhealthy,
        ),
        (
            "deletionTimestamp: \"2026-01-01T00:00:00Z\"",
            "",
            "podIP: 10.0.0.1",
            Health::Unhealthy,
        ),
        ("", "", "podIP: 10.0.0.1, phase: Pending", Health::Unhealthy),
        ("", "", "podIP: 10.0.0.1", Health::Healthy),
    ] {
        let translated = clean(&pod("p", meta, spec, status));
        assert_eq!(translated.workload("/p").health, check, "{meta} {status}");
    }
    for phase in ["Succeeded", "Failed"] {
        let yaml = pod(
            "p",
            "",
            "nodeName: a",
            &format!("podIP: 10.0.0.1, phase: {phase}"),
        );
        assert_eq!(clean(&yaml).workloads, [], "{phase}");
    }
    let host = clean(&pod("p", "", "hostNetwork: true", "podIP: 10.0.0.1"));
    assert_eq!(host.workload("/p").network_mode, NetworkMode::HostNetwork);
    let native = clean(&pod(
        "p",
        "labels: {networking.istio.io/tunnel: http}",
        "",
        "podIP: 10.0.0.1",
    ));
    assert!(native.workload("/p").native_tunnel);
    let captured = "annotations: {ambient.istio.io/redirection: enabled}";
    let captured = clean(&pod("p", captured, "", "podIP: 10.0.0.1"));
    assert_eq!(captured.workload("/p").tunnel, TunnelProtocol::Hbone);
    let waiting = mesh(&pod("p", "", "", ""));
    assert_eq!(waiting.translated.workloads, []);
    assert!(waiting.messages(Level::Warning)[0].starts_with("status.podIP is missing"));
}

fn service(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec: {{{spec}}}\n---\n"
    )
}

#[test]
fn services_and_their_ports() {
    let spec = "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, \"fd01::1\"], ipFamilies: [IPv4, IPv6], \
        selector: {app: web}, ports: [{name: http-api, port: 80, targetPort: api}, \
        {name: grpc, port: 81}, {name: dns, port: 53, protocol: UDP}, {name: x, port: 82, targetPort: absent}]";
    let containers = "nodeName: a, containers: [{ports: [{name: api, containerPort: 8080}]}]";
    let yaml = service(spec) + &pod("p", "labels: {app: web}", containers, "podIP: 10.0.0.1");
    let translated = clean(&yaml);
    let web = translated.service("web.shop.svc.cluster.local");
    let addresses: Vec<String> = web
        .addresses
        .iter()
        .map(|a| a.address.to_string())
        .collect();
    assert_eq!(addresses, ["10.96.0.1", "fd01::1"]);
    assert_eq!((web.ip_families, web.canonical), (IpFamilies::Dual, true));
    let own: Vec<_> = web
        .ports
        .iter()
        .map(|p| (p.service_port, p.target_port, p.app_protocol))
        .collect();
    assert_eq!(
        own,
        [
            (80, 0, AppProtocol::Http11),
            (81, 81, AppProtocol::Grpc),
            (82, 0, AppProtocol::Unknown)
        ]
    );
    let ports = translated.workload("/p").services.get(&web.key()).unwrap();
    let ports: Vec<_> = ports
        .iter()
        .map(|p| (p.service_port, p.target_port))
        .collect();
    assert_eq!(
        ports,
        [(80, 8080), (81, 81)],
        "a named port the pod does not have is dropped"
    );
}

#[test]
fn how_services_choose_endpoints() {
    use LocalityScope::{Network, Node, Region, Subzone, Zone};
    let close = vec![Network, Region, Zone];
    let node = vec![Network, Region, Zone, Subzone, Node];
    for (spec, mode, preference, health) in [
        (
            "clusterIP: None",
            LoadBalancingMode::Standard,
            vec![],
            HealthPolicy::OnlyHealthy,
        ),
        (
            "internalTrafficPolicy: Local",
            LoadBalancingMode::Strict,
            vec![Node],
            HealthPolicy::OnlyHealthy,
        ),
        (
            "trafficDistribution: PreferClose",
            LoadBalancingMode::Failover,
            close.clone(),
            HealthPolicy::OnlyHealthy,
        ),
        (
            "trafficDistribution: PreferSameZone",
            LoadBalancingMode::Failover,
            close.clone(),
            HealthPolicy::OnlyHealthy,
        ),
        (
            "trafficDistribution: PreferSameNode",
            LoadBalancingMode::Failover,
            node,
            HealthPolicy::OnlyHealthy,
        ),
        (
            "publishNotReadyAddresses: true",
            LoadBalancingMode::Standard,
            vec![],
            HealthPolicy::AllowAll,
        ),
    ] {
        let translated = clean(&service(&format!("{spec}, ports: [{{port: 80}}]")));
        let found = &translated.services[0].load_balancing;
        assert_eq!(
            (found.mode, &found.preference, found.health),
            (mode, &preference, health),
            "{spec}"
        );
    }
    let annotated = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: \
        {networking.istio.io/traffic-distribution: PreferClose}}\n---\n"
        .to_owned();
    let translated = clean(&(annotated + &service("ports: [{port: 80}]")));
    assert_eq!(translated.services[0].load_balancing.preference, close);
    assert_eq!(
        clean(&service("type: ExternalName, externalName: x.example.com")).services,
        []
    );
}

#[test]
fn endpoint_slices_name_pods_and_addresses() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, namespace: shop, \
        labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n\
        - {addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}}\n\
        - {addresses: [10.9.9.9], conditions: {ready: false}}\n---\n";
    let yaml = service("clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]")
        + slice
        + &simple_pod("p", "10.0.0.1", "");
    let translated = clean(&yaml);
    let key = translated.services[0].key();
    assert_eq!(
        translated.workload("/p").services.get(&key).unwrap()[0].target_port,
        8080
    );
    let external = translated.workload("EndpointSlice/shop/web-1/10.9.9.9");
    assert_eq!(external.network_mode, NetworkMode::HostNetwork);
    assert_eq!(
        (
            external.health,
            external.services.get(&key).unwrap()[0].target_port
        ),
        (Health::Unhealthy, 8080)
    );
    assert_eq!(translated.workloads.len(), 2);
}

fn entry(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{{spec}}}\n---\n"
    )
}

#[test]
fn service_entries() {
    let minimal = clean(&entry(
        "e",
        "hosts: [api.example.com], ports: [{number: 443}]",
    ));
    let found = minimal.service("api.example.com");
    assert_eq!(found.load_balancing.mode, LoadBalancingMode::Passthrough);
    assert!(found.addresses.is_empty() && found.canonical);
    assert_eq!(minimal.workloads, []);

    let dns = clean(&entry(
        "e",
        "hosts: [api.example.com, b.example.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]",
    ));
    let found = dns.workload("ServiceEntry/shop/e/api.example.com");
    assert_eq!(found.hostname.as_ref().unwrap().as_str(), "api.example.com");
    assert_eq!(found.services.len(), 1, "each host resolves to itself");
    let service = dns.service("api.example.com");
    let addresses: Vec<String> = service
        .addresses
        .iter()
        .map(|a| a.address.to_string())
        .collect();
    assert!(
        addresses[0].starts_with("240.240.") && addresses[1].starts_with("2001:2::"),
        "{addresses:?}"
    );
    assert_ne!(service.addresses, dns.service("b.example.com").addresses);
    assert_eq!(
        (service.ports[0].target_port, service.ports[0].app_protocol),
        (8443, AppProtocol::Tls)
    );

    let fixed = clean(&entry(
        "e",
        "hosts: [db.internal], addresses: [10.7.0.1, 10.8.1.1/16], resolution: STATIC, exportTo: [\".\"], \
         subjectAltNames: [\"spiffe://x/ns/a/sa/b\"], ports: [{number: 80, name: http}], \
         endpoints: [{address: 10.3.0.1, ports: {http: 8080}, weight: 3, locality: eu/eu-1, serviceAccount: db, \
         labels: {app: db, networking.istio.io/tunnel: http}}]",
    ));
    let service = fixed.service("db.internal");
    assert_eq!(service.addresses[0].address.to_string(), "10.7.0.1");
    assert_eq!(
        service.ranges[0].range.to_string(),
        "10.8.0.0/16",
        "host bits are cleared"
    );
    assert_eq!(
        (service.visibility, service.canonical),
        (Visibility::Namespace, false)
    );
    assert_eq!(&*service.subject_alt_names[0], "spiffe://x/ns/a/sa/b");
    let endpoint = fixed.workload("ServiceEntry/shop/e/10.3.0.1");
    assert_eq!(
        endpoint.services.get(&service.key()).unwrap()[0].target_port,
        8080
    );
    assert_eq!(
        (endpoint.capacity, &*endpoint.locality.zone, endpoint.tunnel),
        (3, "eu-1", TunnelProtocol::Hbone)
    );
    assert_eq!(endpoint.service_account.as_str(), "db");

    let given = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop}\n\
        spec: {hosts: [a.b], resolution: DNS, ports: [{number: 80}]}\nstatus: {addresses: [{host: a.b, value: 240.240.1.1}]}\n";
    assert_eq!(
        clean(given).service("a.b").addresses[0].address.to_string(),
        "240.240.1.1"
    );
    let wildcard = mesh(&entry(
        "e",
        "hosts: [\"*.example.com\"], resolution: DYNAMIC_DNS, ports: [{number: 80}]",
    ));
    assert!(!wildcard.translated.services[0].addresses.is_empty());
}

#[test]
fn service_entries_select_pods_and_machines() {
    let selecting = "hosts: [all.internal], resolution: STATIC, workloadSelector: {labels: {app: x}}, \
        ports: [{number: 80, name: web, targetPort: 8000}]";
    let containers = "nodeName: a, containers: [{ports: [{name: web, containerPort: 9000}]}]";
    let machine = "apiVersion: networking.istio.io/v1beta1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: shop}\n\
        spec: {address: 10.5.0.1, labels: {app: x}, ports: {web: 7000}, network: \"\", weight: 2}\n---\n";
    let named = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: by-name, namespace: shop}\n\
        spec: {address: vm.example.com, labels: {app: x}}\n---\n";
    let yaml = entry("e", selecting)
        + machine
        + named
        + &pod("p", "labels: {app: x}", containers, "podIP: 10.0.0.1");
    let translated = clean(&yaml);
    let key = translated.service("all.internal").key();
    for (workload, port) in [
        ("/Pod/shop/p", 9000),
        ("WorkloadEntry/shop/vm", 7000),
        ("WorkloadEntry/shop/by-name", 8000),
    ] {
        assert_eq!(
            translated.workload(workload).services.get(&key).unwrap()[0].target_port,
            port,
            "{workload}"
        );
    }
    let named = translated.workload("WorkloadEntry/shop/by-name");
    assert_eq!(
        (
            named.hostname.as_ref().unwrap().as_str(),
            named.addresses.len()
        ),
        ("vm.example.com", 0)
    );
}

#[test]
fn who_bears_a_host_name() {
    let young = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: young, namespace: shop, \
        creationTimestamp: \"2026-02-01T00:00:00Z\"}\nspec: {hosts: [a.b], ports: [{number: 80}]}\n---\n";
    let old = young.replace("young", "old").replace("02-01", "01-01");
    let other = old
        .replace("namespace: shop", "namespace: other")
        .replace("01-01", "01-15");
    let mesh = mesh(&(young.to_owned() + &old + &other));
    let refused = mesh.messages(Level::Refused);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(
        refused[0].starts_with(
            "spec.hosts[0] \"a.b\" is a host of ServiceEntry old already, at mesh.yaml:"
        ),
        "{refused:?}"
    );
    let bearers: Vec<_> = mesh
        .translated
        .services
        .iter()
        .map(|s| (&*s.name, s.canonical))
        .collect();
    assert_eq!(bearers, [("old", true), ("old", false)]);
}

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: wp, namespace: NS, \
    labels: {istio.io/waypoint-for: FOR}}\nspec: {gatewayClassName: istio-waypoint, listeners: \
    [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: FROM}}}]}\n\
    status: {addresses: [{type: Hostname, value: wp.NS.svc.cluster.local}]}\n---\n";

fn gateway(namespace: &str, accepts: &str, from: &str) -> String {
    GATEWAY
        .replace("NS", namespace)
        .replace("FOR", accepts)
        .replace("FROM", from)
}

#[test]
fn waypoints_are_found_and_checked() {
    const WP: &str = "istio.io/use-waypoint: wp";
    let labelled = |labels: &str| {
        service("ports: [{port: 80}]").replace(
            "namespace: shop",
            &format!("namespace: shop, labels: {{{labels}}}"),
        )
    };
    for (what, yaml, attached, problem) in [
        (
            "own label",
            labelled(WP) + &gateway("shop", "service", "Same"),
            true,
            "",
        ),
        (
            "label of the namespace",
            namespace("shop", WP) + &labelled("") + &gateway("shop", "service", "Same"),
            true,
            "",
        ),
        (
            "opted out",
            namespace("shop", WP)
                + &labelled("istio.io/use-waypoint: none")
                + &gateway("shop", "service", "Same"),
            false,
            "",
        ),
        ("missing", labelled(WP), false, "there is no such Gateway"),
        (
            "other namespace",
            labelled("istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra")
                + &gateway("infra", "service", "All"),
            true,
            "",
        ),
        (
            "not admitted",
            labelled("istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra")
                + &gateway("infra", "service", "Same"),
            false,
            "do not admit this namespace",
        ),
        (
            "other traffic",
            labelled(WP) + &gateway("shop", "workload", "Same"),
            false,
            "does not take this kind of traffic",
        ),
        (
            "other traffic, inherited",
            namespace("shop", WP) + &labelled("") + &gateway("shop", "workload", "Same"),
            false,
            "",
        ),
        (
            "no address",
            labelled(WP)
                + &gateway("shop", "all", "Same")
                    .replace("Hostname, value: wp.shop.svc.cluster.local", "x"),
            false,
            "has no address yet",
        ),
    ] {
        let mesh = mesh(&yaml);
        let warnings = mesh.messages(Level::Warning);
        let waypoint = &mesh
            .translated
            .service("web.shop.svc.cluster.local")
            .waypoint;
        assert_eq!(waypoint.is_some(), attached, "{what}: {warnings:?}");
        match problem {
            "" => assert_eq!(warnings, [""; 0], "{what}"),
            part => assert!(warnings[0].contains(part), "{what}: {warnings:?}"),
        }
    }
    let yaml = labelled(WP) + &gateway("shop", "service", "Same");
    let translated = clean(&yaml);
    let waypoint = translated.services[0].waypoint.clone().unwrap();
    let GatewayDestination::Hostname(name) = waypoint.destination else {
        panic!("{waypoint:?}")
    };
    assert_eq!(
        (name.namespace.as_str(), name.hostname.as_str()),
        ("shop", "wp.shop.svc.cluster.local")
    );
    assert_eq!(waypoint.hbone_port, 15008);
}

#[test]
fn a_canary_waypoint_takes_a_share() {
    let canary = gateway("shop", "service", "Same")
        .replace("name: wp,", "name: wp2,")
        .replace("value: wp.", "value: wp2.");
    let yaml = |weight: &str| {
        let meta = format!(
            "namespace: shop, labels: {{istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: wp2}}, \
             annotations: {{istio.io/use-waypoint-canary-weight: \"{weight}\"}}"
        );
        service("ports: [{port: 80}]").replace("namespace: shop", &meta)
            + &gateway("shop", "service", "Same")
            + &canary
    };
    let translated = clean(&yaml("30"));
    let weights: Vec<u32> = translated.services[0]
        .weighted_waypoints
        .iter()
        .map(|w| w.weight)
        .collect();
    assert_eq!(weights, [70, 30]);
    let bad = mesh(&yaml("300"));
    assert!(bad.translated.services[0].weighted_waypoints.is_empty());
    assert!(bad.messages(Level::Warning)[0].contains("expected a percentage from 0 to 100"));
}

fn peer(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1beta1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{{spec}}}\n---\n"
    )
}

#[test]
fn which_workloads_accept_plain_text() {
    const STRICT: &str = "mtls: {mode: STRICT}";
    const STATIC: &str = "istio-system/istio_converted_static_strict";
    let selecting =
        |mode: &str| format!("selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: {mode}}}");
    let ports = |mode: &str, port: &str| {
        format!(
            "{}, portLevelMtls: {{\"8080\": {{mode: {port}}}}}",
            selecting(mode)
        )
    };
    let own = |spec: &str| peer("shop", "web", spec);
    let wide = |namespace: &str, spec: &str| peer(namespace, "default", spec);
    const CONVERTED: &str = "shop/converted_peer_authentication_web";
    for (what, peers, policies) in [
        ("nothing", String::new(), vec![]),
        ("mesh", wide("istio-system", STRICT), vec![STATIC]),
        ("namespace", wide("shop", STRICT), vec![STATIC]),
        ("another namespace", wide("other", STRICT), vec![]),
        (
            "namespace over mesh",
            wide("istio-system", STRICT) + &wide("shop", "mtls: {mode: PERMISSIVE}"),
            vec![],
        ),
        (
            "unset inherits",
            wide("istio-system", STRICT) + &wide("shop", "mtls: {mode: UNSET}"),
            vec![STATIC],
        ),
        (
            "workload over namespace",
            wide("shop", STRICT) + &own(&selecting("PERMISSIVE")),
            vec![],
        ),
        ("workload", own(&selecting("STRICT")), vec![STATIC]),
        (
            "workload unset inherits",
            wide("shop", STRICT) + &own(&selecting("UNSET")),
            vec![STATIC],
        ),
        (
            "a port is excepted",
            own(&ports("STRICT", "PERMISSIVE")),
            vec![CONVERTED],
        ),
        (
            "one port is strict",
            own(&ports("PERMISSIVE", "STRICT")),
            vec![CONVERTED],
        ),
        (
            "a port like the rest",
            own(&ports("STRICT", "STRICT")),
            vec![STATIC],
        ),
        ("a port unset", own(&ports("STRICT", "UNSET")), vec![STATIC]),
        (
            "inherited, one port excepted",
            wide("shop", STRICT) + &own(&ports("UNSET", "PERMISSIVE")),
            vec![CONVERTED],
        ),
        (
            "a selector in the root namespace",
            peer("istio-system", "x", &selecting("STRICT")),
            vec![],
        ),
    ] {
        let translated = mesh(&(simple_pod("web", "10.0.0.1", "app: web") + &peers)).translated;
        let found: Vec<String> = translated
            .workload("/web")
            .policies
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, policies, "{what}");
        for key in &found {
            assert_eq!(translated.policy(key).action, Action::Deny);
        }
        assert_eq!(
            translated
                .policies
                .iter()
                .any(|p| p.key.to_string() == STATIC),
            !peers.is_empty(),
            "{what}"
        );
    }
    let translated = clean(&own(&ports("STRICT", "PERMISSIVE")));
    let PolicyBody::Rules(rules) = &translated.policy(CONVERTED).body else {
        panic!()
    };
    let [peer_clause, port_clause] = &rules[0].clauses[..] else {
        panic!("{rules:?}")
    };
    assert_eq!(
        peer_clause.matches[0].not_principals,
        [StringMatch::Presence]
    );
    assert_eq!(port_clause.matches[0].not_destination_ports, [8080]);
}

#[test]
fn the_oldest_peer_authentication_counts() {
    let at = |name: &str, mode: &str, time: &str| {
        peer(
            "shop",
            &format!("{name}, creationTimestamp: \"{time}T00:00:00Z\""),
            &format!("mtls: {{mode: {mode}}}"),
        )
    };
    let yaml = simple_pod("web", "10.0.0.1", "")
        + &at("b", "PERMISSIVE", "2026-02-01")
        + &at("a", "STRICT", "2026-01-01");
    assert_eq!(clean(&yaml).workload("/web").policies.len(), 1);
}

fn authorization(namespace: &str, meta: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: {namespace}, {meta}}}\n\
         spec: {{{spec}}}\n---\n"
    )
}

#[test]
fn authorization_policies_and_their_scope() {
    let selector = "selector: {matchLabels: {app: web}}";
    for (namespace, spec, scope, selected) in [
        ("shop", "", Scope::Namespace, false),
        ("istio-system", "", Scope::Global, false),
        ("shop", selector, Scope::WorkloadSelector, true),
        ("istio-system", selector, Scope::WorkloadSelector, true),
        ("other", selector, Scope::WorkloadSelector, false),
        (
            "shop",
            "selector: {matchLabels: {app: db}}",
            Scope::WorkloadSelector,
            false,
        ),
        ("shop", "selector: {}", Scope::Namespace, false),
    ] {
        let yaml = simple_pod("web", "10.0.0.1", "app: web") + &authorization(namespace, "", spec);
        let translated = clean(&yaml);
        let key = format!("{namespace}/p");
        assert_eq!(translated.policy(&key).scope, scope, "{namespace} {spec}");
        let found = translated
            .workload("/web")
            .policies
            .iter()
            .any(|p| p.to_string() == key);
        assert_eq!(found, selected, "{namespace} {spec}");
    }
    let dry_run = authorization(
        "shop",
        "annotations: {istio.io/dry-run: \"true\"}",
        "action: DENY, rules: [{}]",
    );
    assert!(clean(&dry_run).policy("shop/p").dry_run);
}

#[test]
fn rules_become_clauses_and_matches() {
    let spec = "action: DENY, rules: [{from: [{source: {principals: [\"spiffe://td/ns/a/sa/b\", \"*/sa/c\"], \
        notNamespaces: [\"dev-*\"]}}, {source: {ipBlocks: [10.1.2.3/8], serviceAccounts: [x, y/z]}}], \
        to: [{operation: {ports: [\"80\"], notPorts: [\"81\"]}}], \
        when: [{key: source.ip, notValues: [192.168.0.1]}, {key: destination.port, values: [\"90\"]}]}, {}]";
    let translated = clean(&authorization("shop", "", spec));
    let PolicyBody::Rules(rules) = &translated.policy("shop/p").body else {
        panic!()
    };
    assert!(
        rules[1].clauses.is_empty(),
        "a rule without parts matches everything"
    );
    let [from, to, ip, port] = &rules[0].clauses[..] else {
        panic!("{rules:?}")
    };
    let [first, second] = &from.matches[..] else {
        panic!("{from:?}")
    };
    assert_eq!(
        first.principals,
        [
            StringMatch::Exact("td/ns/a/sa/b".into()),
            StringMatch::Suffix("/sa/c".into())
        ]
    );
    assert_eq!(first.not_namespaces, [StringMatch::Prefix("dev-".into())]);
    assert_eq!(second.source_ips[0].0.to_string(), "10.0.0.0/8");
    assert_eq!(second.service_accounts[0].namespace.as_str(), "shop");
    assert_eq!(second.service_accounts[1].namespace.as_str(), "y");
    assert_eq!(
        (
            &to.matches[0].destination_ports[..],
            &to.matches[0].not_destination_ports[..]
        ),
        (&[80][..], &[81][..])
    );
    assert_eq!(
        ip.matches[0].not_source_ips[0].0.to_string(),
        "192.168.0.1/32"
    );
    assert_eq!(port.matches[0].destination_ports, [90]);
}

#[test]
fn what_needs_http_never_weakens_a_policy() {
    let allow = mesh(&authorization(
        "shop",
        "",
        "rules: [{to: [{operation: {methods: [GET]}}]}, {from: [{source: {namespaces: [a]}}]}]",
    ));
    let PolicyBody::Rules(rules) = &allow.translated.policy("shop/p").body else {
        panic!()
    };
    assert_eq!(
        rules.len(),
        1,
        "the rule with HTTP attributes allows nothing"
    );
    assert!(allow.messages(Level::Warning)[0].starts_with("spec.rules[0] uses HTTP attributes"));

    let mixed = mesh(&authorization(
        "shop",
        "",
        "action: DENY, rules: [{to: [{operation: {ports: [\"80\"], paths: [/x]}}]}]",
    ));
    let PolicyBody::Rules(rules) = &mixed.translated.policy("shop/p").body else {
        panic!()
    };
    assert_eq!(
        rules[0].clauses[0].matches[0].destination_ports,
        [80],
        "the L4 part is kept"
    );
    assert!(mixed.messages(Level::Warning)[0].contains("denies more than it says"));

    for spec in [
        "action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]",
        "action: DENY, rules: [{from: [{source: {namespaces: [a]}}], to: [{operation: {paths: [/x]}}]}]",
        "action: DENY, rules: [{from: [{source: {requestPrincipals: [\"*\"]}}]}]",
        "action: DENY, rules: [{when: [{key: \"request.headers[x]\", values: [y]}]}]",
    ] {
        let refused = mesh(&authorization("shop", "", spec));
        assert!(
            refused.messages(Level::Refused)[0]
                .contains("nothing else is left here that could deny"),
            "{spec}"
        );
        assert_denied(&refused.translated, "shop/refused:p", Scope::Namespace);
    }
}

/// A DENY that matches every connection, in Istio's node agent too.
fn assert_denied(translated: &Translated, key: &str, scope: Scope) {
    let policy = translated.policy(key);
    let PolicyBody::Rules(rules) = &policy.body else {
        panic!("{policy:?}")
    };
    assert_eq!(
        (policy.action, policy.scope, policy.dry_run),
        (Action::Deny, scope, false)
    );
    assert!(
        rules.len() == 1 && rules[0].clauses.is_empty(),
        "{policy:?}"
    );
}

#[test]
fn a_refused_policy_denies_what_it_was_meant_for() {
    let bad = "action: DENY, rules: [{to: [{operation: {ports: [http]}}]}]";
    let selecting = format!("selector: {{matchLabels: {{app: web}}}}, {bad}");
    for (what, yaml, key, scope, selected) in [
        ("selector", authorization("shop", "", &selecting), "shop/refused:p", Scope::WorkloadSelector, true),
        ("namespace", authorization("shop", "", bad), "shop/refused:p", Scope::Namespace, false),
        ("mesh", authorization("istio-system", "", bad), "istio-system/refused:p", Scope::Global, false),
        ("unknown field", authorization("shop", "", "selektor: {}"), "shop/refused:p", Scope::Namespace, false),
        ("unknown version", authorization("shop", "", "").replace("io/v1", "io/v7"), "shop/refused:p", Scope::Namespace, false),
        ("unreadable selector", authorization("shop", "", "selector: {matchLabels: {app: 1}}"), "shop/refused:p", Scope::Namespace, false),
        ("not YAML", "kind: AuthorizationPolicy\nmetadata:\n  namespace: shop\n  name: p\nspec: [\n---\n".into(), "shop/refused:p", Scope::Namespace, false),
        ("no name", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop}\n---\n".into(), "shop/refused:mesh.yaml:1", Scope::Namespace, false),
        ("service", service("selector: {app: web}, ports: [{port: 80}]") + &authorization("shop", "", "targetRefs: [{kind: Service, name: web, group: \"\"}]"), "shop/refused:p", Scope::WorkloadSelector, true),
    ] {
        let mesh = mesh(&(yaml + &simple_pod("web", "10.0.0.1", "app: web")));
        assert!(!mesh.messages(Level::Refused).is_empty(), "{what}");
        assert_denied(&mesh.translated, key, scope);
        let policies = &mesh.translated.workload("/web").policies;
        assert_eq!(policies.iter().any(|p| p.to_string() == key), selected, "{what}: {policies:?}");
    }
    let dry_run = mesh(&authorization(
        "shop",
        "annotations: {istio.io/dry-run: \"true\"}",
        bad,
    ));
    assert_eq!(
        dry_run.translated.policies,
        [],
        "one that would not be enforced does not deny either"
    );
    let peer_mode = mesh(
        &(peer("shop", "default", "mtls: {mode: STRIKT}") + &simple_pod("web", "10.0.0.1", "")),
    );
    let found: Vec<String> = peer_mode
        .translated
        .workload("/web")
        .policies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        ["istio-system/istio_converted_static_strict"],
        "it accepts no plain text"
    );
}

#[test]
fn addresses_belong_to_one_object() {
    let machine = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: shop}\nspec: {address: 10.0.0.1}\n---\n";
    let second = service("clusterIP: 10.96.0.1, ports: [{port: 80}]");
    let third = second.replace("name: web", "name: web2");
    let yaml = simple_pod("a", "10.0.0.1", "")
        + &simple_pod("b", "10.0.0.1", "")
        + machine
        + &second
        + &third;
    let mesh = mesh(&yaml);
    let refused = mesh.messages(Level::Refused);
    assert_eq!(
        refused,
        [
            "status.podIP 10.0.0.1 is the address of Pod shop/a already, at mesh.yaml:5, which stays in force; give one of them another",
            "spec.address 10.0.0.1 is the address of Pod shop/a already, at mesh.yaml:5, which stays in force; give one of them another",
            "spec.clusterIP 10.96.0.1 is the address of Service shop/web already, at mesh.yaml:21, which stays in force; give one of them another",
        ]
    );
    assert_eq!(
        (
            mesh.translated.workloads.len(),
            mesh.translated.services.len()
        ),
        (1, 1)
    );
    let networks = simple_pod("a", "10.0.0.1", "")
        + &simple_pod("b", "10.0.0.1", "topology.istio.io/network: n2");
    assert_eq!(clean(&networks).workloads.len(), 2);
    let host = pod("a", "", "hostNetwork: true", "podIP: 10.0.0.1")
        + &pod("b", "", "hostNetwork: true", "podIP: 10.0.0.1");
    assert_eq!(clean(&host).workloads.len(), 2);
}

mod remembering {
    use proptest::prelude::*;

    use super::*;

    /// One of several documents, in several variants.
    fn document(which: u8, variant: u8) -> String {
        let label = ["a", "b"][usize::from(variant % 2)];
        match which % 8 {
            0 => namespace(
                "shop",
                if variant.is_multiple_of(2) {
                    AMBIENT
                } else {
                    ""
                },
            ),
            1 => simple_pod("p1", "10.0.0.1", &format!("app: {label}")),
            2 => simple_pod("p2", &format!("10.0.0.{}", 1 + variant % 3), "app: a"),
            3 => service(&format!(
                "clusterIP: 10.96.0.1, selector: {{app: {label}}}, ports: [{{port: 80}}]"
            )),
            4 => peer(
                "shop",
                "default",
                &format!(
                    "mtls: {{mode: {}}}",
                    ["STRICT", "PERMISSIVE"][usize::from(variant % 2)]
                ),
            ),
            5 => authorization(
                "shop",
                "",
                &format!("selector: {{matchLabels: {{app: {label}}}}}"),
            ),
            6 => authorization("shop", "", "selector: {matchLabels: {app: a}}, rules: 7"),
            _ => entry(
                "e",
                &format!("hosts: [{label}.example.com], resolution: DNS, ports: [{{number: 80}}]"),
            ),
        }
    }

    fn sorted(translated: &Translated) -> String {
        let mut lines: Vec<String> = translated
            .workloads
            .iter()
            .map(|w| format!("{w:?}"))
            .collect();
        lines.extend(translated.services.iter().map(|s| format!("{s:?}")));
        lines.extend(translated.policies.iter().map(|p| format!("{p:?}")));
        lines.extend(translated.findings.iter().map(|f| format!("{f:?}")));
        lines.sort();
        lines.push(format!("{:?}", translated.nodes));
        lines.join("\n")
    }

    proptest! {
        /// What is remembered between snapshots never changes the result.
        #[test]
        fn changes_no_result(edits in prop::collection::vec((0u8..8, 0u8..6, any::<bool>()), 1..24)) {
            let mut store = Store::new(MeshSettings::default());
            let mut translator = Translator::default();
            for (which, variant, present) in edits {
                let file = format!("{which}.yaml");
                if present {
                    store.update(&file, &document(which, variant));
                } else {
                    store.remove(&file);
                }
                let snapshot = store.snapshot();
                prop_assert_eq!(sorted(&translator.translate(&snapshot)), sorted(&translate(&snapshot)));
            }
        }
    }
}
