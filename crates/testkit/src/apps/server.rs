//! The servers themselves.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::bulk::{Pattern, verify};
use super::port;
use crate::topology::Host;

/// Connections waiting to be accepted: tests open thousands at once.
const BACKLOG: i32 = 4096;
/// Buffer of the bulk servers.
const BUFFER: usize = 64 * 1024;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Echo,
    ServerFirst,
    Sink,
    Source,
    Addresses,
    Reset,
    Http,
}

const TCP: [(u16, Kind); 7] = [
    (port::ECHO, Kind::Echo),
    (port::SERVER_FIRST, Kind::ServerFirst),
    (port::SINK, Kind::Sink),
    (port::SOURCE, Kind::Source),
    (port::ADDRESSES, Kind::Addresses),
    (port::RESET, Kind::Reset),
    (port::HTTP, Kind::Http),
];

/// The open sockets of one app.
pub(super) struct Sockets {
    tcp: Vec<(std::net::TcpListener, Kind)>,
    udp: Vec<std::net::UdpSocket>,
}

impl Sockets {
    pub(super) fn open(host: &Host) -> Result<Self> {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let open = || {
            let mut sockets = Self {
                tcp: Vec::new(),
                udp: Vec::new(),
            };
            for ip in any {
                for (port, kind) in TCP {
                    sockets.tcp.push((listen(SocketAddr::new(ip, port))?, kind));
                }
                sockets
                    .udp
                    .push(bind_udp(SocketAddr::new(ip, port::UDP_ECHO))?);
            }
            Ok(sockets)
        };
        host.run(open)
            .with_context(|| format!("listening in {}", host.name()))
    }

    pub(super) fn serve(self, name: &str, tasks: &mut JoinSet<()>) {
        let name: Arc<str> = name.into();
        let pattern = Arc::new(Pattern::default());
        for (listener, kind) in self.tcp {
            let (name, pattern) = (Arc::clone(&name), Arc::clone(&pattern));
            tasks.spawn(async move {
                let listener = TcpListener::from_std(listener).expect("inside a runtime");
                accept(listener, kind, name, pattern).await;
            });
        }
        for socket in self.udp {
            tasks.spawn(async move {
                let socket = UdpSocket::from_std(socket).expect("inside a runtime");
                echo_datagrams(socket).await;
            });
        }
    }
}

/// Listens as a server does.
pub(super) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

async fn accept(listener: TcpListener, kind: Kind, name: Arc<str>, pattern: Arc<Pattern>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let (name, pattern) = (Arc::clone(&name), Arc::clone(&pattern));
                // Tests break connections on purpose: how one ends is theirs to judge.
                connections.spawn(async move { serve(stream, kind, &name, &pattern).await.ok() });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(mut stream: TcpStream, kind: Kind, name: &str, pattern: &Pattern) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match kind {
        Kind::Echo => echo(stream).await,
        Kind::ServerFirst => {
            stream
                .write_all(format!("220 {name} ready\n").as_bytes())
                .await?;
            echo(stream).await
        }
        Kind::Sink => sink(stream, pattern).await,
        Kind::Source => source(stream, pattern).await,
        Kind::Addresses => {
            let text = format!("{} {}\n", stream.local_addr()?, stream.peer_addr()?);
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        }
        Kind::Reset => {
            stream.read_u8().await?;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
        }
        Kind::Http => http(stream, name).await,
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = stream.split();
    // The buffer grows only while bytes flow, so that thousands of idle connections stay small.
    let mut buffer = [0; 2048];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

async fn sink(mut stream: TcpStream, pattern: &Pattern) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut total = 0_u64;
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        if let Some(at) = verify(pattern, total, &buffer[..length]) {
            stream
                .write_all(format!("wrong at {at}\n").as_bytes())
                .await?;
            return stream.shutdown().await;
        }
        total += length as u64;
    }
    // After the client's half-close: the answer proves that the other direction stayed open.
    stream.write_all(format!("ok {total}\n").as_bytes()).await?;
    stream.shutdown().await
}

async fn source(mut stream: TcpStream, pattern: &Pattern) -> io::Result<()> {
    let count = stream.read_u64().await?;
    let mut sent = 0;
    while sent < count {
        let want = usize::try_from(count - sent).unwrap_or(BUFFER).min(BUFFER);
        let part = pattern.at(sent, want);
        stream.write_all(part).await?;
        sent += part.len() as u64;
    }
    stream.shutdown().await
}

/// Answers each request head that ends with an empty line; bodies are not read.
async fn http(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut head = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await?;
        if length == 0 || head.len() > 16 * 1024 {
            return stream.shutdown().await;
        }
        head.extend_from_slice(&buffer[..length]);
        while let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            let first: Vec<u8> = head.drain(..end + 4).take_while(|b| *b != b'\r').collect();
            let body = format!("{name} saw {peer}: {}\n", String::from_utf8_lossy(&first));
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncontent-type: text/plain\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}

async fn echo_datagrams(socket: UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            // A lost answer is UDP's way.
            socket.send_to(&buffer[..length], peer).await.ok();
        }
    }
}
