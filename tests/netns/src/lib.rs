//! The cast of the suites on namespaces: pods in the mesh and outside it on both nodes, with their
//! services, and a mesh that runs on them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ambit_testkit::apps::{App, Apps, dns, port};
use ambit_testkit::mesh::{Binaries, Document, Mesh};
use ambit_testkit::topology::{Family, Plan, Topology};
use ambit_testkit::yaml;
use anyhow::Result;

/// Pods: name, node, and whether they are in the mesh.
pub const PODS: [(&str, usize, bool); 7] = [
    ("client", 0, true),
    ("near", 0, true),
    ("far", 1, true),
    ("other", 1, true),
    ("plain-client", 0, false),
    ("plain-near", 0, false),
    ("plain-far", 1, false),
];
/// Namespace of the pods in the mesh.
pub const MESHED: &str = "meshed";
/// Namespace of the pods outside it.
pub const PLAIN: &str = "plain";
/// The resolver that pods in the mesh ask; nothing answers there but the mesh.
pub const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 2)), 53);
/// Both families.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Ports that services have.
const PORTS: [u16; 7] = [
    port::ECHO,
    port::SERVER_FIRST,
    port::SINK,
    port::SOURCE,
    port::ADDRESSES,
    port::RESET,
    port::HTTP,
];

/// Everything that runs.
#[derive(Debug)]
pub struct Cast {
    // Before the namespaces they listen in.
    _apps: Apps,
    _dns: dns::Server,
    /// The mesh.
    pub mesh: Mesh,
}

impl Cast {
    /// Starts all, with the agents' environment added to.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn start(environment: &[(&str, &str)]) -> Result<Self> {
        let pods: Vec<_> = PODS.iter().map(|(name, node, _)| (*name, *node)).collect();
        let plan = Plan::two_nodes(&pods);
        let mesh = Mesh::start(&plan, Binaries::find()?, environment, documents)?;
        let topology = &mesh.topology;
        let apps: Vec<_> = topology
            .pods()
            .iter()
            .map(|pod| App {
                name: pod.name.clone(),
                host: pod.host.clone(),
            })
            .collect();
        let apps = Apps::start(&apps)?;
        let names: Vec<_> = PODS
            .iter()
            .flat_map(|(name, ..)| FAMILIES.map(|family| (hostname(name), vip(name, family))))
            .collect();
        let names: Vec<_> = names
            .iter()
            .map(|(name, ip)| (name.as_str(), *ip))
            .collect();
        let dns = dns::Server::start(topology.outside("outside"), &names)?;
        for (name, ..) in PODS {
            for family in FAMILIES {
                for port in PORTS {
                    let service = SocketAddr::new(vip(name, family), port);
                    topology.translate(service, topology.pod(name).at(family, port))?;
                }
            }
        }
        let meshed: Vec<_> = PODS.iter().filter(|p| p.2).map(|p| p.0).collect();
        mesh.wait_captured(&meshed)?;
        Ok(Self {
            _apps: apps,
            _dns: dns,
            mesh,
        })
    }

    /// Fails the test with what went wrong, and with what the programs say of it.
    ///
    /// # Panics
    /// When `part` failed.
    pub fn expect(&self, name: &str, part: Result<()>) {
        if let Err(error) = part {
            panic!("{name}: {error:#}{}", self.mesh.complaints());
        }
    }

    /// The nodes and pods.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.mesh.topology
    }

    /// A pod's own address with a port.
    #[must_use]
    pub fn pod_at(&self, name: &str, family: Family, port: u16) -> SocketAddr {
        self.topology().pod(name).at(family, port)
    }
}

/// Position of a pod in the cast.
fn index(name: &str) -> u8 {
    let at = PODS.iter().position(|(pod, ..)| *pod == name);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or_default()
}

/// The service address of a pod.
#[must_use]
pub fn vip(name: &str, family: Family) -> IpAddr {
    let number = index(name) + 10;
    match family {
        Family::V4 => Ipv4Addr::new(10, 96, 0, number).into(),
        Family::V6 => Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

/// The service's host name.
#[must_use]
pub fn hostname(name: &str) -> String {
    let meshed = PODS.iter().any(|(pod, _, meshed)| *pod == name && *meshed);
    format!(
        "{name}.{}.svc.cluster.local",
        if meshed { MESHED } else { PLAIN }
    )
}

fn documents(topology: &Topology) -> Vec<Document> {
    let mut text = yaml::namespace(MESHED, true) + &yaml::namespace(PLAIN, false);
    for (name, node, meshed) in PODS {
        let namespace = if meshed { MESHED } else { PLAIN };
        if let Some(pod) = topology.find_pod(name) {
            text += &yaml::pod(namespace, pod, &topology.nodes[node].name);
        }
        text += &yaml::service(
            namespace,
            name,
            name,
            &FAMILIES.map(|f| vip(name, f)),
            &PORTS,
        );
    }
    vec![("cast.yaml".into(), text)]
}
