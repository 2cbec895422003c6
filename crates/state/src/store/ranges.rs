//! Virtual ranges, found by the longest prefix: one look per prefix length in use.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ambit_model::{Service, ServiceKey};
use ipnet::IpNet;

use super::Shared;

/// The ranges of one network.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    v4: BTreeMap<u8, HashMap<IpNet, Shared<Service>>>,
    v6: BTreeMap<u8, HashMap<IpNet, Shared<Service>>>,
}

impl Ranges {
    fn family(&mut self, v6: bool) -> &mut BTreeMap<u8, HashMap<IpNet, Shared<Service>>> {
        if v6 { &mut self.v6 } else { &mut self.v4 }
    }

    pub(super) fn insert(&mut self, range: IpNet, service: &Arc<Service>) {
        let lengths = self.family(range.addr().is_ipv6());
        let bearers = lengths
            .entry(range.prefix_len())
            .or_default()
            .entry(range.trunc())
            .or_default();
        super::services::add(bearers, service);
    }

    pub(super) fn remove(&mut self, range: IpNet, key: &ServiceKey) {
        let lengths = self.family(range.addr().is_ipv6());
        let Some(ranges) = lengths.get_mut(&range.prefix_len()) else {
            return;
        };
        if let Some(bearers) = ranges.get_mut(&range.trunc()) {
            super::services::take(bearers, key);
            if bearers.is_empty() {
                ranges.remove(&range.trunc());
            }
        }
        if ranges.is_empty() {
            lengths.remove(&range.prefix_len());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The bearers of the ranges that hold `address`, the longest prefix first.
    pub(super) fn find(&self, address: IpAddr) -> impl Iterator<Item = &Shared<Service>> {
        let lengths = if address.is_ipv6() {
            &self.v6
        } else {
            &self.v4
        };
        lengths.iter().rev().filter_map(move |(length, ranges)| {
            let range = IpNet::new(address, *length).ok()?.trunc();
            ranges.get(&range)
        })
    }
}
