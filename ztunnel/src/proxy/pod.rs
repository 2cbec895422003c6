//! One pod as its connections see it: its namespace, its identity, and who discovery says it is.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use ambit_ebpf::OriginalDestinations;
use ambit_model::{Identity, Namespace, PodUid, ServiceAccount, TunnelProtocol, Workload};
use ambit_net::{Netns, canonical, redirected_from};
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::headers::baggage;
use super::{Connections, Failure, Mesh, demand, is_own_port, limits};

/// How a pod's connections come to its listeners.
#[derive(Clone, Debug)]
pub enum Redirect {
    /// Capture programs remember where outbound ones were going; inbound ones keep their address.
    /// A CNI agent's rules may be there too, and take what the programs do not see.
    Ebpf(OriginalDestinations),
    /// Netfilter rules that somebody else maintains.
    Netfilter,
    /// None: the agent's own namespace, or one whose listeners are addressed directly.
    None,
}

/// A pod whose connections are carried.
#[derive(Debug)]
pub struct Pod {
    /// Distinguishes two lives of one uid in this process.
    pub id: u64,
    /// Kubernetes uid.
    pub uid: PodUid,
    /// Pod name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Namespace,
    /// Service account.
    pub service_account: ServiceAccount,
    /// What its certificate says.
    pub identity: Arc<Identity>,
    /// Network namespace.
    pub netns: Netns,
    /// Addresses as enrolment told; may be empty.
    pub addresses: Vec<IpAddr>,
    /// How connections arrive.
    pub redirect: Redirect,
    /// The ports that tunnels may lead to; empty: any.
    pub only_ports: Vec<u16>,
    /// Live connections.
    pub connections: Arc<Connections>,
    /// No new connections.
    pub drain: CancellationToken,
    /// No connections at all.
    pub cut: CancellationToken,
    /// Everything that runs for this pod.
    pub tasks: TaskTracker,
    pub(super) enrolled_as: OnceLock<Arc<Workload>>,
    pub(super) description: Mutex<Option<(Arc<Workload>, HeaderValue)>>,
}

impl Pod {
    /// Where an accepted outbound connection was going; `None` when somebody connected to the
    /// listener itself.
    #[must_use]
    pub fn outbound_destination(&self, stream: &TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        match &self.redirect {
            Redirect::Ebpf(origins) => {
                let local = stream.local_addr().ok()?;
                let origin = origins.take(self.netns.cookie(), local, peer);
                origin.map(canonical).or_else(|| self.redirected(stream))
            }
            Redirect::Netfilter => self.redirected(stream),
            Redirect::None => None,
        }
    }

    /// Where an accepted inbound connection was going.
    #[must_use]
    pub fn inbound_destination(&self, stream: &TcpStream) -> Option<SocketAddr> {
        match &self.redirect {
            Redirect::Ebpf(_) => {
                let local = stream.local_addr().ok().map(canonical)?;
                if is_own_port(local) {
                    return self.redirected(stream);
                }
                Some(local)
            }
            Redirect::Netfilter => self.redirected(stream),
            Redirect::None => None,
        }
    }

    /// Netfilter also "knows" connections that were not redirected: they go to the listener.
    fn redirected(&self, stream: &TcpStream) -> Option<SocketAddr> {
        let local = canonical(stream.local_addr().ok()?);
        redirected_from(stream)
            .map(canonical)
            .filter(|found| *found != local)
    }

    /// The mark of connections to the application from its clients' own addresses, where capture
    /// has set up their way back.
    #[must_use]
    pub fn loopback_mark(&self) -> Option<u32> {
        matches!(self.redirect, Redirect::Ebpf(_)).then_some(ambit_ebpf::ORIGINAL_SOURCE_MARK)
    }

    /// `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// What discovery knows of the pod, if that is this pod: a predecessor of the same name has
    /// another service account or other addresses.
    #[must_use]
    pub fn find(&self, mesh: &Mesh, address: IpAddr) -> Option<Arc<Workload>> {
        let node = &mesh.settings.node;
        let found = mesh
            .state
            .find_pod(node, self.namespace.as_str(), &self.name)?;
        let same = found.service_account == self.service_account
            && (found.addresses.is_empty() || found.addresses.contains(&address));
        same.then_some(found)
    }

    /// The pod as a client. Enrolment has told who it is, so that it need not wait for discovery
    /// to have it too; but it waits for discovery to know the mesh, else every destination would
    /// look like one outside.
    ///
    /// # Errors
    /// [`Failure::LocalUnknown`] when discovery knows nothing in time.
    pub async fn as_source(&self, mesh: &Mesh, address: IpAddr) -> Result<Arc<Workload>, Failure> {
        if let Some(found) = self.find(mesh, address) {
            return Ok(found);
        }
        demand::learn(mesh, address, &self.namespace).await?;
        let mut complete = mesh.complete.clone();
        let known = tokio::time::timeout(limits::WORKLOAD_WAIT, complete.wait_for(|done| *done));
        // The sender lives as long as the agent.
        let complete = matches!(known.await, Ok(Ok(_)));
        match self.find(mesh, address) {
            Some(found) => Ok(found),
            None if complete => Ok(self.as_enrolled(mesh, address)),
            None => Err(self.unknown()),
        }
    }

    /// The pod as a destination, waited for: only discovery knows which policies select it.
    ///
    /// # Errors
    /// [`Failure::LocalUnknown`] when discovery does not know the pod in time.
    pub async fn as_destination(
        &self,
        mesh: &Mesh,
        address: IpAddr,
    ) -> Result<Arc<Workload>, Failure> {
        if let Some(found) = self.find(mesh, address) {
            return Ok(found);
        }
        demand::learn(mesh, address, &self.namespace).await?;
        let mut changes = mesh.state.changes();
        let known = tokio::time::timeout(limits::WORKLOAD_WAIT, async {
            loop {
                // Marks the present version as seen before looking, so that none is missed.
                changes.borrow_and_update();
                if let Some(found) = self.find(mesh, address) {
                    return found;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        });
        known.await.map_err(|_| self.unknown())
    }

    fn unknown(&self) -> Failure {
        Failure::LocalUnknown {
            workload: self.full_name(),
            waited: limits::WORKLOAD_WAIT,
        }
    }

    /// The pod as enrolment described it, until discovery has it.
    fn as_enrolled(&self, mesh: &Mesh, address: IpAddr) -> Arc<Workload> {
        let workload = self.enrolled_as.get_or_init(|| {
            let settings = &mesh.settings;
            let cluster = &settings.cluster;
            Arc::new(Workload {
                uid: format!("{cluster}//Pod/{}/{}", self.namespace, self.name).into(),
                name: Arc::clone(&self.name),
                namespace: self.namespace.clone(),
                service_account: self.service_account.clone(),
                trust_domain: settings.trust_domain.clone(),
                addresses: if self.addresses.is_empty() {
                    vec![address]
                } else {
                    self.addresses.clone()
                },
                network: settings.network.clone(),
                tunnel: TunnelProtocol::Hbone,
                node: settings.node.clone(),
                workload_name: Arc::clone(&self.name),
                canonical_name: Arc::clone(&self.name),
                cluster: cluster.clone(),
                ..Workload::default()
            })
        });
        Arc::clone(workload)
    }

    /// The baggage that describes `workload`, which is this pod; made once per version of it.
    #[must_use]
    pub fn describe(&self, workload: &Arc<Workload>) -> Option<HeaderValue> {
        let mut cached = self.description.lock();
        if let Some((of, value)) = &*cached
            && Arc::ptr_eq(of, workload)
        {
            return Some(value.clone());
        }
        let value = baggage::describe(workload)?;
        *cached = Some((Arc::clone(workload), value.clone()));
        Some(value)
    }
}
