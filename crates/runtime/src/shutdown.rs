//! Why and when the program is to end: a signal, a request to the admin server, or a part that failed.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Why the program ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// SIGTERM or SIGINT.
    Signal(&'static str),
    /// `POST /quitquitquit`.
    Requested,
    /// A part of the program ended that must not.
    Failed(String),
}

impl std::fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(name) => write!(f, "received {name}"),
            Self::Requested => f.write_str("asked to by the admin interface"),
            Self::Failed(part) => write!(f, "{part}"),
        }
    }
}

/// The request to end, shared by those who may make it. The first reason stays.
#[derive(Clone, Debug)]
pub struct Shutdown {
    reason: watch::Sender<Option<ShutdownReason>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            reason: watch::Sender::new(None),
        }
    }
}

impl Shutdown {
    /// Asks the program to end.
    pub fn request(&self, reason: ShutdownReason) {
        self.reason.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }

    /// Resolves when the program is asked to end.
    pub async fn requested(&self) -> ShutdownReason {
        let mut watch = self.reason.subscribe();
        // An error would mean that the sender is gone, but `self` holds it.
        match watch.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(ShutdownReason::Requested),
            Err(_) => ShutdownReason::Requested,
        }
    }

    /// Resolves on SIGTERM, SIGINT or a request.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub async fn wait(&self) -> std::io::Result<ShutdownReason> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let reason = tokio::select! {
            _ = term.recv() => ShutdownReason::Signal("SIGTERM"),
            _ = int.recv() => ShutdownReason::Signal("SIGINT"),
            reason = self.requested() => reason,
        };
        self.request(reason.clone());
        Ok(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays() {
        let shutdown = Shutdown::default();
        shutdown.request(ShutdownReason::Failed("xds ended".into()));
        shutdown.request(ShutdownReason::Requested);
        assert_eq!(
            shutdown.requested().await,
            ShutdownReason::Failed("xds ended".into())
        );
    }
}
