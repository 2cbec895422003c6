//! What all clients share: the current resources, what is on each node, and who is connected.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ambit_model::{Identity, NodeName};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::resource::{Kind, Source};
use super::table::{Change, Table};
use crate::limits::{MAX_OUTCOMES, MAX_REJECTIONS};
use crate::translate::{NodeContent, Translated};

/// The current resources and who is connected. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) tables: RwLock<[Table; 2]>,
    pub(super) nodes: watch::Sender<Arc<BTreeMap<NodeName, NodeContent>>>,
    clients: Mutex<HashMap<u64, Arc<Client>>>,
    outcomes: Mutex<BTreeMap<NodeName, BTreeMap<String, OutcomeStatus>>>,
    next: AtomicU64,
    /// Sessions under way; they end with their connections.
    pub(super) sessions: TaskTracker,
    pub(super) stopping: watch::Sender<bool>,
}

/// A connected client, as the rest of the program sees it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: u64,
    /// Names that changed and were not sent yet, by type.
    pending: Mutex<[Pending; 2]>,
    pub(super) wake: Notify,
    pub(super) status: Mutex<ClientStatus>,
}

/// What a client is interested in and what it has not been told yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) interest: Interest,
    pub(super) names: HashSet<Arc<str>>,
}

/// What a client is interested in.
#[derive(Debug, Default)]
pub(super) enum Interest {
    /// Nothing yet.
    #[default]
    None,
    /// Everything.
    All,
    /// What it asked for.
    Some(Box<Selection>),
}

/// What a client asked for, and what it was sent because of it.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Names and aliases.
    pub(super) asked: HashSet<Arc<str>>,
    /// Names of resources it holds.
    pub(super) sent: HashSet<Arc<str>>,
    /// Workloads of its node come unprompted.
    pub(super) node: NodeName,
}

impl Selection {
    fn wants(&self, resource: &super::resource::Resource) -> bool {
        self.sent.contains(&resource.name)
            || self.asked.contains(&resource.name)
            || resource
                .aliases
                .iter()
                .any(|alias| self.asked.contains(alias))
            || resource
                .source
                .node()
                .is_some_and(|node| *node == self.node && !node.is_empty())
            || resource
                .source
                .services()
                .iter()
                .any(|key| self.sent.contains(&*key.to_string()))
    }
}

/// A connected client.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClientStatus {
    /// The node it was recognised as.
    pub node: String,
    /// The name it gives itself.
    pub id: String,
    /// Its address.
    pub peer: String,
    /// Per type: acknowledged and sent responses, and what waits.
    pub types: BTreeMap<&'static str, TypeStatus>,
    /// Resources it refused, the latest last.
    pub rejections: VecDeque<Rejection>,
}

/// How far a client is with one type.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TypeStatus {
    /// Responses sent.
    pub sent: u64,
    /// Responses acknowledged.
    pub acknowledged: u64,
    /// Responses it refused, in whole or in part.
    pub rejected: u64,
    /// Names that changed and were not sent yet.
    pub waiting: usize,
}

/// A refusal by a client.
#[derive(Clone, Debug, Serialize)]
pub struct Rejection {
    /// Type of the resources.
    pub type_url: &'static str,
    /// Resources of the response, or the start of their list.
    pub resources: Vec<String>,
    /// What the client says.
    pub message: String,
}

/// What became of a pod on its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutcomeStatus {
    /// `captured`, `released` or `pending`.
    pub state: &'static str,
    /// Why, where it is pending.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A node and its pods.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NodeStatus {
    /// Pods that are to be captured, by `namespace/name`, with what the agent says of them.
    pub pods: BTreeMap<String, Option<OutcomeStatus>>,
}

/// Completes when the streams are to end.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the hub is gone, which is an end as well.
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        tracing::trace!("the hub is gone");
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self(Arc::new(Inner {
            tables: RwLock::default(),
            nodes: watch::Sender::default(),
            clients: Mutex::default(),
            outcomes: Mutex::default(),
            next: AtomicU64::new(1),
            sessions: TaskTracker::new(),
            stopping: watch::Sender::new(false),
        }))
    }
}

impl Hub {
    /// Publishes what was translated; returns how many resources changed or went.
    pub fn publish(&self, translated: &Translated) -> usize {
        let workloads = translated
            .workloads
            .iter()
            .map(|w| Source::Workload(Arc::clone(w)));
        let services = translated
            .services
            .iter()
            .map(|s| Source::Service(Arc::clone(s)));
        let policies = translated
            .policies
            .iter()
            .map(|p| Source::Policy(Arc::clone(p)));
        let changes = {
            let mut tables = self.0.tables.write();
            let [addresses, authorizations] = &mut *tables;
            let changes = [
                addresses.update(workloads.chain(services)),
                authorizations.update(policies),
            ];
            // While the tables are locked: a client that subscribes now sees either the change
            // or the state before it together with the news of the change.
            self.notify(&changes);
            changes
        };
        self.0.nodes.send_if_modified(|nodes| {
            // Only what concerns capture is news; the workloads are looked up when asked for.
            let same = |(old, new): ((&NodeName, &NodeContent), (&NodeName, &NodeContent))| {
                old.0 == new.0 && old.1.enrolled == new.1.enrolled
            };
            let changed = nodes.len() != translated.nodes.len()
                || !nodes.iter().zip(&translated.nodes).all(same);
            *nodes = Arc::new(translated.nodes.clone());
            changed
        });
        changes
            .iter()
            .map(|change| change.changed.len() + change.removed.len())
            .sum()
    }

    fn notify(&self, changes: &[Change; 2]) {
        let clients: Vec<_> = self.0.clients.lock().values().map(Arc::clone).collect();
        for client in clients {
            if client.note(changes) {
                client.wake.notify_one();
            }
        }
    }

    /// Whether a workload with this identity runs on the node.
    #[must_use]
    pub fn has_identity(&self, node: &NodeName, identity: &Identity) -> bool {
        self.0
            .nodes
            .borrow()
            .get(node)
            .is_some_and(|content| content.has_identity(identity))
    }

    /// Number of resources by type.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, usize); 2] {
        let tables = self.0.tables.read();
        Kind::ALL.map(|kind| (kind.type_url(), tables[kind.index()].len()))
    }

    /// Number of connected clients.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.0.clients.lock().len()
    }

    /// The connected clients.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientStatus> {
        let clients: Vec<_> = self.0.clients.lock().values().map(Arc::clone).collect();
        let status = |client: Arc<Client>| {
            let waiting = client.waiting();
            let mut status = client.status.lock().clone();
            for kind in Kind::ALL {
                if let Some(of_type) = status.types.get_mut(kind.type_url()) {
                    of_type.waiting = waiting[kind.index()];
                }
            }
            status
        };
        let mut all: Vec<ClientStatus> = clients.into_iter().map(status).collect();
        all.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
        all
    }

    /// The nodes and what became of their pods.
    #[must_use]
    pub fn nodes(&self) -> BTreeMap<String, NodeStatus> {
        let nodes = Arc::clone(&self.0.nodes.borrow());
        let outcomes = self.0.outcomes.lock();
        let status = |(node, content): (&NodeName, &NodeContent)| {
            let known = outcomes.get(node);
            let pods = content.enrolled.iter().map(|pod| {
                let outcome = known.and_then(|known| known.get(pod.uid.as_str()).cloned());
                (format!("{}/{}", pod.namespace, pod.name), outcome)
            });
            (
                node.to_string(),
                NodeStatus {
                    pods: pods.collect(),
                },
            )
        };
        nodes.iter().map(status).collect()
    }

    pub(super) fn note_outcome(
        &self,
        node: &NodeName,
        uid: String,
        outcome: Option<OutcomeStatus>,
    ) {
        let mut outcomes = self.0.outcomes.lock();
        let known = outcomes.entry(node.clone()).or_default();
        match outcome {
            Some(outcome) if known.len() < MAX_OUTCOMES || known.contains_key(&uid) => {
                known.insert(uid, outcome);
            }
            Some(_) => tracing::warn!(%node, uid, "too many pods on one node to remember"),
            None => {
                known.remove(&uid);
            }
        }
    }

    pub(super) fn forget_outcomes(&self, node: &NodeName) {
        self.0.outcomes.lock().remove(node);
    }

    pub(super) fn connect(&self, status: ClientStatus) -> Arc<Client> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let client = Arc::new(Client {
            id,
            pending: Mutex::default(),
            wake: Notify::new(),
            status: Mutex::new(status),
        });
        self.0.clients.lock().insert(id, Arc::clone(&client));
        client
    }

    pub(super) fn disconnect(&self, client: &Client) {
        self.0.clients.lock().remove(&client.id);
    }

    /// Ends all streams and waits until they are gone.
    pub async fn stop(&self) {
        self.0.stopping.send_replace(true);
        self.0.sessions.close();
        self.0.sessions.wait().await;
    }
}

impl Client {
    /// Notes what of a change concerns the client.
    fn note(&self, changes: &[Change; 2]) -> bool {
        let mut noted = false;
        for (pending, change) in self.pending.lock().iter_mut().zip(changes) {
            let Pending { interest, names } = pending;
            let before = names.len();
            match interest {
                Interest::None => {}
                Interest::All => {
                    names.extend(
                        change
                            .changed
                            .iter()
                            .map(|resource| Arc::clone(&resource.name)),
                    );
                    names.extend(change.removed.iter().map(Arc::clone));
                }
                Interest::Some(selection) => {
                    let wanted = change
                        .changed
                        .iter()
                        .filter(|resource| selection.wants(resource));
                    names.extend(wanted.map(|resource| Arc::clone(&resource.name)));
                    let gone = change
                        .removed
                        .iter()
                        .filter(|name| selection.sent.contains(*name));
                    names.extend(gone.map(Arc::clone));
                }
            }
            noted |= names.len() > before;
        }
        noted
    }

    pub(super) fn with_pending<T>(&self, kind: Kind, work: impl FnOnce(&mut Pending) -> T) -> T {
        work(&mut self.pending.lock()[kind.index()])
    }

    pub(super) fn has_pending(&self, kind: Kind) -> bool {
        !self.pending.lock()[kind.index()].names.is_empty()
    }

    fn waiting(&self) -> [usize; 2] {
        let pending = self.pending.lock();
        Kind::ALL.map(|kind| pending[kind.index()].names.len())
    }

    pub(super) fn reject(&self, rejection: Rejection) {
        let mut status = self.status.lock();
        if status.rejections.len() == MAX_REJECTIONS {
            status.rejections.pop_front();
        }
        status.rejections.push_back(rejection);
    }
}
