//! Bounds on what the control plane may cost. It is authenticated, so these guard against defects.

use std::time::Duration;

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// TCP keepalive of control-plane connections: idle time, interval, probes.
pub const TCP_KEEPALIVE: (Duration, Duration, u32) =
    (Duration::from_secs(300), Duration::from_secs(75), 9);

/// HTTP/2 keepalive: interval and how long an answer may take.
pub const H2_KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Bytes of a token, root or key file. A wrong path (a device, a log) must not fill the memory.
pub const MAX_FILE: u64 = 4 << 20;

/// Bytes of a static configuration file.
pub const MAX_LOCAL: u64 = 256 << 20;

/// Messages between two sweeps of strings that nothing uses any more.
pub const SWEEP_EVERY: u32 = 64;

/// How often the certificate gauges are brought up to date.
pub const GAUGES: Duration = Duration::from_secs(5);
