//! What an idle tunnelled stream and an idle connection cost in memory, both sides together,
//! measured on the process. Alone in its program, so that nothing else moves the figure.

#![expect(clippy::unwrap_used, reason = "a test ends when something fails")]

#[path = "tunnel/support/pki.rs"]
mod pki;

use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::tls::{accept, connect};
use ambit_hbone::{ConnectRequest, Connection, Error, Pool, Settings, Stream};
use ambit_net::copy::{Counters, IoEnd, copy_bidirectional};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Streams per connection; the pool's limit.
const PER_CONNECTION: usize = 100;
/// Bytes that one side of an idle stream may cost, its task included.
const STREAM_BUDGET: usize = 2048;
/// Bytes that one side of an idle connection may cost, its task and certificates included.
const CONNECTION_BUDGET: usize = 16 * 1024;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

/// Each stream's server side copies between the stream and a pipe, as the proxy does.
async fn serve(listener: TcpListener) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        spawn_local(async move {
            let tls = accept(tcp, Arc::clone(&pki::pki().server), TIMEOUT)
                .await
                .unwrap();
            let mut connection = Connection::accept(tls, &Settings::default()).await.unwrap();
            while let Ok(Some(request)) = connection.next().await {
                spawn_local(async move {
                    let mut stream = request.accept(HeaderMap::new()).unwrap();
                    let (near, mut far) = tokio::io::duplex(64);
                    let mut near = IoEnd::new(near);
                    let counters = Counters::default();
                    let copy = copy_bidirectional(&mut stream, &mut near, &counters);
                    let echo = async {
                        while let Ok(byte) = far.read_u8().await {
                            far.write_u8(byte).await.unwrap();
                        }
                    };
                    let _end = tokio::join!(copy, echo);
                });
            }
        });
    }
}

async fn open(pool: &Pool<usize, Error>, key: usize, to: std::net::SocketAddr) -> Stream {
    let dial = || async {
        let tcp = TcpStream::connect(to).await?;
        connect(tcp, Arc::clone(&pki::pki().client), pki::name(), TIMEOUT).await
    };
    let request = ConnectRequest {
        authority: "10.0.0.1:80".into(),
        headers: HeaderMap::new(),
    };
    let mut stream = pool.open(&key, dial, request).await.unwrap().stream;
    // Used once, so that what is kept after use counts too.
    stream.write_u8(1).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 1);
    stream
}

#[test]
fn idle_streams_and_connections_are_small() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_local(serve(listener));
        let pool = Pool::new(Settings::default());
        let mut streams = Vec::with_capacity(4000);
        for key in 0..20 {
            streams.push(open(&pool, key, address).await);
        }
        let before = resident();
        for key in 20..120 {
            streams.push(open(&pool, key, address).await);
        }
        let connections = resident();
        for key in 0..20 {
            for _ in 1..PER_CONNECTION {
                streams.push(open(&pool, key, address).await);
            }
        }
        let per_connection = (connections - before) / 100 / 2;
        let per_stream = (resident() - connections) / (20 * (PER_CONNECTION - 1)) / 2;
        println!("per side: {per_connection} bytes a connection, {per_stream} a stream");
        assert!(per_connection <= CONNECTION_BUDGET, "{per_connection}");
        assert!(per_stream <= STREAM_BUDGET, "{per_stream}");
        drop(streams);
    });
}
