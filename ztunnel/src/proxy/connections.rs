//! The live connections of one pod: for the administrator's view, and so that each can be cut when a
//! policy, a certificate or the pod itself goes. A connection registers *before* it is decided
//! about: whatever changes after the decision finds it here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ambit_model::Identity;
use ambit_policy::{Connection, PolicySet};
use ambit_telemetry::Cut;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::oneshot;

use super::limits;

/// Which way a connection goes, seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// The pod's application opened it.
    Outbound,
    /// It came in a tunnel.
    InboundTunnel,
    /// It came in clear.
    InboundPlaintext,
}

/// What is known of a live connection.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// Which way it goes.
    pub direction: Direction,
    /// Who opened it.
    pub source: SocketAddr,
    /// The destination: what the application asked for, or the pod's own address and port.
    pub destination: SocketAddr,
    /// The tunnel's or endpoint's address, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<SocketAddr>,
    /// The proven identity of the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Arc<Identity>>,
    /// The tunnel it is a stream of.
    #[serde(skip)]
    pub tunnel: Option<u64>,
    /// Since when.
    #[serde(serialize_with = "since_epoch")]
    pub since: SystemTime,
}

fn since_epoch<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    serializer.serialize_f64(since.as_secs_f64())
}

impl Live {
    /// What policies look at; `None` for outbound ones, which the destination's agent decides.
    fn decided_by(&self) -> Option<Connection<'_>> {
        (self.direction != Direction::Outbound).then(|| Connection {
            source_identity: self.peer.as_deref(),
            source_ip: self.source.ip(),
            destination_ip: self.destination.ip(),
            destination_port: self.destination.port(),
        })
    }
}

struct Entry {
    live: Arc<Live>,
    cut: oneshot::Sender<Cut>,
}

/// The live connections of one pod.
#[derive(Default)]
pub struct Connections {
    next: AtomicU64,
    entries: Mutex<HashMap<u64, Entry>>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connections({})", self.len())
    }
}

/// A connection's place in the registry; leaves it when dropped, which also happens when the
/// connection's task is cancelled.
#[derive(Debug)]
pub struct Ticket {
    home: Arc<Connections>,
    id: u64,
    cut: oneshot::Receiver<Cut>,
}

impl Ticket {
    /// Waits until the connection is to be cut. Safe to drop and call again.
    pub async fn cut(&mut self) -> Cut {
        match (&mut self.cut).await {
            Ok(cut) => cut,
            // Only the registry holds the other side, and sends before it lets go.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.home.entries.lock().remove(&self.id);
    }
}

impl Connections {
    /// Registers a connection.
    #[must_use]
    pub fn register(self: &Arc<Self>, live: Live) -> Ticket {
        let (cut, receiver) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.entries.lock().insert(
            id,
            Entry {
                live: Arc::new(live),
                cut,
            },
        );
        Ticket {
            home: Arc::clone(self),
            id,
            cut: receiver,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The oldest ones, for a dump.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Live>> {
        let mut all: Vec<_> = {
            let entries = self.entries.lock();
            let entries = entries.iter().take(limits::DUMPED_CONNECTIONS);
            entries
                .map(|(id, entry)| (*id, Arc::clone(&entry.live)))
                .collect()
        };
        all.sort_unstable_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, live)| live).collect()
    }

    /// Decides again about every inbound connection and cuts the refused. Returns how many.
    pub fn redecide(&self, policies: &PolicySet) -> usize {
        if policies.is_empty() {
            return 0;
        }
        self.cut_where(Cut::Policy, |live| {
            live.decided_by()
                .is_some_and(|about| !policies.decide(&about).is_allowed())
        })
    }

    /// Cuts all.
    pub fn cut_all(&self, why: Cut) -> usize {
        self.cut_where(why, |_| true)
    }

    /// Cuts those that `which` names. It is called without the lock: deciding takes time.
    pub fn cut_where(&self, why: Cut, which: impl Fn(&Live) -> bool) -> usize {
        let all: Vec<_> = {
            let entries = self.entries.lock();
            entries
                .iter()
                .map(|(id, entry)| (*id, Arc::clone(&entry.live)))
                .collect()
        };
        let mut cut = 0;
        for (id, _) in all.into_iter().filter(|(_, live)| which(live)) {
            let entry = self.entries.lock().remove(&id);
            // The connection may have ended by itself meanwhile.
            cut += usize::from(entry.is_some_and(|entry| entry.cut.send(why).is_ok()));
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambit_model::{
        Action, AuthorizationPolicy, Clause, Match, PolicyBody, PolicyKey, Rule, Scope,
    };

    fn live(direction: Direction, port: u16) -> Live {
        Live {
            direction,
            source: "10.0.0.1:1".parse().unwrap(),
            destination: SocketAddr::from(([10, 0, 0, 2], port)),
            via: None,
            peer: None,
            tunnel: None,
            since: SystemTime::UNIX_EPOCH,
        }
    }

    fn deny_port(port: u16) -> PolicySet {
        let one = Match {
            destination_ports: vec![port],
            ..Match::default()
        };
        let rule = Rule {
            clauses: vec![Clause { matches: vec![one] }],
        };
        let policy = AuthorizationPolicy {
            key: PolicyKey::new("a", "deny"),
            scope: Scope::Global,
            action: Action::Deny,
            dry_run: false,
            body: PolicyBody::Rules(vec![rule]),
        };
        PolicySet::new(vec![Arc::new(policy)], Vec::new())
    }

    #[tokio::test]
    async fn only_newly_denied_inbound_connections_are_cut() {
        let all = Arc::new(Connections::default());
        let mut denied = all.register(live(Direction::InboundTunnel, 80));
        let mut allowed = all.register(live(Direction::InboundPlaintext, 81));
        let mut outbound = all.register(live(Direction::Outbound, 80));
        assert_eq!(all.redecide(&PolicySet::default()), 0);
        assert_eq!(all.redecide(&deny_port(80)), 1);
        assert_eq!(denied.cut().await, Cut::Policy);
        assert_eq!(all.len(), 2);
        for ticket in [&mut allowed, &mut outbound] {
            tokio::select! {
                biased;
                cut = ticket.cut() => panic!("{cut:?}"),
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(all.cut_all(Cut::Released), 2);
        assert_eq!(outbound.cut().await, Cut::Released);
    }

    #[test]
    fn a_connection_leaves_when_its_ticket_is_dropped() {
        let all = Arc::new(Connections::default());
        let ticket = all.register(live(Direction::Outbound, 80));
        assert_eq!(all.list().len(), 1);
        drop(ticket);
        assert!(all.is_empty());
        assert_eq!(all.cut_all(Cut::Drain), 0);
    }
}
