//! Bounds on what a peer can make a tunnel do or hold. What an operator may tune is in
//! [`Settings`](crate::Settings); these are fixed.

/// Times a stream that the peer refused untouched (GOAWAY, `REFUSED_STREAM`) is tried again on
/// another connection. Bounds the work one connect can cause on a peer that refuses everything.
pub const MAX_STREAM_RETRIES: usize = 3;

/// Bytes a peer may send before the TLS handshake is complete. A chain of certificates is a few
/// KiB; without the bound an unauthenticated peer could feed memory.
pub const MAX_HANDSHAKE_BYTES: usize = 128 * 1024;

/// TLS key updates a peer may make us follow. Each costs a key derivation for five bytes sent; an
/// honest peer makes one in hundreds of gigabytes.
pub const MAX_KEY_UPDATES: u32 = 1024;

/// Largest payload collected for any frame that is not DATA. The head announces it, so a larger
/// one is refused before anything is stored.
pub const MAX_CONTROL_PAYLOAD: u32 = 96 * 1024;

/// CONTINUATION frames per header block: an endless row of them never ends the block
/// (CVE-2024-27316 and kin).
pub const MAX_CONTINUATIONS: u32 = 32;

/// Room for encoding overhead when a header block is measured before it is decoded.
pub const HEADER_BLOCK_SLACK: usize = 1024;

/// Frames that a peer may send in one flood interval though they move nothing: PING, SETTINGS,
/// resets, empty DATA, frames on closed streams. Far above any honest use, far below a burden.
pub const MAX_IDLE_FRAMES: u32 = 10_000;

/// What a reset costs in that account when the stream had not been answered yet: opening and
/// resetting at full speed makes the server work for nothing (CVE-2023-44487). 500 of them use the
/// account up.
pub const UNANSWERED_RESET_COST: u32 = 20;

/// Seconds until the account is filled up again.
pub const FLOOD_INTERVAL: std::time::Duration = std::time::Duration::from_secs(10);

/// Control frames waiting because the peer does not read. A peer that sends PINGs and never
/// reads the answers is cut off here.
pub const MAX_QUEUED_CONTROL: usize = 256 * 1024;

/// Streams whose reset by us is remembered, so that what was under way is ignored as RFC 9113 §5.1
/// demands and not answered frame by frame.
pub const MAX_RECENT_RESETS: usize = 64;
