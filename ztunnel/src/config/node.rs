//! Who the agent is: its node, its cluster, its own pod, and what it tells the control plane of it.

use std::collections::BTreeMap;

use ambit_model::{
    ClusterId, Identity, Namespace, NetworkId, NodeName, ServiceAccount, TrustDomain,
};
use serde::Serialize;

use super::reader::Reader;
use super::{parse, variables as v};

/// The node, its cluster and the agent's own pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Kubernetes node name; empty where unknown.
    pub name: NodeName,
    /// Network of the node.
    pub network: NetworkId,
    /// Cluster.
    pub cluster: ClusterId,
    /// Suffix of service names.
    pub cluster_domain: String,
    /// The agent's own trust domain.
    pub trust_domain: TrustDomain,
    /// Further trust domains whose peers are accepted.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// The agent's address, as text: it is only passed on.
    pub instance_ip: String,
    /// The agent's own pod.
    pub pod_name: String,
    /// Its namespace.
    pub pod_namespace: Namespace,
    /// Its service account.
    pub service_account: ServiceAccount,
    /// `ISTIO_META_*`, `PROXY_CONFIG`'s metadata and `ISTIO_METAJSON_*`.
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// Whether the agent runs in a Kubernetes pod.
    pub in_kubernetes: bool,
}

impl Node {
    pub(super) fn from_source(reader: &mut Reader<'_>) -> Self {
        let text = |reader: &Reader<'_>, variable, default: &str| {
            reader.text(variable).unwrap_or_else(|| default.to_owned())
        };
        let cluster = text(reader, &v::CLUSTER_ID, "Kubernetes");
        Self {
            name: text(reader, &v::NODE_NAME, "").into(),
            network: text(reader, &v::NETWORK, "").into(),
            cluster: text(reader, &v::ISTIO_META_CLUSTER_ID, &cluster).into(),
            cluster_domain: text(reader, &v::CLUSTER_DOMAIN, "cluster.local")
                .trim_matches('.')
                .to_ascii_lowercase(),
            trust_domain: text(reader, &v::TRUST_DOMAIN, "cluster.local")
                .as_str()
                .into(),
            trust_domain_aliases: parse::list(&text(reader, &v::AMBIT_TRUST_DOMAIN_ALIASES, ""))
                .iter()
                .map(|domain| domain.as_str().into())
                .collect(),
            instance_ip: text(reader, &v::INSTANCE_IP, "1.1.1.1"),
            pod_name: text(reader, &v::POD_NAME, ""),
            pod_namespace: text(reader, &v::POD_NAMESPACE, "").into(),
            service_account: text(reader, &v::SERVICE_ACCOUNT, "").into(),
            metadata: metadata(reader),
            in_kubernetes: reader.raw(&v::KUBERNETES_SERVICE_HOST).is_some(),
        }
    }

    /// The agent's own identity, where its pod is known.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        let known = !self.pod_name.is_empty()
            && !self.pod_namespace.is_empty()
            && !self.service_account.is_empty();
        known.then(|| {
            Identity::new(
                self.trust_domain.clone(),
                self.pod_namespace.clone(),
                self.service_account.clone(),
            )
        })
    }

    /// The id under which the control plane knows the agent:
    /// `ztunnel~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local`.
    #[must_use]
    pub fn discovery_id(&self) -> String {
        let (ip, pod, namespace) = (&self.instance_ip, &self.pod_name, &self.pod_namespace);
        format!("ztunnel~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local")
    }

    /// The metadata sent with the id: NAME, NAMESPACE, INSTANCE_IPS, NODE_NAME and
    /// [`metadata`](Self::metadata), which is stronger.
    #[must_use]
    pub fn discovery_metadata(&self) -> BTreeMap<String, serde_json::Value> {
        let own = [
            ("NAME", self.pod_name.as_str()),
            ("NAMESPACE", self.pod_namespace.as_str()),
            ("INSTANCE_IPS", self.instance_ip.as_str()),
            ("NODE_NAME", self.name.as_str()),
        ];
        let mut all: BTreeMap<_, _> = own
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        all.extend(self.metadata.clone());
        all
    }

    /// The control plane's address where none is given.
    pub(super) fn default_control_plane(&self) -> &'static str {
        if self.in_kubernetes {
            "https://istiod.istio-system.svc:15012"
        } else {
            "https://localhost:15012"
        }
    }
}

/// Weakest first: `PROXY_CONFIG`, `ISTIO_META_*`, `ISTIO_METAJSON_*`.
fn metadata(reader: &mut Reader<'_>) -> BTreeMap<String, serde_json::Value> {
    let mut all = BTreeMap::new();
    for (key, value) in &reader.proxy_config.proxy_metadata {
        let key = key.strip_prefix("ISTIO_META_").unwrap_or(key);
        all.insert(key.to_owned(), value.as_str().into());
    }
    for (key, value) in reader.prefixed("ISTIO_META_") {
        all.insert(key, value.into());
    }
    for (key, value) in reader.prefixed("ISTIO_METAJSON_") {
        match serde_json::from_str(&value) {
            Ok(parsed) => {
                all.insert(key, parsed);
            }
            Err(_) => reader.invalid(&format!("ISTIO_METAJSON_{key}"), &value, "JSON"),
        }
    }
    all
}
