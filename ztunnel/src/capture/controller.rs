//! The controller's per-node enrolment stream, as its client: says which node this is, takes a
//! snapshot and then changes, and reports what became of every pod.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use ambit_model::{NodeName, PodUid};
use ambit_proto::enrolment::enrolment_service_client::EnrolmentServiceClient;
use ambit_proto::enrolment::{
    EnrolledPod, EnrolmentUpdate, NodeHello, NodeReport, PodOutcome, enrolment_update, node_report,
    pod_outcome,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{info, warn};

use super::limits::{AUDIT, MAX_ADDRESSES, OUTCOMES, RECONNECT};
use super::{
    Backoff, Enrolled, Interception, NetnsSource, Outcome, OutcomeState, PodInfo, PodRuntime,
    Registry,
};
use crate::control::{ChannelError, Server};

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// There is no connection.
    #[error("cannot reach the controller")]
    Connect(#[from] ChannelError),
    /// The controller refused or broke off.
    #[error("the controller ended enrolment")]
    Status(#[source] Box<tonic::Status>),
    /// It ended without a reason.
    #[error("the controller closed the enrolment stream")]
    Closed,
    /// It does not take our reports: news of pods would be lost.
    #[error("the controller does not take reports")]
    Stuck,
}

impl From<tonic::Status> for StreamError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Why an enrolled pod is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPod {
    /// A field that must not be empty is.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// An address of neither 4 nor 16 bytes.
    #[error("an address has {0} bytes, expected 4 or 16")]
    Address(usize),
    /// No address, or too many.
    #[error("{0} addresses, expected 1 to {MAX_ADDRESSES}")]
    Addresses(usize),
}

/// Serves the controller until `shutdown`. Pods stay as they are at the end, so that the next
/// agent finds them captured; and while the controller is away.
pub async fn run<R: PodRuntime, I: Interception>(
    server: &Server,
    node: &NodeName,
    registry: &mut Registry<R, I>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut backoff = Backoff::new(RECONNECT);
    loop {
        let mut connected = false;
        let ended = stream(server, node, registry, shutdown.as_mut(), &mut connected).await;
        let Err(error) = ended else { return };
        if connected {
            backoff.reset();
        }
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let pause = backoff.pause();
        warn!(%error, cause, retry_in = ?pause, "enrolment interrupted");
        let end = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                () = shutdown.as_mut() => return,
                () = tokio::time::sleep_until(end) => break,
                () = registry.until_next_attempt() => {}
            }
            registry.attempt_due().await;
        }
    }
}

async fn stream<R: PodRuntime, I: Interception>(
    server: &Server,
    node: &NodeName,
    registry: &mut Registry<R, I>,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
    connected: &mut bool,
) -> Result<(), StreamError> {
    let (reports, mut updates) = tokio::select! {
        () = shutdown.as_mut() => return Ok(()),
        opened = open(server, node) => opened?,
    };
    info!(controller = server.address, "enrolment stream open");
    registry.begin_snapshot();
    // What happened while there was no stream is reported by the snapshot that follows.
    drop(registry.take_news());
    let mut audit = tokio::time::interval(AUDIT);
    audit.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.as_mut() => return Ok(()),
            update = updates.message() => {
                *connected = true;
                apply(registry, update?.ok_or(StreamError::Closed)?).await;
            }
            () = registry.until_next_attempt() => registry.attempt_due().await,
            _ = audit.tick() => registry.audit().await,
        }
        for news in registry.take_news() {
            reports
                .try_send(report(news))
                .map_err(|_| StreamError::Stuck)?;
        }
    }
}

type Opened = (mpsc::Sender<NodeReport>, tonic::Streaming<EnrolmentUpdate>);

async fn open(server: &Server, node: &NodeName) -> Result<Opened, StreamError> {
    let channel = server.connect().await?;
    let (reports, outgoing) = mpsc::channel(OUTCOMES);
    let hello = NodeReport {
        report: Some(node_report::Report::Hello(NodeHello {
            node: node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })),
    };
    reports.try_send(hello).map_err(|_| StreamError::Stuck)?;
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    server.add_headers(request.metadata_mut())?;
    let updates = EnrolmentServiceClient::new(channel)
        .enrol(request)
        .await?
        .into_inner();
    Ok((reports, updates))
}

async fn apply<R: PodRuntime, I: Interception>(
    registry: &mut Registry<R, I>,
    update: EnrolmentUpdate,
) {
    match update.update {
        Some(enrolment_update::Update::Add(pod)) => {
            let uid = PodUid::from(pod.uid.as_str());
            match enrolled(pod) {
                // Success and failure are reported as news.
                Ok(enrolled) => drop(registry.add(enrolled).await),
                Err(error) => {
                    warn!(pod = %uid, %error, "refused a pod of the controller");
                    registry.refuse(uid, error.to_string());
                }
            }
        }
        Some(enrolment_update::Update::Remove(uid)) => registry.remove(&uid.into()).await,
        Some(enrolment_update::Update::SnapshotComplete(_)) => registry.snapshot_complete().await,
        // A kind of a later controller; whatever it means, nothing here depends on it.
        None => warn!("ignored an enrolment update of an unknown kind"),
    }
}

/// The controller's word as the registry's. Public for fuzzing.
///
/// # Errors
/// See [`BadPod`].
pub fn enrolled(pod: EnrolledPod) -> Result<Enrolled, BadPod> {
    for (field, value) in [
        ("uid", &pod.uid),
        ("name", &pod.name),
        ("namespace", &pod.namespace),
        ("service_account", &pod.service_account),
    ] {
        if value.is_empty() {
            return Err(BadPod::Empty(field));
        }
    }
    if pod.addresses.is_empty() || pod.addresses.len() > MAX_ADDRESSES {
        return Err(BadPod::Addresses(pod.addresses.len()));
    }
    let mut addresses = pod
        .addresses
        .iter()
        .map(|bytes| address(bytes).ok_or(BadPod::Address(bytes.len())))
        .collect::<Result<Vec<_>, _>>()?;
    addresses.sort();
    addresses.dedup();
    Ok(Enrolled {
        uid: pod.uid.into(),
        info: PodInfo {
            name: pod.name.into(),
            namespace: pod.namespace.into(),
            service_account: pod.service_account.into(),
        },
        addresses,
        dns: pod.dns_capture,
        netns: if pod.netns_path.is_empty() {
            NetnsSource::Processes
        } else {
            NetnsSource::Path(pod.netns_path.into())
        },
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(v6).map(|address| address.to_canonical())
}

fn report(outcome: Outcome) -> NodeReport {
    let (state, reason) = match outcome.state {
        OutcomeState::Captured => (pod_outcome::State::Captured, String::new()),
        OutcomeState::Released => (pod_outcome::State::Released, String::new()),
        OutcomeState::Pending(reason) => (pod_outcome::State::Pending, reason),
    };
    let outcome = PodOutcome {
        uid: outcome.uid.to_string(),
        state: state.into(),
        reason,
    };
    NodeReport {
        report: Some(node_report::Report::Outcome(outcome)),
    }
}

#[cfg(test)]
mod tests;
