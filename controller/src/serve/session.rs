//! One discovery stream: what the client asks for, what it has been sent, what it acknowledged.
//!
//! What changes while responses are unacknowledged is collected as names, so that a slow client
//! gets the latest state of each resource once, however often it changed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use ambit_model::NodeName;
use ambit_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until};
use tonic::{Status, codec::Streaming};

use super::Hub;
use super::body::Message;
use super::hub::{Client, Interest, Pending, Rejection, Selection};
use super::resource::{Kind, Resource, version_text};
use super::table::Table;
use crate::limits::{CLIENT_STALLED, MAX_SUBSCRIPTIONS, MAX_UNACKNOWLEDGED};

/// How long removals of policies wait for a client that has not asked for workloads yet.
const WORKLOADS_FIRST: Duration = Duration::from_secs(1);

/// Resource names noted with a rejection.
const SHOWN_RESOURCES: usize = 8;

pub(super) struct Session {
    hub: Hub,
    client: Arc<Client>,
    node: NodeName,
    answers: mpsc::Sender<Result<Message, Status>>,
    types: [Exchange; 2],
    next_nonce: u64,
    began: Instant,
}

/// The exchange about one type.
#[derive(Debug, Default)]
struct Exchange {
    started: bool,
    /// An answer is due even when there is nothing to say, so that the client knows it has all.
    must_answer: bool,
    /// Versions a resuming client holds already.
    held: HashMap<Arc<str>, String>,
    /// Policies that are gone, and are removed once the workloads no longer name them: a
    /// workload that names an unknown policy is denied.
    deferred: HashSet<Arc<str>>,
    /// Names asked for that do not exist.
    missing: Vec<String>,
    /// Nonces sent and not acknowledged, with some of the names.
    unacknowledged: VecDeque<(String, Vec<String>)>,
    /// When the oldest of them was sent.
    since: Option<Instant>,
}

impl Session {
    pub(super) fn new(
        hub: Hub,
        client: Arc<Client>,
        node: NodeName,
        answers: mpsc::Sender<Result<Message, Status>>,
    ) -> Self {
        Self {
            hub,
            client,
            node,
            answers,
            types: Default::default(),
            next_nonce: 1,
            began: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        let end = self.exchange(&mut requests).await;
        self.hub.disconnect(&self.client);
        if let Err(status) = end {
            tracing::debug!(node = %self.node, %status, "discovery stream ended");
            // The client may be gone, or not take anything: it is told if it listens.
            if self.answers.try_send(Err(status)).is_err() {
                tracing::trace!(node = %self.node, "the client was not told");
            }
        }
    }

    async fn exchange(
        &mut self,
        requests: &mut Streaming<DeltaDiscoveryRequest>,
    ) -> Result<(), Status> {
        let mut stopping = self.hub.0.stopping.subscribe();
        let client = Arc::clone(&self.client);
        loop {
            let ready = self.ready();
            let stalled = self
                .types
                .iter()
                .filter_map(|exchange| exchange.since)
                .min();
            let stalled = stalled.map(|since| since + CLIENT_STALLED);
            let answers = self.answers.clone();
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => self.receive(request)?,
                    None => return Ok(()),
                },
                permit = answers.reserve(), if ready.is_some() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(message) = ready.map(|kind| self.answer(kind)).transpose()?.flatten() {
                        permit.send(Ok(message));
                    }
                }
                () = client.wake.notified() => {}
                () = answers.closed() => return Ok(()),
                () = sleep_until(stalled.unwrap_or_else(Instant::now)), if stalled.is_some() => {
                    return Err(Status::unavailable("no acknowledgement for too long; connect again to resume"));
                }
                () = sleep_until(self.began + WORKLOADS_FIRST), if self.awaits_workloads() => {}
                () = super::hub::stopped(&mut stopping) => {
                    return Err(Status::unavailable("the controller is stopping"));
                }
            }
        }
    }

    /// A type something can be sent of. Policies go before the workloads that name them, and are
    /// removed after these no longer do.
    fn ready(&self) -> Option<Kind> {
        let is_ready = |kind: &Kind| {
            let exchange = &self.types[kind.index()];
            let removals = !exchange.deferred.is_empty() && self.workloads_are_known();
            exchange.started
                && exchange.unacknowledged.len() < MAX_UNACKNOWLEDGED
                && (exchange.must_answer
                    || removals
                    || !exchange.missing.is_empty()
                    || self.client.has_pending(*kind))
        };
        [Kind::Authorization, Kind::Address]
            .into_iter()
            .find(is_ready)
    }

    /// Whether the client has all workloads as they are now, or does not want any.
    fn workloads_are_known(&self) -> bool {
        let workloads = &self.types[Kind::Address.index()];
        if workloads.started {
            workloads.unacknowledged.is_empty()
                && !workloads.must_answer
                && !self.client.has_pending(Kind::Address)
        } else {
            self.began.elapsed() >= WORKLOADS_FIRST
        }
    }

    fn awaits_workloads(&self) -> bool {
        let waits = !self.types[Kind::Authorization.index()].deferred.is_empty();
        waits && !self.types[Kind::Address.index()].started && !self.workloads_are_known()
    }

    fn receive(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let Some(kind) = Kind::of(&request.type_url) else {
            let known = Kind::ALL.map(Kind::type_url).join(" and ");
            let message = format!(
                "no type {:?} here; there are {known}",
                cut(&request.type_url)
            );
            return Err(Status::invalid_argument(message));
        };
        if let Some(node) = &request.node {
            self.client.status.lock().id = cut(&node.id);
        }
        if !request.response_nonce.is_empty() {
            self.acknowledge(kind, &request);
        }
        let started = self.types[kind.index()].started;
        if !started {
            self.start(kind, &request)?;
        }
        let changes = !request.resource_names_subscribe.is_empty()
            || !request.resource_names_unsubscribe.is_empty();
        if started && changes {
            self.subscribe(kind, &request)?;
        }
        Ok(())
    }

    /// The first request of a type: all, or what is named; less what the client holds already.
    fn start(&mut self, kind: Kind, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        let tables = self.hub.0.tables.read();
        let table = &tables[kind.index()];
        let exchange = &mut self.types[kind.index()];
        exchange.started = true;
        let asked = &request.resource_names_subscribe;
        let star = |names: &[String]| names.iter().any(|name| name == "*");
        let all = star(asked) || (asked.is_empty() && !star(&request.resource_names_unsubscribe));
        let held = &request.initial_resource_versions;
        exchange.held = held
            .iter()
            .map(|(name, version)| (Arc::from(name.as_str()), version.clone()))
            .collect();
        self.client
            .status
            .lock()
            .types
            .entry(kind.type_url())
            .or_default();
        if all {
            exchange.must_answer = true;
            self.client.with_pending(kind, |pending| {
                pending.interest = Interest::All;
                // What the client holds and is gone is among the names too, and found missing.
                pending
                    .names
                    .extend(table.iter().map(|resource| Arc::clone(&resource.name)));
                let gone = exchange
                    .held
                    .keys()
                    .filter(|name| table.find(name).is_none());
                pending.names.extend(gone.map(Arc::clone));
            });
            return Ok(());
        }
        self.client.with_pending(kind, |pending| {
            let selection = Selection {
                node: self.node.clone(),
                ..Selection::default()
            };
            pending.interest = Interest::Some(Box::new(selection));
            for name in table.on_node(&self.node) {
                pending.names.insert(Arc::clone(name));
            }
        });
        // What a client holds it wants to keep hearing of, whether it says so or not.
        let names = asked.iter().chain(held.keys()).map(String::as_str);
        add(names, table, &self.client, kind, exchange)
    }

    fn subscribe(&mut self, kind: Kind, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        let tables = self.hub.0.tables.read();
        let table = &tables[kind.index()];
        let exchange = &mut self.types[kind.index()];
        let left = &request.resource_names_unsubscribe;
        self.client.with_pending(kind, |pending| {
            if left.iter().any(|name| name == "*") && matches!(pending.interest, Interest::All) {
                let selection = Selection {
                    node: self.node.clone(),
                    ..Selection::default()
                };
                pending.interest = Interest::Some(Box::new(selection));
                pending.names.clear();
            }
            if let Interest::Some(selection) = &mut pending.interest {
                for name in left {
                    selection.asked.remove(name.as_str());
                    let resource = table.find(name).map(|resource| &resource.name);
                    let resource = resource.map_or(name.as_str(), |name| &**name);
                    selection.sent.remove(resource);
                }
            }
        });
        let asked = &request.resource_names_subscribe;
        if asked.iter().any(|name| name == "*") {
            exchange.must_answer = true;
            self.client.with_pending(kind, |pending| {
                pending.interest = Interest::All;
                pending
                    .names
                    .extend(table.iter().map(|resource| Arc::clone(&resource.name)));
            });
            return Ok(());
        }
        add(
            asked.iter().map(String::as_str),
            table,
            &self.client,
            kind,
            exchange,
        )
    }

    fn acknowledge(&mut self, kind: Kind, request: &DeltaDiscoveryRequest) {
        let exchange = &mut self.types[kind.index()];
        let nonce = &request.response_nonce;
        let Some(position) = exchange
            .unacknowledged
            .iter()
            .position(|(sent, _)| sent == nonce)
        else {
            return;
        };
        // An answer to a response answers those before it too.
        let answered = exchange.unacknowledged.drain(..=position).next_back();
        exchange.since = (!exchange.unacknowledged.is_empty()).then(Instant::now);
        let mut status = self.client.status.lock();
        let of_type = status.types.entry(kind.type_url()).or_default();
        let Some(error) = &request.error_detail else {
            of_type.acknowledged += 1;
            return;
        };
        of_type.rejected += 1;
        drop(status);
        let resources = answered.map(|(_, names)| names).unwrap_or_default();
        tracing::warn!(node = %self.node, type_url = kind.type_url(), ?resources, error = error.message, "a client refused resources");
        let message = cut(&error.message);
        self.client.reject(Rejection {
            type_url: kind.type_url(),
            resources,
            message,
        });
    }

    /// The next response of a type; `None` when there is nothing to say after all.
    fn answer(&mut self, kind: Kind) -> Result<Option<Message>, Status> {
        let tables = self.hub.0.tables.read();
        let removals_wait = kind == Kind::Authorization && !self.workloads_are_known();
        let table = &tables[kind.index()];
        let exchange = &mut self.types[kind.index()];
        let names = self
            .client
            .with_pending(kind, |pending| std::mem::take(&mut pending.names));
        let mut resources: Vec<Arc<Resource>> = Vec::with_capacity(names.len());
        let mut removed: Vec<String> = std::mem::take(&mut exchange.missing);
        for name in &names {
            match table.get(name) {
                Some(resource) if exchange.holds(resource) => {}
                Some(resource) => resources.push(Arc::clone(resource)),
                None if removals_wait => drop(exchange.deferred.insert(Arc::clone(name))),
                None => removed.push(name.to_string()),
            }
        }
        if !removals_wait {
            let gone = exchange
                .deferred
                .drain()
                .filter(|name| table.get(name).is_none());
            removed.extend(gone.map(|name| name.to_string()));
        }
        self.client
            .with_pending(kind, |pending| note_sent(pending, &names, table));
        exchange.held = HashMap::new();
        let must_answer = std::mem::take(&mut exchange.must_answer);
        if resources.is_empty() && removed.is_empty() && !must_answer {
            return Ok(None);
        }
        drop(tables);
        resources.sort_by(|a, b| a.name.cmp(&b.name));
        removed.sort();
        removed.dedup();
        let nonce = self.next_nonce.to_string();
        self.next_nonce += 1;
        let shown = resources
            .iter()
            .take(SHOWN_RESOURCES)
            .map(|resource| resource.name.to_string());
        exchange
            .unacknowledged
            .push_back((nonce.clone(), shown.collect()));
        exchange.since.get_or_insert_with(Instant::now);
        self.client
            .status
            .lock()
            .types
            .entry(kind.type_url())
            .or_default()
            .sent += 1;
        let response = DeltaDiscoveryResponse {
            type_url: kind.type_url().to_owned(),
            nonce,
            removed_resources: removed,
            ..DeltaDiscoveryResponse::default()
        };
        Message::new(&response, resources).map(Some)
    }
}

impl Exchange {
    /// Whether a resuming client holds this very version, by name or by an alias.
    fn holds(&self, resource: &Resource) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let version = version_text(resource.version);
        std::iter::once(&resource.name)
            .chain(&resource.aliases)
            .any(|name| self.held.get(name) == Some(&version))
    }
}

/// Adds names or aliases to what a client asked for. One that stands for a service brings the
/// workloads behind it.
fn add<'a>(
    names: impl Iterator<Item = &'a str>,
    table: &Table,
    client: &Client,
    kind: Kind,
    exchange: &mut Exchange,
) -> Result<(), Status> {
    client.with_pending(kind, |pending| {
        let Pending {
            interest: Interest::Some(selection),
            names: waiting,
        } = pending
        else {
            return Ok(());
        };
        for name in names.filter(|name| *name != "*") {
            if selection.asked.len() >= MAX_SUBSCRIPTIONS {
                return Err(Status::resource_exhausted("too many subscriptions"));
            }
            selection.asked.insert(Arc::from(name));
            let Some(resource) = table.find(name) else {
                exchange.missing.push(name.to_owned());
                continue;
            };
            waiting.insert(Arc::clone(&resource.name));
            waiting.extend(table.members(&resource.name).map(Arc::clone));
            // The waypoint it is reached through, with the workloads behind it.
            if let Some(waypoint) = resource
                .source
                .waypoint()
                .and_then(|name| table.find(&name))
            {
                waiting.insert(Arc::clone(&waypoint.name));
                waiting.extend(table.members(&waypoint.name).map(Arc::clone));
            }
        }
        Ok(())
    })
}

fn note_sent(pending: &mut Pending, names: &HashSet<Arc<str>>, table: &Table) {
    if let Interest::Some(selection) = &mut pending.interest {
        for name in names {
            if table.get(name).is_some() {
                selection.sent.insert(Arc::clone(name));
            } else {
                selection.sent.remove(name);
            }
        }
    }
}

/// What a client says, cut to a length fit for logs and status.
fn cut(text: &str) -> String {
    text.chars().take(512).collect()
}
