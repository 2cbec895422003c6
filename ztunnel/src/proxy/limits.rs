//! Bounds of the data path: what peers, applications and discovery can make it hold or wait for.

use std::time::Duration;

/// Connections and streams handed to one worker and not yet begun. A burst beyond it waits in the
/// kernel's accept queue, where it costs no memory of ours.
pub const WORKER_QUEUE: usize = 1024;

/// How long a connection waits for discovery to know the workload it belongs to. An application
/// that connects early must not be refused, nor hold resources for ever.
pub const WORKLOAD_WAIT: Duration = Duration::from_secs(5);

/// How long a tunnel's other end may take to answer a request: longer than its own wait for
/// discovery and its connect together. A peer that never answers must not hold connections for ever.
pub const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Pause after `accept` failed for want of descriptors or memory, so that a loop does not take the
/// processor that would free them.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Addresses that a name of discovery may resolve to; a resolver's longer answer is cut.
pub const NAME_ADDRESSES: usize = 64;

/// Names kept by the resolver.
pub const NAME_CACHE: u64 = 4096;

/// The longest a name is waited for.
pub const NAME_WAIT: Duration = Duration::from_secs(5);

/// Live connections listed per pod in a dump: an administrator reads it, and it must not stop the
/// data path of a pod with a hundred thousand.
pub const DUMPED_CONNECTIONS: usize = 10_000;

/// The most one inbound or outbound connection's task may hold, apart from buffers in use. Checked
/// by a test: it is the price of an idle connection.
pub const CONNECTION_FUTURE: usize = 1536;

/// How long tasks may take to end once their connections are cut.
pub const CUT_WAIT: Duration = Duration::from_secs(1);

/// Certificate chains remembered per pod and thread, to find revoked ones among open tunnels. An
/// application that connects to ever new destinations would otherwise make them pile up.
pub const REMEMBERED_CHAINS: usize = 1024;
