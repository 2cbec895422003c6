//! What the client calls: handlers of resources, and counters of what happened.

use bytes::Bytes;

/// A change of one type's resources, as one message brought it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// New or changed.
    pub resources: Vec<Resource>,
    /// Names of those that are no more.
    pub removed: Vec<String>,
}

/// A named thing in a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Unique within its type.
    pub name: String,
    /// Opaque.
    pub version: String,
    /// Other names it can be asked for by.
    pub aliases: Vec<String>,
    /// The encoded message of its type.
    pub body: Bytes,
}

/// A resource that was not applied, and why. Its previous version, if any, stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which.
    pub name: String,
    /// For the operator of the server: field, value, accepted form.
    pub reason: String,
}

/// Applies resources of one type.
pub trait Handler: Send + 'static {
    /// Applies what can be and names the rest. The message is acknowledged when this returns, so
    /// everything not rejected must be in effect then.
    fn apply(&mut self, update: Update) -> Vec<Rejected>;
}

impl<F: FnMut(Update) -> Vec<Rejected> + Send + 'static> Handler for F {
    fn apply(&mut self, update: Update) -> Vec<Rejected> {
        self(update)
    }
}

/// Why a connection is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Termination {
    /// It could not be made.
    ConnectionError,
    /// The server or the stream reported an error.
    Error,
    /// The server went away or asked to connect again.
    Reconnect,
    /// The server ended the stream.
    Complete,
}

impl Termination {
    /// Value of the label `reason` of `xds_connection_terminations_total`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionError => "ConnectionError",
            Self::Error => "Error",
            Self::Reconnect => "Reconnect",
            Self::Complete => "Complete",
        }
    }
}

/// What happened, for counters. Called on the client's task: be quick.
pub trait Events: Send + Sync + 'static {
    /// A stream gave its first answer.
    fn connected(&self) {}
    /// A connection, or the attempt of one, ended.
    fn terminated(&self, _reason: Termination) {}
    /// A message arrived; `bytes` are those of its resources.
    fn message(&self, _type_url: &str, _bytes: usize) {}
    /// A handler refused this many resources of a message.
    fn rejected(&self, _type_url: &str, _resources: usize) {}
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl Events for NoEvents {}
