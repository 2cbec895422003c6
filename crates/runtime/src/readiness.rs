//! Whether the program is ready, and if not, for what it waits.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::http::{Method, Response, Router};

/// The work that must be done before the program is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    pending: Arc<Mutex<Vec<Arc<str>>>>,
}

/// One piece of such work. Dropping it without [`PendingTask::done`] leaves the program unready,
/// as it must: the work was not done.
#[derive(Debug)]
#[must_use]
pub struct PendingTask {
    name: Arc<str>,
    readiness: Readiness,
}

impl Readiness {
    /// Path of the check.
    pub const PATH: &'static str = "/healthz/ready";

    /// Adds work to wait for.
    pub fn pending(&self, name: &str) -> PendingTask {
        let name: Arc<str> = name.into();
        self.pending.lock().push(Arc::clone(&name));
        PendingTask {
            name,
            readiness: self.clone(),
        }
    }

    /// Whether nothing is pending.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pending.lock().is_empty()
    }

    /// What is pending.
    #[must_use]
    pub fn pending_names(&self) -> Vec<String> {
        self.pending
            .lock()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Adds the check to a server.
    #[must_use]
    pub fn route(&self, router: Router) -> Router {
        let readiness = self.clone();
        router.route(
            Method::GET,
            Self::PATH,
            "whether the program is ready",
            move |_| std::future::ready(readiness.answer()),
        )
    }

    fn answer(&self) -> Response {
        let pending = self.pending_names();
        if pending.is_empty() {
            return Response::text("ready\n");
        }
        Response::text(format!("not ready, pending: {}\n", pending.join(", "))).status(500)
    }
}

impl PendingTask {
    /// The work is done.
    pub fn done(self) {
        let mut pending = self.readiness.pending.lock();
        if let Some(at) = pending.iter().position(|name| *name == self.name) {
            pending.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lists_what_it_waits_for() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let (a, b) = (readiness.pending("a"), readiness.pending("b"));
        let answer = readiness.answer();
        assert_eq!(answer.code(), 500);
        assert_eq!(answer.body(), b"not ready, pending: a, b\n");
        a.done();
        assert_eq!(readiness.pending_names(), ["b"]);
        drop(b);
        assert!(!readiness.is_ready(), "dropped work is not done work");
    }
}
