//! What every socket of the data path is given, decided once at start.

use std::time::Duration;

use crate::CongestionControl;

/// The mark on the agent's own sockets, by which capture lets them through.
pub const PACKET_MARK: u32 = 0x539;

/// Settings of the data path's sockets.
#[derive(Clone, Debug)]
pub struct SocketSettings {
    /// `SO_MARK` of every socket; `None` where the process may not set it.
    pub mark: Option<u32>,
    /// Listeners share their port, so that an old and a new agent overlap.
    pub reuse_port: bool,
    /// Keepalive probes on connections across the network.
    pub keepalive: Option<Keepalive>,
    /// Give up on unacknowledged data after the keepalive's whole time (`TCP_USER_TIMEOUT`).
    pub user_timeout: bool,
    /// Congestion control between the agent and an application of its node.
    pub loopback_congestion: Option<CongestionControl>,
    /// Congestion control across the network; `None`: the system's.
    pub network_congestion: Option<CongestionControl>,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// Length of the accept queues.
    pub backlog: i32,
}

impl Default for SocketSettings {
    fn default() -> Self {
        Self {
            mark: Some(PACKET_MARK),
            reuse_port: true,
            keepalive: Some(Keepalive::default()),
            user_timeout: false,
            loopback_congestion: CongestionControl::for_loopback(),
            network_congestion: None,
            connect_timeout: Duration::from_secs(10),
            backlog: 4096,
        }
    }
}

/// Keepalive probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first.
    pub time: Duration,
    /// Time between two.
    pub interval: Duration,
    /// Unanswered ones that end the connection.
    pub retries: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(180),
            interval: Duration::from_secs(180),
            retries: 9,
        }
    }
}

impl Keepalive {
    /// Time after which a silent peer is given up.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.time + self.interval * self.retries
    }
}

/// Where the other end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// In the same network namespace: an application and its agent.
    Loopback,
    /// Anywhere else.
    Network,
}
