//! What a pod's network namespace needs so that the agent may connect to the application from the client's
//! own address: replies to such connections must come back to the agent instead of leaving for the client.
//!
//! A connection marked with [`ORIGINAL_SOURCE_MARK`] hands its mark on to the application's accepted socket
//! (`tcp_fwmark_accept`), and everything with that mark is routed to loopback. Where nobody listens, the
//! kernel's own refusal carries the mark too (`fwmark_reflect`); otherwise it would leave for the client.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

use ambit_ebpf_common::ORIGINAL_SOURCE_MARK;

use crate::error::Error;
use crate::netlink::{Change, Family, Socket};
use crate::netns;
use crate::sys::Plain;

/// Our own table, so that neither another mesh's nor the user's routes are mistaken for ours.
pub(crate) const TABLE: u32 = 0x539;
/// Before the main table (32766), after the local one.
pub(crate) const PRIORITY: u32 = 32_700;
const FWMARK_ACCEPT: &str = "/proc/sys/net/ipv4/tcp_fwmark_accept";
const FWMARK_REFLECT: [&str; 2] = [
    "/proc/sys/net/ipv4/fwmark_reflect",
    "/proc/sys/net/ipv6/fwmark_reflect",
];

/// What was there before, kept in a pinned map so that any later agent can restore it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    /// Inode number of the namespace, to find it again.
    pub(crate) inode: u64,
    /// The value of `tcp_fwmark_accept`.
    pub(crate) fwmark_accept: u16,
    /// The values of `fwmark_reflect` for IPv4 and IPv6.
    pub(crate) fwmark_reflect: [u8; 2],
    /// Whether rule and route for IPv6 were added.
    pub(crate) v6: u32,
}

// SAFETY: `repr(C)`, 16 bytes without padding, and any bytes are valid.
unsafe impl Plain for Saved {}

/// Reads what will be changed.
pub(crate) fn inspect(netns: BorrowedFd<'_>, addresses: &[IpAddr]) -> Result<Saved, Error> {
    let inode = netns::inode(netns).map_err(failed("inspect the namespace"))?;
    let (fwmark_accept, fwmark_reflect) =
        netns::run(netns, read_settings).map_err(failed("read the fwmark settings"))?;
    let v6 = addresses.iter().any(|a| a.to_canonical().is_ipv6()).into();
    Ok(Saved {
        inode,
        fwmark_accept,
        fwmark_reflect,
        v6,
    })
}

/// Makes the changes; making them again is no error.
pub(crate) fn set_up(netns: BorrowedFd<'_>, saved: &Saved) -> Result<(), Error> {
    let change = || {
        change_routes(Change::Add, saved)?;
        write_settings(1, [1, 1])
    };
    netns::run(netns, change).map_err(failed("add the rule and route for the original source"))
}

/// Undoes the changes.
pub(crate) fn restore(netns: BorrowedFd<'_>, saved: &Saved) -> Result<(), Error> {
    let change = || {
        change_routes(Change::Remove, saved)?;
        write_settings(saved.fwmark_accept, saved.fwmark_reflect)
    };
    netns::run(netns, change).map_err(failed("remove the rule and route for the original source"))
}

fn change_routes(change: Change, saved: &Saved) -> io::Result<()> {
    let socket = Socket::open()?;
    let families: &[Family] = if saved.v6 == 0 {
        &[Family::V4]
    } else {
        &[Family::V4, Family::V6]
    };
    for family in families {
        socket.local_default(change, *family, TABLE)?;
        socket.mark_rule(change, *family, ORIGINAL_SOURCE_MARK, TABLE, PRIORITY)?;
    }
    Ok(())
}

fn read_settings() -> io::Result<(u16, [u8; 2])> {
    let accept = read(FWMARK_ACCEPT)?;
    let mut reflect = [0; 2];
    for (value, path) in reflect.iter_mut().zip(FWMARK_REFLECT) {
        *value = if_there(read(path))?.unwrap_or_default();
    }
    Ok((accept, reflect))
}

fn write_settings(accept: u16, reflect: [u8; 2]) -> io::Result<()> {
    std::fs::write(FWMARK_ACCEPT, accept.to_string())?;
    for (value, path) in reflect.into_iter().zip(FWMARK_REFLECT) {
        if_there(std::fs::write(path, value.to_string()))?;
    }
    Ok(())
}

fn read<T: FromStr>(path: &str) -> io::Result<T> {
    let text = std::fs::read_to_string(path)?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a number"))
}

/// Settings of IPv6 are missing where the kernel has none.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Namespace { action, source }
}
