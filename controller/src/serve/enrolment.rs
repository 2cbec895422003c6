//! Which pods a node captures: a stream per node, and what the agent says became of them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use ambit_model::{NodeName, PodUid};
use ambit_proto::enrolment::enrolment_service_server::{EnrolmentService, EnrolmentServiceServer};
use ambit_proto::enrolment::{
    self as proto, EnrolmentUpdate, NodeReport, enrolment_update, node_report, pod_outcome,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::hub::{Hub, OutcomeStatus};
use crate::ca::Authenticators;
use crate::translate::EnrolledPod;

/// Updates on their way to an agent; beyond, the stream waits for it to take them.
const QUEUE: usize = 64;

/// `ambit.node.v1.EnrolmentService`.
#[derive(Clone, Debug)]
pub struct Enrolment {
    hub: Hub,
    authenticators: Authenticators,
}

impl Enrolment {
    /// Serves what the hub holds to callers these recognise, to each its own node.
    #[must_use]
    pub fn new(hub: Hub, authenticators: Authenticators) -> Self {
        Self {
            hub,
            authenticators,
        }
    }

    /// As a service to mount.
    #[must_use]
    pub fn into_server(self) -> EnrolmentServiceServer<Self> {
        EnrolmentServiceServer::new(self)
    }
}

type Updates = Pin<Box<dyn Stream<Item = Result<EnrolmentUpdate, Status>> + Send>>;

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    type EnrolStream = Updates;

    async fn enrol(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Result<Response<Updates>, Status> {
        let credentials = crate::ca::Credentials::of(&request);
        let caller = self.authenticators.caller_of(&credentials).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let stream = NodeStream {
            hub: self.hub.clone(),
            node: caller.node,
            updates: sender,
            sent: HashMap::new(),
        };
        self.hub.0.sessions.spawn(stream.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

struct NodeStream {
    hub: Hub,
    node: NodeName,
    updates: mpsc::Sender<Result<EnrolmentUpdate, Status>>,
    sent: HashMap<PodUid, Arc<EnrolledPod>>,
}

/// Why a stream ends: the agent is gone, or it is told.
enum End {
    Gone,
    Told(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Told(status)
    }
}

impl NodeStream {
    async fn run(mut self, mut reports: Streaming<NodeReport>) {
        match self.exchange(&mut reports).await {
            Ok(()) | Err(End::Gone) => {}
            Err(End::Told(status)) => {
                tracing::debug!(node = %self.node, %status, "enrolment stream ended");
                if self.updates.try_send(Err(status)).is_err() {
                    tracing::trace!(node = %self.node, "the agent was not told");
                }
            }
        }
        // What an agent that is gone said holds no longer.
        self.hub.forget_outcomes(&self.node);
    }

    async fn exchange(&mut self, reports: &mut Streaming<NodeReport>) -> Result<(), End> {
        self.greet(reports).await?;
        let mut nodes = self.hub.0.nodes.subscribe();
        let mut stopping = self.hub.0.stopping.subscribe();
        self.update(&mut nodes).await?;
        let complete = enrolment_update::Update::SnapshotComplete(proto::SnapshotComplete {});
        self.send(complete).await?;
        loop {
            tokio::select! {
                report = reports.message() => match report? {
                    Some(report) => self.note(report),
                    None => return Ok(()),
                },
                changed = nodes.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.update(&mut nodes).await?;
                }
                () = self.updates.closed() => return Ok(()),
                () = super::hub::stopped(&mut stopping) => {
                    return Err(Status::unavailable("the controller is stopping").into());
                }
            }
        }
    }

    /// The agent says first which node it is, and it must be the one its credentials are for.
    async fn greet(&self, reports: &mut Streaming<NodeReport>) -> Result<(), End> {
        let Some(report) = reports.message().await? else {
            return Err(End::Gone);
        };
        let Some(node_report::Report::Hello(hello)) = report.report else {
            return Err(Status::invalid_argument("the first report must be a hello").into());
        };
        if hello.node != self.node.as_str() {
            let node: String = hello.node.chars().take(253).collect();
            let message = format!(
                "the agent says that it is node {node:?}, but its credentials are for {:?}; give each node its own token",
                self.node.as_str()
            );
            tracing::warn!("{message}");
            return Err(Status::permission_denied(message).into());
        }
        tracing::info!(node = %self.node, version = %hello.version.escape_debug(), "node agent connected");
        Ok(())
    }

    fn note(&self, report: NodeReport) {
        let Some(node_report::Report::Outcome(outcome)) = report.report else {
            return;
        };
        let state = match outcome.state() {
            pod_outcome::State::Captured => Some("captured"),
            pod_outcome::State::Pending => Some("pending"),
            pod_outcome::State::Released => None,
            pod_outcome::State::Unknown => return,
        };
        let reason: String = outcome.reason.chars().take(512).collect();
        if state == Some("pending") {
            tracing::warn!(node = %self.node, pod = %outcome.uid.escape_debug(), reason, "a pod is not captured yet");
        }
        let outcome_status = state.map(|state| OutcomeStatus { state, reason });
        self.hub
            .note_outcome(&self.node, outcome.uid, outcome_status);
    }

    /// Sends what differs from what was sent.
    async fn update(
        &mut self,
        nodes: &mut tokio::sync::watch::Receiver<
            Arc<std::collections::BTreeMap<NodeName, crate::translate::NodeContent>>,
        >,
    ) -> Result<(), End> {
        let now: HashMap<PodUid, Arc<EnrolledPod>> = {
            let nodes = nodes.borrow_and_update();
            let pods = nodes
                .get(&self.node)
                .map(|content| content.enrolled.as_slice());
            let pods = pods.unwrap_or_default().iter();
            pods.map(|pod| (pod.uid.clone(), Arc::clone(pod))).collect()
        };
        let gone: Vec<PodUid> = self
            .sent
            .iter()
            .filter(|(uid, old)| now.get(*uid).is_none_or(|new| new.netns != old.netns))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.sent.remove(&uid);
            self.send(enrolment_update::Update::Remove(uid.to_string()))
                .await?;
        }
        let mut added: Vec<_> = now
            .into_values()
            .filter(|pod| self.sent.get(&pod.uid) != Some(pod))
            .collect();
        added.sort();
        for pod in added {
            self.send(enrolment_update::Update::Add(to_proto(&pod)))
                .await?;
            self.sent.insert(pod.uid.clone(), pod);
        }
        Ok(())
    }

    async fn send(&self, update: enrolment_update::Update) -> Result<(), End> {
        let update = EnrolmentUpdate {
            update: Some(update),
        };
        let sent =
            tokio::time::timeout(crate::limits::CLIENT_STALLED, self.updates.send(Ok(update)));
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(Status::unavailable("the agent takes no updates; connect again").into()),
        }
    }
}

fn to_proto(pod: &EnrolledPod) -> proto::EnrolledPod {
    let octets = |address: &std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec().into(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec().into(),
    };
    proto::EnrolledPod {
        uid: pod.uid.to_string(),
        name: pod.name.to_string(),
        namespace: pod.namespace.to_string(),
        service_account: pod.service_account.to_string(),
        addresses: pod.addresses.iter().map(octets).collect(),
        netns_path: pod.netns.to_string(),
        dns_capture: pod.dns_capture,
    }
}
