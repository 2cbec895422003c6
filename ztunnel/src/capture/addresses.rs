//! The addresses a network namespace holds: proof that a namespace is a pod's, and the pod's
//! addresses where nobody told them.

use std::io;
use std::net::IpAddr;

use ambit_net::Netns;
use nix::ifaddrs::getifaddrs;

/// Addresses other hosts can reach: not loopback, not link-local. Canonical, sorted, each once.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn addresses_of(netns: &Netns) -> io::Result<Vec<IpAddr>> {
    netns.run(|| {
        let mut found: Vec<IpAddr> = getifaddrs()?
            .filter_map(|interface| {
                let address = interface.address?;
                let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
            })
            .filter(|address| reachable(*address))
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    })
}

/// Whether the namespace holds at least one of a pod's addresses.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn holds(netns: &Netns, expected: &[IpAddr]) -> io::Result<bool> {
    let present = addresses_of(netns)?;
    Ok(expected.iter().any(|address| present.contains(address)))
}

fn reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_can_reach_count() {
        for (text, expected) in [
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("169.254.1.1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(reachable(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_fresh_namespace_holds_nothing() {
        let netns = Netns::create().unwrap();
        assert!(addresses_of(&netns).unwrap().is_empty());
        assert!(!holds(&netns, &["10.0.0.1".parse().unwrap()]).unwrap());
    }
}
