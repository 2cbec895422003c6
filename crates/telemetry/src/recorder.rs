//! From the data threads to metrics and log: bounded queues, one folding thread. Data threads never
//! wait here: what does not fit is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::access;
use crate::fold::{Fold, LogEntry};
use crate::limits;
use crate::metrics::Metrics;
use crate::record::{Connection, ConnectionRecord, Exit, Outcome, Refusal, Shared};

/// How long the recorder lets events gather after the first: wakeups cost more than folding.
const GATHER: Duration = Duration::from_millis(20);
/// The longest sleep, should a wakeup ever be missed.
const BACKSTOP: Duration = Duration::from_secs(1);
/// Events folded under one hold of the lock, so that a scrape waits little.
const BATCH: usize = 512;

#[derive(Debug)]
pub(crate) enum Event {
    Opened(Arc<Shared>),
    Closed(Box<Exit>),
    Forgotten(Arc<Shared>),
    Refused(Box<Refusal>),
}

/// A worker thread's way to report connections. Cheap to clone within the worker.
#[derive(Clone, Debug)]
pub struct WorkerRecorder {
    queue: SyncSender<Event>,
    common: Arc<Common>,
}

#[derive(Debug)]
struct Common {
    metrics: Arc<Metrics>,
    asleep: AtomicBool,
    stopping: AtomicBool,
    thread: Mutex<Option<Thread>>,
    inbox: Mutex<Inbox>,
}

#[derive(Debug)]
struct Inbox {
    queues: Vec<Receiver<Event>>,
    fold: Fold,
}

impl WorkerRecorder {
    /// Reports an opened connection.
    #[must_use]
    pub fn open(&self, connection: Connection) -> ConnectionRecord {
        ConnectionRecord::open(self.clone(), connection)
    }

    /// Reports a connection that arrived at `since` and was refused before it counted as open.
    pub fn refuse(&self, connection: Connection, outcome: Outcome, since: Instant) {
        self.send(Event::Refused(Box::new(Refusal {
            connection,
            outcome,
            duration: since.elapsed(),
        })));
    }

    pub(crate) fn send(&self, event: Event) {
        match self.queue.try_send(event) {
            Ok(()) => self.common.wake(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.common.metrics.telemetry.records_dropped.inc();
            }
        }
    }
}

impl Common {
    fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let fold = Fold::new(Arc::clone(&metrics));
        Arc::new(Self {
            metrics,
            asleep: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            thread: Mutex::new(None),
            inbox: Mutex::new(Inbox {
                queues: Vec::new(),
                fold,
            }),
        })
    }

    /// Wakes the recorder if it sleeps. The fence pairs with the one in `run`: either we see the
    /// flag, or the recorder sees the event.
    fn wake(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(thread) = &*self.thread.lock() {
            thread.unpark();
        }
    }

    /// Folds up to one batch; says whether there may be more.
    fn fold_batch(&self) -> bool {
        let mut inbox = self.inbox.lock();
        let Inbox { queues, fold } = &mut *inbox;
        let mut budget = BATCH;
        for queue in queues {
            while budget > 0
                && let Ok(event) = queue.try_recv()
            {
                fold.apply(event);
                budget -= 1;
            }
        }
        budget == 0
    }

    fn take_logs(&self) -> Vec<LogEntry> {
        self.inbox.lock().fold.take_logs()
    }
}

/// Owns the folding thread.
#[derive(Debug)]
pub struct Recorder {
    common: Arc<Common>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts the folding thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let common = Common::new(metrics);
        let shared = Arc::clone(&common);
        let thread = std::thread::Builder::new()
            .name("telemetry".into())
            .spawn(move || run(&shared))?;
        *common.thread.lock() = Some(thread.thread().clone());
        Ok(Self {
            common,
            thread: Some(thread),
        })
    }

    /// A recorder without its thread: events are folded when the test says so.
    #[cfg(test)]
    pub(crate) fn manual(metrics: Arc<Metrics>) -> Self {
        Self {
            common: Common::new(metrics),
            thread: None,
        }
    }

    /// A queue for one more worker thread.
    #[must_use]
    pub fn worker(&self) -> WorkerRecorder {
        let (queue, receiver) = sync_channel(limits::WORKER_QUEUE);
        self.common.inbox.lock().queues.push(receiver);
        WorkerRecorder {
            queue,
            common: Arc::clone(&self.common),
        }
    }

    /// The exposition text, with everything reported so far folded in, the bytes of live
    /// connections included.
    #[must_use]
    pub fn encode(&self) -> String {
        self.handle().encode()
    }

    /// A handle that can encode, for the metrics server.
    #[must_use]
    pub fn handle(&self) -> ExpositionHandle {
        ExpositionHandle {
            common: Arc::clone(&self.common),
        }
    }

    /// Folds what is queued and logs it on this thread.
    #[cfg(test)]
    pub(crate) fn log_here(&self) {
        while self.common.fold_batch() {}
        self.common.take_logs().iter().for_each(access::log);
    }

    /// Folds and logs what is queued, then ends the thread.
    pub fn stop(mut self) {
        self.common.stopping.store(true, Ordering::SeqCst);
        self.common.unpark();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the telemetry thread panicked");
        }
    }
}

/// Encodes the metrics.
#[derive(Clone, Debug)]
pub struct ExpositionHandle {
    common: Arc<Common>,
}

impl ExpositionHandle {
    /// See [`Recorder::encode`].
    #[must_use]
    pub fn encode(&self) -> String {
        // Bounded: a flood that refills the queues as fast as they are drained must not keep
        // a scrape here.
        for _ in 0..=limits::WORKER_QUEUE / BATCH {
            if !self.common.fold_batch() {
                break;
            }
        }
        self.common.inbox.lock().fold.fold_live_bytes();
        self.common.wake();
        self.common.metrics.encode()
    }
}

fn run(common: &Common) {
    loop {
        let more = common.fold_batch();
        let logs = common.take_logs();
        let idle = logs.is_empty() && !more;
        // Outside the lock: standard output may be slow, and a scrape must not wait for it.
        logs.iter().for_each(access::log);
        if !idle {
            if !more {
                std::thread::park_timeout(GATHER);
            }
            continue;
        }
        if common.stopping.load(Ordering::SeqCst) {
            return;
        }
        sleep(common);
    }
}

/// Sleeps until an event arrives, then lets more gather.
fn sleep(common: &Common) {
    common.asleep.store(true, Ordering::Relaxed);
    std::sync::atomic::fence(Ordering::SeqCst);
    if common.fold_batch() {
        common.asleep.store(false, Ordering::Relaxed);
        return;
    }
    std::thread::park_timeout(BACKSTOP);
    common.asleep.store(false, Ordering::Relaxed);
    if !common.stopping.load(Ordering::SeqCst) {
        std::thread::park_timeout(GATHER);
    }
}
