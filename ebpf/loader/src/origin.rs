//! Where captured connections wanted to go.

use std::net::SocketAddr;

/// Answers, for an accepted connection, the destination that the application asked for. Cheap to clone and
/// to call from any thread: one system call, no lock.
#[derive(Debug, Clone)]
pub struct OriginalDestinations {}

impl OriginalDestinations {
    /// The destination of the connection accepted on the outbound (or DNS) listener of the pod with that
    /// cookie; `local` and `peer` are the accepted socket's own and peer address. The record is deleted.
    /// `None` means that the connection was not captured: somebody connected to the listener itself.
    #[must_use]
    pub fn take(&self, _cookie: u64, _local: SocketAddr, _peer: SocketAddr) -> Option<SocketAddr> {
        None
    }
}
