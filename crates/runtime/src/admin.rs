//! The routes every program's admin server has: log level, quit, profiles. Programs add their own.

use std::sync::Arc;

use crate::http::{Method, Request, Response, Router};
use crate::profile;
use crate::shutdown::{Shutdown, ShutdownReason};

/// The log as the admin server changes it.
pub trait LogControl: Send + Sync + 'static {
    /// The levels in force.
    fn current(&self) -> String;

    /// Changes them.
    ///
    /// # Errors
    /// What is wrong with the given levels, for the user.
    fn set(&self, levels: &str) -> Result<(), String>;

    /// Goes back to the levels of the start.
    ///
    /// # Errors
    /// Why that was not possible.
    fn reset(&self) -> Result<(), String>;
}

/// The common routes. `title` heads the front page.
#[must_use]
pub fn router(title: &'static str, log: Arc<dyn LogControl>, shutdown: Shutdown) -> Router {
    let shown = Arc::clone(&log);
    Router::new(title)
        .route(
            Method::GET,
            "/logging",
            "the log levels in force",
            move |_| std::future::ready(levels(&*shown)),
        )
        .route(
            Method::POST,
            "/logging",
            "?level=LEVEL or TARGET=LEVEL,... changes the log levels, ?reset undoes it",
            move |request| std::future::ready(change_log(&*log, &request)),
        )
        .route(Method::POST, "/quitquitquit", "drain and end", move |_| {
            shutdown.request(ShutdownReason::Requested);
            std::future::ready(Response::text("shutdown now\n"))
        })
        .route(
            Method::GET,
            "/debug/pprof/profile",
            "CPU profile: ?seconds=1..300 (10), ?frequency=1..1000 (100)",
            profile::cpu,
        )
        .route(Method::GET, "/debug/pprof/heap", "heap profile", |_| {
            std::future::ready(profile::heap_missing())
        })
}

fn levels(log: &dyn LogControl) -> Response {
    Response::text(format!("current log level is {}\n", log.current()))
}

fn change_log(log: &dyn LogControl, request: &Request) -> Response {
    let done = if request.parameter("reset").is_some() {
        log.reset()
    } else {
        match request.parameter("level") {
            Some(level) => log.set(level),
            None => Ok(()),
        }
    };
    match done {
        Ok(()) => levels(log),
        Err(reason) => Response::bad_request(format!("{reason}\n")),
    }
}

/// The routes of a metrics server: the same text at both usual paths. `encode` may take locks; it
/// runs on the blocking pool.
#[must_use]
pub fn metrics_router(
    content_type: &'static str,
    encode: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> Router {
    let add = |router: Router, path| {
        let encode = encode.clone();
        router.route(Method::GET, path, "metrics", move |_| {
            let encode = encode.clone();
            async move {
                match tokio::task::spawn_blocking(encode).await {
                    Ok(text) => Response::new(content_type, text),
                    Err(_) => Response::text("metrics could not be encoded\n").status(500),
                }
            }
        })
    };
    add(add(Router::new("metrics"), "/stats/prometheus"), "/metrics")
}
