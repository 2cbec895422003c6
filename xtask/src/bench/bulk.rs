//! Bulk: threads that write as fast as the path takes it, threads that read and count.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ambit_testkit::apps::client;
use ambit_testkit::topology::Host;
use anyhow::{Result, bail};

/// Bytes per call, as common tools use.
const CHUNK: usize = 128 * 1024;
/// Time at the start that does not count.
const WARM_UP: Duration = Duration::from_millis(300);

/// Counts what arrives on a port, from any number of connections.
#[derive(Debug)]
pub(crate) struct Sink {
    received: Arc<AtomicU64>,
}

impl Sink {
    /// Listens inside a host, for the life of the process.
    pub(crate) fn start(host: &Host, at: SocketAddr) -> Result<Self> {
        let listener = host.run(|| TcpListener::bind(at))?;
        let received = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&received);
        std::thread::Builder::new()
            .name("sink".into())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let counted = Arc::clone(&counted);
                    std::thread::spawn(move || read(stream, &counted));
                }
            })?;
        Ok(Self { received })
    }

    fn total(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

fn read(mut stream: std::net::TcpStream, counted: &AtomicU64) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 {
            return;
        }
        counted.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Bytes that arrived in a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
}

/// Sends on so many streams for a time. `around` is called when counting starts and again when it
/// ends, to read the agents' CPU time over the same bytes.
pub(crate) fn send(
    from: &Host,
    to: SocketAddr,
    sink: &Sink,
    streams: usize,
    time: Duration,
    mut around: impl FnMut() -> Result<()>,
) -> Result<Moved> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for _ in 0..streams {
        let mut stream = client::connect(from, to)?;
        let stop = Arc::clone(&stop);
        threads.push(std::thread::spawn(move || {
            let chunk = vec![0x5a; CHUNK];
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(&chunk)?;
            }
            Ok::<_, std::io::Error>(())
        }));
    }
    std::thread::sleep(WARM_UP);
    around()?;
    let (start, before) = (Instant::now(), sink.total());
    std::thread::sleep(time);
    let moved = Moved {
        bytes: sink.total() - before,
        seconds: start.elapsed().as_secs_f64(),
    };
    around()?;
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        match thread.join() {
            Ok(done) => done?,
            Err(_) => bail!("a sending thread panicked"),
        }
    }
    settle(sink);
    Ok(moved)
}

/// Waits until what is still under way has arrived, so that it does not count for the next.
fn settle(sink: &Sink) {
    let mut last = sink.total();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(50));
        let now = sink.total();
        if now == last {
            return;
        }
        last = now;
    }
}
