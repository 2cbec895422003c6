//! The data threads: one single-threaded runtime each, its own tunnels, no sharing. Whichever
//! thread accepts a connection deals it to the one with the least to do; it stays there.

mod accept;
mod tunnels;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use ambit_hbone::Pool;
use ambit_telemetry::{Recorder, Reporter, WorkerRecorder};
use rustls::pki_types::CertificateDer;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::dial::{DialError, TunnelKey};
use super::{Direction, Mesh, Pod, inbound, limits, outbound, plaintext};
use tunnels::Tunnels;

/// A connection to be carried.
#[derive(Debug)]
pub struct Arrival {
    /// Whose it is.
    pub pod: Arc<Pod>,
    /// Which listener took it.
    pub direction: Direction,
    /// The connection, of no runtime yet.
    pub stream: TcpStream,
    /// Who opened it.
    pub peer: SocketAddr,
    /// Counts for the worker while the connection lasts.
    pub load: Load,
}

/// What a worker can be told.
enum Job {
    Carry(Arrival),
    Accept {
        pod: Arc<Pod>,
        direction: Direction,
        listener: TcpListener,
    },
    Forget {
        pod: u64,
    },
}

/// Counts as one connection of a worker as long as it lives.
#[derive(Debug)]
pub struct Load(Arc<AtomicUsize>);

impl Load {
    /// One more for the same worker: a stream of a tunnel.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::of(&self.0)
    }

    fn of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Handle {
    jobs: mpsc::Sender<Job>,
    load: Arc<AtomicUsize>,
}

/// Gives jobs to workers. Cheap to clone.
#[derive(Clone)]
pub struct Dealer {
    workers: Arc<[Handle]>,
    next: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Dealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dealer({} workers)", self.workers.len())
    }
}

impl Dealer {
    /// Has a worker accept on `listener` for `pod`, until the pod drains.
    ///
    /// # Errors
    /// When the workers have ended.
    pub async fn accept(
        &self,
        pod: &Arc<Pod>,
        direction: Direction,
        listener: TcpListener,
    ) -> io::Result<()> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        let job = Job::Accept {
            pod: Arc::clone(pod),
            direction,
            listener,
        };
        self.workers[at].jobs.send(job).await.map_err(|_| ended())
    }

    /// Drops the tunnels of a pod that is gone.
    pub async fn forget(&self, pod: u64) {
        for worker in &*self.workers {
            // A worker that has ended has no tunnels.
            drop(worker.jobs.send(Job::Forget { pod }).await);
        }
    }

    /// The worker with the least to do; `here` when it is as good as any.
    fn least_loaded(&self, here: usize) -> usize {
        let load = |at: usize| self.workers[at].load.load(Ordering::Relaxed);
        (0..self.workers.len())
            .min_by_key(|at| (load(*at), *at != here))
            .unwrap_or(here)
    }
}

fn ended() -> io::Error {
    io::Error::other("the data threads have ended")
}

/// One data thread, as the tasks on it see it.
pub struct Worker {
    /// What every phase may ask.
    pub mesh: Arc<Mesh>,
    /// Takes exit records.
    pub recorder: WorkerRecorder,
    index: usize,
    dealer: Dealer,
    tunnels: RefCell<HashMap<u64, Tunnels>>,
}

impl Worker {
    /// The tunnels that a pod has opened, on this thread.
    #[must_use]
    pub fn pool(&self, pod: &Arc<Pod>) -> Pool<TunnelKey, DialError> {
        let mut tunnels = self.tunnels.borrow_mut();
        let tunnels = tunnels
            .entry(pod.id)
            .or_insert_with(|| Tunnels::new(pod, &self.mesh.settings.tunnel));
        tunnels.pool()
    }

    /// Remembers who answered at the other end of a new tunnel.
    pub fn note_chain(&self, pod: &Pod, key: &TunnelKey, chain: &[CertificateDer<'static>]) {
        let noted = self
            .tunnels
            .borrow_mut()
            .get_mut(&pod.id)
            .is_none_or(|tunnels| tunnels.note_chain(key, chain));
        if !noted {
            self.mesh
                .metrics
                .connections
                .count_crl_untracked(Reporter::Source);
        }
    }

    /// Cuts what goes through tunnels whose other end was revoked, whenever the lists change.
    async fn follow_revocations(self: Rc<Self>) {
        let trust = Arc::clone(self.mesh.certificates.tls().trust());
        let mut changes = trust.changes();
        while changes.changed().await.is_ok() {
            for tunnels in self.tunnels.borrow_mut().values_mut() {
                tunnels.cut_revoked(&trust);
            }
        }
    }

    fn begin(self: &Rc<Self>, job: Job) {
        match job {
            Job::Carry(arrival) => self.carry(arrival),
            Job::Accept {
                pod,
                direction,
                listener,
            } => {
                let tracker = pod.tasks.clone();
                let accepting = accept::until_drained(Rc::clone(self), pod, direction, listener);
                drop(tokio::task::spawn_local(tracker.track_future(accepting)));
            }
            Job::Forget { pod } => drop(self.tunnels.borrow_mut().remove(&pod)),
        }
    }

    /// Starts the task that carries a connection; the pod's tracker owns it.
    fn carry(self: &Rc<Self>, arrival: Arrival) {
        let tasks = arrival.pod.tasks.clone();
        let worker = Rc::clone(self);
        match arrival.direction {
            Direction::Outbound => {
                let task = outbound::serve(worker, arrival);
                drop(tokio::task::spawn_local(tasks.track_future(task)));
            }
            Direction::InboundTunnel => {
                let task = inbound::serve(worker, arrival);
                drop(tokio::task::spawn_local(tasks.track_future(task)));
            }
            Direction::InboundPlaintext => {
                let task = plaintext::serve(worker, arrival);
                drop(tokio::task::spawn_local(tasks.track_future(task)));
            }
        }
    }

    /// Passes a connection to the worker that should have it.
    async fn deal(
        self: &Rc<Self>,
        pod: &Arc<Pod>,
        direction: Direction,
        stream: TcpStream,
        peer: SocketAddr,
    ) {
        let at = self.dealer.least_loaded(self.index);
        let to = &self.dealer.workers[at];
        let pod = Arc::clone(pod);
        let arrival = Arrival {
            pod,
            direction,
            stream,
            peer,
            load: Load::of(&to.load),
        };
        if at == self.index {
            self.carry(arrival);
        } else if to.jobs.send(Job::Carry(arrival)).await.is_err() {
            tracing::debug!("a connection came while the data threads were ending");
        }
    }
}

/// Owns the data threads.
pub struct Workers {
    dealer: Dealer,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workers({})", self.threads.len())
    }
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(count: usize, mesh: &Arc<Mesh>, recorder: &Recorder) -> io::Result<Self> {
        let (handles, receivers): (Vec<_>, Vec<_>) = (0..count.max(1))
            .map(|_| {
                let (jobs, receiver) = mpsc::channel(limits::WORKER_QUEUE);
                (
                    Handle {
                        jobs,
                        load: Arc::default(),
                    },
                    receiver,
                )
            })
            .unzip();
        let dealer = Dealer {
            workers: handles.into(),
            next: Arc::default(),
        };
        let stop = CancellationToken::new();
        let mut threads = Vec::with_capacity(count);
        for (index, jobs) in receivers.into_iter().enumerate() {
            let seed = Seed {
                mesh: Arc::clone(mesh),
                recorder: recorder.worker(),
                index,
                dealer: dealer.clone(),
                stop: stop.clone(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread();
            let thread = std::thread::Builder::new()
                .name(format!("data-{index}"))
                .spawn(move || seed.run(runtime, jobs))?;
            threads.push(thread);
        }
        Ok(Self {
            dealer,
            stop,
            threads,
        })
    }

    /// Gives jobs to the threads.
    #[must_use]
    pub fn dealer(&self) -> Dealer {
        self.dealer.clone()
    }

    /// Ends the threads with whatever still runs on them.
    pub fn stop(self) {
        self.stop.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a data thread panicked");
            }
        }
    }
}

/// What a thread is born with; the rest it makes itself, as that must not move between threads.
struct Seed {
    mesh: Arc<Mesh>,
    recorder: WorkerRecorder,
    index: usize,
    dealer: Dealer,
    stop: CancellationToken,
}

impl Seed {
    fn run(self, mut runtime: tokio::runtime::Builder, mut jobs: mpsc::Receiver<Job>) {
        let runtime = match runtime.enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "a data thread has no runtime");
                return;
            }
        };
        self.mesh.metrics.watch_runtime(runtime.handle().clone());
        let worker = Rc::new(Worker {
            mesh: self.mesh,
            recorder: self.recorder,
            index: self.index,
            dealer: self.dealer,
            tunnels: RefCell::default(),
        });
        runtime.block_on(async {
            let mut revocations = std::pin::pin!(Rc::clone(&worker).follow_revocations());
            loop {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => break,
                    () = &mut revocations => break,
                    job = jobs.recv() => match job {
                        Some(job) => worker.begin(job),
                        None => break,
                    },
                }
            }
        });
    }
}
