//! A tunnel that arrived at a pod: TLS with the pod's certificate, then one task per stream. The
//! tunnel ends when its peer closes it, the pod goes, or its certificate is revoked; while the agent
//! drains, it announces that and lives as long as its streams.

mod stream;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ambit_hbone::Request;
use ambit_identity::{PeerError, peer_identity};
use ambit_model::Identity;
use ambit_telemetry::{Connection, Cut, Outcome, Party, Reporter, ResponseFlag, Security};
use tokio::net::TcpStream;

use super::failure::Chain;
use super::workers::{Arrival, Load, Worker};
use super::{Failure, Pod, dial};

/// Numbers tunnels, so that all streams of one can be cut.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What the streams of a tunnel share.
pub(super) struct Tunnel {
    pub(super) worker: Rc<Worker>,
    pub(super) pod: Arc<Pod>,
    /// Distinguishes tunnels of the process.
    pub(super) id: u64,
    /// Who opened it.
    pub(super) peer: SocketAddr,
    /// Who they have proved to be.
    pub(super) identity: Arc<Identity>,
    /// The address they connected to.
    pub(super) local: SocketAddr,
    load: Load,
}

type Inner = ambit_hbone::Connection<TcpStream>;

/// Carries one tunnel with all its streams.
pub async fn serve(worker: Rc<Worker>, arrival: Arrival) {
    let Arrival {
        pod,
        stream,
        peer,
        load,
        ..
    } = arrival;
    let since = Instant::now();
    // Without an address the connection is gone already, which accepting will tell.
    let local = stream.local_addr().map_or(peer, ambit_net::canonical);
    let accepted = tokio::select! {
        biased;
        () = pod.cut.cancelled() => return,
        // Boxed: the handshake's memory is given back before streams come.
        accepted = Box::pin(accept(&worker, &pod, stream)) => accepted,
    };
    let (inner, identity) = match accepted {
        Ok(parts) => parts,
        Err(failure) => return report(&worker, &pod, (peer, local), since, &failure),
    };
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let tunnel = Rc::new(Tunnel {
        worker,
        pod,
        id,
        peer,
        identity: Arc::new(identity),
        local,
        load,
    });
    drive(&tunnel, inner).await;
}

/// Certificate, TLS, HTTP/2, and who the peer is.
async fn accept(
    worker: &Worker,
    pod: &Pod,
    stream: std::net::TcpStream,
) -> Result<(Inner, Identity), Failure> {
    let settings = &worker.mesh.settings.tunnel;
    let lost = |error: std::io::Error| Failure::PeerTunnel(error.into());
    let stream = TcpStream::from_std(stream).map_err(lost)?;
    let certificate = dial::certificate(&worker.mesh, &pod.identity)
        .await
        .map_err(Failure::LocalCertificate)?;
    let tls = ambit_hbone::tls::accept(
        stream,
        certificate.server_config(),
        settings.handshake_timeout,
    )
    .await
    .map_err(|error| match PeerError::find(&error) {
        Some(refused) => Failure::PeerIdentity(refused),
        None => Failure::PeerTunnel(error),
    })?;
    let identity = peer_identity(tls.peer_certificates()).map_err(Failure::PeerIdentity)?;
    let inner = Inner::accept(tls, settings)
        .await
        .map_err(Failure::PeerTunnel)?;
    Ok((inner, identity))
}

/// Takes requests until the tunnel ends.
async fn drive(tunnel: &Rc<Tunnel>, mut inner: Inner) {
    let pod = &tunnel.pod;
    let trust = Arc::clone(tunnel.worker.mesh.certificates.tls().trust());
    let mut trust_changes = trust.changes();
    let mut cut = std::pin::pin!(pod.cut.cancelled());
    let mut drain = std::pin::pin!(pod.drain.cancelled());
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            () = &mut cut => return,
            () = &mut drain, if !draining => {
                draining = true;
                inner.drain();
            }
            Ok(()) = trust_changes.changed() => {
                if trust.revoked(inner.peer_certificates()) {
                    return revoke(tunnel);
                }
            }
            request = inner.next() => match request {
                Ok(Some(request)) => begin(tunnel, request),
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(peer = %tunnel.peer, error = %Chain(&error), "tunnel ended");
                    return;
                }
            },
        }
    }
}

/// Starts the task of one stream; the pod's tracker owns it.
fn begin(tunnel: &Rc<Tunnel>, request: Request) {
    let tasks = &tunnel.pod.tasks;
    let load = tunnel.load.another();
    let task = stream::serve(Rc::clone(tunnel), request, load);
    drop(tokio::task::spawn_local(tasks.track_future(task)));
}

/// Cuts all streams of a tunnel whose peer's certificate was revoked; dropping it closes it.
fn revoke(tunnel: &Tunnel) {
    let cut = tunnel
        .pod
        .connections
        .cut_where(Cut::Revoked, |live| live.tunnel == Some(tunnel.id));
    tracing::warn!(peer = %tunnel.peer, identity = %tunnel.identity, cut, "the peer's certificate was revoked");
}

/// One record for a tunnel that was not established.
fn report(
    worker: &Worker,
    pod: &Arc<Pod>,
    (peer, local): (SocketAddr, SocketAddr),
    since: Instant,
    failure: &Failure,
) {
    let answer = failure.answer();
    let metrics = &worker.mesh.metrics.connections;
    if let Some(kind) = answer.peer_error {
        metrics.count_peer_error(kind);
    }
    if answer.flag == ResponseFlag::CertRevoked {
        metrics.count_crl_rejection(Reporter::Destination);
    }
    let about = Connection {
        reporter: Reporter::Destination,
        security: Security::Unknown,
        source: Party::default(),
        source_address: peer,
        destination: Party {
            workload: pod.find(&worker.mesh, local.ip()),
            declared: None,
            identity: Some(Arc::clone(&pod.identity)),
        },
        destination_address: local,
        tunnel: None,
        service: None,
    };
    let outcome = Outcome::failed(answer.flag, Chain(failure));
    worker.recorder.refuse(about, outcome, since);
}

/// What the task of one stream holds, in bytes.
#[cfg(test)]
pub(super) fn stream_size() -> usize {
    fn size<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }
    size(stream::serve)
}
