//! What an operator may tune about tunnels. Read from no environment: the binary's configuration
//! fills it in.

use std::time::Duration;

/// Tunnel settings of one process; the defaults are Istio's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Receive window of one stream in bytes (`HTTP2_STREAM_WINDOW_SIZE`).
    pub stream_window: u32,
    /// Receive window of one connection in bytes (`HTTP2_CONNECTION_WINDOW_SIZE`).
    pub connection_window: u32,
    /// Largest frame taken from a peer in bytes, 16 KiB to 16 MiB (`HTTP2_FRAME_SIZE`).
    pub max_frame_size: u32,
    /// Streams that one peer may have open at a time on one connection to us.
    pub max_concurrent_streams: u32,
    /// Largest header list taken from a client, as RFC 9113 counts it.
    pub server_max_header_list: u32,
    /// Largest header list taken from a server, as RFC 9113 counts it.
    pub client_max_header_list: u32,
    /// How often a connection is asked for a sign of life.
    pub ping_interval: Duration,
    /// How long the answer may take before the connection counts as dead.
    pub ping_timeout: Duration,
    /// How long TLS and the HTTP/2 preface may take together.
    pub handshake_timeout: Duration,
    /// Streams put on one pooled connection (`POOL_MAX_STREAMS_PER_CONNECTION`).
    pub pool_max_streams: u32,
    /// How long a pooled connection is kept without a stream (`POOL_UNUSED_RELEASE_TIMEOUT`).
    pub pool_idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_window: 4 * 1024 * 1024,
            connection_window: 16 * 1024 * 1024,
            max_frame_size: 1024 * 1024,
            max_concurrent_streams: 200,
            server_max_header_list: 64 * 1024,
            client_max_header_list: 16 * 1024,
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            handshake_timeout: Duration::from_secs(10),
            pool_max_streams: 100,
            pool_idle: Duration::from_secs(300),
        }
    }
}
