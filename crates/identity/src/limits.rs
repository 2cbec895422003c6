//! Bounds on what peers, the certificate authority and files can make this crate hold or do.

use std::time::Duration;

/// Certificates a peer may present. Attack: long chains that make every handshake search paths.
pub const MAX_PRESENTED_CHAIN: usize = 8;

/// Certificates the authority may return for one request, roots included.
pub const MAX_ISSUED_CHAIN: usize = 64;

/// Bytes of an authority's answer. Attack: an endless answer held in memory.
pub const MAX_CA_RESPONSE_BYTES: usize = 4 << 20;

/// Identities with a certificate or a wish for one. Attack: a discovery server that names
/// identities without end as local to this node.
pub const MAX_IDENTITIES: usize = 16_384;

/// Bytes of a revocation file. Attack: a file that grows without bound is read on every change.
pub const MAX_CRL_BYTES: u64 = 64 << 20;

/// Bytes of a peer's text that go into an error message.
pub const MAX_ERROR_TEXT: usize = 256;

/// Bytes of a certificate signing request. Attack: an issuer made to parse large requests.
pub const MAX_CSR_BYTES: usize = 16 << 10;

/// How long one request to the authority may take.
pub const CA_REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// First wait after a failed request; doubled with each further failure. Jittered upwards to
/// twice its value.
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(500);

/// Longest wait after a failed request.
pub const BACKOFF_MAX: Duration = Duration::from_secs(150);

/// A connection that waits for a certificate starts an attempt before its time, but not sooner
/// than this after the last one, so that a busy workload does not defeat the backoff.
pub const DEMAND_RETRY_FLOOR: Duration = Duration::from_secs(2);

/// The longest sleep before the wall clock is looked at again: bounds what a clock that was set
/// forward costs a renewal.
pub const CLOCK_RECHECK: Duration = Duration::from_secs(60);
