//! The four rtnetlink requests that a pod's namespace needs: one rule and one route, added and removed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Version of IP that a rule or route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Add or remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    Remove,
}

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;
const FR_ACT_TO_TABLE: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RT_SCOPE_HOST: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const LOOPBACK_INDEX: u32 = 1;
const HEADER: usize = 16;

/// A netlink socket in the network namespace of the thread that made it.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn open() -> io::Result<Self> {
        // SAFETY: plain system call; a non-negative result is a new descriptor that nobody else owns.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::NETLINK_ROUTE,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// `ip rule add fwmark MARK lookup TABLE priority PRIORITY`.
    pub(crate) fn mark_rule(
        &self,
        change: Change,
        family: Family,
        mark: u32,
        table: u32,
        priority: u32,
    ) -> io::Result<()> {
        // struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved, action, flags.
        let mut body = vec![
            family.number(),
            0,
            0,
            0,
            0,
            0,
            0,
            FR_ACT_TO_TABLE,
            0,
            0,
            0,
            0,
        ];
        for (kind, value) in [
            (FRA_PRIORITY, priority),
            (FRA_FWMARK, mark),
            (FRA_FWMASK, u32::MAX),
            (FRA_TABLE, table),
        ] {
            attribute(&mut body, kind, value);
        }
        let kind = if change == Change::Add {
            RTM_NEWRULE
        } else {
            RTM_DELRULE
        };
        self.request(kind, change, &body)
    }

    /// `ip route add local default dev lo table TABLE`.
    pub(crate) fn local_default(
        &self,
        change: Change,
        family: Family,
        table: u32,
    ) -> io::Result<()> {
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        let protocol_scope_type = [RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL];
        let mut body = vec![family.number(), 0, 0, 0, 0];
        body.extend(protocol_scope_type);
        body.extend([0; 4]);
        attribute(&mut body, RTA_TABLE, table);
        attribute(&mut body, RTA_OIF, LOOPBACK_INDEX);
        let kind = if change == Change::Add {
            RTM_NEWROUTE
        } else {
            RTM_DELROUTE
        };
        self.request(kind, change, &body)
    }

    /// Sends one request and reads its acknowledgement. Adding what is there and removing what is not are
    /// no errors.
    fn request(&self, kind: u16, change: Change, body: &[u8]) -> io::Result<()> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        let flags = match change {
            Change::Add => flags | libc::NLM_F_CREATE | libc::NLM_F_EXCL,
            Change::Remove => flags,
        };
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags as u16).to_ne_bytes());
        message.extend([0; 8]); // sequence number and port: one request at a time
        message.extend(body);
        self.send(&message)?;
        let code = acknowledgement(&self.receive()?)?;
        match (change, -code) {
            (_, 0) | (Change::Add, libc::EEXIST) => Ok(()),
            (Change::Remove, libc::ENOENT | libc::ESRCH) => Ok(()),
            (_, error) => Err(io::Error::from_raw_os_error(error)),
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length are those of `message`.
        let sent = unsafe {
            libc::send(
                self.0.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        // SAFETY: pointer and length are those of `buffer`.
        let length = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
            )
        };
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        buffer.truncate(length as usize);
        Ok(buffer)
    }
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::V4 => libc::AF_INET as u8,
            Self::V6 => libc::AF_INET6 as u8,
        }
    }
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: u32) {
    body.extend(8u16.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value.to_ne_bytes());
}

/// The error number (zero or negative) in an `NLMSG_ERROR` message.
fn acknowledgement(message: &[u8]) -> io::Result<i32> {
    let kind = message.get(4..6).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    let code = message.get(HEADER..HEADER + 4);
    match (kind, code) {
        (Some(kind), Some(code)) if i32::from(kind) == libc::NLMSG_ERROR => {
            Ok(i32::from_ne_bytes([code[0], code[1], code[2], code[3]]))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "unexpected answer from rtnetlink",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements() {
        let mut message = vec![0; HEADER + 4];
        message[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
        assert_eq!(acknowledgement(&message).unwrap(), 0);
        message[HEADER..].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(acknowledgement(&message).unwrap(), -17);
        assert!(acknowledgement(&message[..HEADER]).is_err());
        assert!(acknowledgement(&[]).is_err());
    }
}
