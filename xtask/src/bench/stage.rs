//! The stage: two nodes, a pair of pods in the mesh and a pair outside it, on the same links.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ambit_testkit::mesh::{Binaries, Document, Mesh};
use ambit_testkit::topology::{Host, Plan, Topology};
use ambit_testkit::yaml;
use anyhow::Result;
use serde::Serialize;

use super::bulk::Sink;
use super::report::Column;
use super::{Effort, requests, rounds};

/// Port of the bulk server.
const BULK_PORT: u16 = 9000;
/// Ports of the request server.
const REQUEST_PORTS: [u16; 4] = [9001, 9002, 9003, 9004];
/// Pods of the stage.
const PODS: [(&str, usize); 4] = [
    ("client", 0),
    ("server", 1),
    ("plain-client", 0),
    ("plain-server", 1),
];
/// Idle connections held.
const IDLE: usize = 1000;
/// Opened before them, so that buffers that stay are not counted.
const IDLE_WARM_UP: usize = 100;

/// A client and its server.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) client: Host,
    pub(crate) bulk: SocketAddr,
    pub(crate) requests: Vec<SocketAddr>,
    pub(crate) sink: Sink,
}

/// What there is to measure on.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) direct: Pair,
    pub(crate) meshed: Option<Pair>,
    mesh: Option<&'a Mesh>,
}

/// Memory of the agents, in bytes; each figure for (client's node, server's node).
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    pub(crate) idle: (u64, u64),
    pub(crate) after_load: (u64, u64),
    /// Growth by one idle tunnelled connection.
    pub(crate) per_idle_connection: (f64, f64),
}

impl Pair {
    fn start(client: &Host, server: &Host) -> Result<Self> {
        let at = |port| SocketAddr::from((server.v4, port));
        requests::serve(server, &REQUEST_PORTS)?;
        Ok(Self {
            client: client.clone(),
            bulk: at(BULK_PORT),
            requests: REQUEST_PORTS.map(at).into(),
            sink: Sink::start(server, at(BULK_PORT))?,
        })
    }
}

impl Stage<'_> {
    /// CPU seconds of all agents so far.
    pub(crate) fn agents_cpu(&self) -> Result<f64> {
        let agents = self.mesh.into_iter().flat_map(Mesh::agents);
        agents
            .map(ambit_testkit::process::Program::cpu_seconds)
            .sum()
    }
}

/// Lets many connections be opened and closed in a short time.
fn widen_ports(topology: &Topology) -> Result<()> {
    for host in topology.hosts() {
        host.sysctl("net/ipv4/ip_local_port_range", "10000 65000")?;
        host.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
    }
    Ok(())
}

/// Measures without a mesh.
pub(crate) fn measure_direct(effort: Effort) -> Result<Column> {
    let topology = Topology::build(&Plan::two_nodes(&PODS))?;
    widen_ports(&topology)?;
    let direct = Pair::start(topology.pod("plain-client"), topology.pod("plain-server"))?;
    let stage = Stage {
        direct,
        meshed: None,
        mesh: None,
    };
    Ok(Column {
        congestion_control: topology.congestion_control()?,
        cases: rounds::measure(&stage, effort)?,
        memory: None,
    })
}

/// Measures with one: under the machine's congestion control, then under cubic.
pub(crate) fn measure(programs: &Path, effort: Effort, cubic: bool) -> Result<Vec<Column>> {
    let plan = Plan::two_nodes(&PODS);
    let binaries = Binaries::in_directory(programs);
    let mut mesh = Mesh::start(&plan, binaries, &[("RUST_LOG", "info")], documents)?;
    widen_ports(&mesh.topology)?;
    mesh.wait_captured(&["client", "server"])?;
    let start = |mesh: &Mesh, client: &str, server: &str| {
        Pair::start(mesh.topology.pod(client), mesh.topology.pod(server))
    };
    let mut pairs = (
        start(&mesh, "plain-client", "plain-server")?,
        start(&mesh, "client", "server")?,
    );
    let mut columns = Vec::new();
    let default = mesh.topology.congestion_control()?;
    let mut controls = vec![default.clone()];
    if cubic && default != "cubic" {
        controls.push("cubic".to_owned());
    }
    for control in controls {
        if control != default {
            change_congestion_control(&mut mesh, &control)?;
        }
        let mut memory = Memory {
            idle: resident(&mesh)?,
            ..Memory::default()
        };
        memory.per_idle_connection = idle_connections(&mesh, &pairs.1)?;
        let stage = Stage {
            direct: pairs.0,
            meshed: Some(pairs.1),
            mesh: Some(&mesh),
        };
        let cases = rounds::measure(&stage, effort)?;
        let Stage { direct, meshed, .. } = stage;
        let Some(meshed) = meshed else { break };
        pairs = (direct, meshed);
        memory.after_load = resident(&mesh)?;
        columns.push(Column {
            congestion_control: control,
            cases,
            memory: Some(memory),
        });
    }
    Ok(columns)
}

/// Agents are restarted with it: open tunnels would keep the old one.
fn change_congestion_control(mesh: &mut Mesh, name: &str) -> Result<()> {
    mesh.topology.set_congestion_control(name)?;
    for node in 0..2 {
        mesh.take_agent(node)?.terminate()?;
        mesh.start_agent(node)?;
    }
    mesh.wait_captured(&["client", "server"])
}

fn resident(mesh: &Mesh) -> Result<(u64, u64)> {
    Ok((mesh.agent(0).resident()?, mesh.agent(1).resident()?))
}

fn idle_connections(mesh: &Mesh, pair: &Pair) -> Result<(f64, f64)> {
    let warm_up = requests::idle(&pair.client, pair.requests[0], IDLE_WARM_UP)?;
    let before = resident(mesh)?;
    let held = requests::idle(&pair.client, pair.requests[0], IDLE)?;
    let after = resident(mesh)?;
    let growth = |before: u64, after: u64| after.saturating_sub(before) as f64 / held.len() as f64;
    let growth = (growth(before.0, after.0), growth(before.1, after.1));
    drop((warm_up, held));
    Ok(growth)
}

fn documents(topology: &Topology) -> Vec<Document> {
    let mut text = yaml::namespace("bench", true) + &yaml::namespace("plain", false);
    for pod in topology.pods() {
        let namespace = if pod.name.starts_with("plain") {
            "plain"
        } else {
            "bench"
        };
        text += &yaml::pod(namespace, pod, &topology.nodes[pod.node].name);
    }
    let vip: IpAddr = [10, 96, 0, 10].into();
    text += &yaml::service(
        "bench",
        "server",
        "server",
        &[vip],
        &[BULK_PORT, REQUEST_PORTS[0]],
    );
    text += &yaml::authorization("bench", "allow-client", "server", "ALLOW", &["client"]);
    vec![("bench.yaml".into(), text)]
}
