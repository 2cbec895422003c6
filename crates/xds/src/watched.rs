//! What is known of one type: the versions that were applied, and on demand who waits for what.
//! Pure bookkeeping; survives connections.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

use ambit_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ambit_proto::rpc;
use tokio::sync::{oneshot, watch};

use crate::config::Mode;
use crate::demand::{Found, Verdict};
use crate::handler::{Handler, Rejected, Resource, Update};
use crate::limits::{
    MAX_ABSENT_NAMES, MAX_PENDING_NAMES, MAX_REASON_BYTES, MAX_REJECTED_NAMED, MAX_WAITERS_PER_NAME,
};

/// `INVALID_ARGUMENT` of google.rpc.Code.
const INVALID_ARGUMENT: i32 = 3;

/// The name of everything.
const WILDCARD: &str = "*";

/// One type's subscription.
pub(crate) struct Watched {
    pub(crate) type_url: String,
    mode: Mode,
    handler: Box<dyn Handler>,
    pub(crate) synced: watch::Sender<bool>,
    /// Applied resources and their versions.
    known: HashMap<Box<str>, Known>,
    /// On demand: alias to name.
    aliases: HashMap<Box<str>, Box<str>>,
    /// On demand: what was asked for and is subscribed.
    asked: HashSet<Arc<str>>,
    /// On demand: asked for, not answered yet.
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<Verdict>>>,
    /// On demand: answered with "no such thing".
    absent: HashSet<Arc<str>>,
    /// The same, oldest first; may hold names that are absent no more.
    absent_order: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct Known {
    version: Box<str>,
    aliases: Box<[Box<str>]>,
}

/// What a message came to.
#[derive(Debug)]
pub(crate) struct Applied {
    /// The acknowledgement, or the refusal of parts.
    pub(crate) answer: DeltaDiscoveryRequest,
    pub(crate) bytes: usize,
    pub(crate) rejected: usize,
}

impl Watched {
    pub(crate) fn new(type_url: &str, mode: Mode, handler: Box<dyn Handler>) -> Self {
        Self {
            type_url: type_url.to_owned(),
            mode,
            handler,
            synced: watch::Sender::new(false),
            known: HashMap::new(),
            aliases: HashMap::new(),
            asked: HashSet::new(),
            waiting: HashMap::new(),
            absent: HashSet::new(),
            absent_order: VecDeque::new(),
        }
    }

    pub(crate) fn is_on_demand(&self) -> bool {
        self.mode == Mode::OnDemand
    }

    /// The first message about this type on a new stream: what is wanted and what is there.
    pub(crate) fn initial_request(&self) -> DeltaDiscoveryRequest {
        let mut request = self.request();
        if self.mode == Mode::OnDemand {
            // Without any subscription a server would send everything; subscribing to and
            // unsubscribing from everything at once is how Istio's clients say "nothing yet".
            request.resource_names_subscribe.push(WILDCARD.into());
            request
                .resource_names_subscribe
                .extend(self.asked.iter().map(ToString::to_string));
            request.resource_names_unsubscribe.push(WILDCARD.into());
        }
        request.initial_resource_versions = self
            .known
            .iter()
            .map(|(name, known)| (name.to_string(), known.version.to_string()))
            .collect();
        request
    }

    fn request(&self) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: self.type_url.clone(),
            ..Default::default()
        }
    }

    /// Hands a message to the handler, keeps book and answers those who wait.
    pub(crate) fn apply(&mut self, response: DeltaDiscoveryResponse) -> Applied {
        let mut answer = self.request();
        answer.response_nonce = response.nonce;
        let (update, mut rejected) = self.convert(response.resources, response.removed_resources);
        let bytes = update
            .resources
            .iter()
            .map(|resource| resource.body.len())
            .sum();
        let arrived: Vec<Arrived> = update.resources.iter().map(Arrived::of).collect();
        let removed = update.removed.clone();
        rejected.extend(self.handler.apply(update));
        let refused: HashSet<&str> = rejected.iter().map(|r| r.name.as_str()).collect();
        for arrived in arrived {
            let refused = refused.contains(&*arrived.name);
            self.note(arrived, refused);
        }
        for name in removed {
            self.note_removed(&name);
        }
        self.synced.send_replace(true);
        if !rejected.is_empty() {
            answer.error_detail = Some(error_detail(&rejected));
        }
        Applied {
            answer,
            bytes,
            rejected: rejected.len(),
        }
    }

    /// Unpacks resources; those that are not of this type are refused at once.
    fn convert(
        &self,
        resources: Vec<ambit_proto::discovery::Resource>,
        removed: Vec<String>,
    ) -> (Update, Vec<Rejected>) {
        let mut update = Update {
            resources: Vec::with_capacity(resources.len()),
            removed,
        };
        let mut rejected = Vec::new();
        for resource in resources {
            let name = resource.name;
            match resource.resource {
                Some(any) if any.type_url == self.type_url => update.resources.push(Resource {
                    name,
                    version: resource.version,
                    aliases: resource.aliases,
                    body: any.value.into(),
                }),
                Some(any) => rejected.push(Rejected {
                    name,
                    reason: format!(
                        "its type is {:?}, expected {:?}",
                        any.type_url, self.type_url
                    ),
                }),
                None => rejected.push(Rejected {
                    name,
                    reason: "it has no content".into(),
                }),
            }
        }
        // A server may name what is gone by the alias it was asked for by.
        for name in &mut update.removed {
            if !self.known.contains_key(name.as_str())
                && let Some(real) = self.aliases.get(name.as_str())
            {
                *name = real.to_string();
            }
        }
        (update, rejected)
    }

    fn note(&mut self, arrived: Arrived, refused: bool) {
        let verdict = if refused {
            Verdict::Rejected
        } else {
            Verdict::Found(Found::Present)
        };
        if self.mode == Mode::OnDemand {
            self.answer(&arrived.name, verdict);
            for alias in &arrived.aliases {
                self.answer(alias, verdict);
            }
        }
        if refused {
            return;
        }
        let mut aliases = Box::default();
        if self.mode == Mode::OnDemand {
            self.drop_aliases(&arrived.name);
            for alias in &arrived.aliases {
                self.aliases.insert(alias.clone(), arrived.name.clone());
            }
            aliases = arrived.aliases;
        }
        self.known.insert(
            arrived.name,
            Known {
                version: arrived.version,
                aliases,
            },
        );
    }

    fn note_removed(&mut self, name: &str) {
        self.drop_aliases(name);
        self.known.remove(name);
        if self.mode == Mode::OnDemand {
            self.answer(name, Verdict::Found(Found::Absent));
            if let Some(asked) = self.asked.get(name).map(Arc::clone) {
                self.absent.insert(Arc::clone(&asked));
                self.absent_order.push_back(asked);
            }
        }
    }

    fn drop_aliases(&mut self, name: &str) {
        let Some(known) = self.known.get(name) else {
            return;
        };
        for alias in &known.aliases {
            // The alias may have moved on to another resource meanwhile.
            if self
                .aliases
                .get(alias)
                .is_some_and(|owner| **owner == *name)
            {
                self.aliases.remove(alias);
            }
        }
    }

    fn answer(&mut self, name: &str, verdict: Verdict) {
        for waiter in self.waiting.remove(name).unwrap_or_default() {
            // One who gave up needs no answer.
            let _closed = waiter.send(verdict);
        }
        if verdict == Verdict::Found(Found::Present) {
            self.absent.remove(name);
        }
    }

    /// Takes a wish; gives the message to send if the server must be asked.
    pub(crate) fn fetch(
        &mut self,
        name: Arc<str>,
        waiter: oneshot::Sender<Verdict>,
    ) -> Option<DeltaDiscoveryRequest> {
        if let Some(verdict) = self.at_once(&name) {
            // One who gave up needs no answer.
            let _closed = waiter.send(verdict);
            return None;
        }
        if let Some(waiters) = self.waiting.get_mut(&name) {
            waiters.push(waiter);
            return None;
        }
        self.waiting.insert(Arc::clone(&name), vec![waiter]);
        let mut request = self.request();
        request.resource_names_subscribe.push(name.to_string());
        self.asked.insert(name);
        Some(request)
    }

    /// What needs no question to the server, or cannot be asked.
    fn at_once(&self, name: &str) -> Option<Verdict> {
        if self.known.contains_key(name) || self.aliases.contains_key(name) {
            return Some(Verdict::Found(Found::Present));
        }
        if self.absent.contains(name) {
            return Some(Verdict::Found(Found::Absent));
        }
        let busy = match self.waiting.get(name) {
            Some(waiters) => waiters.len() >= MAX_WAITERS_PER_NAME,
            None => self.waiting.len() >= MAX_PENDING_NAMES,
        };
        busy.then_some(Verdict::Busy)
    }

    /// Ends the subscription to a name.
    pub(crate) fn forget(&mut self, name: &str) -> Option<DeltaDiscoveryRequest> {
        if self.waiting.contains_key(name) || !self.asked.remove(name) {
            return None;
        }
        self.absent.remove(name);
        let mut request = self.request();
        request.resource_names_unsubscribe.push(name.to_owned());
        Some(request)
    }

    /// Drops waits that nobody waits for any more, and the oldest of too many absent names.
    pub(crate) fn sweep(&mut self) -> Option<DeltaDiscoveryRequest> {
        let mut ended = Vec::new();
        self.waiting.retain(|name, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                ended.push(Arc::clone(name));
            }
            !waiters.is_empty()
        });
        while self.absent_order.len() > MAX_ABSENT_NAMES {
            ended.extend(
                self.absent_order
                    .pop_front()
                    .filter(|name| self.absent.remove(name)),
            );
        }
        if ended.is_empty() {
            return None;
        }
        let mut request = self.request();
        for name in ended {
            self.asked.remove(&name);
            request.resource_names_unsubscribe.push(name.to_string());
        }
        Some(request)
    }
}

/// What is kept of a resource that its handler took.
struct Arrived {
    name: Box<str>,
    version: Box<str>,
    aliases: Box<[Box<str>]>,
}

impl Arrived {
    fn of(resource: &Resource) -> Self {
        Self {
            name: resource.name.as_str().into(),
            version: resource.version.as_str().into(),
            aliases: resource
                .aliases
                .iter()
                .map(|alias| alias.as_str().into())
                .collect(),
        }
    }
}

/// `name: reason; name: reason; and 3 more`.
fn error_detail(rejected: &[Rejected]) -> rpc::Status {
    let mut message = String::new();
    for Rejected { name, reason } in rejected.iter().take(MAX_REJECTED_NAMED) {
        let separator = if message.is_empty() { "" } else { "; " };
        let reason: String = reason.chars().take(MAX_REASON_BYTES).collect();
        // Writing to a string cannot fail.
        let _infallible = write!(message, "{separator}{name}: {reason}");
    }
    if rejected.len() > MAX_REJECTED_NAMED {
        let more = rejected.len() - MAX_REJECTED_NAMED;
        let _infallible = write!(message, "; and {more} more");
    }
    rpc::Status {
        code: INVALID_ARGUMENT,
        message,
        details: Vec::new(),
    }
}
