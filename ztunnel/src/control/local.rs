//! Static configuration: workloads, services and policies from a YAML file or variable, with the
//! field names of Istio's ztunnel. For tests and for machines without a control plane.

mod convert;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use ambit_state::Change;
use serde::Deserialize;

use super::limits::MAX_LOCAL;
use crate::config::StaticConfig;

/// Why static configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text is not of the form.
    #[error("static configuration is not understood: {0}")]
    Yaml(String),
    /// One object has a value it cannot have.
    #[error("static configuration: {object}: {reason}")]
    Object {
        /// Kind and name.
        object: String,
        /// Field, value and accepted form.
        reason: String,
    },
}

/// Reads and converts everything; nothing is applied if one object is wrong.
///
/// # Errors
/// See [`LocalError`].
pub fn load(source: &StaticConfig) -> Result<Vec<Change>, LocalError> {
    match source {
        StaticConfig::Text(text) => parse(text),
        StaticConfig::File(path) => {
            let mut text = String::new();
            std::fs::File::open(path)
                .and_then(|file| file.take(MAX_LOCAL).read_to_string(&mut text))
                .map_err(|source| LocalError::File {
                    path: path.clone(),
                    source,
                })?;
            parse(&text)
        }
    }
}

/// The text as changes.
///
/// # Errors
/// See [`LocalError`].
pub fn parse(text: &str) -> Result<Vec<Change>, LocalError> {
    let file: File =
        serde_saphyr::from_str(text).map_err(|error| LocalError::Yaml(error.to_string()))?;
    convert::changes(file)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct File {
    workloads: Vec<LocalWorkload>,
    services: Vec<LocalService>,
    policies: Vec<LocalPolicy>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct LocalWorkload {
    uid: String,
    name: String,
    namespace: String,
    service_account: String,
    trust_domain: String,
    workload_ips: Vec<String>,
    hostname: String,
    network: String,
    node: String,
    cluster_id: String,
    protocol: String,
    status: String,
    network_mode: String,
    canonical_name: String,
    canonical_revision: String,
    workload_name: String,
    workload_type: String,
    authorization_policies: Vec<String>,
    native_tunnel: bool,
    capacity: Option<u32>,
    locality: LocalLocality,
    waypoint: Option<LocalGateway>,
    network_gateway: Option<LocalGateway>,
    application_tunnel: Option<LocalApplicationTunnel>,
    /// Service to (service port to target port).
    services: BTreeMap<String, BTreeMap<u16, u16>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct LocalLocality {
    region: String,
    zone: String,
    subzone: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LocalApplicationTunnel {
    protocol: String,
    port: Option<u16>,
}

/// `destination` is `network/ip` or `namespace/hostname`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LocalGateway {
    destination: String,
    #[serde(default = "hbone_port")]
    hbone_mtls_port: u16,
}

fn hbone_port() -> u16 {
    15008
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct LocalService {
    name: String,
    namespace: String,
    hostname: String,
    /// `network/ip`.
    vips: Vec<String>,
    ports: BTreeMap<u16, u16>,
    subject_alt_names: Vec<String>,
    waypoint: Option<LocalGateway>,
    load_balancer: LocalLoadBalancer,
    ip_families: String,
    visibility: String,
    canonical: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct LocalLoadBalancer {
    routing_preferences: Vec<String>,
    mode: String,
    health_policy: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct LocalPolicy {
    name: String,
    namespace: String,
    scope: String,
    action: String,
    dry_run: bool,
    /// Rules of clauses of matches.
    rules: Vec<Vec<Vec<LocalMatch>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct LocalMatch {
    namespaces: Vec<LocalString>,
    not_namespaces: Vec<LocalString>,
    principals: Vec<LocalString>,
    not_principals: Vec<LocalString>,
    source_ips: Vec<String>,
    not_source_ips: Vec<String>,
    destination_ips: Vec<String>,
    not_destination_ips: Vec<String>,
    destination_ports: Vec<u16>,
    not_destination_ports: Vec<u16>,
}

/// `Exact: x`, `Prefix: x`, `Suffix: x` or `Presence`.
#[derive(Deserialize)]
enum LocalString {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Presence,
}

#[cfg(test)]
mod tests {
    use ambit_model::{
        LoadBalancingMode, NetworkAddress, PolicyKey, ServiceKey, TunnelProtocol, WorkloadUid,
    };
    use ambit_state::Settings;

    use super::*;

    const FILE: &str = r#"
workloads:
- uid: cluster1//v1/Pod/default/local
  name: local
  namespace: default
  serviceAccount: web
  workloadIps: ["127.0.0.1"]
  protocol: HBONE
  node: local
  services:
    "default/example.com":
      80: 8080
- name: external
  namespace: default
  workloadIps: [127.0.0.2, "::2"]
  protocol: TCP
  waypoint: {destination: "/127.0.0.9"}
services:
- name: local
  namespace: default
  hostname: example.com
  vips: ["/127.10.0.1", "other/127.10.0.2"]
  ports: {80: 8080}
  loadBalancer: {routingPreferences: [Region, Zone], mode: Failover, healthPolicy: AllowAll}
  ipFamilies: Dual
policies:
- name: deny-9999
  namespace: default
  scope: Namespace
  action: Deny
  rules:
  - - - destinationPorts: [9999]
        principals: [Exact: "cluster.local/ns/a/sa/b", Presence]
        sourceIps: [10.0.0.0/8, 10.1.1.1]
"#;

    #[test]
    fn objects_reach_the_state() {
        let (mut writer, reader) = ambit_state::new(Settings::default());
        writer.apply(parse(FILE).unwrap());
        let uid = WorkloadUid::from("cluster1//v1/Pod/default/local");
        let workload = reader.find_workload_by_uid(&uid).unwrap();
        assert_eq!(workload.tunnel, TunnelProtocol::Hbone);
        let key = ServiceKey::new("default", "example.com");
        assert_eq!(reader.endpoints(&key).len(), 1);
        let balancing = &reader.find_service_by_key(&key).unwrap().load_balancing;
        assert_eq!(balancing.mode, LoadBalancingMode::Failover);
        assert_eq!(balancing.preference.len(), 2);
        let address = NetworkAddress {
            network: "".into(),
            address: "::2".parse().unwrap(),
        };
        let external = reader.find_workload(&address).unwrap();
        assert!(external.waypoint.is_some());
        assert_eq!(external.trust_domain.as_str(), "cluster.local");
        assert!(
            reader
                .find_policy(&PolicyKey::new("default", "deny-9999"))
                .is_some()
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("workloads: {", "not understood"),
            ("workload: []", "workload"),
            (
                "workloads: [{name: a, namespace: b, protocol: UDP}]",
                "protocol",
            ),
            (
                "workloads: [{name: a, namespace: b, workloadIps: [x]}]",
                "\"x\"",
            ),
            ("services: [{name: a, namespace: b}]", "hostname"),
            (
                "services: [{name: a, namespace: b, hostname: h, vips: [1.2.3.4]}]",
                "network/ip",
            ),
            (
                "policies: [{name: a, namespace: b, action: Audit}]",
                "Audit",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let missing = StaticConfig::File("/not/there".into());
        assert!(matches!(load(&missing), Err(LocalError::File { .. })));
    }
}
