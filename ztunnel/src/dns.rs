//! The resolver in each pod: answers for the names of the mesh from the state, and passes
//! everything else on, from the pod's own network namespace to the servers of the pod's own
//! `resolv.conf`. Knows nothing of how queries get here.
//!
//! Which servers: a captured query does not tell which server the application meant, so the pod's
//! configuration decides, read through one of its processes (`/proc/<pid>/root/etc/resolv.conf`);
//! where none is found (no access to the host's processes), the agent's own, as Istio's does.
//! Forwarded answers are not cached: the upstream server does that, and knows better.

pub mod answer;
mod forward;
pub mod limits;
pub mod message;
pub mod names;
mod pod;
pub mod resolv_conf;
mod service;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::path::PathBuf;

use ambit_model::{NetworkId, NodeName};
use ambit_net::SocketSettings;

pub use service::{Dns, DnsError};

use crate::config::{Bind, Config};

/// What the resolver is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen in each pod.
    pub bind: Bind,
    /// Listen on the pod's own addresses too: there the capture programs steer queries. Only with
    /// those, because they keep other hosts from asking.
    pub on_pod_addresses: bool,
    /// Suffix of the cluster's service names.
    pub cluster_domain: String,
    /// The network whose addresses are answered.
    pub network: NetworkId,
    /// The node, to find the asking workload.
    pub node: NodeName,
    /// Answer IPv6 addresses and listen on IPv6.
    pub ipv6: bool,
    /// Options of all sockets.
    pub sockets: SocketSettings,
    /// The host's process file system.
    pub proc: PathBuf,
    /// The agent's own resolver configuration, for pods whose own is not found.
    pub fallback: PathBuf,
}

impl Settings {
    /// From the configuration. `captured`: whether the capture programs are in use.
    #[must_use]
    pub fn new(config: &Config, sockets: SocketSettings, captured: bool) -> Self {
        Self {
            bind: config.dns.bind,
            on_pod_addresses: captured,
            cluster_domain: config.dns.cluster_domain.clone(),
            network: config.node.network.clone(),
            node: config.node.name.clone(),
            ipv6: config.proxy.ipv6,
            sockets,
            proc: config.enrolment.proc.clone(),
            fallback: PathBuf::from("/etc/resolv.conf"),
        }
    }
}
