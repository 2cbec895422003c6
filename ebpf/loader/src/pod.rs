//! What the caller says about a pod, and what enrolling it changes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use ambit_ebpf_common::{ListenerKey, MAX_LISTENERS, MAX_NETNS, NetnsEntry, flags};

use crate::address::from_ip;
use crate::error::{Doing, Error};
use crate::limits::MAX_ADDRESSES;
use crate::pins::Pins;
use crate::routing::{self, Saved};
use crate::sys::MapType;
use crate::table::Table;
use crate::{netns, objects};

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

/// The pods' side of the pinned maps and links. Its callers hold the directory's lock.
#[derive(Debug)]
pub(crate) struct Enrolment {
    pins: Pins,
    namespaces: Table<u64, NetnsEntry>,
    listeners: Table<ListenerKey, u32>,
    saved: Table<u64, Saved>,
}

impl Enrolment {
    /// Opens the maps, most of which the loading of the programs made.
    pub(crate) fn open(pins: &Pins) -> Result<Self, Error> {
        Ok(Self {
            pins: pins.clone(),
            namespaces: Table::open_existing(&pins.map("NETNS"))?,
            listeners: Table::open_or_create(
                &pins.map("LISTENERS"),
                MapType::SockHash,
                "LISTENERS",
                MAX_LISTENERS,
            )?,
            saved: Table::open_or_create(&pins.map("SAVED"), MapType::Hash, "SAVED", MAX_NETNS)?,
        })
    }

    /// See `Capture::enroll`. The order closes every gap: listeners before anything is steered to them, and
    /// the namespace's entry before the lookup program, which refuses connections of pods without entry.
    pub(crate) fn enroll(&self, pod: &Pod<'_>) -> Result<(), Error> {
        let entry = entry(pod)?;
        let found = netns_cookie(pod.netns).map_err(|source| Error::Namespace {
            action: "read the cookie",
            source,
        })?;
        if found != pod.cookie {
            return Err(Error::PodOtherNamespace {
                expected: pod.cookie,
                found,
            });
        }
        if netns::is_hosts(pod.netns) {
            return Err(Error::PodHostNetwork { cookie: pod.cookie });
        }
        let known = self.find(pod.cookie)?.is_some_and(|entry| entry.count > 0);
        let result = self.apply(pod, &entry);
        if result.is_err()
            && !known
            && let Err(error) = self.release(pod.cookie)
        {
            tracing::warn!(cookie = pod.cookie, %error, "cannot undo a failed enrolment");
        }
        result
    }

    fn apply(&self, pod: &Pod<'_>, entry: &NetnsEntry) -> Result<(), Error> {
        self.set_listeners(pod.cookie, pod.listeners)?;
        let saved = self.save(pod)?;
        routing::set_up(pod.netns, &saved)?;
        self.change(pod.cookie, |current| {
            *current = NetnsEntry {
                flags: entry.flags | current.flags & flags::KUBELET,
                ..*entry
            };
        })?;
        let pin = self.pins.pod(pod.cookie);
        if !pod.capture_inbound {
            return self.pins.remove_link(&pin);
        }
        if objects::open_attached(&pin)?.is_none() {
            objects::attach_pod(&self.pins, pod.cookie, Some(pod.netns))?;
        }
        Ok(())
    }

    /// Notes what the namespace looked like before the first enrolment.
    fn save(&self, pod: &Pod<'_>) -> Result<Saved, Error> {
        let mut saved = routing::inspect(pod.netns, &pod.addresses)?;
        if let Some(earlier) = self.saved.find(&pod.cookie).doing(reading)? {
            saved = Saved {
                v6: saved.v6 | earlier.v6,
                ..earlier
            };
        }
        self.saved.set(&pod.cookie, &saved).doing(writing)?;
        Ok(saved)
    }

    pub(crate) fn set_listeners(&self, cookie: u64, listeners: Listeners<'_>) -> Result<(), Error> {
        for (version, listener) in [(4, listeners.v4), (6, listeners.v6)] {
            let Some(listener) = listener else { continue };
            let key = ListenerKey {
                netns: cookie,
                version,
            };
            self.listeners
                .set(&key, &(listener.as_raw_fd() as u32))
                .doing(|| format!("set the IPv{version} listener of pod {cookie}"))?;
        }
        Ok(())
    }

    /// See `Capture::release`. The lookup program goes first: without the namespace's entry it would refuse
    /// what now is for the application.
    pub(crate) fn release(&self, cookie: u64) -> Result<(), Error> {
        self.pins.remove_link(&self.pins.pod(cookie))?;
        self.change(cookie, |entry| {
            *entry = NetnsEntry {
                flags: entry.flags & flags::KUBELET,
                ..NetnsEntry::default()
            };
        })?;
        for version in [4, 6] {
            let key = ListenerKey {
                netns: cookie,
                version,
            };
            self.listeners.remove(&key).doing(writing)?;
        }
        let Some(saved) = self.saved.find(&cookie).doing(reading)? else {
            return Ok(());
        };
        if let Some(netns) = netns::find(saved.inode) {
            // Inode numbers are used again, cookies are not.
            if netns_cookie(netns.as_fd()).is_ok_and(|found| found == cookie) {
                routing::restore(netns.as_fd(), &saved)?;
            }
        }
        self.saved.remove(&cookie).doing(writing).map(drop)
    }

    /// Cookies of enrolled pods, including those whose enrolment was interrupted.
    pub(crate) fn cookies(&self) -> Result<Vec<u64>, Error> {
        let mut cookies = self.saved.keys(MAX_NETNS).doing(reading)?;
        cookies.sort_unstable();
        Ok(cookies)
    }

    pub(crate) fn find(&self, cookie: u64) -> Result<Option<NetnsEntry>, Error> {
        self.namespaces.find(&cookie).doing(reading)
    }

    pub(crate) fn require(&self, cookie: u64) -> Result<(), Error> {
        match self.find(cookie)? {
            Some(entry) if entry.count > 0 => Ok(()),
            _ => Err(Error::PodUnknown { cookie }),
        }
    }

    /// Changes a namespace's entry; one that says nothing is removed.
    pub(crate) fn change(
        &self,
        cookie: u64,
        change: impl FnOnce(&mut NetnsEntry),
    ) -> Result<(), Error> {
        let mut entry = self.find(cookie)?.unwrap_or_default();
        change(&mut entry);
        if entry.flags == 0 && entry.count == 0 {
            return self.namespaces.remove(&cookie).doing(writing).map(drop);
        }
        self.namespaces.set(&cookie, &entry).doing(writing)
    }

    /// No process is the kubelet any more.
    pub(crate) fn forget_kubelets(&self) -> Result<(), Error> {
        for cookie in self.namespaces.keys(MAX_NETNS).doing(reading)? {
            self.change(cookie, |entry| entry.flags &= !flags::KUBELET)?;
        }
        Ok(())
    }
}

/// Checks a pod's description and turns it into what the programs read.
fn entry(pod: &Pod<'_>) -> Result<NetnsEntry, Error> {
    let cookie = pod.cookie;
    let count = pod.addresses.len();
    if count == 0 {
        return Err(Error::PodNoAddress { cookie });
    }
    if count > MAX_ADDRESSES {
        return Err(Error::PodTooManyAddresses { cookie, count });
    }
    let canonical: Vec<IpAddr> = pod.addresses.iter().map(IpAddr::to_canonical).collect();
    for address in &canonical {
        let listener = if address.is_ipv4() {
            pod.listeners.v4
        } else {
            pod.listeners.v6
        };
        if pod.capture_inbound && listener.is_none() {
            return Err(Error::PodNoListener {
                cookie,
                address: *address,
            });
        }
    }
    let first = |v4: bool, otherwise: IpAddr| {
        from_ip(
            canonical
                .iter()
                .copied()
                .find(|a| a.is_ipv4() == v4)
                .unwrap_or(otherwise),
        )
    };
    let mut entry = NetnsEntry {
        flags: flags::OUTBOUND | if pod.dns { flags::DNS } else { 0 },
        count: count as u32,
        v4: first(true, Ipv4Addr::LOCALHOST.into()),
        v6: first(false, Ipv6Addr::LOCALHOST.into()),
        ..NetnsEntry::default()
    };
    for (to, from) in entry.addresses.iter_mut().zip(canonical) {
        *to = from_ip(from);
    }
    Ok(entry)
}

fn reading() -> String {
    "read a map of enrolled pods".to_owned()
}

fn writing() -> String {
    "write a map of enrolled pods".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        addresses: &[&str],
        listeners: (bool, bool),
        inbound: bool,
    ) -> Result<NetnsEntry, String> {
        let file = std::fs::File::open("/dev/null").unwrap();
        let fd = file.as_fd();
        entry(&Pod {
            cookie: 7,
            netns: fd,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            listeners: Listeners {
                v4: listeners.0.then_some(fd),
                v6: listeners.1.then_some(fd),
            },
            dns: true,
            capture_inbound: inbound,
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_address_of_each_family_takes_captured_connections() {
        let addresses = ["::ffff:10.0.0.1", "fd77::1", "10.0.0.2", "fd77::2"];
        let entry = check(&addresses, (true, true), true).unwrap();
        assert_eq!(entry.count, 4);
        assert_eq!(entry.v4, from_ip("10.0.0.1".parse().unwrap()));
        assert_eq!(entry.v6, from_ip("fd77::1".parse().unwrap()));
        assert!(entry.owns(&from_ip("fd77::2".parse().unwrap())));
        assert!(!entry.owns(&from_ip("fd77::3".parse().unwrap())));
    }

    #[test]
    fn a_family_without_address_is_captured_on_loopback() {
        let entry = check(&["10.0.0.1"], (true, false), true).unwrap();
        assert_eq!(entry.v6, from_ip("::1".parse().unwrap()));
        assert!(
            !entry.owns(&Default::default()),
            "unused slots are nobody's address"
        );
    }

    #[test]
    fn bad_pods_are_refused() {
        let too_many = ["10.0.0.1"; MAX_ADDRESSES + 1];
        for (addresses, listeners, inbound, expected) in [
            (&[][..], (true, true), true, "no address"),
            (&too_many[..], (true, true), true, "9 addresses, at most 8"),
            (
                &["10.0.0.1"][..],
                (false, true),
                true,
                "10.0.0.1 but no inbound listener",
            ),
            (
                &["fd77::1"][..],
                (true, false),
                true,
                "fd77::1 but no inbound listener",
            ),
        ] {
            let error = check(addresses, listeners, inbound).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(check(&["fd77::1"], (false, false), false).is_ok());
    }
}
