//! Outgoing TCP connections in a namespace: bounded in time, marked, and with the source address
//! that is asked for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{SockAddr, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::{Hop, Netns, SocketSettings, socket};

/// The address a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// As the routing table says.
    Any,
    /// An address of the namespace.
    Bind(IpAddr),
    /// Another machine's address, toward an application of this namespace.
    Original {
        /// The address.
        address: IpAddr,
        /// Keep the packets on the loopback device, so that capture programs do not take them for
        /// arriving ones, with this mark instead of the usual one: what they set up sends replies
        /// to it back (`tcp_fwmark_accept`, and a routing rule for it). Netfilter rules track the
        /// connection instead, and have no such route.
        loopback_mark: Option<u32>,
    },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The socket could not be made or set up here.
    #[error("no socket")]
    Local(#[source] io::Error),
    /// The destination refused, or is not reachable.
    #[error("connect failed")]
    Remote(#[source] io::Error),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl ConnectError {
    /// The kind of the underlying error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Local(error) | Self::Remote(error) => error.kind(),
            Self::Timeout(_) => io::ErrorKind::TimedOut,
        }
    }
}

/// Connects from `netns` to `to`.
///
/// # Errors
/// Tells apart what failed here, what the other end said, and silence.
pub async fn connect(
    netns: &Netns,
    to: SocketAddr,
    source: Source,
    hop: Hop,
    settings: &SocketSettings,
) -> Result<TcpStream, ConnectError> {
    let socket = prepare(netns, to, source, hop, settings).map_err(ConnectError::Local)?;
    let socket = TcpSocket::from_std_stream(OwnedFd::from(socket).into());
    match tokio::time::timeout(settings.connect_timeout, socket.connect(to)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(ConnectError::Remote(error)),
        Err(_) => Err(ConnectError::Timeout(settings.connect_timeout)),
    }
}

fn prepare(
    netns: &Netns,
    to: SocketAddr,
    source: Source,
    hop: Hop,
    settings: &SocketSettings,
) -> io::Result<Socket> {
    let socket = socket::make(netns, to, Type::STREAM)?;
    socket::tune(&socket, hop, settings)?;
    match source {
        Source::Original {
            loopback_mark: Some(mark),
            ..
        } => {
            socket.set_mark(mark)?;
            socket.bind_device(Some(b"lo"))?;
        }
        _ => socket::mark(&socket, settings)?,
    }
    let from = match source {
        Source::Any => return Ok(socket),
        Source::Bind(address) => address,
        Source::Original { address, .. } => {
            socket::set_transparent(&socket, address)?;
            address
        }
    };
    socket::set_late_port(&socket)?;
    socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    async fn try_connect(
        netns: &Netns,
        to: &str,
        source: Source,
        settings: &SocketSettings,
    ) -> Result<TcpStream, ConnectError> {
        connect(netns, to.parse().unwrap(), source, Hop::Loopback, settings).await
    }

    #[tokio::test]
    async fn the_source_address_is_the_asked_one() {
        let netns = Netns::create().unwrap();
        let listener = netns.run(|| TcpListener::bind("127.0.0.1:80")).unwrap();
        let source = Source::Bind("127.0.0.9".parse().unwrap());
        let settings = SocketSettings::default();
        let _stream = try_connect(&netns, "127.0.0.1:80", source, &settings)
            .await
            .unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.9");
    }

    #[tokio::test]
    async fn a_foreign_source_is_seen_by_the_application_and_answered() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let netns = Netns::create().unwrap();
        foreign_sources_return(&netns);
        for (listen, from) in [("127.0.0.1:80", "192.0.2.7"), ("[::1]:80", "2001:db8::7")] {
            let listener = netns.run(|| TcpListener::bind(listen)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let source = Source::Original {
                address: from.parse().unwrap(),
                loopback_mark: Some(0x1_0539),
            };
            let settings = SocketSettings::default();
            let (ours, theirs) =
                tokio::join!(try_connect(&netns, listen, source, &settings), async {
                    listener.accept().await.unwrap()
                });
            let (mut ours, (mut theirs, peer)) = (ours.unwrap(), theirs);
            assert_eq!(peer.ip().to_string(), from);
            theirs.write_all(b"x").await.unwrap();
            assert_eq!(ours.read_u8().await.unwrap(), b'x');
        }
    }

    /// What capture sets up in a pod for replies to foreign addresses.
    fn foreign_sources_return(netns: &Netns) {
        netns
            .run(|| {
                for command in [
                    "ip rule add fwmark 0x10539 lookup 100",
                    "ip route add local default dev lo table 100",
                    "ip -6 rule add fwmark 0x10539 lookup 100",
                    "ip -6 route add local default dev lo table 100",
                ] {
                    let mut words = command.split(' ');
                    let program = words.next().unwrap();
                    let status = std::process::Command::new(program).args(words).status()?;
                    assert!(status.success(), "{command}");
                }
                for rule in ["net/ipv4/tcp_fwmark_accept", "net/ipv4/conf/lo/rp_filter"] {
                    let value = if rule.ends_with("accept") { "1" } else { "0" };
                    std::fs::write(format!("/proc/thread-self/root/proc/sys/{rule}"), value)?;
                }
                Ok(())
            })
            .unwrap();
    }

    #[tokio::test]
    async fn refusal_and_silence_are_told_apart() {
        let netns = Netns::create().unwrap();
        let settings = SocketSettings {
            connect_timeout: Duration::from_millis(50),
            ..SocketSettings::default()
        };
        let refused = try_connect(&netns, "127.0.0.1:9", Source::Any, &settings).await;
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, ConnectError::Remote(_)), "{refused:?}");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        // A listener whose queue is full does not answer.
        let full = netns
            .run(|| {
                let socket = Socket::new(socket2::Domain::IPV4, Type::STREAM, None)?;
                socket.bind(&"127.0.0.1:81".parse::<SocketAddr>().unwrap().into())?;
                socket.listen(0)?;
                Ok(socket)
            })
            .unwrap();
        let mut held = Vec::new();
        let silent = loop {
            match try_connect(&netns, "127.0.0.1:81", Source::Any, &settings).await {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 10, "the queue of one took ten");
        };
        drop(full);
        assert!(matches!(silent, ConnectError::Timeout(_)), "{silent:?}");
    }

    #[tokio::test]
    async fn a_foreign_address_without_the_right_to_it_is_a_local_error() {
        let netns = Netns::create().unwrap();
        let source = Source::Bind("192.0.2.7".parse().unwrap());
        let error = try_connect(&netns, "127.0.0.1:80", source, &SocketSettings::default()).await;
        assert!(matches!(error.unwrap_err(), ConnectError::Local(_)));
    }
}
