//! Requests and new connections: one thread serves, one asks, both on epoll.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ambit_testkit::topology::Host;
use anyhow::{Context, Result, bail};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Bytes of a request.
const REQUEST: usize = 100;
/// Bytes of a reply.
const REPLY: usize = 1024;
/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;
/// Time at the start that does not count.
const WARM_UP: Duration = Duration::from_millis(300);
/// The longest a single step may take.
const STEP: Duration = Duration::from_secs(20);

/// Answers requests on the given ports, for the life of the process.
pub(crate) fn serve(host: &Host, ports: &[u16]) -> Result<()> {
    let mut listeners = Vec::new();
    for port in ports {
        let address = SocketAddr::from((host.v4, *port));
        listeners.push(host.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(std::net::TcpListener::from(socket))
        })?);
    }
    let runtime = runtime()?;
    std::thread::Builder::new()
        .name("server".into())
        .spawn(move || {
            runtime.block_on(async move {
                let mut tasks = tokio::task::JoinSet::new();
                for listener in listeners {
                    let listener = TcpListener::from_std(listener).expect("inside a runtime");
                    tasks.spawn(accept(listener));
                }
                tasks.join_all().await;
            });
        })?;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

async fn accept(listener: TcpListener) {
    loop {
        // An error here is a connection that broke before it was accepted.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(async move { answer(stream).await.ok() });
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut request, reply) = ([0; REQUEST], [0x61; REPLY]);
    loop {
        stream.read_exact(&mut request).await?;
        stream.write_all(&reply).await?;
    }
}

/// What was done in a time, and how long single ones took.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) count: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Asks on so many connections, each one request after the other.
pub(crate) fn ask(
    from: &Host,
    to: SocketAddr,
    connections: usize,
    time: Duration,
    around: impl FnMut() -> Result<()>,
) -> Result<Done> {
    let sockets = open(from, to, connections)?;
    runtime()?.block_on(async move {
        let mut streams = Vec::new();
        for stream in sockets {
            streams.push(TcpStream::from_std(stream)?);
        }
        let window = Window::new(time);
        let tasks = streams
            .into_iter()
            .map(|stream| tokio::spawn(one_after_other(stream, window)));
        gather(tasks.collect(), window, around).await
    })
}

/// Opens connections one by one.
fn open(from: &Host, to: SocketAddr, count: usize) -> Result<Vec<std::net::TcpStream>> {
    let open_one = |_| {
        let stream = ambit_testkit::apps::client::connect(from, to)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    (0..count).map(open_one).collect()
}

/// When counting begins and ends.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: Instant,
    end: Instant,
}

impl Window {
    fn new(time: Duration) -> Self {
        let start = Instant::now() + WARM_UP;
        Self {
            start,
            end: start + time,
        }
    }
}

/// Nanoseconds of each that began and ended within the window.
type Times = Vec<u32>;

async fn one_after_other(mut stream: TcpStream, window: Window) -> Result<Times> {
    let mut times = Vec::with_capacity(1 << 16);
    loop {
        let began = Instant::now();
        if began >= window.end {
            return Ok(times);
        }
        exchange(&mut stream).await?;
        note(&mut times, window, began);
    }
}

fn note(times: &mut Times, window: Window, began: Instant) {
    let now = Instant::now();
    if began >= window.start && now <= window.end {
        times.push(u32::try_from((now - began).as_nanos()).unwrap_or(u32::MAX));
    }
}

async fn exchange(stream: &mut TcpStream) -> Result<()> {
    let (request, mut reply) = ([0x62; REQUEST], [0; REPLY]);
    stream.write_all(&request).await?;
    stream.read_exact(&mut reply).await?;
    Ok(())
}

/// Opens a connection, asks once and closes, again and again, with so many clients. Spread over
/// ports so that closed connections do not use up the addresses.
pub(crate) fn connect(
    from: &Host,
    to: &[SocketAddr],
    clients: usize,
    time: Duration,
    around: impl FnMut() -> Result<()>,
) -> Result<Done> {
    let (from, to) = (from.clone(), to.to_vec());
    // The whole thread is inside the namespace: entering it per connection would be measured.
    from.netns()
        .clone()
        .run(move || {
            let done = runtime()
                .map_err(std::io::Error::other)?
                .block_on(async move {
                    let window = Window::new(time);
                    let tasks = (0..clients).map(|client| {
                        let at = to[client % to.len()];
                        tokio::spawn(new_ones(at, window))
                    });
                    gather(tasks.collect(), window, around).await
                });
            done.map_err(std::io::Error::other)
        })
        .context("new connections")
}

async fn new_ones(to: SocketAddr, window: Window) -> Result<Times> {
    let mut times = Vec::with_capacity(1 << 14);
    loop {
        let began = Instant::now();
        if began >= window.end {
            return Ok(times);
        }
        let socket = TcpSocket::new_v4()?;
        let mut stream = tokio::time::timeout(STEP, socket.connect(to)).await??;
        stream.set_nodelay(true)?;
        exchange(&mut stream).await?;
        stream.shutdown().await?;
        drop(stream);
        note(&mut times, window, began);
    }
}

async fn gather(
    tasks: Vec<tokio::task::JoinHandle<Result<Times>>>,
    window: Window,
    mut around: impl FnMut() -> Result<()>,
) -> Result<Done> {
    tokio::time::sleep_until(window.start.into()).await;
    around()?;
    tokio::time::sleep_until(window.end.into()).await;
    around()?;
    let mut times = Vec::new();
    for task in tasks {
        times.extend(
            tokio::time::timeout(STEP, task)
                .await
                .context("a client hangs")???,
        );
    }
    if times.is_empty() {
        bail!("nothing was done in the time");
    }
    times.sort_unstable();
    let at = |part: f64| f64::from(times[((times.len() - 1) as f64 * part) as usize]) / 1000.0;
    Ok(Done {
        count: times.len() as u64,
        seconds: (window.end - window.start).as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
    })
}

/// Opens so many connections and proves that each works; they stay open in the result.
pub(crate) fn idle(from: &Host, to: SocketAddr, count: usize) -> Result<Vec<std::net::TcpStream>> {
    let sockets = open(from, to, count)?;
    runtime()?.block_on(async {
        let mut kept = Vec::new();
        for stream in sockets {
            let mut stream = TcpStream::from_std(stream)?;
            tokio::time::timeout(STEP, exchange(&mut stream)).await??;
            kept.push(stream.into_std()?);
        }
        Ok(kept)
    })
}
