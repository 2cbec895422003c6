//! Live connections as the administrator sees them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::proxy::{Direction, Live, Pods};

/// One connection, with the field names of Istio's dump.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionDump {
    /// Who opened it.
    src: SocketAddr,
    /// What the application asked for, or the pod's own address.
    original_dst: SocketAddr,
    /// Where it really goes.
    actual_dst: SocketAddr,
    /// `HBONE` or `TCP`.
    protocol: &'static str,
    /// The proven identity of the other side.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

impl ConnectionDump {
    fn of(live: &Live) -> Self {
        let tunnelled = live.direction == Direction::InboundTunnel || live.peer.is_some();
        Self {
            src: live.source,
            original_dst: live.destination,
            actual_dst: live.via.unwrap_or(live.destination),
            protocol: if tunnelled { "HBONE" } else { "TCP" },
            identity: live.peer.as_ref().map(ToString::to_string),
        }
    }
}

/// The connections of one pod.
#[derive(Debug, Default, Serialize)]
pub(super) struct ByDirection {
    inbound: Vec<ConnectionDump>,
    outbound: Vec<ConnectionDump>,
}

impl ByDirection {
    pub(super) fn of(all: &[Arc<Live>]) -> Self {
        let (outbound, inbound): (Vec<_>, Vec<_>) = all
            .iter()
            .partition(|live| live.direction == Direction::Outbound);
        let dump = |list: Vec<&Arc<Live>>| list.iter().map(|l| ConnectionDump::of(l)).collect();
        Self {
            inbound: dump(inbound),
            outbound: dump(outbound),
        }
    }
}

/// Connections by `namespace/pod`.
pub(super) fn by_pod(pods: &Pods) -> BTreeMap<String, ByDirection> {
    let pods = pods.list();
    pods.iter()
        .map(|pod| (pod.full_name(), ByDirection::of(&pod.connections.list())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn directions_are_told_apart() {
        let live = |direction, via: Option<&str>| {
            Arc::new(Live {
                direction,
                source: "10.0.0.1:1000".parse().unwrap(),
                destination: "10.0.0.2:80".parse().unwrap(),
                via: via.map(|address| address.parse().unwrap()),
                peer: None,
                tunnel: None,
                since: SystemTime::UNIX_EPOCH,
            })
        };
        let all = [
            live(Direction::Outbound, Some("10.0.0.3:15008")),
            live(Direction::InboundTunnel, None),
            live(Direction::InboundPlaintext, None),
        ];
        let shown = serde_json::to_value(ByDirection::of(&all)).unwrap();
        assert_eq!(shown["outbound"][0]["actualDst"], "10.0.0.3:15008");
        assert_eq!(shown["outbound"][0]["originalDst"], "10.0.0.2:80");
        let protocols: Vec<_> = shown["inbound"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["protocol"])
            .collect();
        assert_eq!(protocols, ["HBONE", "TCP"]);
    }
}
