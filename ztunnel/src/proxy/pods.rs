//! The pods of this node whose connections are carried: how one's listeners are opened and served,
//! how it is stopped, and how all of them drain. Enrolment calls it; capture is not its business.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ambit_identity::Priority;
use ambit_model::{Identity, PodUid};
use ambit_net::{Hop, ListenOptions, listen};
use ambit_telemetry::{Cut, Metrics};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pod::Redirect;
use super::workers::Dealer;
use super::{Direction, INBOUND_PORT, Mesh, OUTBOUND_PORT, Pod, TUNNEL_PORT, lacks_ipv6, limits};
use crate::capture::{InboundListeners, PodRuntime, PodSpec, StartError, StartedPod, StopReason};

/// All served pods.
pub struct Pods {
    mesh: Arc<Mesh>,
    dealer: Dealer,
    redirect: Redirect,
    served: Mutex<HashMap<PodUid, Arc<Pod>>>,
    next: AtomicU64,
    drain: CancellationToken,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pods({})", self.served.lock().len())
    }
}

impl Pods {
    /// No pods yet. `redirect` says how connections come to the listeners.
    #[must_use]
    pub fn new(mesh: Arc<Mesh>, dealer: Dealer, redirect: Redirect) -> Self {
        Self {
            mesh,
            dealer,
            redirect,
            served: Mutex::default(),
            next: AtomicU64::new(1),
            drain: CancellationToken::new(),
        }
    }

    /// The agent as a workload of its own namespace: tunnel listeners and nothing else, from which
    /// only `ports` can be reached.
    ///
    /// # Errors
    /// When a listener cannot be opened.
    pub async fn start_own(
        &self,
        spec: &PodSpec,
        listen_on: &[SocketAddr],
        ports: &[u16],
    ) -> Result<(), StartError> {
        let pod = self.new_pod(spec, Redirect::None, ports)?;
        let opened = async {
            for address in listen_on {
                let Some(listener) = self.listen(&pod, Direction::InboundTunnel, *address)? else {
                    continue;
                };
                self.accept(&pod, Direction::InboundTunnel, listener)
                    .await?;
            }
            Ok(())
        };
        self.keep_if(opened.await, &pod)
    }

    fn new_pod(
        &self,
        spec: &PodSpec,
        redirect: Redirect,
        only_ports: &[u16],
    ) -> Result<Arc<Pod>, StartError> {
        if self.drain.is_cancelled() {
            return Err(StartError::ShuttingDown);
        }
        let identity = Identity::new(
            self.mesh.settings.trust_domain.clone(),
            spec.info.namespace.clone(),
            spec.info.service_account.clone(),
        );
        Ok(Arc::new(Pod {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            uid: spec.uid.clone(),
            name: Arc::clone(&spec.info.name),
            namespace: spec.info.namespace.clone(),
            service_account: spec.info.service_account.clone(),
            identity: Arc::new(identity),
            netns: spec.netns.clone(),
            addresses: spec.addresses.clone(),
            redirect,
            only_ports: only_ports.to_vec(),
            connections: Arc::default(),
            drain: self.drain.child_token(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            enrolled_as: OnceLock::new(),
            description: Mutex::default(),
        }))
    }

    /// Opens all listeners, hands them to workers, and returns copies of those for inbound ones.
    async fn open_listeners(&self, pod: &Arc<Pod>) -> Result<InboundListeners, StartError> {
        let mut inbound = InboundListeners::default();
        for direction in [
            Direction::Outbound,
            Direction::InboundPlaintext,
            Direction::InboundTunnel,
        ] {
            for host in self.wildcards() {
                let address = SocketAddr::new(host, port_of(direction));
                let Some(listener) = self.listen(pod, direction, address)? else {
                    continue;
                };
                if direction == Direction::InboundPlaintext {
                    let copy = listener.try_clone().map_err(|e| listen_error(address, e))?;
                    let place = if host.is_ipv6() {
                        &mut inbound.v6
                    } else {
                        &mut inbound.v4
                    };
                    *place = Some(copy.into());
                }
                self.accept(pod, direction, listener).await?;
            }
        }
        Ok(inbound)
    }

    fn wildcards(&self) -> impl Iterator<Item = IpAddr> {
        let six = self
            .mesh
            .settings
            .ipv6
            .then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        std::iter::once(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).chain(six)
    }

    /// A listener; `None` for IPv6 where the namespace has none.
    fn listen(
        &self,
        pod: &Pod,
        direction: Direction,
        address: SocketAddr,
    ) -> Result<Option<TcpListener>, StartError> {
        let hop = match direction {
            Direction::Outbound => Hop::Loopback,
            Direction::InboundPlaintext | Direction::InboundTunnel => Hop::Network,
        };
        let transparent = direction == Direction::InboundPlaintext;
        let options = ListenOptions { hop, transparent };
        match listen(&pod.netns, address, options, &self.mesh.settings.sockets) {
            Ok(listener) => Ok(Some(listener)),
            Err(error) if lacks_ipv6(address, &error) => {
                tracing::debug!(pod = %pod.full_name(), %address, %error, "no IPv6 here");
                Ok(None)
            }
            Err(source) => Err(listen_error(address, source)),
        }
    }

    async fn accept(
        &self,
        pod: &Arc<Pod>,
        direction: Direction,
        listener: TcpListener,
    ) -> Result<(), StartError> {
        let started = self.dealer.accept(pod, direction, listener).await;
        started.map_err(|_| StartError::ShuttingDown)
    }

    /// Counts the pod as served, or takes back what was begun.
    fn keep_if<T>(&self, outcome: Result<T, StartError>, pod: &Arc<Pod>) -> Result<T, StartError> {
        if outcome.is_err() {
            pod.drain.cancel();
            pod.cut.cancel();
            return outcome;
        }
        self.mesh
            .certificates
            .request(&pod.identity, Priority::Warmup);
        self.served.lock().insert(pod.uid.clone(), Arc::clone(pod));
        outcome
    }

    /// The agent's counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.mesh.metrics
    }

    /// Served pods, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Pod>> {
        let mut pods: Vec<_> = self.served.lock().values().cloned().collect();
        pods.sort_unstable_by_key(|pod| pod.id);
        pods
    }

    /// Ends the data path: no new connections, GOAWAY on tunnels, then waits for what is open until
    /// the deadline, and cuts the rest. Capture stays in force. Returns how many were cut.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.drain.cancel();
        let pods = self.list();
        if tokio::time::timeout(deadline, ended(&pods)).await.is_ok() {
            return 0;
        }
        let mut cut = 0;
        for pod in &pods {
            cut += pod.connections.cut_all(Cut::Drain);
            pod.cut.cancel();
        }
        if tokio::time::timeout(limits::CUT_WAIT, ended(&pods))
            .await
            .is_err()
        {
            tracing::warn!("some connections did not end after they were cut");
        }
        cut
    }
}

/// Waits until nothing runs for any of the pods.
async fn ended(pods: &[Arc<Pod>]) {
    for pod in pods {
        pod.tasks.close();
        pod.tasks.wait().await;
    }
}

impl PodRuntime for Pods {
    async fn start(&self, spec: Arc<PodSpec>) -> Result<StartedPod, StartError> {
        let pod = self.new_pod(&spec, self.redirect.clone(), &[])?;
        let opened = self.open_listeners(&pod).await;
        let inbound = self.keep_if(opened, &pod)?;
        Ok(StartedPod { inbound })
    }

    /// At once: listeners, connections and tunnels. The namespace may be gone already.
    async fn stop(&self, uid: &PodUid, reason: StopReason) {
        let Some(pod) = self.served.lock().remove(uid) else {
            return;
        };
        pod.drain.cancel();
        let cut = pod.connections.cut_all(Cut::Released);
        pod.cut.cancel();
        self.dealer.forget(pod.id).await;
        let used = self
            .served
            .lock()
            .values()
            .any(|other| other.identity == pod.identity);
        if !used {
            self.mesh.certificates.forget(&pod.identity);
        }
        tracing::debug!(pod = %pod.full_name(), ?reason, cut, "pod stopped");
        pod.tasks.close();
        let ended = tokio::time::timeout(limits::CUT_WAIT, pod.tasks.wait()).await;
        if ended.is_err() {
            tracing::warn!(pod = %pod.full_name(), "some connections did not end after they were cut");
        }
    }
}

fn port_of(direction: Direction) -> u16 {
    match direction {
        Direction::Outbound => OUTBOUND_PORT,
        Direction::InboundPlaintext => INBOUND_PORT,
        Direction::InboundTunnel => TUNNEL_PORT,
    }
}

fn listen_error(address: SocketAddr, source: io::Error) -> StartError {
    StartError::Listen {
        port: address.port(),
        source,
    }
}
