//! The PROXY protocol's version 2 header, for workloads that terminate tunnels behind the agent
//! (application tunnels): both addresses and, as TLV 0xD0, the client's SPIFFE identity.

use std::net::{IpAddr, SocketAddr};

use ambit_model::Identity;

/// The twelve bytes every header starts with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_COMMAND: u8 = 0x21;
/// TCP over IPv4.
const TCP4: u8 = 0x11;
/// TCP over IPv6.
const TCP6: u8 = 0x21;
/// The TLV that carries the client's identity.
pub const TLV_IDENTITY: u8 = 0xd0;

/// The header for a connection of `source` to `destination`. With mixed families both are written
/// as IPv6.
#[must_use]
pub fn header(source: SocketAddr, destination: SocketAddr, identity: Option<&Identity>) -> Vec<u8> {
    let mut body = Vec::with_capacity(160);
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            body.extend(from.octets());
            body.extend(to.octets());
            TCP4
        }
        (from, to) => {
            body.extend(as_six(from));
            body.extend(as_six(to));
            TCP6
        }
    };
    body.extend(source.port().to_be_bytes());
    body.extend(destination.port().to_be_bytes());
    if let Some(identity) = identity {
        push_tlv(&mut body, TLV_IDENTITY, identity.to_string().as_bytes());
    }
    let mut header = Vec::with_capacity(16 + body.len());
    header.extend(SIGNATURE);
    header.extend([VERSION_COMMAND, family]);
    // Two addresses and one bounded TLV: always far below 64 KiB.
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

fn as_six(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().octets(),
        IpAddr::V6(six) => six.octets(),
    }
}

/// Longest identity that is carried; a SPIFFE id may have 2048 bytes.
const MAX_IDENTITY: usize = 2048;

fn push_tlv(body: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if value.len() > MAX_IDENTITY {
        return;
    }
    body.push(kind);
    body.extend((value.len() as u16).to_be_bytes());
    body.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_header_byte_for_byte() {
        let header = header(
            "10.0.0.1:4660".parse().unwrap(),
            "10.0.0.2:80".parse().unwrap(),
            Some(&"spiffe://td/ns/a/sa/b".parse().unwrap()),
        );
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x24".to_vec();
        expected.extend([10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80]);
        expected.extend([0xd0, 0, 21]);
        expected.extend(b"spiffe://td/ns/a/sa/b");
        assert_eq!(header, expected);
    }

    #[test]
    fn ipv6_and_mixed_families_are_ipv6() {
        for (source, destination) in [
            ("[2001:db8::1]:1", "[2001:db8::2]:2"),
            ("10.0.0.1:1", "[2001:db8::2]:2"),
        ] {
            let header = header(source.parse().unwrap(), destination.parse().unwrap(), None);
            assert_eq!(header[13], TCP6);
            assert_eq!(u16::from_be_bytes([header[14], header[15]]), 36);
            assert_eq!(header.len(), 16 + 36);
        }
    }
}
