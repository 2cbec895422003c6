//! The client: subscriptions that outlive connections, and the loop that keeps one open.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use ambit_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::backoff::Backoff;
use crate::config::{Config, Mode};
use crate::demand::{Demand, Wish, WishKind};
use crate::handler::{Events, Handler, Termination};
use crate::limits::{MAX_WISHES, SWEEP_INTERVAL};
use crate::stream::{Event, Stream};
use crate::watched::Watched;

/// Any error of a connector.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes a connection to the server: called again after each failure, so that address, roots
/// and the like may change in between. See [`connector`].
pub type Connector = Box<dyn FnMut() -> ConnectFuture + Send>;

type ConnectFuture = Pin<Box<dyn Future<Output = Result<Channel, BoxError>> + Send>>;

/// Boxes a closure that makes connections.
pub fn connector<F, Fut>(mut connect: F) -> Connector
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Channel, BoxError>> + Send + 'static,
{
    Box::new(move || Box::pin(connect()))
}

/// A discovery client. Subscribe to types, then [`Self::run`] it.
pub struct Client {
    config: Config,
    connect: Connector,
    events: Arc<dyn Events>,
    watched: Vec<Watched>,
    wishes: mpsc::Receiver<Wish>,
    wish_sender: mpsc::Sender<Wish>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// One type's subscription, as its user sees it.
#[derive(Clone, Debug)]
pub struct Subscription {
    synced: watch::Receiver<bool>,
    demand: Option<Demand>,
}

impl Subscription {
    /// Waits for the first answer to have been applied. `false` if the client ended before.
    pub async fn synced(&self) -> bool {
        self.synced.clone().wait_for(|synced| *synced).await.is_ok()
    }

    /// Whether the first answer has been applied.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Asks for single resources; `None` for wildcard subscriptions.
    #[must_use]
    pub fn demand(&self) -> Option<&Demand> {
        self.demand.as_ref()
    }
}

impl Client {
    /// A client that is not connected yet.
    #[must_use]
    pub fn new(config: Config, connect: Connector, events: Arc<dyn Events>) -> Self {
        let (wish_sender, wishes) = mpsc::channel(MAX_WISHES);
        Self {
            config,
            connect,
            events,
            watched: Vec::new(),
            wishes,
            wish_sender,
        }
    }

    /// Subscribes to a type. Types are asked for in this order.
    pub fn subscribe(&mut self, type_url: &str, mode: Mode, handler: impl Handler) -> Subscription {
        let watched = Watched::new(type_url, mode, Box::new(handler));
        let synced = watched.synced.subscribe();
        let demand = (mode == Mode::OnDemand).then(|| Demand {
            type_index: self.watched.len(),
            wishes: self.wish_sender.clone(),
            timeout: self.config.demand_timeout,
        });
        self.watched.push(watched);
        Subscription { synced, demand }
    }

    /// Connects, and connects again, until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut backoff = Backoff::new(self.config.backoff_initial, self.config.backoff_max);
        loop {
            let ended = tokio::select! {
                biased;
                () = &mut shutdown => return,
                ended = self.connection(&mut backoff) => ended,
            };
            self.events.terminated(ended.reason());
            let wait = backoff.next();
            ended.log(wait);
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = self.wait(wait) => {}
            }
        }
    }

    /// Takes wishes while there is no connection: they are part of the next one's first message.
    async fn wait(&mut self, wait: std::time::Duration) {
        let mut done = pin!(tokio::time::sleep(wait));
        loop {
            tokio::select! {
                biased;
                () = &mut done => break,
                Some(wish) = self.wishes.recv() => {
                    self.take(wish);
                }
            }
        }
        self.sweep();
    }

    async fn connection(&mut self, backoff: &mut Backoff) -> Ended {
        let connecting = (self.connect)();
        let channel = match self.waiting_for(connecting).await {
            Ok(channel) => channel,
            Err(error) => return Ended::NotConnected(error),
        };
        match self.stream(channel, backoff).await {
            Ok(()) => Ended::Complete,
            Err(status) => Ended::Failed(status),
        }
    }

    /// Takes wishes while the connection is made.
    async fn waiting_for(&mut self, mut connecting: ConnectFuture) -> Result<Channel, BoxError> {
        loop {
            tokio::select! {
                biased;
                channel = &mut connecting => return channel,
                Some(wish) = self.wishes.recv() => {
                    self.take(wish);
                }
            }
        }
    }

    async fn stream(&mut self, channel: Channel, backoff: &mut Backoff) -> Result<(), Status> {
        let mut stream = Stream::open(channel, &self.config, self.first_requests())?;
        let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
        let mut answered = false;
        loop {
            let room = stream.has_room();
            tokio::select! {
                event = stream.next() => match event? {
                    Event::Complete => return Ok(()),
                    Event::Response(response) => {
                        if !answered {
                            answered = true;
                            backoff.reset();
                            self.events.connected();
                        }
                        if let Some(answer) = self.apply(response) {
                            stream.send(answer);
                        }
                    }
                },
                Some(wish) = self.wishes.recv(), if room => {
                    if let Some(request) = self.take(wish) {
                        stream.send(request);
                    }
                }
                _ = sweeps.tick(), if room => {
                    for request in self.sweep() {
                        stream.send(request);
                    }
                }
            }
        }
    }

    /// One request per type; only the first of a stream says who asks.
    fn first_requests(&self) -> Vec<DeltaDiscoveryRequest> {
        let mut requests: Vec<_> = self.watched.iter().map(Watched::initial_request).collect();
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.config.node.to_proto());
        }
        requests
    }

    fn apply(&mut self, response: DeltaDiscoveryResponse) -> Option<DeltaDiscoveryRequest> {
        let found = self
            .watched
            .iter()
            .position(|w| w.type_url == response.type_url);
        let Some(index) = found else {
            tracing::warn!(type_url = ?response.type_url, "message of a type never asked for");
            return None;
        };
        let applied = self.watched[index].apply(response);
        let type_url = &self.watched[index].type_url;
        self.events.message(type_url, applied.bytes);
        if let Some(detail) = &applied.answer.error_detail {
            self.events.rejected(type_url, applied.rejected);
            tracing::warn!(type_url, detail = %detail.message, "resources refused");
        }
        // The server is there: an on-demand type that it has nothing to say about is in sync.
        for watched in self.watched.iter().filter(|watched| watched.is_on_demand()) {
            watched.synced.send_replace(true);
        }
        Some(applied.answer)
    }

    fn take(&mut self, wish: Wish) -> Option<DeltaDiscoveryRequest> {
        let watched = self.watched.get_mut(wish.type_index)?;
        match wish.kind {
            WishKind::Fetch(waiter) => watched.fetch(wish.name, waiter),
            WishKind::Forget => watched.forget(&wish.name),
        }
    }

    fn sweep(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.watched.iter_mut().filter_map(Watched::sweep).collect()
    }
}

/// How a connection ended.
enum Ended {
    NotConnected(BoxError),
    Failed(Status),
    Complete,
}

impl Ended {
    fn reason(&self) -> Termination {
        match self {
            Self::NotConnected(_) => Termination::ConnectionError,
            Self::Complete => Termination::Complete,
            Self::Failed(status) => match status.code() {
                Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown => {
                    Termination::Reconnect
                }
                _ => Termination::Error,
            },
        }
    }

    fn log(&self, wait: std::time::Duration) {
        match self {
            Self::NotConnected(error) => {
                tracing::warn!(error = &**error as &(dyn std::error::Error + 'static), retry_in = ?wait, "discovery not reached");
            }
            Self::Failed(status) if self.reason() == Termination::Error => {
                tracing::warn!(code = ?status.code(), message = status.message(), retry_in = ?wait, "discovery failed");
            }
            Self::Failed(status) => {
                tracing::info!(code = ?status.code(), message = status.message(), retry_in = ?wait, "discovery connection lost");
            }
            Self::Complete => tracing::info!(retry_in = ?wait, "discovery connection ended"),
        }
    }
}
