//! The CNI agent's hand-over of pods (ZDS), as its client: dials the agent's socket, says hello,
//! and answers one request after the other, each once it is in effect. Survives whatever the other
//! side sends: a message that makes no sense is answered with an error, never with the end.

pub mod message;
mod socket;

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use ambit_model::PodUid;
use ambit_net::Netns;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::limits::RECONNECT;
use super::{Backoff, Enrolled, Interception, NetnsSource, PodRuntime, Registry};
use message::{Malformed, Request};
pub use socket::{Received, Socket};

/// How long the agent may take to take an acknowledgement off its queue.
const SEND_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a connection to the CNI agent ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The socket is not there, or nobody listens.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The agent closed it.
    #[error("the CNI agent closed the connection")]
    Closed,
    /// The agent does not take our answers.
    #[error("the CNI agent does not take our answers")]
    Stuck,
}

/// Serves the CNI agent at `path`, over as many connections as it takes, until `shutdown`. Pods
/// stay as they are at the end, so that the next agent finds them captured.
pub async fn run<R: PodRuntime, I: Interception>(
    path: &Path,
    registry: &mut Registry<R, I>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut backoff = Backoff::new(RECONNECT);
    let mut unreachable = false;
    loop {
        // A session that was given a request counts as a success.
        let (end, served) = session(path, registry, shutdown.as_mut()).await;
        let Err(error) = end else { return };
        if served {
            backoff.reset();
        }
        match &error {
            SessionError::Connect(source) if unreachable => {
                debug!(socket = %path.display(), error = %source, "CNI agent still unreachable");
            }
            SessionError::Connect(source) => {
                warn!(socket = %path.display(), error = %source, "CNI agent unreachable, trying on");
            }
            other => info!(error = %other, "CNI agent connection ended, connecting again"),
        }
        unreachable = matches!(error, SessionError::Connect(_));
        let pause = backoff.pause();
        if ends_first(registry, pause, shutdown.as_mut()).await {
            return;
        }
    }
}

/// Waits, tending pending pods; `true` when the shutdown came first. A start under way is finished.
async fn ends_first<R: PodRuntime, I: Interception>(
    registry: &mut Registry<R, I>,
    pause: std::time::Duration,
    mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> bool {
    let end = tokio::time::Instant::now() + pause;
    loop {
        tokio::select! {
            () = shutdown.as_mut() => return true,
            () = tokio::time::sleep_until(end) => return false,
            () = registry.until_next_attempt() => {}
        }
        registry.attempt_due().await;
    }
}

/// One connection. The flag says whether a request was served.
async fn session<R: PodRuntime, I: Interception>(
    path: &Path,
    registry: &mut Registry<R, I>,
    mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> (Result<(), SessionError>, bool) {
    let socket = match Socket::connect(path).map_err(SessionError::Connect) {
        Ok(socket) => socket,
        Err(error) => return (Err(error), false),
    };
    if let Err(error) = send(&socket, &message::hello()).await {
        return (Err(error), false);
    }
    info!(socket = %path.display(), "connected to the CNI agent");
    registry.begin_snapshot();
    let mut served = false;
    loop {
        let received = tokio::select! {
            () = shutdown.as_mut() => return (Ok(()), served),
            received = socket.receive() => received,
            () = registry.until_next_attempt() => {
                registry.attempt_due().await;
                continue;
            }
        };
        let received = match received {
            Ok(Some(received)) => received,
            Ok(None) => return (Err(SessionError::Closed), served),
            Err(error) => return (Err(SessionError::Broken(error)), served),
        };
        let answer = answer(registry, received).await;
        // Only the controller asks for news; they would pile up here.
        drop(registry.take_news());
        served |= answer.is_ok();
        if let Err(error) = send(&socket, &message::ack(answer.err().as_deref())).await {
            return (Err(error), served);
        }
    }
}

async fn send(socket: &Socket, bytes: &[u8]) -> Result<(), SessionError> {
    match timeout(SEND_TIMEOUT, socket.send(bytes)).await {
        Ok(sent) => sent.map_err(SessionError::Broken),
        Err(_) => Err(SessionError::Stuck),
    }
}

/// Carries a request out and says what went wrong.
async fn answer<R: PodRuntime, I: Interception>(
    registry: &mut Registry<R, I>,
    received: Received,
) -> Result<(), String> {
    let request = received.request().map_err(|malformed| {
        warn!(error = %malformed, "refused a message of the CNI agent");
        malformed.to_string()
    })?;
    match request {
        Request::Add { uid, info } => {
            let enrolled = enrolled(uid, info, received.descriptors)?;
            registry.add(enrolled).await.map_err(|error| error.reason())
        }
        Request::Keep { uid } => registry.keep(&uid).map_err(|error| {
            warn!(pod = %uid, %error, "cannot keep the pod");
            error.reason()
        }),
        Request::Remove { uid } => {
            registry.remove(&uid).await;
            Ok(())
        }
        Request::SnapshotSent => {
            registry.snapshot_complete().await;
            Ok(())
        }
    }
}

fn enrolled(
    uid: PodUid,
    info: super::PodInfo,
    mut descriptors: Vec<OwnedFd>,
) -> Result<Enrolled, String> {
    let (Some(fd), None) = (descriptors.pop(), descriptors.pop()) else {
        return Err(Malformed::Descriptors(0).to_string());
    };
    let netns = Netns::from_fd(fd).map_err(|error| {
        warn!(pod = %uid, %error, "the CNI agent handed over something else than a network namespace");
        error.to_string()
    })?;
    Ok(Enrolled {
        uid,
        info,
        addresses: Vec::new(),
        dns: true,
        netns: NetnsSource::Given(netns),
    })
}

#[cfg(test)]
mod tests;
