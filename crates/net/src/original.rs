//! Where a connection that netfilter redirected was going (`SO_ORIGINAL_DST`). Connections captured
//! by eBPF carry it elsewhere: inbound ones as their own local address.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};

/// The destination before redirection, IPv4 first; `None` when there was no redirection.
pub fn redirected_from<S: AsFd>(stream: &S) -> Option<SocketAddr> {
    if let Ok(found) = getsockopt(stream, sockopt::OriginalDst) {
        let address = std::net::Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr));
        return Some(SocketAddr::from((address, u16::from_be(found.sin_port))));
    }
    let found = getsockopt(stream, sockopt::Ip6tOriginalDst).ok()?;
    let address = std::net::Ipv6Addr::from(found.sin6_addr.s6_addr);
    Some(canonical(SocketAddr::from((
        address,
        u16::from_be(found.sin6_port),
    ))))
}

/// The same address without IPv6 mapping, flow or scope.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_plain_connection_was_not_redirected() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(redirected_from(&accepted), None);
    }

    #[test]
    fn mapped_addresses_are_unmapped() {
        let mapped = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(canonical(mapped), "10.0.0.1:80".parse().unwrap());
        let six = "[2001:db8::1]:80".parse().unwrap();
        assert_eq!(canonical(six), six);
    }
}
