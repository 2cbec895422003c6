//! One stream's life: from its opening to its end.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use ambit_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::limits::MAX_PENDING_REQUESTS;

/// Messages handed to the transport that it has not sent; more wait in [`Stream::pending`].
const HANDED_OVER: usize = 16;

type Opening = Pin<
    Box<dyn Future<Output = Result<Response<Streaming<DeltaDiscoveryResponse>>, Status>> + Send>,
>;

/// A stream's inbound half. A server may answer with its headers only when it has something to
/// say, so the opening is waited for like any message.
enum Inbound {
    Opening(Opening),
    Open(Box<Streaming<DeltaDiscoveryResponse>>),
}

/// One stream.
pub(crate) struct Stream {
    inbound: Inbound,
    outbound: mpsc::Sender<DeltaDiscoveryRequest>,
    pending: VecDeque<DeltaDiscoveryRequest>,
}

/// What can happen on a stream.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message arrived.
    Response(DeltaDiscoveryResponse),
    /// The server ended the stream.
    Complete,
}

impl Stream {
    /// Starts to open a stream with these first messages.
    pub(crate) fn open(
        channel: Channel,
        config: &Config,
        first: impl IntoIterator<Item = DeltaDiscoveryRequest>,
    ) -> Result<Self, Status> {
        let (outbound, messages) = mpsc::channel(HANDED_OVER);
        let mut request = Request::new(ReceiverStream::new(messages));
        (config.headers)(request.metadata_mut())?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(config.max_message_bytes);
        let opening = async move { client.delta_aggregated_resources(request).await };
        Ok(Self {
            inbound: Inbound::Opening(Box::pin(opening)),
            outbound,
            pending: first.into_iter().collect(),
        })
    }

    /// Queues a message for the server.
    pub(crate) fn send(&mut self, request: DeltaDiscoveryRequest) {
        self.pending.push_back(request);
    }

    /// Whether the server reads, so that it makes sense to take in more.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < MAX_PENDING_REQUESTS
    }

    /// Sends what is queued and waits for the next message. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Result<Event, Status> {
        loop {
            let receive = self.has_room();
            tokio::select! {
                biased;
                permit = self.outbound.reserve(), if !self.pending.is_empty() => {
                    match (permit, self.pending.pop_front()) {
                        (Ok(permit), Some(request)) => permit.send(request),
                        // The transport is gone; the inbound half says why.
                        _ => self.pending.clear(),
                    }
                }
                event = receive_from(&mut self.inbound), if receive => return event,
            }
        }
    }
}

async fn receive_from(inbound: &mut Inbound) -> Result<Event, Status> {
    if let Inbound::Opening(opening) = inbound {
        let stream = opening.await?.into_inner();
        *inbound = Inbound::Open(Box::new(stream));
    }
    match inbound {
        Inbound::Open(stream) => Ok(stream
            .message()
            .await?
            .map_or(Event::Complete, Event::Response)),
        Inbound::Opening(_) => Ok(Event::Complete),
    }
}
