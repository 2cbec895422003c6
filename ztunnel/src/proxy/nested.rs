//! A tunnel inside a tunnel: the outer one, pooled, ends at another network's gateway; the inner one,
//! one per connection, at the workload that the gateway chose for the service.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use ambit_hbone::{ConnectRequest, Pool, Stream};
use ambit_identity::ExpectedPeers;
use ambit_net::copy::{Finish, Sink, Source};
use ambit_state::{Authority, ExpectedIdentities};
use http::HeaderValue;

use super::dial::{self, Call, DialError, Dialled, Remote};
use super::workers::Worker;
use super::{Failure, headers};

/// The inner stream with the connection it runs on, which serves no other.
pub struct NestedStream {
    stream: Stream,
    _inner: Pool<(), DialError>,
}

/// Opens both tunnels.
///
/// # Errors
/// Those of either tunnel.
pub async fn open(
    worker: &Worker,
    call: &Call<'_>,
    gateway: SocketAddr,
    authority: &Authority,
    expected: &ExpectedIdentities,
    inner_expected: &ExpectedIdentities,
) -> Result<Dialled, Failure> {
    let mesh = &worker.mesh;
    let outer = ConnectRequest {
        authority: authority.to_string(),
        headers: dial::request_headers(call),
    };
    let outer = dial::stream(worker, call, gateway, expected, outer).await?;
    let certificate = dial::certificate(mesh, &call.pod.identity)
        .await
        .map_err(Failure::LocalCertificate)?;
    let config = certificate.client_config(&ExpectedPeers::new(inner_expected, []));
    let mut carrier = Some(outer.stream);
    let connect = || {
        let (carrier, config) = (carrier.take(), std::sync::Arc::clone(&config));
        async move {
            // The stream is used up by the first try, and a second one is never better.
            let carrier = carrier.ok_or(DialError::Tls(ambit_hbone::Error::PeerClosed))?;
            let name = ambit_identity::placeholder_server_name();
            let timeout = mesh.settings.tunnel.handshake_timeout;
            let tls = ambit_hbone::tls::connect(carrier, config, name, timeout).await;
            tls.map_err(DialError::Tls)
        }
    };
    let mut inner_headers = dial::request_headers(call);
    if let Ok(network) = HeaderValue::from_str(mesh.settings.network.as_str()) {
        inner_headers.insert(headers::FORWARDED_NETWORK, network);
    }
    let inner = Pool::new(mesh.settings.tunnel.clone());
    let request = ConnectRequest {
        authority: authority.to_string(),
        headers: inner_headers,
    };
    let opened = inner
        .open(&(), connect, request)
        .await
        .map_err(|error| dial::open_failure(error, gateway))?;
    let stream = NestedStream {
        stream: opened.stream,
        _inner: inner,
    };
    Ok(Dialled {
        declared: dial::declared(mesh, &opened.headers),
        remote: Remote::Nested(Box::new(stream)),
        to: gateway,
    })
}

impl Source for NestedStream {
    fn poll_fill(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<bool>> {
        self.stream.poll_fill(cx, limit)
    }

    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        self.stream.slices(into)
    }

    fn consume(&mut self, count: usize) {
        self.stream.consume(count);
    }
}

impl Sink for NestedStream {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.stream.poll_room(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Sink::poll_write(&mut self.stream, cx, slices)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>, finish: Finish) -> Poll<io::Result<()>> {
        self.stream.poll_finish(cx, finish)
    }

    fn abort(&mut self) {
        self.stream.abort();
    }
}
