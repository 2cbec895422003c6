//! The agent's background work and its own ports: certificates, discovery, enrolment, administration.

use std::net::IpAddr;
use std::sync::Arc;

use ambit_ebpf::Capture;
use ambit_net::Netns;
use ambit_runtime::http::{Router, Server};
use ambit_runtime::{Readiness, Shutdown, TaskGroup};
use ambit_telemetry::{Metrics, OPENMETRICS, Recorder};
use anyhow::Context;
use tokio::sync::watch;

use super::{Process, ports};
use crate::admin::{self, View};
use crate::capture::{
    Ebpf, Interception, InterceptionError, PodInfo, PodRuntime, PodSpec, Redirected, Registry,
    StartedPod, Statuses, controller, follow_kubelet, zds,
};
use crate::config::{Config, Enrolment, EnrolmentSource};
use crate::control::Server as ControlServer;
use crate::control::certificates::{Prepared, publish_expiries};
use crate::control::discovery::{Discovery, follow_sync};
use crate::control::local;
use crate::control::resources::SharedWriter;
use crate::dns::Dns;
use crate::proxy::{Mesh, Pods};

/// Keeps certificates, revocation lists and their gauges current.
pub(super) fn certificates(
    tasks: &mut TaskGroup,
    prepared: Prepared,
    metrics: &Arc<Metrics>,
    shutdown: &Shutdown,
) {
    let ended = shutdown.clone();
    tasks.spawn("certificates", async move {
        prepared
            .worker
            .run(async { drop(ended.requested().await) })
            .await;
        std::future::pending().await
    });
    if let Some(lists) = prepared.revocations {
        tasks.spawn("revocation lists", lists.follow(prepared.trust));
    }
    let expiries = publish_expiries(prepared.certificates, Arc::clone(metrics));
    tasks.spawn("certificate gauges", expiries);
}

/// What discovery needs of the rest.
pub(super) struct DiscoveryParts<'a> {
    pub(super) writer: &'a SharedWriter,
    pub(super) mesh: &'a Arc<Mesh>,
    pub(super) complete: watch::Sender<bool>,
}

/// Follows discovery into the state; readiness waits for the first whole answer.
pub(super) fn discovery(
    tasks: &mut TaskGroup,
    config: &Config,
    parts: DiscoveryParts<'_>,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    if let Some(source) = &config.discovery.local {
        let changes = local::load(source).context("static configuration")?;
        parts.writer.lock().apply(changes);
    }
    let DiscoveryParts {
        writer,
        mesh,
        complete,
    } = parts;
    let metrics = Arc::clone(&mesh.metrics);
    let Some(discovery) = Discovery::new(config, writer, metrics) else {
        // Everything there will ever be is there: the static configuration.
        complete.send_replace(true);
        let keep = complete;
        tasks.spawn("static configuration", async move {
            // A closed channel would read as "never complete".
            keep.closed().await;
            std::future::pending().await
        });
        return Ok(());
    };
    if let Some(demand) = discovery.addresses.demand() {
        // The first and only time it is set.
        drop(mesh.demand.set(demand.clone()));
    }
    let ended = shutdown.clone();
    tasks.spawn("discovery", async move {
        discovery
            .client
            .run(async { drop(ended.requested().await) })
            .await;
        std::future::pending().await
    });
    let pending = readiness.pending("state manager");
    let mut completed = mesh.complete.clone();
    tasks.spawn("discovery readiness", async move {
        if completed.wait_for(|done| *done).await.is_ok() {
            pending.done();
        }
        std::future::pending().await
    });
    let following = follow_sync(discovery.addresses, discovery.policies, complete);
    tasks.spawn("discovery synchronisation", following);
    Ok(())
}

/// The agent's own tunnel port, where its pod is known. Not worth ending the agent for.
pub(super) async fn own_tunnel(config: &Config, pods: &Pods) {
    let Some(bind) = config.admin.own_tunnel else {
        return;
    };
    let Some(identity) = config.node.identity() else {
        return;
    };
    let opened = async {
        let netns = Netns::current().context("own network namespace")?;
        let spec = PodSpec {
            uid: "ztunnel".into(),
            info: PodInfo {
                name: config.node.pod_name.as_str().into(),
                namespace: identity.namespace,
                service_account: identity.service_account,
            },
            netns,
            addresses: Vec::new(),
            dns: false,
        };
        let ports = [config.admin.metrics.port(), config.admin.readiness.port()];
        // Data listeners take one family each.
        let mut listen_on = bind.addresses(false);
        if config.proxy.ipv6 {
            listen_on.extend(bind.addresses(true));
        }
        pods.start_own(&spec, &listen_on, &ports)
            .await
            .context("own tunnel port")
    };
    if let Err(error) = opened.await {
        tracing::warn!(error = %format!("{error:#}"), "the agent cannot be reached by tunnel");
    }
}

/// What enrolment needs of the rest.
pub(super) struct EnrolmentParts<'a> {
    pub(super) pods: &'a Arc<Pods>,
    /// Where pods' queries are answered, if they are.
    pub(super) dns: Option<Arc<Dns>>,
    pub(super) capture: Option<Arc<Capture>>,
    pub(super) statuses: &'a Statuses,
}

/// Takes pods from whoever enrols them; readiness waits for all that are listed first.
pub(super) async fn enrolment(
    tasks: &mut TaskGroup,
    config: &Arc<Config>,
    parts: EnrolmentParts<'_>,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let EnrolmentParts {
        pods,
        dns,
        capture,
        statuses,
    } = parts;
    if !Enrolment::wanted(config.proxy.mode) {
        return dedicated(config, pods).await;
    }
    let interception: Box<dyn Interception> = match &capture {
        Some(capture) => Box::new(Steered {
            capture: Ebpf(Arc::clone(capture)),
            dns: dns.is_some(),
        }),
        None => Box::new(Redirected),
    };
    if let Some(capture) = capture {
        let proc = config.enrolment.proc.clone();
        let kubelet = config.enrolment.kubelet.clone();
        tasks.spawn("kubelet probes", follow_kubelet(capture, proc, kubelet));
    }
    let mut registry = Registry::new(
        (Arc::clone(pods), dns),
        interception,
        config.enrolment.proc.clone(),
        statuses.clone(),
        Some(Arc::clone(pods.metrics())),
    );
    let pending = readiness.pending("workload proxy manager");
    let mut complete = statuses.complete();
    tasks.spawn("enrolment readiness", async move {
        if complete.wait_for(|done| *done).await.is_ok() {
            pending.done();
        }
        std::future::pending().await
    });
    let ended = shutdown.clone();
    let enrolment_server = ControlServer::enrolment(config);
    let config = Arc::clone(config);
    tasks.spawn("enrolment", async move {
        let ended = async { drop(ended.requested().await) };
        match (config.enrolment.source, enrolment_server) {
            (EnrolmentSource::Controller, Some(server)) => {
                controller::run(&server, &config.node.name, &mut registry, ended).await;
            }
            _ => zds::run(&config.enrolment.zds_socket, &mut registry, ended).await,
        }
        std::future::pending().await
    });
    Ok(())
}

/// Capture that steers DNS only where it is answered.
struct Steered {
    capture: Ebpf,
    dns: bool,
}

impl Interception for Steered {
    fn needs_addresses(&self) -> bool {
        self.capture.needs_addresses()
    }

    fn attach(
        &self,
        pod: &PodSpec,
        addresses: &[IpAddr],
        started: &StartedPod,
    ) -> Result<(), InterceptionError> {
        let dns = pod.dns && self.dns;
        let pod = PodSpec { dns, ..pod.clone() };
        self.capture.attach(&pod, addresses, started)
    }

    fn detach(&self, cookie: u64) -> Result<(), InterceptionError> {
        self.capture.detach(cookie)
    }

    fn detach_others(&self, keep: &[u64]) -> Result<usize, InterceptionError> {
        self.capture.detach_others(keep)
    }
}

/// Serves the one workload of dedicated mode, in the agent's own namespace.
async fn dedicated(config: &Config, pods: &Pods) -> anyhow::Result<()> {
    let Some(workload) = &config.proxy.workload else {
        return Ok(());
    };
    let spec = PodSpec {
        uid: workload.name.as_str().into(),
        info: PodInfo {
            name: workload.name.as_str().into(),
            namespace: workload.namespace.as_str().into(),
            service_account: workload.service_account.as_str().into(),
        },
        netns: Netns::current().context("own network namespace")?,
        addresses: Vec::new(),
        dns: false,
    };
    pods.start(Arc::new(spec))
        .await
        .context("listeners of the workload")?;
    Ok(())
}

/// Opens the agent's own ports.
pub(super) async fn http(
    view: View,
    process: &Process,
    recorder: &Recorder,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> anyhow::Result<Vec<Server>> {
    let six = view.config.proxy.ipv6;
    let binds = [
        view.config.admin.admin,
        view.config.admin.metrics,
        view.config.admin.readiness,
    ];
    let exposition = recorder.handle();
    let common =
        ambit_runtime::admin::router("ztunnel", Arc::clone(&process.log), shutdown.clone());
    let routers = [
        admin::routes(common, view),
        ambit_runtime::admin::metrics_router(OPENMETRICS, move || exposition.encode()),
        readiness.route(Router::new("readiness")),
    ];
    let mut servers = Vec::new();
    for (bind, router) in binds.into_iter().zip(routers) {
        servers.extend(ports::open(bind, six, &router).await?);
    }
    Ok(servers)
}
