//! What capture looks like from outside, for diagnostics.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

/// A view of everything that is pinned. Not a snapshot: pods and connections come and go meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dump {
    /// The agent's directory on bpffs.
    pub directory: PathBuf,
    /// Root of the cgroup v2 tree.
    pub cgroup: PathBuf,
    /// How many agents have opened the directory so far, this one included.
    pub generation: u64,
    /// Enrolled pods.
    pub pods: Vec<DumpPod>,
    /// Thread-group ids of the kubelet.
    pub kubelets: Vec<u32>,
    /// Captured connections that the agent has not accepted yet.
    pub pending_connections: usize,
}

/// One enrolled pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DumpPod {
    /// Cookie of its network namespace.
    pub cookie: u64,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// DNS is steered to the agent.
    pub dns: bool,
    /// The lookup program is attached: connections to the pod are handed to the agent, or refused.
    pub inbound: bool,
}
