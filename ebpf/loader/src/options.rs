//! How to open capture; everything has a default.

use std::path::PathBuf;

/// Where pins go and what the programs are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Directory on bpffs that belongs to this agent alone (its restarts and upgrades included). Two
    /// agents on one kernel need two directories.
    pub directory: PathBuf,
    /// Root of the cgroup v2 tree; found in the mount table when not given.
    pub cgroup: Option<PathBuf>,
    /// Mount bpffs at `/sys/fs/bpf` when it is not mounted.
    pub mount_bpffs: bool,
    /// Congestion control algorithm of captured application sockets; `None` leaves the system's default.
    pub congestion: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/sys/fs/bpf/ambit"),
            cgroup: None,
            mount_bpffs: true,
            congestion: Some("cubic".to_owned()),
        }
    }
}
