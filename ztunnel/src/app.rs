//! The wiring: each component is built by one function from what it needs, started, and ended in the
//! opposite order. No component is configured anywhere else, and none knows another's settings.

mod build;
mod ports;
mod serve;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ambit_runtime::admin::LogControl;
use ambit_runtime::http::Server;
use ambit_runtime::{Readiness, Shutdown, ShutdownReason, TaskGroup};
use ambit_telemetry::{Metrics, Recorder};
use anyhow::Context;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::admin::View;
use crate::capture::Statuses;
use crate::config::Config;
use crate::control::{certificates, prefetch};
use crate::dns::Dns;
use crate::proxy::{Mesh, Pods, Workers, redecide};

/// What is there before the agent: the process's log and metrics.
pub struct Process {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Changes log levels.
    pub log: Arc<dyn LogControl>,
}

/// A running agent.
pub struct App {
    config: Arc<Config>,
    mesh: Arc<Mesh>,
    pods: Arc<Pods>,
    workers: Workers,
    dns: Option<Arc<Dns>>,
    recorder: Recorder,
    servers: Vec<Server>,
    tasks: TaskGroup,
    shutdown: Shutdown,
}

impl App {
    /// Builds and starts everything, on the calling thread's runtime. Returns when the agent's own
    /// ports are open; readiness tells when it serves pods.
    ///
    /// # Errors
    /// What the machine lacks, or which port is taken.
    pub async fn start(config: Config, process: Process) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        if config.proxy.socks5_requested {
            tracing::warn!("UNSTABLE_ENABLE_SOCKS5 is set, but SOCKS5 is not offered");
        }
        let shutdown = Shutdown::default();
        let readiness = Readiness::default();
        let mut tasks = TaskGroup::default();
        let recorder = Recorder::start(Arc::clone(&process.metrics)).context("telemetry thread")?;
        let capture = build::capture(&config)?;
        let (writer, state) = ambit_state::new(build::state(&config));
        let writer = Arc::new(Mutex::new(writer));
        let prepared = certificates::prepare(&config).context("certificates")?;
        let (complete, completed) = watch::channel(false);
        let mesh = Arc::new(Mesh {
            state,
            complete: completed,
            certificates: prepared.certificates.clone(),
            metrics: Arc::clone(&process.metrics),
            demand: OnceLock::new(),
            resolver: build::resolver(),
            settings: build::proxy(&config),
        });
        let workers = Workers::start(config.proxy.worker_threads, &mesh, &recorder)
            .context("data threads")?;
        let redirect = build::redirect(capture.as_ref());
        let pods = Arc::new(Pods::new(Arc::clone(&mesh), workers.dealer(), redirect));
        let statuses = Statuses::default();
        let dns = build::dns(&config, &mesh, capture.is_some())?;

        serve::certificates(&mut tasks, prepared, &process.metrics, &shutdown);
        let parts = serve::DiscoveryParts {
            writer: &writer,
            mesh: &mesh,
            complete,
        };
        serve::discovery(&mut tasks, &config, parts, &readiness, &shutdown)?;
        let (following, followed) = (Arc::clone(&mesh), Arc::clone(&pods));
        tasks.spawn("policy changes", redecide::follow(following, followed));
        let node = config.node.name.clone();
        let domain = config.node.trust_domain.clone();
        let (known, kept) = (mesh.state.clone(), mesh.certificates.clone());
        tasks.spawn(
            "certificate prefetch",
            prefetch::run(known, node, domain, kept, statuses.clone()),
        );
        serve::own_tunnel(&config, &pods).await;
        let parts = serve::EnrolmentParts {
            pods: &pods,
            dns: dns.clone(),
            capture,
            statuses: &statuses,
        };
        serve::enrolment(&mut tasks, &config, parts, &readiness, &shutdown).await?;
        let view = View {
            config: Arc::clone(&config),
            state: mesh.state.clone(),
            certificates: mesh.certificates.clone(),
            pods: Arc::clone(&pods),
            statuses,
        };
        let servers = serve::http(view, &process, &recorder, &readiness, &shutdown).await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node = %config.node.name,
            workers = config.proxy.worker_threads,
            "ready to take pods"
        );
        Ok(Self {
            config,
            mesh,
            pods,
            workers,
            dns,
            recorder,
            servers,
            tasks,
            shutdown,
        })
    }

    /// How to end it.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// The pods it serves.
    #[must_use]
    pub fn pods(&self) -> &Arc<Pods> {
        &self.pods
    }

    /// What its connections see.
    #[must_use]
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// Runs until SIGTERM, SIGINT, a request of the administrator, or the end of a part that must
    /// not end; then drains.
    ///
    /// # Errors
    /// When a part failed.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let reason = tokio::select! {
            reason = self.shutdown.wait() => reason.context("signals")?,
            reason = failure(&mut self.tasks) => {
                self.shutdown.request(reason.clone());
                reason
            }
        };
        tracing::info!(%reason, "draining");
        self.end().await;
        match reason {
            ShutdownReason::Failed(part) => Err(anyhow::anyhow!(part)),
            ShutdownReason::Signal(_) | ShutdownReason::Requested => Ok(()),
        }
    }

    /// Ends everything; what applications had open may finish within the deadline. Capture stays in
    /// force: the next agent adopts it, and without one nothing leaves in clear.
    async fn end(self) {
        let cut = self.pods.drain(self.config.drain.deadline).await;
        if cut > 0 {
            tracing::warn!(cut, "connections cut at the end of the drain");
        }
        for server in self.servers {
            server.stop().await;
        }
        self.tasks.stop().await;
        let (workers, dns) = (self.workers, self.dns);
        // Joins threads: not on the runtime's own.
        let joined = tokio::task::spawn_blocking(move || {
            if let Some(dns) = dns {
                dns.end();
            }
            workers.stop();
        });
        if tokio::time::timeout(JOIN_WAIT, joined).await.is_err() {
            tracing::warn!("the data and DNS threads did not end");
        }
        self.recorder.stop();
        tracing::info!("ended");
    }
}

/// How long the data threads may take to end when nothing is open any more.
const JOIN_WAIT: Duration = Duration::from_secs(2);

/// The first end of a task that does not end by itself.
async fn failure(tasks: &mut TaskGroup) -> ShutdownReason {
    match tasks.next_end().await {
        Some(end) => ShutdownReason::Failed(end.to_string()),
        None => std::future::pending().await,
    }
}
