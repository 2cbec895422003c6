//! The answer of a discovery stream as an HTTP body: messages are put together from the shared
//! encodings of resources as the connection takes them, a chunk at a time, so that a message of
//! many megabytes costs each client one chunk.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ambit_proto::discovery::DeltaDiscoveryResponse;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::Status;

use super::resource::Resource;
use crate::limits::RESPONSE_CHUNK_BYTES;

/// One message of the stream.
#[derive(Debug)]
pub(super) struct Message {
    head: Bytes,
    resources: VecDeque<Arc<Resource>>,
}

impl Message {
    /// From a response without its resources, and the resources.
    pub(super) fn new(
        response: &DeltaDiscoveryResponse,
        resources: Vec<Arc<Resource>>,
    ) -> Result<Self, Status> {
        let rest = response.encoded_len();
        let length = rest
            + resources
                .iter()
                .map(|resource| resource.encoded.len())
                .sum::<usize>();
        let length = u32::try_from(length)
            .map_err(|_| Status::resource_exhausted("the response exceeds four gigabytes"))?;
        let mut head = BytesMut::with_capacity(rest + 5);
        // A gRPC message: not compressed, its length, its bytes. Fields of a message may come in
        // any order, so what is not a resource comes first.
        head.put_u8(0);
        head.put_u32(length);
        head.put_slice(&response.encode_to_vec());
        Ok(Self {
            head: head.freeze(),
            resources: resources.into(),
        })
    }
}

/// The body; ends with the status the session ended with.
#[derive(Debug)]
pub(super) struct ResponseBody {
    messages: mpsc::Receiver<Result<Message, Status>>,
    current: Option<Message>,
    ended: bool,
}

impl ResponseBody {
    pub(super) fn new(messages: mpsc::Receiver<Result<Message, Status>>) -> Self {
        Self {
            messages,
            current: None,
            ended: false,
        }
    }

    fn chunk(&mut self) -> Option<Bytes> {
        let message = self.current.as_mut()?;
        let mut chunk =
            BytesMut::with_capacity(RESPONSE_CHUNK_BYTES.min(message.head.len() + 4096));
        chunk.put_slice(&std::mem::take(&mut message.head));
        while chunk.len() < RESPONSE_CHUNK_BYTES {
            let Some(resource) = message.resources.pop_front() else {
                self.current = None;
                break;
            };
            chunk.put_slice(&resource.encoded);
        }
        Some(chunk.freeze())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.current.is_none() {
            match std::task::ready!(self.messages.poll_recv(context)) {
                Some(Ok(message)) => self.current = Some(message),
                end => {
                    self.ended = true;
                    return Poll::Ready(Some(trailers(end.and_then(Result::err))));
                }
            }
        }
        Poll::Ready(self.chunk().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

fn trailers(status: Option<Status>) -> Result<Frame<Bytes>, Status> {
    let mut headers = HeaderMap::new();
    status
        .unwrap_or_else(|| Status::ok(""))
        .add_header(&mut headers)?;
    Ok(Frame::trailers(headers))
}
