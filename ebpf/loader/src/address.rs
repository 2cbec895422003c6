//! Between the standard library's addresses and the maps' form.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ambit_ebpf_common::{Address, Endpoint};

/// To the maps' form; IPv4-mapped addresses become the same as their IPv4 twins by nature of that form.
pub(crate) fn from_ip(ip: IpAddr) -> Address {
    let octets = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    Address { words }
}

/// From the maps' form; IPv4 wherever possible.
pub(crate) fn to_ip(address: Address) -> IpAddr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(address.words) {
        *bytes = word.to_ne_bytes();
    }
    IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
}

pub(crate) fn from_socket(address: SocketAddr) -> Endpoint {
    Endpoint {
        address: from_ip(address.ip()),
        port: address.port().into(),
    }
}

pub(crate) fn to_socket(endpoint: Endpoint) -> SocketAddr {
    SocketAddr::new(to_ip(endpoint.address), endpoint.port as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (given, expected) in [
            ("10.1.2.3:53", "10.1.2.3:53"),
            ("[fd77::1]:65535", "[fd77::1]:65535"),
            ("[::ffff:10.1.2.3]:1", "10.1.2.3:1"),
            ("[::1]:0", "[::1]:0"),
        ] {
            let given: SocketAddr = given.parse().unwrap();
            assert_eq!(to_socket(from_socket(given)).to_string(), expected);
        }
        assert!(from_ip("127.0.0.9".parse().unwrap()).is_loopback());
        assert!(from_ip("::1".parse().unwrap()).is_loopback());
        assert!(!from_ip("10.0.0.127".parse().unwrap()).is_loopback());
        assert!(from_ip("10.0.0.1".parse().unwrap()).is_v4());
    }
}
