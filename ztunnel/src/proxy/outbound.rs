//! A captured connection of a pod's application: where was it going, who is asking, which way, then
//! dial (another endpoint when one refuses) and copy.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ambit_model::{Identity, Workload, WorkloadUid};
use ambit_net::copy::TcpEnd;
use ambit_state::{Authority, Hop, ResolveRequest, Upstream};
use ambit_telemetry::{Connection, Outcome, Party, Reporter, Security, TunnelTarget};
use smallvec::SmallVec;
use tokio::net::TcpStream;

use super::demand;
use super::dial::{self, Call, Dialled, Remote};
use super::failure::Chain;
use super::relay::{relay, reset};
use super::workers::{Arrival, Worker};
use super::{Direction, Failure, Live, Mesh, Pod, is_own_port};

/// Carries one connection.
pub async fn serve(worker: Rc<Worker>, arrival: Arrival) {
    let Arrival {
        pod,
        stream,
        peer,
        load: _load,
        ..
    } = arrival;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "an accepted connection was lost");
            return;
        }
    };
    let (mut about, since) = (Box::new(unknown(&pod, peer)), Instant::now());
    // Boxed: what opening needs (a TLS handshake, at worst) is given back before bytes flow.
    match Box::pin(open(&worker, &pod, &stream, &mut about)).await {
        Ok((remote, live)) => {
            let ticket = pod.connections.register(live);
            let record = worker.recorder.open(*about);
            let client = TcpEnd::new(stream);
            match remote {
                Remote::Plain(server) => relay(client, server, record, ticket).await,
                Remote::Tunnel(server) => relay(client, *server, record, ticket).await,
                Remote::Nested(server) => Box::pin(relay(client, *server, record, ticket)).await,
            }
        }
        Err(failure) => {
            reset(stream);
            if let Failure::SelfCall(to) = failure {
                about.destination_address = to;
            }
            let outcome = Outcome::failed(failure.answer().flag, Chain(&failure));
            worker.recorder.refuse(*about, outcome, since);
        }
    }
}

/// What is known of a connection before anything is looked up.
fn unknown(pod: &Pod, peer: SocketAddr) -> Connection {
    Connection {
        reporter: Reporter::Source,
        security: Security::Unknown,
        source: Party {
            identity: Some(Arc::clone(&pod.identity)),
            ..Party::default()
        },
        source_address: peer,
        destination: Party::default(),
        destination_address: peer,
        tunnel: None,
        service: None,
    }
}

/// Everything before the first copied byte. What is found out on the way is noted in `about`.
async fn open(
    worker: &Worker,
    pod: &Arc<Pod>,
    stream: &TcpStream,
    about: &mut Connection,
) -> Result<(Remote, Live), Failure> {
    let source = about.source_address;
    let destination = destination(pod, stream, source)?;
    about.destination_address = destination;
    let workload = pod.as_source(&worker.mesh, source.ip()).await?;
    about.source.workload = Some(Arc::clone(&workload));
    demand::learn(&worker.mesh, destination.ip(), &pod.namespace).await?;
    let dialled = dial(worker, pod, &workload, destination, about).await?;
    about.destination.declared = dialled.declared.map(Arc::new);
    let live = Live {
        direction: Direction::Outbound,
        source,
        destination,
        via: (dialled.to != destination).then_some(dialled.to),
        peer: about.destination.identity.clone(),
        tunnel: None,
        since: SystemTime::now(),
    };
    Ok((dialled.remote, live))
}

/// Where the application wanted to go; not to the agent itself.
fn destination(pod: &Pod, stream: &TcpStream, source: SocketAddr) -> Result<SocketAddr, Failure> {
    let Some(destination) = pod.outbound_destination(stream, source) else {
        let local = stream.local_addr().map_or(source, ambit_net::canonical);
        return Err(Failure::SelfCall(local));
    };
    // The application's address is one of the pod's: a connection to it stays in the pod.
    if destination.ip() == source.ip() && is_own_port(destination) {
        return Err(Failure::SelfCall(destination));
    }
    Ok(destination)
}

/// Resolves and dials, trying other endpoints as long as a failure says that this may help.
async fn dial(
    worker: &Worker,
    pod: &Arc<Pod>,
    workload: &Arc<Workload>,
    destination: SocketAddr,
    about: &mut Connection,
) -> Result<Dialled, Failure> {
    let mesh = &worker.mesh;
    let source = about.source_address;
    let mut tried: SmallVec<[WorkloadUid; 4]> = SmallVec::new();
    let mut last = None;
    loop {
        let request = ResolveRequest {
            source: workload,
            source_ip: source.ip(),
            destination,
            exclude: &tried,
            now: Instant::now(),
        };
        let upstream = match mesh.state.resolve(&request, &mut rand::rng()) {
            Ok(upstream) => upstream,
            // With all endpoints tried, the last one's failure says more than "none left".
            Err(none) => return Err(last.unwrap_or(Failure::NoRoute(none))),
        };
        note(about, &upstream);
        let call = Call {
            pod,
            workload,
            source,
            from: source.ip(),
            service: upstream
                .destination_service
                .as_ref()
                .map(|service| &service.hostname),
        };
        let failure = match dial::open(worker, &call, &upstream.hop).await {
            Ok(dialled) => {
                if let Some(endpoint) = &upstream.endpoint {
                    mesh.state.outliers().succeeded(endpoint);
                }
                return Ok(dialled);
            }
            Err(failure) => failure,
        };
        let Some(next) = endpoint_failed(mesh, &upstream, &failure) else {
            return Err(failure);
        };
        tried.push(next);
        if tried.len() >= mesh.settings.connect_attempts as usize {
            return Err(failure);
        }
        mesh.metrics.connections.connect_retries.inc();
        tracing::debug!(error = %Chain(&failure), %destination, "trying another endpoint");
        last = Some(failure);
    }
}

/// Remembers that an endpoint refused; returns what to leave out in the next try, if there is one.
fn endpoint_failed(mesh: &Mesh, upstream: &Upstream, failure: &Failure) -> Option<WorkloadUid> {
    let endpoint = upstream.endpoint.as_ref()?;
    if !failure.answer().retry {
        return None;
    }
    let (outliers, now) = (mesh.state.outliers(), Instant::now());
    let was_out = outliers.is_out(endpoint, now);
    outliers.refused(endpoint, now);
    if !was_out && outliers.is_out(endpoint, now) {
        mesh.metrics.connections.endpoints_ejected.inc();
    }
    Some(endpoint.workload.clone())
}

/// Notes where a connection is about to go.
fn note(about: &mut Connection, upstream: &Upstream) {
    about.service.clone_from(&upstream.destination_service);
    about.destination.workload.clone_from(&upstream.workload);
    about.destination.identity = None;
    about.tunnel = None;
    about.security = Security::Unknown;
    let (to, authority, expected) = match &upstream.hop {
        Hop::Passthrough { to } | Hop::Direct { to } => {
            about.destination_address = *to;
            return;
        }
        Hop::Hostname(_) => return,
        Hop::Hbone {
            gateway,
            authority,
            expected,
        }
        | Hop::Waypoint {
            gateway,
            authority,
            expected,
        }
        | Hop::DoubleHbone {
            gateway,
            authority,
            expected,
            ..
        } => (gateway, authority, expected),
    };
    about.destination_address = *to;
    about.tunnel = Some(target(authority));
    about.security = Security::MutualTls;
    about.destination.identity = answering(upstream, expected);
}

/// Who is going to answer: the endpoint's own identity, unless the hop expects others.
fn answering(upstream: &Upstream, expected: &[Identity]) -> Option<Arc<Identity>> {
    let own = upstream
        .workload
        .as_ref()
        .map(|workload| workload.identity());
    match (own, expected) {
        (Some(own), expected) if expected.contains(&own) => Some(Arc::new(own)),
        (_, [only]) => Some(Arc::new(only.clone())),
        _ => None,
    }
}

/// The authority as the log writes it.
pub(super) fn target(authority: &Authority) -> TunnelTarget {
    match authority {
        Authority::Address(address) => TunnelTarget::Address(*address),
        Authority::Hostname { hostname, port } => TunnelTarget::Hostname(hostname.clone(), *port),
    }
}
