//! One CONNECT request in a tunnel: what is asked for, may it, the application, then 200 and copy.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ambit_hbone::Request;
use ambit_model::{NetworkAddress, Workload};
use ambit_net::copy::TcpEnd;
use ambit_state::{InboundRequest, InboundTarget};
use ambit_telemetry::{Connection, Outcome, Party, Reporter, Security};
use http::HeaderMap;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Tunnel;
use crate::proxy::authorize::authorize;
use crate::proxy::connections::Ticket;
use crate::proxy::failure::Chain;
use crate::proxy::headers::{self, authority, baggage, forwarded};
use crate::proxy::plaintext::{only_service, to_application};
use crate::proxy::relay::relay;
use crate::proxy::workers::Load;
use crate::proxy::{Direction, Failure, Live, is_own_port, outbound, proxy_protocol};

/// Carries one stream.
pub(super) async fn serve(tunnel: Rc<Tunnel>, request: Request, load: Load) {
    let since = Instant::now();
    let mut about = Box::new(unknown(&tunnel, request.headers()));
    let (application, ticket) = match open(&tunnel, &request, &mut about).await {
        Ok(opened) => opened,
        Err(failure) => return refuse(&tunnel, request, (*about, since), &failure),
    };
    let record = tunnel.worker.recorder.open(*about);
    match request.accept(response(&tunnel, record.connection())) {
        Ok(stream) => relay(stream, TcpEnd::new(application), record, ticket).await,
        Err(error) => {
            record.finish(Outcome::failed(
                ambit_telemetry::ResponseFlag::None,
                Chain(&error),
            ));
        }
    }
    drop(load);
}

fn unknown(tunnel: &Tunnel, headers: &HeaderMap) -> Connection {
    let declared = tunnel
        .worker
        .mesh
        .settings
        .baggage
        .then(|| baggage::parse(headers))
        .flatten();
    Connection {
        reporter: Reporter::Destination,
        security: Security::MutualTls,
        source: Party {
            workload: None,
            declared: declared.map(Arc::new),
            identity: Some(Arc::clone(&tunnel.identity)),
        },
        source_address: tunnel.peer,
        destination: Party {
            identity: Some(Arc::clone(&tunnel.pod.identity)),
            ..Party::default()
        },
        destination_address: tunnel.local,
        tunnel: None,
        service: None,
    }
}

/// Everything before the answer.
async fn open(
    tunnel: &Tunnel,
    request: &Request,
    about: &mut Connection,
) -> Result<(TcpStream, Ticket), Failure> {
    let (mesh, pod) = (&tunnel.worker.mesh, &tunnel.pod);
    let authority = request
        .is_connect()
        .then(|| request.authority())
        .flatten()
        .ok_or(Failure::PeerRequest)?;
    let authority = authority::parse(authority).map_err(Failure::PeerAuthority)?;
    about.tunnel = Some(outbound::target(&authority));
    let workload = pod.as_destination(mesh, tunnel.local.ip()).await?;
    about.destination.workload = Some(Arc::clone(&workload));
    about.source.workload = source_workload(tunnel, request);
    let target = mesh
        .state
        .resolve_inbound(&InboundRequest {
            local: &workload,
            connection_destination: tunnel.local,
            authority: &authority,
        })
        .map_err(Failure::PeerDestination)?;
    let connect_to = permitted(tunnel, &target)?;
    about.service = service(tunnel, request, &workload, &target);
    let live = Live {
        direction: Direction::InboundTunnel,
        source: tunnel.peer,
        destination: target.destination,
        via: (connect_to != target.destination).then_some(connect_to),
        peer: Some(Arc::clone(&tunnel.identity)),
        tunnel: Some(tunnel.id),
        since: SystemTime::now(),
    };
    // Before the check: a policy that comes after it finds the connection registered.
    let ticket = pod.connections.register(live.clone());
    authorize(mesh, &workload, &live)?;
    let application = application(tunnel, connect_to, &target).await?;
    Ok((application, ticket))
}

/// Where to connect to; never to the agent itself, nor beyond what the pod offers.
fn permitted(tunnel: &Tunnel, target: &InboundTarget) -> Result<SocketAddr, Failure> {
    let mut to = target.connect_to;
    if is_own_port(to) {
        return Err(Failure::SelfCall(to));
    }
    let only = &tunnel.pod.only_ports;
    if !only.is_empty() && !only.contains(&to.port()) {
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let source = Arc::new(ambit_net::ConnectError::Local(refused));
        return Err(Failure::UpstreamConnect { to, source });
    }
    if target.proxy_protocol.is_some() && tunnel.worker.mesh.settings.localhost_app_tunnel {
        let local: std::net::IpAddr = match to {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        to.set_ip(local);
    }
    Ok(to)
}

/// Connects to the application; an application tunnel is told first who the client is.
async fn application(
    tunnel: &Tunnel,
    to: SocketAddr,
    target: &InboundTarget,
) -> Result<TcpStream, Failure> {
    let (mesh, pod) = (&tunnel.worker.mesh, &tunnel.pod);
    let Some(destination) = target.proxy_protocol else {
        let client = pod.only_ports.is_empty().then_some(tunnel.peer.ip());
        return to_application(mesh, pod, to, client).await;
    };
    let mut stream = to_application(mesh, pod, to, None).await?;
    let header = proxy_protocol::header(tunnel.peer, destination, Some(&tunnel.identity));
    stream
        .write_all(&header)
        .await
        .map_err(|error| Failure::UpstreamConnect {
            to,
            source: Arc::new(ambit_net::ConnectError::Remote(error)),
        })?;
    Ok(stream)
}

/// The client as discovery knows it, unless it comes from another network, where addresses mean
/// something else.
fn source_workload(tunnel: &Tunnel, request: &Request) -> Option<Arc<Workload>> {
    let settings = &tunnel.worker.mesh.settings;
    let elsewhere = request
        .headers()
        .get(headers::FORWARDED_NETWORK)
        .is_some_and(|network| network.as_bytes() != settings.network.as_str().as_bytes());
    if elsewhere {
        return None;
    }
    let address = NetworkAddress {
        network: settings.network.clone(),
        address: tunnel.peer.ip(),
    };
    let found = tunnel.worker.mesh.state.find_workload(&address)?;
    // A waypoint or gateway may speak for others from its own address.
    (found.identity() == *tunnel.identity).then_some(found)
}

/// The service the client says it asked for, if the workload is an endpoint of it; else the only one.
fn service(
    tunnel: &Tunnel,
    request: &Request,
    workload: &Workload,
    target: &InboundTarget,
) -> Option<Arc<ambit_model::Service>> {
    if let Some(service) = &target.service {
        return Some(Arc::clone(service));
    }
    let mesh = &tunnel.worker.mesh;
    let Some(host) = forwarded::parse_host(request.headers()) else {
        return only_service(mesh, workload);
    };
    let key = workload.services.keys().find(|key| key.hostname == host)?;
    mesh.state.find_service_by_key(key)
}

/// Headers of the 200.
fn response(tunnel: &Tunnel, about: &Connection) -> HeaderMap {
    let mut map = HeaderMap::new();
    let described = about
        .destination
        .workload
        .as_ref()
        .filter(|_| tunnel.worker.mesh.settings.baggage)
        .and_then(|workload| tunnel.pod.describe(workload));
    if let Some(value) = described {
        map.insert(headers::BAGGAGE, value);
    }
    map
}

/// Answers a stream that is not carried, and records it.
fn refuse(
    tunnel: &Tunnel,
    request: Request,
    (about, since): (Connection, Instant),
    failure: &Failure,
) {
    let answer = failure.answer();
    if let Some(kind) = answer.peer_error {
        tunnel
            .worker
            .mesh
            .metrics
            .connections
            .count_peer_error(kind);
    }
    if let Err(error) = request.refuse(answer.status, HeaderMap::new()) {
        tracing::debug!(peer = %tunnel.peer, %error, "a refused stream was gone already");
    }
    let outcome = Outcome::failed(answer.flag, Chain(failure));
    tunnel.worker.recorder.refuse(about, outcome, since);
}
