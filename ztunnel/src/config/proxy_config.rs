//! The part of Istio's `ProxyConfig` that concerns a node agent, from `PROXY_CONFIG` and from
//! the mesh configuration file's `defaultConfig`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Fields of Istio's `ProxyConfig`; what else it holds is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ProxyConfig {
    pub(super) discovery_address: Option<String>,
    pub(super) proxy_admin_port: Option<u16>,
    pub(super) stats_port: Option<u16>,
    pub(super) concurrency: Option<u16>,
    pub(super) proxy_metadata: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct MeshConfig {
    default_config: Option<ProxyConfig>,
}

impl ProxyConfig {
    pub(super) fn from_yaml(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    pub(super) fn from_mesh_config(text: &str) -> Result<Self, String> {
        let mesh: MeshConfig = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        Ok(mesh.default_config.unwrap_or_default())
    }

    /// Lays `over` on top, field by field; metadata is joined key by key.
    pub(super) fn merge(&mut self, over: Self) {
        self.discovery_address = over.discovery_address.or(self.discovery_address.take());
        self.proxy_admin_port = over.proxy_admin_port.or(self.proxy_admin_port);
        self.stats_port = over.stats_port.or(self.stats_port);
        self.concurrency = over.concurrency.or(self.concurrency);
        self.proxy_metadata.extend(over.proxy_metadata);
    }
}
