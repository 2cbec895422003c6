//! UDP sockets in a namespace, for the DNS proxy and its questions upstream.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{SockAddr, Type};

use crate::{Netns, SocketSettings, socket};

/// Binds a non-blocking, marked UDP socket in `netns`; `shared` lets an old and a new agent overlap.
///
/// # Errors
/// What the kernel answered.
pub fn bind_udp(
    netns: &Netns,
    address: SocketAddr,
    shared: bool,
    settings: &SocketSettings,
) -> io::Result<UdpSocket> {
    let socket = socket::make(netns, address, Type::DGRAM)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared && settings.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket::mark(&socket, settings)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_sockets_share_a_port_and_others_do_not() {
        let netns = Netns::create().unwrap();
        let settings = SocketSettings::default();
        let address = "127.0.0.1:15053".parse().unwrap();
        let _first = bind_udp(&netns, address, true, &settings).unwrap();
        let _second = bind_udp(&netns, address, true, &settings).unwrap();
        assert!(bind_udp(&netns, address, false, &settings).is_err());
    }
}
