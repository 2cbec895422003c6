//! Bounds on what a pod's queries may cost. Pods are not trusted: each can ask as fast as it likes.

use std::time::Duration;

/// Queries of one pod under way upstream. A flood beyond that is answered SERVFAIL at once, so it
/// costs neither sockets nor memory.
pub const IN_FLIGHT: usize = 512;

/// TCP connections of one pod. Further ones wait in the accept queue.
pub const TCP_CONNECTIONS: usize = 64;

/// How long a TCP connection may be silent: idle ones would hold the places of others.
pub const TCP_IDLE: Duration = Duration::from_secs(5);

/// How long one server may take before the next is asked.
pub const SERVER_WAIT: Duration = Duration::from_secs(2);

/// Attempts at all servers together.
pub const ATTEMPTS: usize = 4;

/// Bytes of a datagram that are read. RFC 6891 advises 4096 as the most anyone asks for.
pub const DATAGRAM: usize = 4096;

/// Bytes of an answer by UDP without EDNS (RFC 1035 §4.2.1).
pub const PLAIN_ANSWER: usize = 512;

/// The size we advertise: what fits an IPv6 packet without fragments (DNS flag day 2020).
pub const ADVERTISED: u16 = 1232;

/// Largest answer by UDP, whatever the client says it can take.
pub const UDP_ANSWER: usize = 4096;

/// Addresses in one answer. A service may have more endpoints than a message can hold.
pub const ADDRESSES: usize = 256;

/// Lifetime of our answers, in seconds.
pub const TTL: u32 = 30;

/// Bytes of a resolver configuration that are read: a pod controls that file.
pub const RESOLV_CONF: usize = 64 * 1024;

/// Servers and search domains taken from it (glibc takes 3 and, of old, 6).
pub const SERVERS: usize = 3;

/// See [`SERVERS`].
pub const SEARCH_DOMAINS: usize = 32;

/// How long a pod's resolver configuration is used before it is read again.
pub const RESOLV_CONF_AGE: Duration = Duration::from_secs(30);

/// Requests to the DNS thread that may wait.
pub const COMMANDS: usize = 256;
