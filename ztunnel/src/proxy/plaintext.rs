//! A connection that arrived in clear at a pod: policy without an identity, then the application.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ambit_net::copy::TcpEnd;
use ambit_net::{ConnectError, Hop as Leg, Source, connect};
use ambit_telemetry::{Connection, Outcome, Party, Reporter, Security};
use tokio::net::TcpStream;

use super::connections::Ticket;
use super::failure::Chain;
use super::relay::{relay, reset};
use super::workers::{Arrival, Worker};
use super::{Direction, Failure, Live, Mesh, Pod, authorize::authorize, is_own_port};
use crate::config::OriginalSource;

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
    let since = Instant::now();
    let mut about = Box::new(Connection {
        reporter: Reporter::Destination,
        security: Security::Unknown,
        source: Party::default(),
        source_address: peer,
        destination: Party {
            identity: Some(Arc::clone(&pod.identity)),
            ..Party::default()
        },
        destination_address: peer,
        tunnel: None,
        service: None,
    });
    match open(&worker.mesh, &pod, &stream, &mut about).await {
        Ok((application, ticket)) => {
            let record = worker.recorder.open(*about);
            relay(
                TcpEnd::new(stream),
                TcpEnd::new(application),
                record,
                ticket,
            )
            .await;
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

/// Everything before the first copied byte.
async fn open(
    mesh: &Mesh,
    pod: &Arc<Pod>,
    stream: &TcpStream,
    about: &mut Connection,
) -> Result<(TcpStream, Ticket), Failure> {
    let source = about.source_address;
    let Some(destination) = pod
        .inbound_destination(stream)
        .filter(|to| !is_own_port(*to))
    else {
        let local = stream.local_addr().map_or(source, ambit_net::canonical);
        return Err(Failure::SelfCall(local));
    };
    about.destination_address = destination;
    let workload = pod.as_destination(mesh, destination.ip()).await?;
    about.destination.workload = Some(Arc::clone(&workload));
    about.source.workload = source_workload(mesh, source);
    about.service = only_service(mesh, &workload);
    let live = Live {
        direction: Direction::InboundPlaintext,
        source,
        destination,
        via: None,
        peer: None,
        tunnel: None,
        since: SystemTime::now(),
    };
    // Before the check: a policy that comes after it finds the connection registered.
    let ticket = pod.connections.register(live.clone());
    authorize(mesh, &workload, &live)?;
    let application = to_application(mesh, pod, destination, Some(source.ip())).await?;
    Ok((application, ticket))
}

/// What discovery knows of a client's address; for reports only.
fn source_workload(mesh: &Mesh, source: SocketAddr) -> Option<Arc<ambit_model::Workload>> {
    mesh.state.find_workload(&ambit_model::NetworkAddress {
        network: mesh.settings.network.clone(),
        address: source.ip(),
    })
}

/// The service of a workload that is an endpoint of only one: where the client did not tell which
/// it asked for, that is the best guess.
pub(super) fn only_service(
    mesh: &Mesh,
    workload: &ambit_model::Workload,
) -> Option<Arc<ambit_model::Service>> {
    if workload.services.len() != 1 {
        return None;
    }
    mesh.state.services_of(workload).into_iter().next()
}

/// Connects to the application, from the client's address where that is wanted and possible.
pub(super) async fn to_application(
    mesh: &Mesh,
    pod: &Pod,
    to: SocketAddr,
    client: Option<std::net::IpAddr>,
) -> Result<TcpStream, Failure> {
    let sockets = &mesh.settings.sockets;
    let wanted = mesh.settings.original_source;
    let client = client.filter(|client| {
        wanted != OriginalSource::Off && client.is_ipv4() == to.is_ipv4() && !client.is_loopback()
    });
    let failed = |source| Failure::UpstreamConnect {
        to,
        source: Arc::new(source),
    };
    if let Some(client) = client {
        let source = Source::Original {
            address: client,
            loopback_mark: pod.loopback_mark(),
        };
        match connect(&pod.netns, to, source, Leg::Loopback, sockets).await {
            // Without the privilege the application sees the agent, as its operator chose.
            Err(ConnectError::Local(_)) if wanted == OriginalSource::Auto => {}
            outcome => return outcome.map_err(failed),
        }
    }
    connect(&pod.netns, to, Source::Any, Leg::Loopback, sockets)
        .await
        .map_err(failed)
}
