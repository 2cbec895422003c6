//! Makes the namespaces, links, addresses and routes.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use super::{Host, Node, Plan, Pod, Topology, plan};
use crate::command;

/// Start of every namespace's name; the process id follows.
const NAME: &str = "ambit";
/// Topologies of this process so far.
static COUNT: AtomicU32 = AtomicU32::new(0);

pub(super) fn build(plan: &Plan) -> Result<Topology> {
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces need root: run as root");
    }
    sweep();
    let serial = COUNT.fetch_add(1, Ordering::Relaxed);
    let prefix = format!("{NAME}-{}-{serial}", std::process::id());
    let fabric = Host::create(&format!("{prefix}-fabric"), plan::bridge(254))?;
    // From here on the topology's drop removes what exists.
    let mut topology = Topology {
        prefix,
        fabric,
        nodes: Vec::new(),
        pods: Vec::new(),
        outside: Vec::new(),
    };
    make_bridge(&topology.fabric)?;
    for index in 0..plan.nodes {
        let node = make_node(&topology, index)?;
        topology.nodes.push(node);
    }
    join_nodes(&topology)?;
    for (index, name) in plan.outside.iter().enumerate() {
        let host = make_outside(&topology, name, index, plan.nodes)?;
        topology.outside.push((name.clone(), host));
    }
    route_pods(&topology.fabric, 0..plan.nodes)?;
    for (name, node) in &plan.pods {
        topology.add_pod(name, *node)?;
    }
    Ok(topology)
}

/// Removes what processes that no longer exist left behind.
fn sweep() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return;
    };
    for name in entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
    {
        let mut parts = name.split('-');
        let ours = parts.next() == Some(NAME);
        let owner = parts.next().and_then(|pid| pid.parse::<u32>().ok());
        if let (true, Some(pid)) = (ours, owner)
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            // Another process may sweep at the same time.
            command::run(&format!("ip netns del {name}")).ok();
        }
    }
}

fn make_bridge(fabric: &Host) -> Result<()> {
    fabric.ip_command("link add br0 type bridge")?;
    address(fabric, "br0", (16, 64))?;
    fabric.ip_command("link set br0 up")?;
    Ok(())
}

/// Gives a device the host's addresses, without waiting for duplicate detection.
fn address(host: &Host, device: &str, (v4, v6): (u8, u8)) -> Result<()> {
    host.ip_command(&format!("addr add {}/{v4} dev {device}", host.v4))?;
    host.ip_command(&format!("addr add {}/{v6} dev {device} nodad", host.v6))?;
    Ok(())
}

/// Plugs a host into the bridge.
fn plug(fabric: &Host, host: &Host, port: &str) -> Result<()> {
    fabric.ip_command(&format!(
        "link add {port} type veth peer name eth0 netns {}",
        host.name()
    ))?;
    fabric.ip_command(&format!("link set {port} master br0 up"))?;
    address(host, "eth0", (16, 64))?;
    host.ip_command("link set eth0 up")?;
    Ok(())
}

fn make_node(topology: &Topology, index: usize) -> Result<Node> {
    let name = format!("node-{}", index + 1);
    let addresses = plan::bridge(u8::try_from(index + 1).context("too many nodes")?);
    let host = Host::create(&format!("{}-n{}", topology.prefix, index + 1), addresses)?;
    plug(&topology.fabric, &host, &format!("n{}", index + 1))?;
    host.sysctl("net/ipv4/ip_forward", "1")?;
    host.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    // The pods' gateway: answered for on every link to a pod.
    let (gateway, _) = gateway(index);
    host.ip_command(&format!("addr add {gateway}/32 dev lo"))?;
    Ok(Node { host, name })
}

/// The gateway of a node's pods: an address of the node, and a link-local one.
fn gateway(node: usize) -> (std::net::Ipv4Addr, &'static str) {
    (
        std::net::Ipv4Addr::new(10, 244, node as u8 + 1, 1),
        "fe80::1",
    )
}

fn join_nodes(topology: &Topology) -> Result<()> {
    let count = topology.nodes.len();
    for (index, node) in topology.nodes.iter().enumerate() {
        route_pods(&node.host, (0..count).filter(|other| *other != index))?;
    }
    Ok(())
}

/// Routes to the pods of nodes, by the nodes' addresses on the bridge.
fn route_pods(host: &Host, nodes: impl Iterator<Item = usize>) -> Result<()> {
    for node in nodes {
        let (v4, v6) = plan::bridge(node as u8 + 1);
        let number = node + 1;
        host.ip_command(&format!("route add 10.244.{number}.0/24 via {v4}"))?;
        host.ip_command(&format!("-6 route add fd00:244:{number}::/64 via {v6}"))?;
    }
    Ok(())
}

fn make_outside(topology: &Topology, name: &str, index: usize, nodes: usize) -> Result<Host> {
    let addresses = plan::bridge(100 + u8::try_from(index).context("too many hosts")?);
    let host = Host::create(&format!("{}-{name}", topology.prefix), addresses)?;
    plug(&topology.fabric, &host, &format!("o{index}"))?;
    route_pods(&host, 0..nodes)?;
    Ok(host)
}

pub(super) fn add_pod(
    prefix: &str,
    nodes: &[Node],
    pods: &[Pod],
    name: &str,
    node: usize,
) -> Result<Pod> {
    let on = &nodes.get(node).context("no such node")?.host;
    // The lowest free address of the node, so that pods may come and go.
    let taken: Vec<_> = pods
        .iter()
        .filter(|p| p.node == node)
        .map(|p| p.host.v4)
        .collect();
    let index = (0..200).find(|i| !taken.contains(&plan::pod(node, *i).0));
    let addresses = plan::pod(node, index.context("the node is full")?);
    let host = Host::create(&format!("{prefix}-p-{name}"), addresses)?;
    match link_pod(on, &host, node) {
        Ok(()) => Ok(Pod {
            host,
            name: name.to_owned(),
            node,
        }),
        Err(error) => {
            command::run(&format!("ip netns del {}", host.name())).ok();
            Err(error)
        }
    }
}

fn link_pod(node: &Host, pod: &Host, index: usize) -> Result<()> {
    let device = format!("p{}", u32::from(pod.v4) & 0xff);
    let (gateway4, gateway6) = gateway(index);
    node.ip_command(&format!(
        "link add {device} type veth peer name eth0 netns {}",
        pod.name()
    ))?;
    node.ip_command(&format!("addr add {gateway6}/64 dev {device} nodad"))?;
    node.ip_command(&format!("link set {device} up"))?;
    address(pod, "eth0", (32, 128))?;
    pod.ip_command("link set eth0 up")?;
    pod.ip_command(&format!("route add {gateway4} dev eth0 scope link"))?;
    pod.ip_command(&format!("route add default via {gateway4} dev eth0"))?;
    pod.ip_command(&format!("-6 route add default via {gateway6} dev eth0"))?;
    node.ip_command(&format!("route add {} dev {device} scope link", pod.v4))?;
    node.ip_command(&format!("-6 route add {} dev {device}", pod.v6))?;
    Ok(())
}
