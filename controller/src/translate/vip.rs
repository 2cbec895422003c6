//! Addresses for service entries that have none, so that their hosts can be told apart by
//! address: derived from names alone, so that every replica and every restart finds the same.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses there are to give: 240.240.0.0/16 without its first and last, and as many of
/// 2001:2::/48.
const SIZE: u32 = 65_534;

/// Gives addresses to names. Ask in a fixed order: of two names that fall on one address the
/// first keeps it.
#[derive(Debug, Default)]
pub(super) struct Allocator {
    taken: HashSet<u32>,
}

impl Allocator {
    /// Keeps an address that is used already from being given.
    pub(super) fn reserve(&mut self, address: IpAddr) {
        self.taken.extend(index_of(address));
    }

    /// An IPv4 and an IPv6 address for a name; `None` when all are taken.
    pub(super) fn allocate(&mut self, name: &str) -> Option<[IpAddr; 2]> {
        let start = hash(name) % SIZE;
        let index = (0..SIZE)
            .map(|step| (start + step) % SIZE + 1)
            .find(|i| !self.taken.contains(i))?;
        self.taken.insert(index);
        let [_, _, high, low] = index.to_be_bytes();
        let group = u16::from_be_bytes([high, low]);
        Some([
            IpAddr::V4(Ipv4Addr::new(240, 240, high, low)),
            IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, group)),
        ])
    }
}

fn index_of(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, high, low] = v4.octets();
            (a == 240 && b == 240).then(|| u32::from_be_bytes([0, 0, high, low]))
        }
        IpAddr::V6(v6) => {
            let groups = v6.segments();
            (groups[..7] == [0x2001, 2, 0, 0, 0, 0, 0]).then(|| u32::from(groups[7]))
        }
    }
}

/// FNV-1a, folded: stable across builds and machines.
fn hash(name: &str) -> u32 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_distinct_and_of_both_families() {
        let mut allocator = Allocator::default();
        let first = allocator.allocate("shop/pay/api.example.com").unwrap();
        assert_eq!(
            Allocator::default().allocate("shop/pay/api.example.com"),
            Some(first)
        );
        assert_ne!(allocator.allocate("shop/pay/api.example.com"), Some(first));
        assert!(first[0].to_string().starts_with("240.240."), "{first:?}");
        assert!(first[1].to_string().starts_with("2001:2::"), "{first:?}");
    }

    #[test]
    fn all_addresses_can_be_given_and_no_more() {
        let mut allocator = Allocator {
            taken: (1..=SIZE).collect(),
        };
        allocator.taken.remove(&7);
        allocator.taken.remove(&SIZE);
        let mut given: Vec<String> = ["x", "y"]
            .iter()
            .filter_map(|name| allocator.allocate(name))
            .map(|[v4, _]| v4.to_string())
            .collect();
        given.sort();
        assert_eq!(given, ["240.240.0.7", "240.240.255.254"]);
        assert_eq!(allocator.allocate("one more"), None);
    }
}
