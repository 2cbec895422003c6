//! What the caller says about a pod.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// A pod to be enrolled. Its listeners must already accept: capture starts before `enroll` returns.
#[derive(Debug)]
pub struct Pod<'a> {
    /// Cookie of its network namespace, see [`netns_cookie`].
    pub cookie: u64,
    /// Its network namespace.
    pub netns: BorrowedFd<'a>,
    /// All its addresses, of both families. Captured connections go to the first of their family.
    pub addresses: Vec<IpAddr>,
    /// Where connections to the pod are handed.
    pub listeners: Listeners<'a>,
    /// Steer DNS to the agent's resolver, which listens on port 15053 of the pod's addresses (or of the
    /// wildcard address), UDP and TCP.
    pub dns: bool,
    /// Hand connections to the pod to the agent.
    pub capture_inbound: bool,
}

/// The agent's inbound listeners (15006) in a pod's namespace. A dual-stack listener may stand in both
/// places. Of a reuseport group any one member is enough: the kernel spreads over the group.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listeners<'a> {
    /// For IPv4.
    pub v4: Option<BorrowedFd<'a>>,
    /// For IPv6.
    pub v6: Option<BorrowedFd<'a>>,
}

/// Cookie of a network namespace: unlike its inode number it is never used again until reboot.
///
/// # Errors
/// When `netns` is no network namespace, or it cannot be entered (`CAP_SYS_ADMIN`).
pub fn netns_cookie(netns: BorrowedFd<'_>) -> io::Result<u64> {
    crate::netns::cookie(netns)
}
