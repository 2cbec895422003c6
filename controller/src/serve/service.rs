//! The discovery service as tonic mounts it. Written out instead of generated, so that answers can
//! be put together from shared encodings.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ambit_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use http::{HeaderValue, Request, Response};
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::{Codec as _, Streaming};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Status, codegen::Service};
use tonic_prost::ProstCodec;

use super::Hub;
use super::body::ResponseBody;
use super::hub::ClientStatus;
use super::session::Session;
use crate::ca::{Authenticators, Caller, Credentials};
use crate::limits::{MAX_CLIENTS, MAX_REQUEST_BYTES};

const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`, incremental only.
#[derive(Clone, Debug)]
pub struct Discovery {
    hub: Hub,
    authenticators: Authenticators,
}

impl Discovery {
    /// Serves what the hub holds to callers these recognise.
    #[must_use]
    pub fn new(hub: Hub, authenticators: Authenticators) -> Self {
        Self {
            hub,
            authenticators,
        }
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        if request.uri().path() != METHOD {
            return Err(Status::unimplemented(
                "only DeltaAggregatedResources is served here",
            ));
        }
        let (parts, body) = request.into_parts();
        let metadata = MetadataMap::from_headers(parts.headers);
        let credentials =
            Credentials::of(&tonic::Request::from_parts(metadata, parts.extensions, ()));
        let caller = self.authenticators.caller_of(&credentials).await?;
        if self.hub.client_count() >= MAX_CLIENTS {
            return Err(Status::resource_exhausted("too many discovery clients"));
        }
        let mut codec = ProstCodec::<DeltaDiscoveryResponse, DeltaDiscoveryRequest>::default();
        let requests = Streaming::new_request(codec.decoder(), body, None, Some(MAX_REQUEST_BYTES));
        let answers = self.start(&caller, &credentials, requests);
        let mut response = Response::new(Body::new(ResponseBody::new(answers)));
        let grpc = HeaderValue::from_static("application/grpc");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, grpc);
        Ok(response)
    }

    fn start(
        &self,
        caller: &Caller,
        credentials: &Credentials,
        requests: Streaming<DeltaDiscoveryRequest>,
    ) -> mpsc::Receiver<Result<super::body::Message, Status>> {
        let (sender, receiver) = mpsc::channel(1);
        let client = self.hub.connect(ClientStatus {
            node: caller.node.to_string(),
            peer: credentials
                .peer
                .map(|peer| peer.to_string())
                .unwrap_or_default(),
            ..ClientStatus::default()
        });
        let session = Session::new(self.hub.clone(), client, caller.node.clone(), sender);
        self.hub.0.sessions.spawn(session.run(requests));
        receiver
    }
}

impl NamedService for Discovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl Service<Request<Body>> for Discovery {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            Ok(service
                .answer(request)
                .await
                .unwrap_or_else(Status::into_http))
        })
    }
}
