//! The process's log: Istio's text lines or JSON, a level that changes at run time, and a bounded
//! queue before standard output.

mod format;
mod sink;

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

pub use sink::Sink;

/// Target of the access log. Its lines come from the recorder's thread, which waits for the queue
/// where data threads would drop.
pub(crate) const ACCESS: &str = "access";

/// How to log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Levels, such as `info` or `ztunnel=debug,access=off,info`.
    pub filter: String,
    /// JSON lines instead of text.
    pub json: bool,
}

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not understood.
    #[error(
        "{value:?} is not a log level: expected off, error, warn, info, debug or trace, or a comma-separated list of target=level"
    )]
    Level {
        /// What was given, cut to a printable length.
        value: String,
    },
    /// Another subscriber is there already.
    #[error("logging is already set up in this process")]
    AlreadySet,
    /// The writer thread did not start.
    #[error("the log writer thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// Changes the level at run time and flushes at the end.
#[derive(Clone)]
pub struct LogHandle {
    reload: reload::Handle<EnvFilter, Registry>,
    initial: Arc<str>,
    current: Arc<Mutex<String>>,
    sink: Sink,
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandle")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

/// Sets up the process's log on standard output. `dropped` counts lines lost at a full queue.
///
/// # Errors
/// When the filter is not understood or logging is set up already.
pub fn init(options: &LogOptions, dropped: Counter) -> Result<LogHandle, LogError> {
    let filter = parse(&options.filter)?;
    let sink = Sink::start(std::io::stdout(), dropped).map_err(LogError::Thread)?;
    let (filter, reload) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(format::Lines { json: options.json })
        .fmt_fields(format::Fields)
        .with_writer(sink.clone());
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_| LogError::AlreadySet)?;
    Ok(LogHandle {
        reload,
        initial: options.filter.as_str().into(),
        current: Arc::new(Mutex::new(options.filter.clone())),
        sink,
    })
}

impl LogHandle {
    /// The levels in force.
    #[must_use]
    pub fn current(&self) -> String {
        self.current.lock().clone()
    }

    /// Adds to the levels in force; a bare level replaces them all.
    ///
    /// # Errors
    /// When it is not understood; the levels then stay as they are.
    pub fn set(&self, change: &str) -> Result<(), LogError> {
        let mut current = self.current.lock();
        let combined = if change.contains('=') && !current.is_empty() {
            format!("{current},{change}")
        } else {
            change.to_owned()
        };
        parse(change)?;
        self.apply(&combined)?;
        *current = combined;
        Ok(())
    }

    /// Back to the levels the process started with.
    ///
    /// # Errors
    /// Never in practice: they were understood at the start.
    pub fn reset(&self) -> Result<(), LogError> {
        self.apply(&self.initial)?;
        *self.current.lock() = self.initial.to_string();
        Ok(())
    }

    /// Writes out what is queued. For the end of the process.
    pub fn flush(&self) {
        self.sink.flush();
    }

    fn apply(&self, filter: &str) -> Result<(), LogError> {
        let filter = parse(filter)?;
        self.reload.reload(filter).map_err(|_| LogError::AlreadySet)
    }
}

/// Longest accepted filter text.
const MAX_FILTER: usize = 4096;

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let refuse = || LogError::Level {
        value: filter.chars().take(128).collect(),
    };
    if filter.len() > MAX_FILTER || filter.split(',').any(|part| !is_directive(part)) {
        return Err(refuse());
    }
    EnvFilter::builder().parse(filter).map_err(|_| refuse())
}

/// A bare word is taken by the filter library as a target name; only levels are accepted here, so
/// that a misspelt level is refused instead of silencing everything.
fn is_directive(part: &str) -> bool {
    let level = part
        .rsplit_once('=')
        .map_or(part, |(_, level)| level)
        .trim();
    ["off", "error", "warn", "info", "debug", "trace"]
        .iter()
        .any(|known| level.eq_ignore_ascii_case(known))
}

/// A subscriber with the same shape of lines, for one thread.
#[cfg(test)]
pub(crate) fn subscriber_for_test(
    out: impl std::io::Write + Send + 'static,
    json: bool,
) -> (impl tracing::Subscriber + Send + Sync, Sink) {
    let sink = Sink::start(out, Counter::default()).unwrap();
    let lines = tracing_subscriber::fmt::layer()
        .event_format(format::Lines { json })
        .fmt_fields(format::Fields)
        .with_writer(sink.clone());
    (
        Registry::default().with(parse("info").unwrap()).with(lines),
        sink,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked() {
        for good in [
            "info",
            "WARN",
            "off",
            "ztunnel::proxy=debug,info",
            "access=off",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "a=b", "info,", "ztunnel", "=,"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"x=info,".repeat(1000)).is_err());
    }
}
