//! The stage itself, without a mesh: every path that the other suites put a mesh on works before.

use std::net::SocketAddr;

use ambit_testkit::apps::{Apps, client, dns, port};
use ambit_testkit::topology::{Family, PacketCapture, Plan, Topology};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[test]
fn every_host_reaches_every_other() {
    let plan = Plan::two_nodes(&[("a", 0), ("b", 0), ("c", 1)]);
    let topology = Topology::build(&plan).unwrap();
    let hosts: Vec<_> = topology.hosts().cloned().collect();
    let apps: Vec<_> = hosts
        .iter()
        .map(|h| Apps::one(h.name(), h).unwrap())
        .collect();
    for from in &hosts {
        for to in &hosts {
            for family in FAMILIES {
                let body = client::get(from, to.at(family, port::HTTP), "/").unwrap_or_else(|e| {
                    panic!("{} to {} over {family:?}: {e}", from.name(), to.name())
                });
                assert!(body.starts_with(to.name()), "{body}");
            }
        }
    }
    drop(apps);
}

#[test]
fn the_small_servers_do_what_they_say() {
    let topology = Topology::build(&Plan::two_nodes(&[("a", 0), ("b", 1)])).unwrap();
    let (a, b) = (topology.pod("a"), topology.pod("b"));
    let _apps = Apps::one("b", b).unwrap();
    for family in FAMILIES {
        let at = |port| b.at(family, port);
        client::echo(a, at(port::ECHO), "hello").unwrap();
        assert_eq!(
            client::banner(a, at(port::SERVER_FIRST)).unwrap(),
            "220 b ready"
        );
        assert_eq!(
            client::upload(a, at(port::SINK), 5_000_000).unwrap(),
            "ok 5000000"
        );
        assert_eq!(
            client::download(a, at(port::SOURCE), 5_000_000).unwrap(),
            5_000_000
        );
        let (server, client) = client::addresses(a, at(port::ADDRESSES)).unwrap();
        assert_eq!((server.local, server.peer), (client.peer, client.local));
        assert_eq!(
            client::udp_echo(a, at(port::UDP_ECHO), "ping").unwrap(),
            at(port::UDP_ECHO)
        );
        assert!(client::connect(a, at(port::CLOSED)).is_err());
        assert!(client::echo(a, at(port::RESET), "x").is_err());
    }
}

#[test]
fn a_capture_sees_what_goes_in_clear() {
    let topology = Topology::build(&Plan::two_nodes(&[("a", 0), ("b", 1)])).unwrap();
    let (a, b) = (topology.pod("a"), topology.pod("b"));
    let _apps = Apps::one("b", b).unwrap();
    let capture = PacketCapture::start(&topology.fabric, 1 << 20).unwrap();
    client::echo(a, b.at(Family::V4, port::ECHO), "readable-marker").unwrap();
    let seen = capture.finish().unwrap();
    assert!(PacketCapture::shows(&seen, "readable-marker"));
    assert!(!PacketCapture::shows(&seen, "another-marker"));
}

#[test]
fn services_are_translated_for_those_outside_the_mesh() {
    let topology = Topology::build(&Plan::two_nodes(&[("a", 0), ("b", 1)])).unwrap();
    let (a, b) = (topology.pod("a"), topology.pod("b"));
    let _apps = Apps::one("b", b).unwrap();
    for (vip, family) in [("10.96.0.7:80", Family::V4), ("[fd96::7]:80", Family::V6)] {
        let vip: SocketAddr = vip.parse().unwrap();
        topology.translate(vip, b.at(family, port::HTTP)).unwrap();
        assert!(client::get(a, vip, "/").unwrap().starts_with("b saw"));
    }
}

#[test]
fn names_are_answered_from_a_table() {
    let topology = Topology::build(&Plan::two_nodes(&[("a", 0)])).unwrap();
    let (a, server) = (topology.pod("a"), topology.outside("outside"));
    let address = "10.1.2.3".parse().unwrap();
    let _dns = dns::Server::start(server, &[("db.example", address)]).unwrap();
    let at = server.at(Family::V4, 53);
    assert_eq!(
        dns::query(a, at, "DB.example", false).unwrap().addresses,
        [address]
    );
    assert!(
        dns::query(a, at, "db.example", true)
            .unwrap()
            .addresses
            .is_empty()
    );
    assert_eq!(dns::query(a, at, "no.example", false).unwrap().code, 3);
}

#[test]
fn pods_come_and_go() {
    let mut topology = Topology::build(&Plan::two_nodes(&[("a", 0), ("b", 0)])).unwrap();
    let freed = topology.pod("a").v4;
    topology.remove_pod("a").unwrap();
    topology.add_pod("c", 0).unwrap();
    assert_eq!(topology.pod("c").v4, freed);
    let _apps = Apps::one("c", topology.pod("c")).unwrap();
    let at = topology.pod("c").at(Family::V6, port::ECHO);
    client::echo(topology.pod("b"), at, "hello").unwrap();
}
