//! What a tunnel's CONNECT says beside the bytes: authority, baggage, forwarded, traceparent. Pure
//! functions from and to header values, each a fuzz target; nothing here looks anything up.

pub mod authority;
pub mod baggage;
pub mod forwarded;
pub mod traceparent;

/// Name of the header that describes a workload.
pub const BAGGAGE: &str = "baggage";
/// Name of the header that names the client and the service asked for (RFC 7239).
pub const FORWARDED: &str = "forwarded";
/// Name of the header that correlates the logs of both agents (W3C trace context).
pub const TRACEPARENT: &str = "traceparent";
/// Name of the header by which an inner CONNECT tells the client's network.
pub const FORWARDED_NETWORK: &str = "x-forwarded-network";
