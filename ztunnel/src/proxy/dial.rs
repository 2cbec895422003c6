//! The next hop of an outbound connection, opened: plain TCP, or a stream in a pooled tunnel.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_hbone::tls::TlsStream;
use ambit_hbone::{ConnectRequest, OpenError, Opened};
use ambit_identity::{ExpectedPeers, FetchError, Priority, WorkloadCertificate};
use ambit_model::{Hostname, Identity, Workload};
use ambit_net::copy::TcpEnd;
use ambit_net::{ConnectError, Hop as Leg, Source, connect};
use ambit_state::{Authority, ExpectedIdentities, Hop};
use ambit_telemetry::Declared;
use http::HeaderMap;
use tokio::net::TcpStream;

use super::headers::{self, baggage, forwarded, traceparent};
use super::nested::{self, NestedStream};
use super::workers::Worker;
use super::{Failure, Mesh, Pod, limits};

/// What tunnels of one pod are shared by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TunnelKey {
    /// The other end's tunnel port.
    pub to: SocketAddr,
    /// The pod's own address.
    pub from: IpAddr,
    /// Who the pod is.
    pub identity: Arc<Identity>,
    /// Who may answer.
    pub expected: ExpectedIdentities,
}

/// Why there is no tunnel; shared by all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// No certificate for the pod.
    #[error("no certificate")]
    Certificate(#[source] FetchError),
    /// No TCP connection.
    #[error("cannot connect")]
    Connect(#[source] Arc<ConnectError>),
    /// No TLS session.
    #[error("no TLS session")]
    Tls(#[source] ambit_hbone::Error),
}

impl DialError {
    fn into_failure(self, to: SocketAddr) -> Failure {
        match self {
            Self::Certificate(source) => Failure::LocalCertificate(source),
            Self::Connect(source) => Failure::UpstreamTunnelPort { to, source },
            Self::Tls(source) => Failure::no_tunnel(to, source),
        }
    }
}

/// What a connection asks of the next hop.
pub struct Call<'a> {
    /// Whose it is.
    pub pod: &'a Arc<Pod>,
    /// The pod as discovery knows it.
    pub workload: &'a Arc<Workload>,
    /// The application's address.
    pub source: SocketAddr,
    /// The pod's address that tunnels come from.
    pub from: IpAddr,
    /// The service's name, where one was addressed.
    pub service: Option<&'a Hostname>,
}

/// The other end of the copy.
pub enum Remote {
    /// Plain TCP.
    Plain(TcpEnd),
    /// A stream in a tunnel.
    Tunnel(Box<ambit_hbone::Stream>),
    /// A stream in a tunnel in a tunnel.
    Nested(Box<NestedStream>),
}

/// An opened next hop.
pub struct Dialled {
    /// The other end.
    pub remote: Remote,
    /// Where the socket goes.
    pub to: SocketAddr,
    /// What the other end says of the destination.
    pub declared: Option<Declared>,
}

/// Opens the hop.
///
/// # Errors
/// Those of the local side, of the connect and of the tunnel; [`Failure::answer`] tells whether
/// another endpoint is worth a try.
pub async fn open(worker: &Worker, call: &Call<'_>, hop: &Hop) -> Result<Dialled, Failure> {
    match hop {
        Hop::Passthrough { to } | Hop::Direct { to } => plain(&worker.mesh, call, *to).await,
        Hop::Hbone {
            gateway,
            authority,
            expected,
        }
        | Hop::Waypoint {
            gateway,
            authority,
            expected,
        } => tunnel(worker, call, *gateway, authority, expected).await,
        Hop::DoubleHbone {
            gateway,
            authority,
            expected,
            inner_expected,
        } => nested::open(worker, call, *gateway, authority, expected, inner_expected).await,
        Hop::Hostname(name) => {
            let mesh = &worker.mesh;
            let answer = mesh.resolver.resolve(call.pod, &name.hostname).await;
            mesh.metrics.connections.count_on_demand_dns(&name.hostname);
            let none = |reason| Failure::NoAddress {
                hostname: name.hostname.clone(),
                reason,
            };
            let addresses = answer.map_err(none)?;
            let address = name
                .choose(&addresses)
                .ok_or_else(|| none("no address of a usable family".into()))?;
            // One level: a resolved name is never again a name.
            Box::pin(open(worker, call, &name.clone().with_address(address))).await
        }
    }
}

async fn plain(mesh: &Mesh, call: &Call<'_>, to: SocketAddr) -> Result<Dialled, Failure> {
    let leg = if to.ip() == call.from {
        Leg::Loopback
    } else {
        Leg::Network
    };
    let stream = connect(
        &call.pod.netns,
        to,
        Source::Any,
        leg,
        &mesh.settings.sockets,
    )
    .await
    .map_err(|source| Failure::UpstreamConnect {
        to,
        source: Arc::new(source),
    })?;
    Ok(Dialled {
        remote: Remote::Plain(TcpEnd::new(stream)),
        to,
        declared: None,
    })
}

async fn tunnel(
    worker: &Worker,
    call: &Call<'_>,
    to: SocketAddr,
    authority: &Authority,
    expected: &ExpectedIdentities,
) -> Result<Dialled, Failure> {
    let request = ConnectRequest {
        authority: authority.to_string(),
        headers: request_headers(call),
    };
    let opened = stream(worker, call, to, expected, request).await?;
    Ok(Dialled {
        declared: declared(&worker.mesh, &opened.headers),
        remote: Remote::Tunnel(Box::new(opened.stream)),
        to,
    })
}

/// Opens a stream in a pooled tunnel to `to`.
pub(super) async fn stream(
    worker: &Worker,
    call: &Call<'_>,
    to: SocketAddr,
    expected: &ExpectedIdentities,
    request: ConnectRequest,
) -> Result<Opened, Failure> {
    let key = TunnelKey {
        to,
        from: call.from,
        identity: Arc::clone(&call.pod.identity),
        expected: expected.clone(),
    };
    let pool = worker.pool(call.pod);
    let connect = || establish(worker, call.pod, &key);
    let opened = pool.open(&key, connect, request);
    match tokio::time::timeout(limits::ANSWER_WAIT, opened).await {
        Ok(opened) => opened.map_err(|error| open_failure(error, to)),
        Err(_) => Err(Failure::UpstreamTunnel {
            to,
            source: ambit_hbone::Error::PeerUnresponsive,
        }),
    }
}

pub(super) fn open_failure(error: OpenError<DialError>, to: SocketAddr) -> Failure {
    match error {
        OpenError::Connect(error) => error.into_failure(to),
        OpenError::Tunnel(source) => Failure::no_tunnel(to, source),
        OpenError::Refused { status, .. } => Failure::UpstreamRefused { to, status },
    }
}

/// Makes the connection under a tunnel: certificate, TCP, TLS.
async fn establish(
    worker: &Worker,
    pod: &Pod,
    key: &TunnelKey,
) -> Result<TlsStream<TcpStream>, DialError> {
    let mesh = &worker.mesh;
    let certificate = certificate(mesh, &key.identity)
        .await
        .map_err(DialError::Certificate)?;
    let config = certificate.client_config(&ExpectedPeers::new(&key.expected, []));
    let sockets = &mesh.settings.sockets;
    let tcp = connect(&pod.netns, key.to, Source::Any, Leg::Network, sockets)
        .await
        .map_err(|error| DialError::Connect(Arc::new(error)))?;
    let name = ambit_identity::placeholder_server_name();
    let timeout = mesh.settings.tunnel.handshake_timeout;
    let tls = ambit_hbone::tls::connect(tcp, config, name, timeout)
        .await
        .map_err(DialError::Tls)?;
    worker.note_chain(pod, key, tls.peer_certificates());
    Ok(tls)
}

/// A workload's certificate; waits for one attempt to get it, which the authority's client bounds.
///
/// # Errors
/// When the attempt fails.
pub async fn certificate(
    mesh: &Mesh,
    identity: &Identity,
) -> Result<Arc<WorkloadCertificate>, FetchError> {
    match mesh.certificates.cached(identity) {
        Some(ready) => Ok(ready),
        None => mesh.certificates.fetch(identity, Priority::RealTime).await,
    }
}

/// Baggage, forwarded and traceparent of a CONNECT.
pub(super) fn request_headers(call: &Call<'_>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(3);
    let values = [
        (headers::BAGGAGE, call.pod.describe(call.workload)),
        (
            headers::FORWARDED,
            forwarded::describe(call.source, call.service),
        ),
        (headers::TRACEPARENT, traceparent::random()),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            map.insert(name, value);
        }
    }
    map
}

/// What the other end says of the destination.
pub(super) fn declared(mesh: &Mesh, headers: &HeaderMap) -> Option<Declared> {
    if mesh.settings.baggage {
        baggage::parse(headers)
    } else {
        None
    }
}
