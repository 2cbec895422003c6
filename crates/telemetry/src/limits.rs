//! What a peer or a flood of events can make telemetry hold.

/// Connection events of one worker waiting to be folded. A flood of short connections fills it
/// when the recorder is starved; further events are dropped and counted, never waited for.
pub const WORKER_QUEUE: usize = 16_384;

/// Access-log entries waiting to be written, over all workers.
pub const PENDING_LOG_ENTRIES: usize = 10_000;

/// Log lines waiting for standard output. A reader that stalls fills it.
pub const LOG_LINES: usize = 10_000;

/// Traffic series. Peers choose the attributes in their baggage, so they could mint new ones without
/// end; what comes after is counted on a series whose names are all `unknown`.
pub const TRAFFIC_SERIES: usize = 50_000;

/// Label sets remembered by the identity of the objects they were made from. Only a cache.
pub const SERIES_CACHE: usize = 4_096;

/// Characters of an error text kept in a log line: peers control parts of it.
pub const ERROR_TEXT: usize = 512;

/// Host names and policies that get series of their own in the small families.
pub const SMALL_FAMILY_SERIES: usize = 5_000;
