//! Accepts connections and serves them, within limits.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HOST, ORIGIN};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::message::{Request, Response, parse_query};
use super::router::Router;
use crate::limits;

/// Pause after an accept that failed, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on `address` and serves on the current runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(address: SocketAddr, router: Router) -> std::io::Result<Self> {
        Self::start(TcpListener::bind(address).await?, router)
    }

    /// Serves on an open listener.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(listener: TcpListener, router: Router) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, Arc::new(router), stop.clone()));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, with the requests under way.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!("the server at {} panicked", self.address);
        }
    }
}

async fn serve(listener: TcpListener, router: Arc<Router>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // Without a place the stream is closed here: better than an endless queue.
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    continue;
                };
                let router = Arc::clone(&router);
                connections.spawn(async move {
                    serve_connection(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.shutdown().await;
}

async fn serve_connection(stream: TcpStream, router: Arc<Router>) {
    let service = service_fn(move |request| {
        let router = Arc::clone(&router);
        async move { Ok::<_, Infallible>(respond(&router, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIME)
        .max_buf_size(limits::HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // hyper answers malformed heads itself (400, 431); what remains are broken connections.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection ended");
    }
}

async fn respond(
    router: &Router,
    request: hyper::Request<Incoming>,
) -> hyper::Response<Full<Bytes>> {
    let request = match read(request).await {
        Ok(request) => request,
        Err(refusal) => return refusal.into_hyper(),
    };
    let gzip = request.accepts_gzip();
    let answer = timeout(limits::ANSWER_TIME, router.answer(request)).await;
    let answer = answer.unwrap_or_else(|_| Response::text("took too long\n").status(503));
    let answer = if gzip { answer.compress() } else { answer };
    answer.into_hyper()
}

async fn read(request: hyper::Request<Incoming>) -> Result<Request, Response> {
    let (head, body) = request.into_parts();
    if crosses_origin(&head.headers) {
        // A page in a browser must not reach what listens on its user's loopback.
        return Err(Response::text("requests from other origins are refused\n").status(403));
    }
    let body = timeout(
        limits::BODY_TIME,
        Limited::new(body, limits::BODY_BYTES).collect(),
    )
    .await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let text = format!("the body is broken or over {} bytes\n", limits::BODY_BYTES);
            return Err(Response::text(text).status(413));
        }
        Err(_) => return Err(Response::text("the body did not arrive in time\n").status(408)),
    };
    Ok(Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: parse_query(head.uri.query().unwrap_or_default()),
        headers: head.headers,
        body,
    })
}

fn crosses_origin(headers: &hyper::HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), headers.get(HOST).map(|h| h.to_str()))
    else {
        return true;
    };
    origin
        .split_once("://")
        .is_none_or(|(_, from)| from != host)
}
