//! Nodes and pods made of network namespaces: nodes joined by a bridge, pods behind their node by
//! routes, dual-stack, with hosts outside the mesh on the same bridge. Each topology has a prefix of its
//! own, so several may exist at once; all is removed when it is dropped.

mod build;
mod capture;
mod host;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};

pub use capture::PacketCapture;
pub use host::Host;

use crate::command;

/// Congestion controls that every process and namespace may choose.
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// What to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// Pods by name and the index of their node.
    pub pods: Vec<(String, usize)>,
    /// Hosts on the bridge, outside the mesh.
    pub outside: Vec<String>,
}

impl Plan {
    /// Two nodes, the given pods, and one host `outside`.
    #[must_use]
    pub fn two_nodes(pods: &[(&str, usize)]) -> Self {
        let pods = pods
            .iter()
            .map(|(name, node)| ((*name).to_owned(), *node))
            .collect();
        Self {
            nodes: 2,
            pods,
            outside: vec!["outside".into()],
        }
    }
}

/// A node: its namespace and its name in the mesh.
#[derive(Debug)]
pub struct Node {
    /// Its namespace.
    pub host: Host,
    /// Name, as in `spec.nodeName`.
    pub name: String,
}

/// A pod and where it runs.
#[derive(Debug)]
pub struct Pod {
    /// Its namespace.
    pub host: Host,
    /// Name.
    pub name: String,
    /// Index of its node.
    pub node: usize,
}

/// A running topology.
#[derive(Debug)]
pub struct Topology {
    prefix: String,
    /// Where the bridge is; also the home of the controller.
    pub fabric: Host,
    /// The nodes.
    pub nodes: Vec<Node>,
    pods: Vec<Pod>,
    outside: Vec<(String, Host)>,
}

impl Topology {
    /// Builds it. Needs root and `ip` of iproute2.
    ///
    /// # Errors
    /// When a tool is missing or the kernel refuses.
    pub fn build(plan: &Plan) -> Result<Self> {
        build::build(plan)
    }

    /// The pod of that name.
    ///
    /// # Panics
    /// When the plan has none: a mistake in the test.
    #[must_use]
    pub fn pod(&self, name: &str) -> &Host {
        &self.find_pod(name).expect("the plan has the pod").host
    }

    /// The pod of that name, with its node.
    #[must_use]
    pub fn find_pod(&self, name: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.name == name)
    }

    /// All pods.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// A host outside the mesh.
    ///
    /// # Panics
    /// When the plan has none: a mistake in the test.
    #[must_use]
    pub fn outside(&self, name: &str) -> &Host {
        let found = self.outside.iter().find(|(n, _)| n == name);
        &found.expect("the plan has the host").1
    }

    /// Adds one more pod to a running topology.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_pod(&mut self, name: &str, node: usize) -> Result<()> {
        let pod = build::add_pod(&self.prefix, &self.nodes, &self.pods, name, node)?;
        self.pods.push(pod);
        Ok(())
    }

    /// Removes a pod as a kubelet would: its namespace goes, with all sockets in it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let at = self
            .pods
            .iter()
            .position(|p| p.name == name)
            .context("no such pod")?;
        let pod = self.pods.remove(at);
        command::run(&format!("ip netns del {}", pod.host.name()))?;
        Ok(())
    }

    /// Translates a service's virtual address on every node and for hosts outside, as kube-proxy
    /// would for clients that are not in the mesh. Needs `nft`.
    ///
    /// # Errors
    /// When `nft` is missing or refuses.
    pub fn translate(&self, service: SocketAddr, endpoint: SocketAddr) -> Result<()> {
        let family = if service.is_ipv4() { "ip" } else { "ip6" };
        let (from, to) = (service.ip(), endpoint);
        let script = format!(
            "table {family} services {{\n\
             chain prerouting {{ type nat hook prerouting priority -100; }}\n\
             chain output {{ type nat hook output priority -100; }}\n}}\n\
             add rule {family} services prerouting {family} daddr {from} tcp dport {0} dnat to {to}\n\
             add rule {family} services output {family} daddr {from} tcp dport {0} dnat to {to}\n",
            service.port()
        );
        let outside = self.outside.iter().map(|(_, host)| host);
        for host in self.nodes.iter().map(|node| &node.host).chain(outside) {
            command::feed(&format!("ip netns exec {} nft -f -", host.name()), &script)?;
        }
        Ok(())
    }

    /// Sets the congestion control that new connections of every namespace use. The kernel lets
    /// namespaces choose only among those the machine allows to all, so it is allowed meanwhile.
    ///
    /// # Errors
    /// When the kernel does not have it.
    pub fn set_congestion_control(&self, name: &str) -> Result<()> {
        let before = std::fs::read_to_string(ALLOWED)?;
        std::fs::write(ALLOWED, format!("{} {name}", before.trim()))
            .with_context(|| format!("the kernel does not offer {name}"))?;
        let set = |host: &Host| host.sysctl("net/ipv4/tcp_congestion_control", name);
        let done = self.hosts().try_for_each(set);
        std::fs::write(ALLOWED, before)?;
        done
    }

    /// The congestion control in force.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn congestion_control(&self) -> Result<String> {
        self.fabric.read_sysctl("net/ipv4/tcp_congestion_control")
    }

    /// Every namespace.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let nodes = self.nodes.iter().map(|node| &node.host);
        let pods = self.pods.iter().map(|pod| &pod.host);
        let outside = self.outside.iter().map(|(_, host)| host);
        std::iter::once(&self.fabric)
            .chain(nodes)
            .chain(pods)
            .chain(outside)
    }
}

impl Drop for Topology {
    /// Tests end anywhere; what is left behind would disturb the next.
    fn drop(&mut self) {
        for host in self.hosts() {
            // Already gone is fine.
            command::run(&format!("ip netns del {}", host.name())).ok();
        }
    }
}

/// The address of a host for a family.
#[must_use]
pub(crate) fn address(host: &Host, family: Family) -> IpAddr {
    match family {
        Family::V4 => host.v4.into(),
        Family::V6 => host.v6.into(),
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The addresses of everything; small and fixed, so that logs are readable.
pub(crate) mod plan {
    use super::{Ipv4Addr, Ipv6Addr};

    /// On the bridge: the fabric is 254, nodes from 1, outside hosts from 100.
    pub(crate) fn bridge(host: u8) -> (Ipv4Addr, Ipv6Addr) {
        (
            Ipv4Addr::new(10, 90, 0, host),
            Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, host.into()),
        )
    }

    /// A pod: the node's index from 0, the pod's on the node from 0.
    pub(crate) fn pod(node: usize, index: usize) -> (Ipv4Addr, Ipv6Addr) {
        let (node, index) = (node as u8 + 1, index as u8 + 10);
        (
            Ipv4Addr::new(10, 244, node, index),
            Ipv6Addr::new(0xfd00, 0x244, node.into(), 0, 0, 0, 0, index.into()),
        )
    }
}
