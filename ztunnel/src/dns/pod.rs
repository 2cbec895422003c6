//! One pod's resolver: its configuration, its bounds, and the way of a query from bytes to bytes.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_model::Workload;
use ambit_net::{Hop, ListenOptions};
use ambit_state::Reader;
use ambit_telemetry::{DnsSource, Metrics, log_dns};
use hickory_proto::op::ResponseCode;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::Settings;
use super::answer::{self, Asker};
use super::forward::{self, Origin};
use super::limits::{IN_FLIGHT, RESOLV_CONF_AGE};
use super::message::{self, NotAQuery, Query, Transport};
use super::resolv_conf::ResolvConf;
use super::{tcp, udp};
use crate::capture::{PodSpec, StartError};

/// What all pods share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    pub(super) state: Reader,
    pub(super) metrics: Arc<Metrics>,
}

/// See the module.
pub(super) struct PodDns {
    pub(super) spec: Arc<PodSpec>,
    shared: Shared,
    /// When it was read, and what. Locked while it is read, so that one query does it for all.
    conf: Mutex<Option<(Instant, Arc<ResolvConf>)>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stopped: CancellationToken,
}

impl PodDns {
    /// Opens the sockets in the pod and serves them. All of IPv4's must open; IPv6 may be off.
    pub(super) fn start(shared: Shared, spec: Arc<PodSpec>) -> Result<Arc<Self>, StartError> {
        let pod = Arc::new(Self {
            spec,
            shared,
            conf: Mutex::new(None),
            places: Arc::new(Semaphore::new(IN_FLIGHT)),
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
        });
        for address in pod.addresses() {
            let opened = pod.open(address);
            match opened {
                Ok(()) => {}
                Err(error) if address.is_ipv6() => {
                    debug!(pod = %pod.spec.uid, %address, %error, "no DNS on this IPv6 address");
                }
                Err(source) => {
                    pod.stopped.cancel();
                    return Err(StartError::Listen {
                        port: address.port(),
                        source,
                    });
                }
            }
        }
        Ok(pod)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let settings = &self.shared.settings;
        let mut all = settings.bind.addresses(settings.ipv6);
        if settings.on_pod_addresses {
            // Not the configured port: the programs know this one.
            let port = ambit_ebpf::DNS_PROXY_PORT;
            let own = self
                .spec
                .addresses
                .iter()
                .map(|ip| SocketAddr::new(*ip, port));
            all.extend(own.filter(|address| settings.ipv6 || address.is_ipv4()));
        }
        all
    }

    fn open(self: &Arc<Self>, address: SocketAddr) -> io::Result<()> {
        let (netns, sockets) = (&self.spec.netns, &self.shared.settings.sockets);
        let datagrams = ambit_net::bind_udp(netns, address, true, sockets)?;
        let options = ListenOptions {
            hop: Hop::Loopback,
            transparent: false,
        };
        let listener = ambit_net::listen(netns, address, options, sockets)?;
        self.spawn(udp::serve(Arc::clone(self), datagrams));
        self.spawn(tcp::serve(Arc::clone(self), listener));
        Ok(())
    }

    /// Runs a part of this pod's service; it ends with the pod.
    pub(super) fn spawn(&self, part: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = part => {}
            }
        });
    }

    /// Closes the sockets and waits until they are.
    pub(super) async fn stop(&self) {
        self.stopped.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Whether an address is the pod's: nobody else may use its resolver.
    pub(super) fn is_local(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let known = &self.spec.addresses;
        peer.is_loopback() || known.is_empty() || known.contains(&peer)
    }

    /// A place among the queries under way; `None` when the pod has too many.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The answer to a query there is no place for.
    pub(super) fn overloaded(bytes: &[u8]) -> Option<Vec<u8>> {
        message::decode(bytes)
            .ok()
            .map(|query| query.failure(ResponseCode::ServFail))
    }

    /// From a query's bytes to the answer's; `None`: nothing is to be answered.
    pub(super) async fn answer(
        &self,
        bytes: &[u8],
        peer: SocketAddr,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let query = match message::decode(bytes) {
            Ok(query) => query,
            Err(NotAQuery::Drop) => return None,
            Err(NotAQuery::Refuse(answer)) => return Some(answer),
        };
        let settings = &self.shared.settings;
        let workload = self.shared.state.find_pod(
            &settings.node,
            self.spec.info.namespace.as_str(),
            &self.spec.info.name,
        );
        let kind = query.kind.to_string();
        let source = labels(workload.as_deref(), &kind, transport);
        self.shared.metrics.dns.count_request(&source);
        let conf = self.conf().await;
        if let Some(known) = self.known(&query, &conf) {
            let answer = query.answer(&known.owner, &known.addresses, transport);
            log_dns(
                peer,
                &query.shown_name(),
                &kind,
                &format!("{:?}", known.addresses),
            );
            return Some(answer);
        }
        Some(
            self.forward(bytes, &query, &conf, (peer, transport), &source)
                .await,
        )
    }

    fn known(&self, query: &Query, conf: &ResolvConf) -> Option<answer::Known> {
        let settings = &self.shared.settings;
        let asker = Asker {
            namespace: &self.spec.info.namespace,
            network: &settings.network,
            cluster_domain: &settings.cluster_domain,
            search: &conf.search,
            ipv6: settings.ipv6,
        };
        answer::find(
            &self.shared.state,
            asker,
            query.name.as_deref()?,
            query.kind,
        )
    }

    async fn forward(
        &self,
        bytes: &[u8],
        query: &Query,
        conf: &ResolvConf,
        (peer, transport): (SocketAddr, Transport),
        source: &DnsSource<'_>,
    ) -> Vec<u8> {
        let origin = Origin {
            netns: &self.spec.netns,
            sockets: &self.shared.settings.sockets,
            servers: &conf.servers,
        };
        let began = Instant::now();
        let result = forward::exchange(&origin, bytes, query, transport).await;
        self.shared
            .metrics
            .dns
            .count_upstream(source, began.elapsed(), result.is_err());
        match result {
            Ok(answer) => {
                log_dns(peer, &query.shown_name(), source.query_type, "forwarded");
                query.pass_on(answer, transport)
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let text = format!("{error}: {}", cause.unwrap_or_default());
                log_dns(peer, &query.shown_name(), source.query_type, &text);
                query.failure(ResponseCode::ServFail)
            }
        }
    }

    /// The pod's resolver configuration, read again now and then.
    async fn conf(&self) -> Arc<ResolvConf> {
        let mut conf = self.conf.lock().await;
        if let Some((read, conf)) = &*conf
            && read.elapsed() < RESOLV_CONF_AGE
        {
            return Arc::clone(conf);
        }
        let (settings, netns) = (Arc::clone(&self.shared.settings), self.spec.netns.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            ResolvConf::of_pod(&settings.proc, &netns)
                .or_else(|_| ResolvConf::load(&settings.fallback))
        });
        let fresh = match loaded.await {
            Ok(Ok(fresh)) => Arc::new(fresh),
            Ok(Err(error)) => {
                debug!(pod = %self.spec.uid, %error, "no resolver configuration");
                Arc::default()
            }
            Err(_) => Arc::default(),
        };
        *conf = Some((Instant::now(), Arc::clone(&fresh)));
        fresh
    }
}

fn labels<'a>(
    workload: Option<&'a Workload>,
    kind: &'a str,
    transport: Transport,
) -> DnsSource<'a> {
    DnsSource {
        query_type: kind,
        protocol: transport.as_str(),
        canonical_service: workload.map_or("", |workload| &workload.canonical_name),
        canonical_revision: workload.map_or("", |workload| &workload.canonical_revision),
    }
}
