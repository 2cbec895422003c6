//! TCP listeners in a namespace, and accepting without binding the result to a runtime: the
//! connection goes to whichever worker is to carry it.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{SockAddr, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{Hop, Netns, SocketSettings, netns, socket};

/// What a listener is for.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Where its peers are.
    pub hop: Hop,
    /// Takes connections to addresses that are not of the namespace (`IP_TRANSPARENT`), where
    /// the process has the right to.
    pub transparent: bool,
}

/// Listens on `address` in `netns`. IPv6 listeners take no IPv4.
///
/// # Errors
/// What the kernel answered.
pub fn listen(
    netns: &Netns,
    address: SocketAddr,
    options: ListenOptions,
    settings: &SocketSettings,
) -> io::Result<TcpListener> {
    let socket = socket::make(netns, address, Type::STREAM)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if settings.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket::mark(&socket, settings)?;
    if options.transparent {
        match socket::set_transparent(&socket, address.ip()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    socket::tune(&socket, options.hop, settings)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(settings.backlog)?;
    Ok(socket.into())
}

/// Accepts connections of one listener on the runtime it was made on.
#[derive(Debug)]
pub struct Acceptor {
    listener: AsyncFd<TcpListener>,
    local: SocketAddr,
}

impl Acceptor {
    /// Registers a non-blocking listener with the current runtime.
    ///
    /// # Errors
    /// When the runtime's poller refuses it.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        let local = listener.local_addr()?;
        // SAFETY: a TcpListener owns its descriptor, always names the same one, and closes it only
        // when dropped, which the AsyncFd does after it has deregistered it.
        let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }?;
        Ok(Self { listener, local })
    }

    /// The address listened on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next connection: a non-blocking stream of no runtime yet, and its peer.
    ///
    /// # Errors
    /// Those of `accept`, of which most concern one connection: see [`is_fatal`].
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.listener.async_io(Interest::READABLE, accept).await
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.get_ref().as_fd()
    }
}

/// Whether an error of `accept` means that the listener itself is gone. Others (a peer that left,
/// no descriptors at the moment) pass.
#[must_use]
pub fn is_fatal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK)
    )
}

/// One `accept4` that leaves the stream non-blocking, where the standard library takes two calls.
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    // SAFETY: `try_init` gives the kernel a zeroed storage with its length; the closure returns Ok
    // only when the kernel has filled both.
    let (fd, peer) = unsafe {
        SockAddr::try_init(|storage, length| {
            let fd = libc::accept4(
                listener.as_raw_fd(),
                storage.cast(),
                length,
                libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            );
            if fd < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(netns::own(fd))
            }
        })
    }?;
    let peer = peer
        .as_socket()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "peer has no IP address"))?;
    Ok((fd.into(), peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ListenOptions {
        ListenOptions {
            hop: Hop::Loopback,
            transparent: true,
        }
    }

    #[tokio::test]
    async fn a_connection_is_accepted_unbound_to_a_runtime() {
        let netns = Netns::create().unwrap();
        for address in ["127.0.0.1:15001", "[::1]:15001"] {
            let address: SocketAddr = address.parse().unwrap();
            let listener = listen(&netns, address, options(), &SocketSettings::default()).unwrap();
            let acceptor = Acceptor::new(listener).unwrap();
            let client = netns.run(|| TcpStream::connect(address)).unwrap();
            let (stream, peer) = acceptor.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert!(stream.nodelay().unwrap(), "inherited from the listener");
            let congestion =
                nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::TcpCongestion)
                    .unwrap();
            let wanted = SocketSettings::default().loopback_congestion.unwrap();
            assert_eq!(
                congestion.to_string_lossy().trim_end_matches('\0'),
                wanted.as_str()
            );
        }
    }

    #[test]
    fn two_agents_listen_on_one_port() {
        let netns = Netns::create().unwrap();
        let address = "0.0.0.0:15008".parse().unwrap();
        let settings = SocketSettings::default();
        let _old = listen(&netns, address, options(), &settings).unwrap();
        let _new = listen(&netns, address, options(), &settings).unwrap();
        let alone = SocketSettings {
            reuse_port: false,
            ..settings
        };
        assert!(listen(&netns, address, options(), &alone).is_err());
    }

    #[test]
    fn an_ipv6_listener_leaves_ipv4_alone() {
        let netns = Netns::create().unwrap();
        let settings = SocketSettings {
            reuse_port: false,
            ..SocketSettings::default()
        };
        let _six = listen(&netns, "[::]:80".parse().unwrap(), options(), &settings).unwrap();
        let _four = listen(&netns, "0.0.0.0:80".parse().unwrap(), options(), &settings).unwrap();
    }
}
