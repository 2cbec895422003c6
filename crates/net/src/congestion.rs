//! The choice of a TCP congestion control. Pacing on a loopback hop is pure loss, so the hops between
//! an application and the agent choose for themselves; across the network it is the operator's choice.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Longest name the kernel takes, with its final zero (`TCP_CA_NAME_MAX`).
const NAME_MAX: usize = 16;

/// The name of a congestion control algorithm that this kernel has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CongestionControl {
    name: [u8; NAME_MAX],
    length: u8,
}

impl CongestionControl {
    /// Looks whether the kernel has `name` and lets this process use it.
    ///
    /// # Errors
    /// `InvalidInput` for a name the kernel could not have, or what the kernel answered.
    pub fn find(name: &str) -> io::Result<Self> {
        if name.is_empty() || name.len() >= NAME_MAX || !name.is_ascii() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} cannot name a congestion control"),
            ));
        }
        let mut found = Self {
            name: [0; NAME_MAX],
            length: name.len() as u8,
        };
        found.name[..name.len()].copy_from_slice(name.as_bytes());
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        found.apply(std::os::fd::AsFd::as_fd(&socket))?;
        Ok(found)
    }

    /// The best available one for hops that never leave the machine: one that does not pace.
    #[must_use]
    pub fn for_loopback() -> Option<Self> {
        ["cubic", "reno"]
            .into_iter()
            .find_map(|name| Self::find(name).ok())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.name[..usize::from(self.length)]).unwrap_or_default()
    }

    /// Sets it on a socket.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn apply(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: the kernel reads `length` bytes from `name`, which is longer.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_CONGESTION,
                self.name.as_ptr().cast(),
                libc::socklen_t::from(self.length),
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl fmt::Debug for CongestionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for CongestionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reno_is_always_there_and_nonsense_never() {
        assert_eq!(CongestionControl::find("reno").unwrap().as_str(), "reno");
        for name in ["", "no-such-thing", "sixteen-letters-", "\u{e9}"] {
            assert!(CongestionControl::find(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_socket_tells_what_was_applied() {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        CongestionControl::find("reno")
            .unwrap()
            .apply(std::os::fd::AsFd::as_fd(&socket))
            .unwrap();
        let name = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::TcpCongestion);
        assert_eq!(
            name.unwrap().to_string_lossy().trim_end_matches('\0'),
            "reno"
        );
    }
}
