//! The two agents, one thread each, with the tunnel under test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ambit_hbone::tls::{accept, connect};
use ambit_hbone::{ConnectRequest, Connection, Error, Pool, Settings};
use ambit_net::copy::{Counters, TcpEnd, copy_bidirectional};
use http::HeaderMap;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

use crate::pki::{name, pki};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Two agents' threads, and where the first takes connections.
pub(crate) struct Agents {
    pub(crate) address: SocketAddr,
    pub(crate) threads: [u32; 2],
}

impl Agents {
    /// CPU seconds that both threads have used.
    pub(crate) fn cpu(&self) -> f64 {
        let used = |thread: &u32| {
            let path = format!("/proc/self/task/{thread}/schedstat");
            let text = std::fs::read_to_string(path).unwrap();
            text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
        };
        self.threads.iter().map(used).sum()
    }
}

/// Runs an agent on a thread of its own; it announces where it listens.
pub(crate) fn spawn<F: Future<Output = ()>>(
    agent: impl FnOnce(Sender<SocketAddr>) -> F + Send + 'static,
) -> (SocketAddr, u32) {
    let (announce, address) = channel();
    let (tell, thread) = channel();
    std::thread::spawn(move || {
        let link = std::fs::read_link("/proc/thread-self").unwrap();
        tell.send(link.file_name().unwrap().to_str().unwrap().parse().unwrap())
            .unwrap();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap();
        runtime.block_on(agent(announce));
    });
    (address.recv().unwrap(), thread.recv().unwrap())
}

pub(crate) async fn listen(announce: &Sender<SocketAddr>) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    announce.send(listener.local_addr().unwrap()).unwrap();
    listener
}

pub(crate) fn start(server: SocketAddr) -> Agents {
    let (tunnel, accepting) = spawn(move |announce| accepting(announce, server));
    let (address, opening) = spawn(move |announce| opening(announce, tunnel));
    Agents {
        address,
        threads: [accepting, opening],
    }
}

async fn accepting(announce: Sender<SocketAddr>, server: SocketAddr) {
    let listener = listen(&announce).await;
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        spawn_local(async move {
            let tls = accept(tcp, Arc::clone(&pki().server), TIMEOUT)
                .await
                .unwrap();
            let mut connection = Connection::accept(tls, &Settings::default()).await.unwrap();
            while let Ok(Some(request)) = connection.next().await {
                spawn_local(async move {
                    let tcp = TcpStream::connect(server).await.unwrap();
                    tcp.set_nodelay(true).unwrap();
                    let mut stream = request.accept(HeaderMap::new()).unwrap();
                    let counters = Counters::default();
                    let mut tcp = TcpEnd::new(tcp);
                    let _end = copy_bidirectional(&mut stream, &mut tcp, &counters).await;
                });
            }
        });
    }
}

async fn opening(announce: Sender<SocketAddr>, tunnel: SocketAddr) {
    let listener = listen(&announce).await;
    let pool: Pool<(), Error> = Pool::new(Settings::default());
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let pool = pool.clone();
        spawn_local(async move {
            let dial = || async move {
                let tcp = TcpStream::connect(tunnel).await?;
                tcp.set_nodelay(true)?;
                connect(tcp, Arc::clone(&pki().client), name(), TIMEOUT).await
            };
            let request = ConnectRequest {
                authority: "10.0.0.1:80".into(),
                headers: HeaderMap::new(),
            };
            let mut stream = pool.open(&(), dial, request).await.unwrap().stream;
            let counters = Counters::default();
            let _end = copy_bidirectional(&mut TcpEnd::new(tcp), &mut stream, &counters).await;
        });
    }
}
