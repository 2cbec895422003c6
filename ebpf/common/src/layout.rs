//! The values of the maps, each with the map it belongs to.

use crate::{Address, CONGESTION_NAME, Endpoint, MAX_ADDRESSES};

/// Bits of [`NetnsEntry::flags`].
pub mod flags {
    /// Connections that applications open are captured.
    pub const OUTBOUND: u32 = 1;
    /// DNS is steered to the agent's resolver.
    pub const DNS: u32 = 2;
    /// Processes of this namespace may be the kubelet; their tgid is looked up.
    pub const KUBELET: u32 = 4;
}

/// Value of map `NETNS`, by namespace cookie: what to do with sockets of that network namespace.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetnsEntry {
    /// See [`flags`].
    pub flags: u32,
    /// How many of `addresses` are in use.
    pub count: u32,
    /// Where captured IPv4 connections go: the pod's first IPv4 address, or 127.0.0.1 when it has none.
    pub v4: Address,
    /// Where captured IPv6 connections go: the pod's first IPv6 address, or `::1` when it has none.
    pub v6: Address,
    /// All of the pod's addresses; connections between them are the pod's own affair.
    pub addresses: [Address; MAX_ADDRESSES],
}

impl NetnsEntry {
    /// Whether `address` is one of the pod's own.
    #[inline(always)]
    #[must_use]
    pub fn owns(&self, address: &Address) -> bool {
        let mut found = false;
        for (index, own) in self.addresses.iter().enumerate() {
            found |= (index as u32) < self.count && own.same(address);
        }
        found
    }
}

/// What a socket was doing when its destination was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// The record is left over from an earlier `connect()` and means nothing.
    None = 0,
    /// TCP, steered to the agent.
    Captured = 1,
    /// UDP to a name server, steered to the agent's resolver.
    Dns = 2,
    /// A connection of the kubelet: only watched.
    Probe = 3,
}

/// Value of map `DESTINATIONS`, stored with the socket itself: the destination the application asked for.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Destination {
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// A [`Kind`].
    pub kind: u32,
    /// The destination.
    pub endpoint: Endpoint,
}

/// Key of map `LISTENERS`: the agent's inbound listener of a pod.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ListenerKey {
    /// Cookie of the pod's network namespace.
    pub netns: u64,
    /// 4 or 6, the version of IP.
    pub version: u64,
}

/// Value of the one entry of map `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Congestion control algorithm for captured application sockets, zero-terminated; empty leaves the
    /// system's default. Their peer is the agent on the same loopback, where pacing only costs.
    pub congestion: [u8; CONGESTION_NAME],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_padding() {
        assert_eq!(size_of::<NetnsEntry>(), 8 + 16 * (2 + MAX_ADDRESSES));
        assert_eq!(size_of::<Destination>(), 32);
        assert_eq!(size_of::<ListenerKey>(), 16);
        assert_eq!(size_of::<Settings>(), 16);
    }
}
