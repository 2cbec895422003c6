//! The stage: pods, services, policies and programs of the demonstration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use ambit_testkit::apps::{App, Apps, port};
use ambit_testkit::mesh::{Binaries, Document, Mesh};
use ambit_testkit::topology::{Plan, Topology};
use ambit_testkit::yaml;
use anyhow::Result;

use super::shop;

/// Port of the shop's services.
pub(super) const SHOP_PORT: u16 = 8000;
/// Service addresses.
pub(super) const WEB_VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
pub(super) const ORDERS_VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 12);
pub(super) const STOCK_VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 13);
/// The resolver that pods are set up with. Nothing answers there: what does is the mesh.
pub(super) const RESOLVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 2)), 53);
/// The pods: three of the shop, and a pair that is not in the mesh, to compare with.
const PODS: [(&str, usize); 5] = [
    ("web", 0),
    ("orders", 1),
    ("stock", 1),
    ("plain-a", 0),
    ("plain-b", 1),
];

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Stage {
    _apps: Apps,
    pub(super) mesh: Mesh,
}

impl Stage {
    /// Starts it all.
    pub(super) fn set(programs: &Path) -> Result<Self> {
        let binaries = Binaries::in_directory(programs);
        let environment = [("RUST_LOG", "info"), ("AUTHZ_POLICY_INFO_LOGGING", "true")];
        let mesh = Mesh::start(&Plan::two_nodes(&PODS), binaries, &environment, documents)?;
        let topology = &mesh.topology;
        for service in &shop::SERVICES {
            shop::serve(service, topology.pod(service.name), SHOP_PORT, RESOLVER)?;
        }
        let apps = topology.pods().iter();
        let apps: Vec<_> = apps
            .map(|pod| App {
                name: pod.name.clone(),
                host: pod.host.clone(),
            })
            .collect();
        let apps = Apps::start(&apps)?;
        mesh.wait_captured(&["web", "orders", "stock"])?;
        Ok(Self { _apps: apps, mesh })
    }
}

fn documents(topology: &Topology) -> Vec<Document> {
    let mut shop = yaml::namespace("shop", true);
    let mut plain = yaml::namespace("plain", false);
    for pod in topology.pods() {
        let node = &topology.nodes[pod.node].name;
        if pod.name.starts_with("plain") {
            plain += &yaml::pod("plain", pod, node);
        } else {
            shop += &yaml::pod("shop", pod, node);
        }
    }
    let ports = [SHOP_PORT, port::ECHO, port::ADDRESSES];
    for (name, vip) in [
        ("web", WEB_VIP),
        ("orders", ORDERS_VIP),
        ("stock", STOCK_VIP),
    ] {
        shop += &yaml::service("shop", name, name, &[vip.into()], &ports);
    }
    vec![("shop.yaml".into(), shop), ("plain.yaml".into(), plain)]
}
