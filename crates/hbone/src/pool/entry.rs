//! The connections of one key, and the one that is being made.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::OpenError;
use crate::client::Client;

/// All there is for one key.
pub(super) struct Entry<E> {
    clients: RefCell<Vec<Client>>,
    flight: RefCell<Option<Rc<Flight<E>>>>,
}

impl<E> Default for Entry<E> {
    fn default() -> Self {
        Self {
            clients: RefCell::default(),
            flight: RefCell::default(),
        }
    }
}

/// A connection being made. Others wait for it.
pub(super) struct Flight<E> {
    landed: Notify,
    /// `None` while it is under way, and when its maker gave up.
    outcome: RefCell<Option<Result<(), OpenError<E>>>>,
}

impl<E: Clone> Flight<E> {
    /// Waits until it is there, or was given up: then somebody else has to try.
    ///
    /// # Errors
    /// What its maker got.
    pub(super) async fn landed(&self) -> Result<(), OpenError<E>> {
        self.landed.notified().await;
        self.outcome.borrow().clone().unwrap_or(Ok(()))
    }
}

/// What somebody who wants a stream does next.
pub(super) enum Turn<E> {
    /// There is a connection with room.
    Open(Client),
    /// Somebody makes one.
    Wait(Rc<Flight<E>>),
    /// Make one, and land it.
    Connect(Landing<E>),
}

impl<E: Clone> Entry<E> {
    /// The next step, and a claim on it: whoever gets `Connect` is the only one.
    pub(super) fn turn(self: &Rc<Self>) -> Turn<E> {
        let mut clients = self.clients.borrow_mut();
        clients.retain(|client| !client.is_going());
        if let Some(client) = clients.iter().find(|client| client.openable() > 0) {
            return Turn::Open(client.clone());
        }
        let mut flight = self.flight.borrow_mut();
        if let Some(flight) = &*flight {
            return Turn::Wait(Rc::clone(flight));
        }
        let new = Rc::new(Flight {
            landed: Notify::new(),
            outcome: RefCell::new(None),
        });
        *flight = Some(Rc::clone(&new));
        Turn::Connect(Landing {
            entry: Rc::clone(self),
            flight: new,
        })
    }

    pub(super) fn add(&self, client: Client) {
        self.clients.borrow_mut().push(client);
    }

    pub(super) fn remove(&self, client: &Client) {
        self.clients.borrow_mut().retain(|other| !other.is(client));
    }

    pub(super) fn drain(&self) {
        for client in self.clients.borrow_mut().drain(..) {
            client.drain();
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.clients.borrow().len()
    }

    /// Whether there is nothing here and nothing coming.
    pub(super) fn is_unused(&self) -> bool {
        self.clients.borrow().is_empty() && self.flight.borrow().is_none()
    }
}

/// The duty to end a flight. Dropped, it says that its maker gave up.
pub(super) struct Landing<E> {
    entry: Rc<Entry<E>>,
    flight: Rc<Flight<E>>,
}

impl<E> Landing<E> {
    /// Tells everyone how it went.
    pub(super) fn land(self, outcome: Result<(), OpenError<E>>) {
        *self.flight.outcome.borrow_mut() = Some(outcome);
    }
}

impl<E> Drop for Landing<E> {
    fn drop(&mut self) {
        *self.entry.flight.borrow_mut() = None;
        self.flight.landed.notify_waiters();
    }
}
