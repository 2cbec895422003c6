//! Where captured connections wanted to go.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ambit_ebpf_common::{Endpoint, Flow};

use crate::Error;
use crate::address::{from_socket, to_socket};
use crate::table::Table;

/// Answers, for an accepted connection, the destination that the application asked for. Cheap to clone and
/// to call from any thread: one system call, no lock.
#[derive(Debug, Clone)]
pub struct OriginalDestinations {
    flows: Arc<Table<Flow, Endpoint>>,
}

impl OriginalDestinations {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            flows: Arc::new(Table::open_existing(path)?),
        })
    }

    /// The destination of the connection accepted on the outbound (or DNS) listener of the pod with that
    /// cookie; `local` and `peer` are the accepted socket's own and peer address. The record is deleted, so
    /// ask once. `None` means that the connection was not captured: somebody connected to the listener
    /// itself, and it must be refused.
    #[must_use]
    pub fn take(&self, cookie: u64, local: SocketAddr, peer: SocketAddr) -> Option<SocketAddr> {
        let flow = Flow {
            netns: cookie,
            source: from_socket(peer),
            destination: from_socket(local),
        };
        match self.flows.take(&flow) {
            Ok(found) => found.map(to_socket),
            Err(error) => {
                tracing::warn!(%error, %local, %peer, "cannot look up an original destination");
                None
            }
        }
    }

    /// How many captured connections have not been accepted yet.
    pub(crate) fn pending(&self) -> usize {
        self.flows
            .keys(ambit_ebpf_common::MAX_FLOWS)
            .map_or(0, |keys| keys.len())
    }
}
