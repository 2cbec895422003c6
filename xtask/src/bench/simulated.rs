//! Discovery clients that behave as node agents do on the wire, many in one process.

use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Instant;

use ambit_proto::ADDRESS_TYPE;
use ambit_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Largest message taken.
const MAX_MESSAGE: usize = 200 << 20;

/// What a client saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) client: usize,
    pub(crate) resources: usize,
    /// Whether the watched resource was among them.
    pub(crate) watched: bool,
    pub(crate) at: Instant,
}

/// How to reach the controller.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) address: String,
    pub(crate) roots: Vec<u8>,
}

impl Access {
    pub(crate) fn new(address: String, roots: &Path) -> Result<Self> {
        Ok(Self {
            address,
            roots: std::fs::read(roots)?,
        })
    }

    async fn channel(&self) -> Result<Channel> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.roots));
        let endpoint = Endpoint::from_shared(self.address.clone())?
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(4 << 20)
            .tls_config(tls)?;
        endpoint
            .connect()
            .await
            .context("connecting to the controller")
    }
}

/// Subscribes to everything, acknowledges, and reports each response, until the stream ends.
pub(crate) async fn follow(
    access: Access,
    client: usize,
    token: String,
    watched: String,
    seen: Sender<Seen>,
) -> Result<()> {
    let channel = access.channel().await?;
    let mut service =
        AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let (requests, outgoing) = mpsc::channel(16);
    let hello = DeltaDiscoveryRequest {
        type_url: ADDRESS_TYPE.to_owned(),
        node: Some(ambit_proto::core::Node {
            id: format!("ztunnel~10.0.0.1~simulated-{client}.bench~bench.svc.cluster.local"),
            ..Default::default()
        }),
        ..Default::default()
    };
    requests.send(hello).await?;
    let mut request = Request::new(ReceiverStream::new(outgoing));
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse()?);
    let mut stream = service
        .delta_aggregated_resources(request)
        .await?
        .into_inner();
    while let Some(response) = stream.message().await? {
        let report = Seen {
            client,
            resources: response.resources.len(),
            watched: response
                .resources
                .iter()
                .any(|r| r.name.ends_with(&watched)),
            at: Instant::now(),
        };
        requests.send(acknowledge(&response)).await?;
        if seen.send(report).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn acknowledge(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    }
}
