//! The access log: target `access`, one line when a connection ends.

use tracing::{Level, event};

use crate::fold::LogEntry;
use crate::labels::Security;
use crate::record::{Connection, Exit, Party, Refusal};

/// Writes one entry; level and format are the subscriber's business.
pub(crate) fn log(entry: &LogEntry) {
    match entry {
        LogEntry::Opened(shared) => opened(&shared.connection),
        LogEntry::Closed(exit) => closed(exit),
        LogEntry::Refused(refusal) => refused(refusal),
    }
}

/// Emits with the fields every line has, and then `$extra`.
macro_rules! line {
    ($level:ident, $connection:expr, $message:literal $(, $($extra:tt)+)?) => {{
        let c: &Connection = $connection;
        let proved = c.security == Security::MutualTls;
        let source = Names::of(&c.source, proved);
        let destination = Names::of(&c.destination, proved);
        event!(
            target: "access",
            Level::$level,
            src.addr = %c.source_address,
            src.workload = source.workload,
            src.namespace = source.namespace,
            src.identity = source.identity,
            src.cluster = source.cluster,
            dst.addr = %c.destination_address,
            dst.hbone_addr = c.tunnel.as_ref().map(tracing::field::display),
            dst.service = c.service.as_ref().map(|s| s.hostname.as_str()),
            dst.workload = destination.workload,
            dst.namespace = destination.namespace,
            dst.identity = destination.identity,
            dst.cluster = destination.cluster,
            direction = c.reporter.direction(),
            $($($extra)+,)?
            $message
        )
    }};
}

fn opened(connection: &Connection) {
    line!(DEBUG, connection, "connection opened");
}

fn closed(exit: &Exit) {
    let (sent, received) = exit.shared.sent_received();
    let duration = format!("{}ms", exit.duration.as_millis());
    let connection = &exit.shared.connection;
    match exit.outcome.error.as_deref() {
        None => line!(
            INFO,
            connection,
            "connection complete",
            bytes_sent = sent,
            bytes_recv = received,
            duration = duration.as_str()
        ),
        Some(error) => line!(
            ERROR,
            connection,
            "connection complete",
            bytes_sent = sent,
            bytes_recv = received,
            duration = duration.as_str(),
            error
        ),
    }
}

fn refused(refusal: &Refusal) {
    let (connection, error) = (&refusal.connection, refusal.outcome.error.as_deref());
    if refusal.is_early() {
        line!(WARN, connection, "connection failed", error);
        return;
    }
    let duration = format!("{}ms", refusal.duration.as_millis());
    line!(
        ERROR,
        connection,
        "connection complete",
        bytes_sent = 0_u64,
        bytes_recv = 0_u64,
        duration = duration.as_str(),
        error
    );
}

/// One DNS query, target `dns`.
pub fn log_dns(source: std::net::SocketAddr, name: &str, kind: &str, answer: &str) {
    event!(target: "dns", Level::DEBUG, src.addr = %source, name, kind, answer, "dns query");
}

/// A notice that something is wrong with a peer, bounded by its caller.
pub fn log_peer_fault(source: std::net::SocketAddr, error: &dyn std::fmt::Display) {
    event!(target: "access", Level::WARN, src.addr = %source, %error, "connection failed");
}

/// The log's names of one party; absent ones are not written.
struct Names<'a> {
    workload: Option<&'a str>,
    namespace: Option<&'a str>,
    identity: Option<String>,
    cluster: Option<&'a str>,
}

impl<'a> Names<'a> {
    /// An identity is only worth naming where it was proved.
    fn of(party: &'a Party, proved: bool) -> Self {
        let identity = party.identity.as_ref().filter(|_| proved);
        let identity = identity.map(ToString::to_string);
        let workload = party.workload.as_deref();
        let declared = party.declared.as_deref();
        let pick = |known: Option<&'a str>, said: Option<&'a str>| {
            known.or(said).filter(|text| !text.is_empty())
        };
        Self {
            workload: pick(workload.map(|w| &*w.name), declared.map(|d| &*d.workload)),
            namespace: pick(
                workload.map(|w| w.namespace.as_str()),
                declared.map(|d| &*d.namespace),
            ),
            identity,
            cluster: foreign(pick(
                workload.map(|w| w.cluster.as_str()),
                declared.map(|d| &*d.cluster),
            )),
        }
    }
}

/// The cluster is worth a field only where it is not the default one.
fn foreign(cluster: Option<&str>) -> Option<&str> {
    cluster.filter(|c| *c != "Kubernetes")
}
