//! Addresses, ranges, ports, gateways and host names: the parts that several resources share.

use std::net::{IpAddr, Ipv6Addr};

use ambit_proto::workload as proto;
use ipnet::IpNet;

use super::intern::Interner;
use super::{ConvertError, text};
use crate::{
    GatewayAddress, GatewayDestination, Hostname, NamespacedHostname, NetworkAddress, NetworkCidr,
    Port,
};

/// The port of HBONE, and what an elided one stands for.
const HBONE_PORT: u16 = 15008;

/// A network's single address or range.
pub(super) enum Vip {
    Address(NetworkAddress),
    Range(NetworkCidr),
}

/// An address as bytes in network order; IPv4 in IPv6 clothes is unclothed.
pub(super) fn ip(field: &'static str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    raw_ip(field, bytes).map(|ip| ip.to_canonical())
}

fn raw_ip(field: &'static str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(Ipv6Addr::from(v6).into()),
        Err(_) => Err(ConvertError::new(
            field,
            bytes.escape_ascii(),
            "an address of 4 or 16 bytes",
        )),
    }
}

/// A range; host bits are cleared.
pub(super) fn range(field: &'static str, bytes: &[u8], length: u32) -> Result<IpNet, ConvertError> {
    let raw = raw_ip(field, bytes)?;
    let refuse = || ConvertError::new(field, format!("{raw}/{length}"), "a valid prefix length");
    let address = raw.to_canonical();
    // The first 96 bits of a v4-mapped range say that it is one.
    let length = match raw.is_ipv6() && address.is_ipv4() {
        true => length.checked_sub(96).ok_or_else(refuse)?,
        false => length,
    };
    let length = u8::try_from(length).map_err(|_| refuse())?;
    IpNet::new(address, length)
        .map(|net| net.trunc())
        .map_err(|_| refuse())
}

pub(super) fn vip(
    address: &proto::NetworkAddress,
    shared: &mut Interner,
) -> Result<Vip, ConvertError> {
    let network = shared.text(&address.network).into();
    let Some(length) = address.length else {
        let address = ip("addresses", &address.address)?;
        return Ok(Vip::Address(NetworkAddress { network, address }));
    };
    let range = range("addresses", &address.address, length)?;
    if range.prefix_len() == range.max_prefix_len() {
        return Ok(Vip::Address(NetworkAddress {
            network,
            address: range.addr(),
        }));
    }
    Ok(Vip::Range(NetworkCidr { network, range }))
}

/// Lower case, without a trailing dot, not empty.
pub(super) fn hostname(
    field: &'static str,
    name: &str,
    shared: &mut Interner,
) -> Result<Hostname, ConvertError> {
    let trimmed = name.strip_suffix('.').unwrap_or(name);
    if trimmed.is_empty() || trimmed.contains('/') {
        return Err(ConvertError::new(field, name, "a host name"));
    }
    if trimmed.bytes().any(|b| b.is_ascii_uppercase()) {
        return Ok(shared.text(&trimmed.to_ascii_lowercase()).into());
    }
    Ok(shared.text(trimmed).into())
}

/// A part of a name or identity: not empty, and without the separator.
pub(super) fn part(
    field: &'static str,
    value: &str,
    shared: &mut Interner,
) -> Result<std::sync::Arc<str>, ConvertError> {
    if value.is_empty() || value.contains('/') {
        return Err(ConvertError::new(field, value, "a name without a slash"));
    }
    Ok(shared.text(value))
}

pub(super) fn port(field: &'static str, port: u32) -> Result<u16, ConvertError> {
    u16::try_from(port).map_err(|_| ConvertError::new(field, port, "a port up to 65535"))
}

pub(super) fn ports(ports: &[proto::Port]) -> Result<Vec<Port>, ConvertError> {
    let convert = |p: &proto::Port| {
        Ok(Port {
            service_port: port("ports.service_port", p.service_port)?,
            target_port: port("ports.target_port", p.target_port)?,
            app_protocol: super::service::app_protocol(p.app_protocol)?,
        })
    };
    ports.iter().map(convert).collect()
}

pub(super) fn gateway(
    field: &'static str,
    gateway: &proto::GatewayAddress,
    shared: &mut Interner,
) -> Result<GatewayAddress, ConvertError> {
    use proto::gateway_address::Destination;
    let destination = match &gateway.destination {
        Some(Destination::Hostname(name)) => GatewayDestination::Hostname(NamespacedHostname {
            namespace: part(field, &name.namespace, shared)?.into(),
            hostname: hostname(field, &name.hostname, shared)?,
        }),
        Some(Destination::Address(a)) => {
            if a.length
                .is_some_and(|length| length as usize != a.address.len() * 8)
            {
                return Err(ConvertError::new(field, "a range", "a single address"));
            }
            GatewayDestination::Address(NetworkAddress {
                network: shared.text(&a.network).into(),
                address: ip(field, &a.address)?,
            })
        }
        None => return Err(ConvertError::new(field, "", "a host name or an address")),
    };
    let hbone_port = match port(field, gateway.hbone_mtls_port)? {
        0 => HBONE_PORT,
        given => given,
    };
    Ok(GatewayAddress {
        destination,
        hbone_port,
    })
}

pub(super) fn ip_to_proto(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(super) fn address_to_proto(address: &NetworkAddress) -> proto::NetworkAddress {
    proto::NetworkAddress {
        network: text(&address.network),
        address: ip_to_proto(address.address).into(),
        length: None,
    }
}

pub(super) fn range_to_proto(range: &NetworkCidr) -> proto::NetworkAddress {
    let full = range.range.prefix_len() == range.range.max_prefix_len();
    proto::NetworkAddress {
        network: text(&range.network),
        address: ip_to_proto(range.range.network()).into(),
        length: (!full).then(|| range.range.prefix_len().into()),
    }
}

pub(super) fn port_to_proto(port: &Port) -> proto::Port {
    proto::Port {
        service_port: port.service_port.into(),
        target_port: port.target_port.into(),
        app_protocol: super::service::app_protocol_to_proto(port.app_protocol).into(),
    }
}

pub(super) fn gateway_to_proto(gateway: &GatewayAddress) -> proto::GatewayAddress {
    use proto::gateway_address::Destination;
    let destination = match &gateway.destination {
        GatewayDestination::Hostname(name) => Destination::Hostname(proto::NamespacedHostname {
            namespace: text(&name.namespace),
            hostname: text(&name.hostname),
        }),
        GatewayDestination::Address(address) => Destination::Address(address_to_proto(address)),
    };
    proto::GatewayAddress {
        destination: Some(destination),
        hbone_mtls_port: gateway.hbone_port.into(),
    }
}
