//! What the client is told: who it is, whom to resume, how patient to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_proto::core::Node;
use prost_types::{Struct, Value, value::Kind};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::limits::MAX_MESSAGE_BYTES;

/// Puts credentials and the like in the headers of a new stream. Called for every connection, so
/// it can read a token that was renewed meanwhile; it runs on the client's task and should not
/// take long.
pub type Headers = Arc<dyn Fn(&mut MetadataMap) -> Result<(), Status> + Send + Sync>;

/// How to work with a server.
#[derive(Clone)]
pub struct Config {
    /// Who this client is.
    pub node: NodeDescription,
    /// Headers of each stream.
    pub headers: Headers,
    /// How long an on-demand wish is waited for.
    pub demand_timeout: Duration,
    /// First wait before a new connection; doubled each time until one gives an answer.
    pub backoff_initial: Duration,
    /// Longest such wait.
    pub backoff_max: Duration,
    /// Bytes of one message.
    pub max_message_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: NodeDescription::default(),
            headers: Arc::new(|_| Ok(())),
            demand_timeout: Duration::from_secs(5),
            backoff_initial: Duration::from_millis(10),
            backoff_max: Duration::from_secs(15),
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// The identification sent with the first message of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeDescription {
    /// Such as `ztunnel~10.0.0.1~ztunnel-abc.istio-system~istio-system.svc.cluster.local`.
    pub id: String,
    /// Cluster.
    pub cluster: String,
    /// Such as `NAME`, `NAMESPACE`, `NODE_NAME`, `CLUSTER_ID`.
    pub metadata: BTreeMap<String, String>,
    /// Metadata that is more than text, such as `LABELS`.
    pub structured: BTreeMap<String, Value>,
    /// Program.
    pub user_agent: String,
    /// Its version.
    pub user_agent_version: String,
}

impl NodeDescription {
    pub(crate) fn to_proto(&self) -> Node {
        let value = |text: &String| Value {
            kind: Some(Kind::StringValue(text.clone())),
        };
        let fields = self
            .metadata
            .iter()
            .map(|(key, text)| (key.clone(), value(text)))
            .chain(self.structured.clone())
            .collect();
        Node {
            id: self.id.clone(),
            cluster: self.cluster.clone(),
            metadata: Some(Struct { fields }),
            locality: None,
            user_agent_name: self.user_agent.clone(),
            user_agent_version: self.user_agent_version.clone(),
        }
    }
}

/// How much of a type is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All resources.
    Wildcard,
    /// Those that are asked for by name or alias, and what the server sends unasked.
    OnDemand,
}
