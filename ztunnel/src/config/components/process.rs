//! Settings of the process: its own ports, its ending, its log.

use std::time::Duration;

use serde::Serialize;

use crate::config::reader::Reader;
use crate::config::{Bind, parse, variables as v};

/// Admin, metrics and readiness.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Admin {
    /// Admin.
    pub admin: Bind,
    /// Metrics.
    pub metrics: Bind,
    /// Readiness.
    pub readiness: Bind,
    /// Tunnel listener of the agent itself; `None`: off.
    pub own_tunnel: Option<Bind>,
}

impl Admin {
    pub(in crate::config) fn from_source(reader: &mut Reader<'_>) -> Self {
        let admin = reader.proxy_config.proxy_admin_port.unwrap_or(15000);
        let metrics = reader.proxy_config.stats_port.unwrap_or(15020);
        let own_tunnel = reader
            .parsed(&v::AMBIT_SELF_PORT, |text| match text {
                "off" => Some(None),
                port => port.parse().ok().map(Some),
            })
            .unwrap_or(Some(15008));
        Self {
            admin: Bind::Localhost(reader.number(&v::AMBIT_ADMIN_PORT, admin)),
            metrics: Bind::Any(reader.number(&v::AMBIT_METRICS_PORT, metrics)),
            readiness: Bind::Any(reader.number(&v::AMBIT_READINESS_PORT, 15021)),
            own_tunnel: own_tunnel.map(Bind::Any),
        }
    }
}

/// Ending.
#[derive(Clone, Debug, Serialize)]
pub struct Drain {
    /// How long open connections may last after SIGTERM.
    pub deadline: Duration,
}

impl Drain {
    pub(in crate::config) fn from_source(reader: &mut Reader<'_>) -> Self {
        let grace = reader.parsed(&v::TERMINATION_GRACE_PERIOD_SECONDS, |t| {
            t.parse::<u64>().ok()
        });
        let deadline = reader
            .parsed(&v::CONNECTION_TERMINATION_DEADLINE, parse::duration)
            .or_else(|| grace.map(before_grace_ends))
            .unwrap_or(Duration::from_secs(5));
        Self { deadline }
    }
}

/// The last seconds of the grace period are kept for cutting what is left, before the kill.
fn before_grace_ends(seconds: u64) -> Duration {
    let kept = if seconds > 10 { 5 } else { 1 };
    Duration::from_secs(seconds.saturating_sub(kept).max(1))
}

/// Logging.
#[derive(Clone, Debug, Serialize)]
pub struct Logging {
    /// Filter.
    pub filter: String,
    /// Lines as JSON objects.
    pub json: bool,
}

impl Logging {
    pub(in crate::config) fn from_source(reader: &mut Reader<'_>) -> Self {
        Self {
            filter: reader
                .text(&v::RUST_LOG)
                .unwrap_or_else(|| "info".to_owned()),
            json: reader
                .text(&v::LOG_FORMAT)
                .is_some_and(|format| format == "json"),
        }
    }
}
