//! A pod as the data path needs to know it, and the interface by which enrolment starts and stops it.

use std::future::Future;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ambit_model::{Namespace, PodUid, ServiceAccount};
use ambit_net::Netns;
use serde::Serialize;

/// Whose pod it is: what its identity is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodInfo {
    /// Pod name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Namespace,
    /// Service account.
    pub service_account: ServiceAccount,
}

/// A pod to serve.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Kubernetes uid.
    pub uid: PodUid,
    /// Whose pod it is.
    pub info: PodInfo,
    /// Its network namespace.
    pub netns: Netns,
    /// Its addresses, canonical, as far as known.
    pub addresses: Vec<IpAddr>,
    /// Its DNS queries are steered to the agent.
    pub dns: bool,
}

/// The listeners for captured inbound connections (port 15006), as descriptors of their own, for
/// the capture programs to hand connections to.
#[derive(Debug, Default)]
pub struct InboundListeners {
    /// IPv4.
    pub v4: Option<OwnedFd>,
    /// IPv6.
    pub v6: Option<OwnedFd>,
}

impl InboundListeners {
    /// Borrowed, as the capture programs want them.
    #[must_use]
    pub fn borrow(&self) -> ambit_ebpf::Listeners<'_> {
        ambit_ebpf::Listeners {
            v4: self.v4.as_ref().map(AsFd::as_fd),
            v6: self.v6.as_ref().map(AsFd::as_fd),
        }
    }
}

/// A pod that is being served: its listeners accept.
#[derive(Debug, Default)]
pub struct StartedPod {
    /// Where captured inbound connections go.
    pub inbound: InboundListeners,
}

/// Why a pod is no longer served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It left the mesh or the node. Its connections are to be ended at once: with a deleted pod the
    /// interface is already gone.
    Removed,
    /// The same pod has a new network namespace (or another identity); a new start follows.
    Replaced,
    /// Starting it failed half-way.
    Failed,
}

/// Why a pod could not be started; tried again later.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened in the pod's namespace.
    #[error("cannot listen on port {port} in the pod")]
    Listen {
        /// The port.
        port: u16,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    ShuttingDown,
    /// It took longer than [`START_TIMEOUT`](super::limits::START_TIMEOUT).
    #[error("starting took too long")]
    Timeout,
}

/// Serves pods: the proxy, and the DNS server, each implement it.
pub trait PodRuntime: Send + Sync + 'static {
    /// Opens the pod's listeners and serves them. Returns once they accept. Never called for a pod
    /// that is being served.
    fn start(
        &self,
        pod: Arc<PodSpec>,
    ) -> impl Future<Output = Result<StartedPod, StartError>> + Send;

    /// Ends what [`start`](Self::start) began, and returns when the listeners are closed.
    fn stop(&self, uid: &PodUid, reason: StopReason) -> impl Future<Output = ()> + Send;
}

/// Two runtimes as one: both start or none, and the first one's listeners count.
impl<A: PodRuntime, B: PodRuntime> PodRuntime for (A, B) {
    async fn start(&self, pod: Arc<PodSpec>) -> Result<StartedPod, StartError> {
        let started = self.0.start(Arc::clone(&pod)).await?;
        if let Err(error) = self.1.start(Arc::clone(&pod)).await {
            self.0.stop(&pod.uid, StopReason::Failed).await;
            return Err(error);
        }
        Ok(started)
    }

    async fn stop(&self, uid: &PodUid, reason: StopReason) {
        self.1.stop(uid, reason).await;
        self.0.stop(uid, reason).await;
    }
}

impl<A: PodRuntime> PodRuntime for Option<A> {
    async fn start(&self, pod: Arc<PodSpec>) -> Result<StartedPod, StartError> {
        match self {
            Some(runtime) => runtime.start(pod).await,
            None => Ok(StartedPod::default()),
        }
    }

    async fn stop(&self, uid: &PodUid, reason: StopReason) {
        if let Some(runtime) = self {
            runtime.stop(uid, reason).await;
        }
    }
}

impl<A: PodRuntime> PodRuntime for Arc<A> {
    async fn start(&self, pod: Arc<PodSpec>) -> Result<StartedPod, StartError> {
        A::start(self, pod).await
    }

    async fn stop(&self, uid: &PodUid, reason: StopReason) {
        A::stop(self, uid, reason).await;
    }
}
