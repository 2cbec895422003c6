//! A connected SOCK_SEQPACKET socket: whole messages, with the descriptors that came along.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, send, socket_with,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::message::{self, Malformed, Request};
use crate::capture::limits::{MAX_DESCRIPTORS, MAX_MESSAGE};

/// One message.
#[derive(Debug)]
pub struct Received {
    bytes: Vec<u8>,
    truncated: bool,
    /// Descriptors, closed when dropped.
    pub descriptors: Vec<OwnedFd>,
}

impl Received {
    /// The message as a request.
    ///
    /// # Errors
    /// When it is none.
    pub fn request(&self) -> Result<Request, Malformed> {
        if self.truncated {
            return Err(Malformed::TooLong);
        }
        message::decode(&self.bytes, self.descriptors.len())
    }
}

/// The connection.
#[derive(Debug)]
pub struct Socket {
    /// Only for its readiness: messages are taken and given whole, never as a stream.
    fd: UnixStream,
}

impl Socket {
    /// Connects to the socket at `path`. Does not block: a unix socket connects at once or not.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(Self {
            fd: UnixStream::from_std(fd.into())?,
        })
    }

    /// The next message; `None` at the end. An empty message looks the same to the kernel and ends
    /// the connection too. May be dropped without losing anything.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn receive(&self) -> io::Result<Option<Received>> {
        self.fd
            .async_io(Interest::READABLE, || receive_now(self.fd.as_fd()))
            .await
    }

    /// Sends one message.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.fd
            .async_io(Interest::WRITABLE, || {
                Ok(send(&self.fd, bytes, SendFlags::NOSIGNAL)?)
            })
            .await
            .map(drop)
    }
}

fn receive_now(fd: BorrowedFd<'_>) -> io::Result<Option<Received>> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let result = recvmsg(fd, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    if result.bytes == 0 {
        return Ok(None);
    }
    buffer.truncate(result.bytes);
    let truncated = result.flags.contains(ReturnFlags::TRUNC);
    Ok(Some(Received {
        bytes: buffer,
        truncated,
        descriptors,
    }))
}
