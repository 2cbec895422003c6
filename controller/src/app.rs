//! Puts the parts together: the directory is watched, its objects translated, the result served.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_identity::SystemClock;
use ambit_model::{Identity, NodeName};
use ambit_runtime::http::{Method, Request, Response, Router, Server};
use ambit_runtime::{Readiness, Shutdown, ShutdownReason, TaskGroup, admin};
use anyhow::{Context as _, Result};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::ca::{
    Authenticators, AuthorityConfig, CaService, CertificateAuthority, NodeIdentities, NodeTokens,
    ServingCertificate, TlsIncoming,
};
use crate::config::Config;
use crate::finding::{Finding, Level};
use crate::metrics::{CountCertificates, Metrics};
use crate::serve::{Discovery, Enrolment, Hub};
use crate::snapshot::Snapshot;
use crate::status;
use crate::translate::{Translated, Translator};
use crate::watch::Store;

/// How often the authority looks after its files and root.
const MAINTENANCE: Duration = Duration::from_secs(60);

/// Idle connections are probed this often, so that a node that vanished does not stay connected.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long a probe may go unanswered.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long streams may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What is in force, for the status page.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<RwLock<(Arc<Snapshot>, Arc<Translated>)>>);

impl Board {
    /// The report of this moment.
    #[must_use]
    pub fn report(&self) -> status::Report {
        let (snapshot, translated) = self.0.read().clone();
        status::report(&snapshot, &translated)
    }
}

/// A running controller.
#[derive(Debug)]
pub struct App {
    /// For node agents.
    pub address: SocketAddr,
    /// For people.
    pub admin_address: SocketAddr,
    /// For monitoring.
    pub metrics_address: SocketAddr,
    /// What is served.
    pub hub: Hub,
    /// What is in force.
    pub board: Board,
    /// The authority.
    pub authority: Arc<CertificateAuthority>,
    shutdown: Shutdown,
    tasks: TaskGroup,
    servers: Vec<Server>,
}

/// The agents may ask for the identities of their node's pods.
struct OnNode(Hub);

impl NodeIdentities for OnNode {
    fn may_issue(&self, node: &NodeName, identity: &Identity) -> bool {
        self.0.has_identity(node, identity)
    }
}

impl App {
    /// Starts everything; returns once the directory is read and the ports are open.
    pub async fn start(
        config: Config,
        metrics: Arc<Metrics>,
        log: Arc<dyn admin::LogControl>,
        shutdown: Shutdown,
    ) -> Result<Self> {
        let objects = std::fs::canonicalize(&config.objects).with_context(|| {
            format!("cannot read the directory {:?} of objects; create it, or name another with --config", config.objects)
        })?;
        let (store, snapshot) = crate::watch::load(&objects, Store::new(config.mesh.clone()))?;
        let hub = Hub::default();
        let board = Board::default();
        let mut publisher = Publisher::new(hub.clone(), board.clone(), Arc::clone(&metrics));
        publisher.publish(Arc::new(snapshot));

        let authority = build_authority(&config)?;
        let authenticators = build_authenticators(&config)?;
        let listener = TcpListener::bind(config.listen).await.with_context(|| {
            format!(
                "cannot listen on {}; is another controller running?",
                config.listen
            )
        })?;
        let address = listener.local_addr()?;
        let incoming = build_incoming(&config, listener, &authority)?;

        let mut tasks = TaskGroup::default();
        let (sender, receiver) = watch::channel(Arc::new(Snapshot::default()));
        let stop = requested(shutdown.clone());
        tasks.spawn("watch", crate::watch::watch(objects, store, sender, stop));
        tasks.spawn("publish", publish(receiver, publisher));
        let ca = CaService::new(
            Arc::clone(&authority),
            authenticators.clone(),
            Arc::new(OnNode(hub.clone())),
            Arc::new(CountCertificates(Arc::clone(&metrics))),
        );
        let grpc = serve(incoming, hub.clone(), authenticators, ca, shutdown.clone());
        tasks.spawn_fallible("serve", grpc);
        let maintained = Arc::clone(&authority);
        let stop = requested(shutdown.clone());
        tasks.spawn("authority", async move {
            maintained.maintain(MAINTENANCE, stop).await
        });

        let readiness = Readiness::default();
        let admin = build_admin(log, shutdown.clone(), &hub, &board);
        let admin = bind(config.admin, "--admin", readiness.route(admin)).await?;
        let encoding = (Arc::clone(&metrics), hub.clone());
        let encode = move || encoding.0.encode(&encoding.1);
        let monitoring = admin::metrics_router(ambit_telemetry::OPENMETRICS, encode);
        let monitoring = bind(config.metrics, "--metrics", readiness.route(monitoring)).await?;
        Ok(Self {
            address,
            admin_address: admin.address(),
            metrics_address: monitoring.address(),
            hub,
            board,
            authority,
            shutdown,
            tasks,
            servers: vec![admin, monitoring],
        })
    }

    /// Runs until a signal or the end of a task that should not end; then stops everything.
    pub async fn run(mut self) -> Result<()> {
        let reason = tokio::select! {
            reason = self.shutdown.wait() => reason?,
            end = self.tasks.next_end() => {
                let text = end.map_or_else(|| String::from("nothing runs"), |end| end.to_string());
                ShutdownReason::Failed(text)
            }
        };
        tracing::info!(%reason, "stopping");
        self.shutdown.request(reason.clone());
        self.stop().await;
        match reason {
            ShutdownReason::Failed(part) => Err(anyhow::anyhow!("stopped: {part}")),
            _ => Ok(()),
        }
    }

    /// Ends all streams and tasks.
    pub async fn stop(self) {
        self.shutdown.request(ShutdownReason::Requested);
        if tokio::time::timeout(STOP_TIMEOUT, self.hub.stop())
            .await
            .is_err()
        {
            tracing::warn!("some streams did not end in time");
        }
        self.tasks.stop().await;
        for server in self.servers {
            server.stop().await;
        }
    }
}

async fn requested(shutdown: Shutdown) {
    shutdown.requested().await;
}

async fn bind(address: SocketAddr, option: &str, router: Router) -> Result<Server> {
    Server::bind(address, router).await.with_context(|| {
        format!("cannot listen on {address}; free it, or choose another with {option}")
    })
}

/// Opens or makes the authority.
pub fn build_authority(config: &Config) -> Result<Arc<CertificateAuthority>> {
    let authority = AuthorityConfig {
        plugged_in: config.cacerts.clone(),
        trust_domain: config.mesh.trust_domain.as_str().into(),
        default_ttl: config.certificate_ttl,
        ..AuthorityConfig::new(&config.data_dir)
    };
    let opened = CertificateAuthority::open(authority, Arc::new(SystemClock));
    Ok(Arc::new(opened.context(
        "the certificate authority cannot be opened; see --data-dir and --cacerts",
    )?))
}

fn build_authenticators(config: &Config) -> Result<Authenticators> {
    let tokens = NodeTokens::open(&config.data_dir, Arc::new(SystemClock))
        .context("the key of node tokens cannot be opened; see --data-dir")?;
    Ok(Authenticators::standalone(
        tokens,
        config.mesh.trust_domain.as_str().into(),
    ))
}

fn build_incoming(
    config: &Config,
    listener: TcpListener,
    authority: &Arc<CertificateAuthority>,
) -> Result<TlsIncoming> {
    let serving = ServingCertificate::new(
        Arc::clone(authority),
        config.dns_names.clone(),
        config.addresses.clone(),
    )?;
    Ok(TlsIncoming::new(listener, serving.server_config()?))
}

async fn serve(
    incoming: TlsIncoming,
    hub: Hub,
    authenticators: Authenticators,
    ca: CaService,
    shutdown: Shutdown,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(Discovery::new(hub.clone(), authenticators.clone()))
        .add_service(Enrolment::new(hub, authenticators).into_server())
        .add_service(ca.into_server())
        .serve_with_incoming_shutdown(incoming, requested(shutdown))
        .await
}

fn build_admin(
    log: Arc<dyn admin::LogControl>,
    shutdown: Shutdown,
    hub: &Hub,
    board: &Board,
) -> Router {
    let (clients, nodes, board) = (hub.clone(), hub.clone(), board.clone());
    admin::router("Ambit controller", log, shutdown)
        .route(
            Method::GET,
            "/status",
            "every object: in force, or refused and why; ?format=json for programs, ?full=true for all",
            move |request| {
                let board = board.clone();
                async move { answer_status(&request, &board) }
            },
        )
        .json("/clients", "connected discovery clients", move || clients.clients())
        .json("/nodes", "nodes, their pods, and whether these are captured", move || nodes.nodes())
}

fn answer_status(request: &Request, board: &Board) -> Response {
    let accepts = request
        .headers
        .get("accept")
        .and_then(|value| value.to_str().ok());
    let report = board.report();
    match request.parameter("format") {
        Some("json") => Response::json(&report),
        None if accepts.is_some_and(|accepts| accepts.contains("application/json")) => {
            Response::json(&report)
        }
        None | Some("text") if request.parameter("full") == Some("true") => {
            Response::text(report.full_text())
        }
        None | Some("text") => Response::text(report.text()),
        Some(other) => {
            let shown: String = other.chars().take(32).collect();
            Response::bad_request(format!(
                "parameter format={shown:?}: expected text or json\n"
            ))
        }
    }
}

async fn publish(mut snapshots: watch::Receiver<Arc<Snapshot>>, mut publisher: Publisher) {
    while snapshots.changed().await.is_ok() {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        publisher.publish(snapshot);
    }
}

/// Translates snapshots, publishes the result and tells of what is wrong.
struct Publisher {
    translator: Translator,
    hub: Hub,
    board: Board,
    metrics: Arc<Metrics>,
    /// What was told already.
    told: BTreeSet<Finding>,
}

impl Publisher {
    fn new(hub: Hub, board: Board, metrics: Arc<Metrics>) -> Self {
        Self {
            translator: Translator::default(),
            hub,
            board,
            metrics,
            told: BTreeSet::new(),
        }
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        let started = Instant::now();
        let translated = self.translator.translate(&snapshot);
        let changed = self.hub.publish(&translated);
        let took = started.elapsed();
        let findings = status::findings(&snapshot, &translated);
        let summary = status::summary(&snapshot, &translated, &findings);
        self.tell(findings);
        *self.board.0.write() = (snapshot, Arc::new(translated));
        tracing::info!(
            changed,
            workloads = summary.workloads,
            services = summary.services,
            policies = summary.policies,
            refused = summary.refused,
            ?took,
            "published"
        );
        self.metrics.note_change(&summary, changed, took);
    }

    /// Logs each finding once.
    fn tell(&mut self, findings: Vec<Finding>) {
        for finding in findings
            .iter()
            .filter(|finding| !self.told.contains(finding))
        {
            match finding.level {
                Level::Refused => tracing::error!("{finding}"),
                Level::Warning => tracing::warn!("{finding}"),
            }
        }
        self.told = findings.into_iter().collect();
    }
}
