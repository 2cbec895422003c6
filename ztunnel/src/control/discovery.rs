//! The discovery client, wired: who we are, how to connect, what is subscribed, what is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_telemetry::{Metrics, XdsTermination};
use ambit_xds::{
    Client, Config as ClientConfig, Events, Mode, NodeDescription, Subscription, Termination,
    connector,
};
use tokio::sync::watch;

use super::Server;
use super::resources::{Addresses, Policies, SharedWriter};
use crate::config::Config;

/// The client, to be run, and its subscriptions.
pub struct Discovery {
    /// Run it until the end of the agent.
    pub client: Client,
    /// Workloads and services; on demand if so configured.
    pub addresses: Subscription,
    /// Policies.
    pub policies: Subscription,
}

impl Discovery {
    /// Prepares everything; `None` without a discovery address. Does not connect yet.
    #[must_use]
    pub fn new(config: &Config, writer: &SharedWriter, metrics: Arc<Metrics>) -> Option<Self> {
        let server = Arc::new(Server::discovery(config)?);
        let headers = {
            let server = Arc::clone(&server);
            Arc::new(move |metadata: &mut tonic::metadata::MetadataMap| {
                server.add_headers(metadata)
            })
        };
        let connect = connector(move || {
            let server = Arc::clone(&server);
            async move { Ok(server.connect().await?) }
        });
        let client_config = ClientConfig {
            node: describe(config),
            headers,
            ..ClientConfig::default()
        };
        let mut client = Client::new(client_config, connect, Arc::new(Counted(metrics)));
        let mode = if config.discovery.on_demand {
            Mode::OnDemand
        } else {
            Mode::Wildcard
        };
        let addresses = client.subscribe(
            ambit_proto::ADDRESS_TYPE,
            mode,
            Addresses::new(Arc::clone(writer)),
        );
        let policies = client.subscribe(
            ambit_proto::AUTHORIZATION_TYPE,
            Mode::Wildcard,
            Policies::new(Arc::clone(writer)),
        );
        Some(Self {
            client,
            addresses,
            policies,
        })
    }
}

/// Sets the flag once both types were received: from then on what is not known does not exist.
/// Returns then, or never if discovery ends before.
pub async fn follow_sync(
    addresses: Subscription,
    policies: Subscription,
    complete: watch::Sender<bool>,
) {
    if addresses.synced().await && policies.synced().await {
        complete.send_replace(true);
        // The flag must not vanish: a closed channel reads as "never complete".
        std::future::pending::<()>().await;
    }
}

fn describe(config: &Config) -> NodeDescription {
    let mut metadata = BTreeMap::new();
    let mut structured = BTreeMap::new();
    for (key, value) in config.node.discovery_metadata() {
        match value {
            serde_json::Value::String(text) => {
                metadata.insert(key, text);
            }
            other => {
                structured.insert(key, as_proto(other));
            }
        }
    }
    NodeDescription {
        id: config.node.discovery_id(),
        cluster: config.node.cluster.to_string(),
        metadata,
        structured,
        user_agent: "ambit-ztunnel".to_owned(),
        user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn as_proto(value: serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(flag),
        // The protocol has no other numbers than these.
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(as_proto).collect(),
        }),
        serde_json::Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields
                .into_iter()
                .map(|(key, value)| (key, as_proto(value)))
                .collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

struct Counted(Arc<Metrics>);

impl Events for Counted {
    fn terminated(&self, reason: Termination) {
        self.0.xds.count_termination(match reason {
            Termination::ConnectionError => XdsTermination::ConnectionError,
            Termination::Error => XdsTermination::Error,
            Termination::Reconnect => XdsTermination::Reconnect,
            Termination::Complete => XdsTermination::Complete,
        });
    }

    fn message(&self, type_url: &str, bytes: usize) {
        self.0.xds.count_message(type_url, bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use prost_types::value::Kind;

    use super::*;

    #[test]
    fn structured_metadata_stays_structured() {
        let source = BTreeMap::from([
            ("NODE_NAME".to_owned(), "node-1".to_owned()),
            (
                "ISTIO_METAJSON_LABELS".to_owned(),
                r#"{"app":"ztunnel","n":[1,true,null]}"#.to_owned(),
            ),
        ]);
        let node = describe(&Config::from_source(&source).unwrap());
        assert_eq!(node.metadata["NODE_NAME"], "node-1");
        let Some(Kind::StructValue(labels)) = &node.structured["LABELS"].kind else {
            panic!("{:?}", node.structured);
        };
        assert_eq!(
            labels.fields["app"].kind,
            Some(Kind::StringValue("ztunnel".to_owned()))
        );
        assert!(
            matches!(&labels.fields["n"].kind, Some(Kind::ListValue(list)) if list.values.len() == 3)
        );
    }
}
