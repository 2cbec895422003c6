//! The resolvers of all pods, on a thread of their own: queries disturb neither data nor control.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use ambit_model::PodUid;
use ambit_state::Reader;
use ambit_telemetry::Metrics;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::Settings;
use super::limits::COMMANDS;
use super::pod::{PodDns, Shared};
use crate::capture::{PodRuntime, PodSpec, StartError, StartedPod, StopReason};

/// Why there are no resolvers.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The thread or its runtime could not be made.
    #[error("cannot start the DNS thread")]
    Thread(#[source] io::Error),
}

enum Command {
    Start(Arc<PodSpec>, oneshot::Sender<Result<(), StartError>>),
    Stop(PodUid, oneshot::Sender<()>),
}

/// The resolvers. Starts and stops with pods as their proxies do.
pub struct Dns {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

impl Dns {
    /// Starts the thread. No pod is served yet.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn launch(
        settings: Settings,
        state: Reader,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DnsError> {
        let shared = Shared {
            settings: Arc::new(settings),
            state,
            metrics,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()
            .map_err(DnsError::Thread)?;
        let (commands, received) = mpsc::channel(COMMANDS);
        let thread = std::thread::Builder::new()
            .name("dns".to_owned())
            .spawn(move || runtime.block_on(serve(shared, received)))
            .map_err(DnsError::Thread)?;
        Ok(Self {
            commands: Mutex::new(Some(commands)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends all resolvers and the thread. Blocks until they have ended.
    pub fn end(&self) {
        drop(self.commands.lock().take());
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the DNS thread panicked");
        }
    }

    fn sender(&self) -> Option<mpsc::Sender<Command>> {
        self.commands.lock().clone()
    }
}

impl PodRuntime for Dns {
    async fn start(&self, pod: Arc<PodSpec>) -> Result<StartedPod, StartError> {
        if !pod.dns {
            return Ok(StartedPod::default());
        }
        let (answer, answered) = oneshot::channel();
        let sender = self.sender().ok_or(StartError::ShuttingDown)?;
        let sent = sender.send(Command::Start(pod, answer)).await;
        sent.map_err(|_| StartError::ShuttingDown)?;
        answered.await.map_err(|_| StartError::ShuttingDown)??;
        Ok(StartedPod::default())
    }

    async fn stop(&self, uid: &PodUid, _: StopReason) {
        let (answer, answered) = oneshot::channel();
        let Some(sender) = self.sender() else { return };
        if sender
            .send(Command::Stop(uid.clone(), answer))
            .await
            .is_ok()
        {
            // An error means that the thread has ended, and the resolver with it.
            drop(answered.await);
        }
    }
}

async fn serve(shared: Shared, mut commands: mpsc::Receiver<Command>) {
    let mut pods: HashMap<PodUid, Arc<PodDns>> = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Start(spec, answer) => {
                let uid = spec.uid.clone();
                let started = PodDns::start(shared.clone(), spec).map(|pod| {
                    pods.insert(uid, pod);
                });
                // Whoever asked may have given up; the pod is then stopped by a command of its own.
                drop(answer.send(started));
            }
            Command::Stop(uid, answer) => {
                if let Some(pod) = pods.remove(&uid) {
                    pod.stop().await;
                }
                answer.send(()).ok();
            }
        }
    }
    for pod in pods.into_values() {
        pod.stop().await;
    }
}
