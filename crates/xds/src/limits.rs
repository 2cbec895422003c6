//! Bounds on what a discovery server, or our own callers, can make this crate hold.

use std::time::Duration;

/// Bytes of one message. Attack: one endless push held in memory. The value is what a mesh of
/// the largest supported size needs for its first push.
pub const MAX_MESSAGE_BYTES: usize = 200 << 20;

/// Messages for the server that wait because it does not read. Beyond it, nothing is taken from
/// the server any more. Attack: a server that sends and never reads acknowledgements.
pub const MAX_PENDING_REQUESTS: usize = 256;

/// On-demand wishes that wait for the client's attention. Attack: connections to ever new
/// addresses faster than they can be asked about.
pub const MAX_WISHES: usize = 4096;

/// Those who wait for one resource.
pub const MAX_WAITERS_PER_NAME: usize = 4096;

/// Names asked for and waited for, in all. Attack: a scan of an address range by a workload.
pub const MAX_PENDING_NAMES: usize = 16_384;

/// Names known to be absent that stay subscribed, so that their appearance is noticed and nobody
/// has to ask again. The oldest is dropped for a new one. Attack: as above.
pub const MAX_ABSENT_NAMES: usize = 16_384;

/// Resources named in one refusal; the rest are counted.
pub const MAX_REJECTED_NAMED: usize = 32;

/// Bytes of one reason in a refusal.
pub const MAX_REASON_BYTES: usize = 512;

/// How often abandoned waits are looked for.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
