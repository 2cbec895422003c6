//! Named limits: what a file on disk or a connected client can make the controller allocate.

use std::time::Duration;

/// Bytes of one file. A larger one is refused unread: a log or an image dropped into the directory
/// must not be read into memory.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Files read from the directory; the rest is refused, so that pointing at `/` ends in a message.
pub const MAX_FILES: usize = 200_000;

/// Directories below the root that are followed.
pub const MAX_DEPTH: usize = 16;

/// Nodes of one YAML document after aliases are expanded ("billion laughs").
pub const MAX_YAML_NODES: usize = 200_000;

/// Nesting of one YAML document: decoding is recursive, and the stack is not.
pub const MAX_YAML_DEPTH: usize = 64;

/// Problems reported per object; the rest is counted.
pub const MAX_PROBLEMS: usize = 20;

/// Characters of a refused value that are shown.
pub const MAX_SHOWN_VALUE: usize = 80;

/// How long the directory must be quiet after a finished write before it is read. Short, since it
/// is part of the time from change to effect.
pub const SETTLE: Duration = Duration::from_millis(10);

/// The same while a file is being written and not yet closed: half of a file is not read unless
/// its writer leaves it open this long.
pub const SETTLE_WRITING: Duration = Duration::from_millis(250);

/// The same after a file went away: editors remove a file before they write it anew, and for that
/// moment its policies must not vanish.
pub const SETTLE_REMOVED: Duration = Duration::from_millis(50);

/// Changed paths remembered between two readings; beyond, the whole directory is compared.
pub const MAX_PENDING_PATHS: usize = 4_096;

/// Changes are read after this long even when the directory never gets quiet.
pub const SETTLE_AT_MOST: Duration = Duration::from_secs(1);

/// The whole directory is compared again this often, for file systems that tell of no changes.
pub const RESCAN: Duration = Duration::from_secs(60);

/// Clients connected to discovery at once: one per node, with room for restarts.
pub const MAX_CLIENTS: usize = 20_000;

/// Names a client may ask for on demand: a client must not make the server remember without end.
pub const MAX_SUBSCRIPTIONS: usize = 100_000;

/// Bytes of one request. A reconnecting client lists every resource it holds with its version.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a response handed to a connection at a time; the rest waits as references to the
/// encoding all clients share, so that a hundred slow clients cost a hundred of these.
pub const RESPONSE_CHUNK_BYTES: usize = 32 * 1024;

/// Responses of a type sent and not yet acknowledged. What changes meanwhile is collected by name.
pub const MAX_UNACKNOWLEDGED: usize = 4;

/// A client that takes nothing for this long is cut: it resumes by version when it returns.
pub const CLIENT_STALLED: Duration = Duration::from_secs(60);

/// Rejections remembered per client.
pub const MAX_REJECTIONS: usize = 64;

/// Outcomes remembered per node: as many as pods fit on any node.
pub const MAX_OUTCOMES: usize = 4_096;
