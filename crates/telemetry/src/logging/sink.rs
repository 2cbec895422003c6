//! The queue before standard output. Threads that carry traffic never wait for it: their lines are
//! dropped and counted when it is full. The recorder waits, so the access log is complete unless
//! the recorder's own queues overflow.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::limits;

/// Lines gathered into one write.
const BATCH_BYTES: usize = 64 * 1024;
/// How long [`Sink::flush`] waits for a reader that does not read.
const FLUSH: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Item {
    Line(Box<[u8]>),
    Flush(SyncSender<()>),
}

/// Where log lines go.
#[derive(Clone, Debug)]
pub struct Sink {
    queue: SyncSender<Item>,
    dropped: Counter,
}

impl Sink {
    /// Starts the writer thread. It ends when the last clone of the sink is gone.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(out: impl Write + Send + 'static, dropped: Counter) -> io::Result<Self> {
        let (queue, lines) = sync_channel(limits::LOG_LINES);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&lines, out))?;
        Ok(Self { queue, dropped })
    }

    /// Waits, for a bounded time, until all lines so far are written.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.send(Item::Flush(done)).is_ok() {
            // A timeout means that nobody reads the log: nothing is left to do for it.
            written.recv_timeout(FLUSH).ok();
        }
    }
}

fn write_all(lines: &Receiver<Item>, mut out: impl Write) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        let mut waiting = None;
        while let Some(item) = next.take() {
            match item {
                Item::Line(line) => batch.extend_from_slice(&line),
                Item::Flush(done) => waiting = Some(done),
            }
            if waiting.is_none() && batch.len() < BATCH_BYTES {
                next = lines.try_recv().ok();
            }
        }
        // With standard output gone there is no one to tell; the process goes on.
        out.write_all(&batch).and_then(|()| out.flush()).ok();
        batch.clear();
        if let Some(done) = waiting {
            done.send(()).ok();
        }
    }
}

/// Takes the lines of one event.
#[derive(Debug)]
pub struct Line<'a> {
    sink: &'a Sink,
    wait: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let item = Item::Line(line.into());
        let lost = if self.wait {
            self.sink.queue.send(item).is_err()
        } else {
            self.sink.queue.try_send(item).is_err()
        };
        if lost {
            self.sink.dropped.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            sink: self,
            wait: false,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        let recorder = std::thread::current().name() == Some("telemetry");
        Line {
            sink: self,
            wait: recorder && meta.target() == super::ACCESS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// An output that blocks until its lock is free.
    #[derive(Clone)]
    struct Gate(Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_never_blocks() {
        let gate = Gate(Arc::default());
        let dropped = Counter::default();
        let sink = Sink::start(gate.clone(), dropped.clone()).unwrap();
        let held = gate.0.lock().unwrap();
        let total = limits::LOG_LINES * 3;
        for _ in 0..total {
            sink.make_writer().write_all(b"line\n").unwrap();
        }
        assert!(dropped.get() > 0);
        drop(held);
        sink.flush();
        let written = gate.0.lock().unwrap().len() / 5;
        assert_eq!(written as u64 + dropped.get(), total as u64);
    }
}
