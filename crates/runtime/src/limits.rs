//! What a client of the administration, metrics and readiness servers can make us hold.

use std::time::Duration;

/// Largest request body. Nothing here takes more than a few parameters.
pub const BODY_BYTES: usize = 64 * 1024;

/// Largest request head: an endless header would otherwise grow the buffer.
pub const HEAD_BYTES: usize = 16 * 1024;

/// Time for a request's head to arrive: a client that sends nothing must not hold a place.
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// Time for a request's body to arrive.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// Time an answer may take to make. CPU profiles last up to 300 s.
pub const ANSWER_TIME: Duration = Duration::from_secs(330);

/// Connections served at once, per server; further ones are closed at once.
pub const CONNECTIONS: usize = 64;

/// CPU profiles at once: the sampling timer is one per process.
pub const PROFILES: usize = 1;
