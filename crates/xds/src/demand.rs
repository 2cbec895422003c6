//! Asking for single resources.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// Asks for resources of one on-demand type. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Demand {
    pub(crate) type_index: usize,
    pub(crate) wishes: mpsc::Sender<Wish>,
    pub(crate) timeout: Duration,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It exists and was applied.
    Present,
    /// The server knows no such resource. Its later appearance will be applied, too.
    Absent,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    /// The server did not answer in time, or is not connected.
    #[error("no answer from discovery about {name:?} in {waited:?}")]
    Timeout {
        /// Which resource.
        name: Arc<str>,
        /// How long it was waited.
        waited: Duration,
    },
    /// Too many wishes at once.
    #[error("discovery was not asked about {0:?}: too many questions are open")]
    Busy(Arc<str>),
    /// The resource exists, but its handler refused it.
    #[error("the resource {0:?} was refused")]
    Rejected(Arc<str>),
    /// The client has ended.
    #[error("discovery has ended")]
    Closed,
}

/// What the client makes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Found(Found),
    Rejected,
    Busy,
}

pub(crate) enum WishKind {
    Fetch(oneshot::Sender<Verdict>),
    Forget,
}

pub(crate) struct Wish {
    pub(crate) type_index: usize,
    pub(crate) name: Arc<str>,
    pub(crate) kind: WishKind,
}

impl Demand {
    /// Waits until the resource with this name or alias was applied, or is known not to exist.
    pub async fn fetch(&self, name: &str) -> Result<Found, DemandError> {
        let name: Arc<str> = name.into();
        let (answer, verdict) = oneshot::channel();
        self.send(&name, WishKind::Fetch(answer))?;
        match tokio::time::timeout(self.timeout, verdict).await {
            Ok(Ok(Verdict::Found(found))) => Ok(found),
            Ok(Ok(Verdict::Rejected)) => Err(DemandError::Rejected(name)),
            Ok(Ok(Verdict::Busy)) => Err(DemandError::Busy(name)),
            Ok(Err(_)) => Err(DemandError::Closed),
            Err(_) => Err(DemandError::Timeout {
                name,
                waited: self.timeout,
            }),
        }
    }

    /// Ends the subscription to a name that was asked for. Never waits; a wish that finds no
    /// room is dropped, which costs a subscription that is not needed any more.
    pub fn forget(&self, name: &str) {
        if self.send(&name.into(), WishKind::Forget).is_err() {
            tracing::debug!(name, "subscription not ended: discovery is busy");
        }
    }

    fn send(&self, name: &Arc<str>, kind: WishKind) -> Result<(), DemandError> {
        let wish = Wish {
            type_index: self.type_index,
            name: Arc::clone(name),
            kind,
        };
        self.wishes.try_send(wish).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => DemandError::Busy(Arc::clone(name)),
            mpsc::error::TrySendError::Closed(_) => DemandError::Closed,
        })
    }
}
