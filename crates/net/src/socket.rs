//! The options common to listeners and connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{Hop, Netns, SocketSettings};

/// Makes a non-blocking socket of `address`' family in `netns`.
pub(crate) fn make(netns: &Netns, address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    let kind = kind.nonblocking().cloexec();
    netns.run(|| Socket::new_raw(Domain::for_address(address), kind, Some(protocol)))
}

/// Sets the mark, where the process has the right to.
pub(crate) fn mark(socket: &Socket, settings: &SocketSettings) -> io::Result<()> {
    match settings.mark {
        Some(mark) => socket.set_mark(mark),
        None => Ok(()),
    }
}

/// Sets what a TCP socket needs for its hop; accepted sockets inherit all of it from the listener.
pub(crate) fn tune(socket: &Socket, hop: Hop, settings: &SocketSettings) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let congestion = match hop {
        Hop::Loopback => settings.loopback_congestion,
        Hop::Network => settings.network_congestion,
    };
    if let Some(congestion) = congestion {
        congestion.apply(socket.as_fd())?;
    }
    // The other end of a loopback hop is this kernel: it tells when an application is gone.
    if let (Hop::Network, Some(keepalive)) = (hop, settings.keepalive) {
        let wanted = socket2::TcpKeepalive::new()
            .with_time(keepalive.time)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.retries);
        socket.set_tcp_keepalive(&wanted)?;
        if settings.user_timeout {
            socket.set_tcp_user_timeout(Some(keepalive.total()))?;
        }
    }
    Ok(())
}

/// Lets the socket use addresses that are not of this machine (`IP_TRANSPARENT`).
pub(crate) fn set_transparent(socket: &Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true),
        IpAddr::V6(_) => set_flag(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
    }
}

/// Leaves the choice of a local port to `connect`, so that a port may serve several destinations.
pub(crate) fn set_late_port(socket: &Socket) -> io::Result<()> {
    // The option is of the IPv4 level also for IPv6 sockets.
    set_flag(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT)
}

fn set_flag(socket: &Socket, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads one int from `on`, which lives until the call returns.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
