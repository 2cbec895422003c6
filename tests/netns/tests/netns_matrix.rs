//! Every pair: in the mesh or not × same node or the other × by pod address, service address or name
//! × IPv4 and IPv6. And what each way must and must not show on the link.

use std::net::SocketAddr;

use ambit_testkit::apps::{client, dns, port};
use ambit_testkit::topology::{Family, PacketCapture};
use anyhow::{Context, Result, ensure};
use netns_tests::{Cast, FAMILIES, PODS, RESOLVER, hostname, vip};

/// How the client finds the server.
#[derive(Clone, Copy, Debug)]
enum By {
    PodAddress,
    ServiceAddress,
    Name,
}

fn resolve(cast: &Cast, from: &str, to: &str, by: By, family: Family) -> Result<SocketAddr> {
    let ip = match by {
        By::PodAddress => cast.topology().pod(to).ip(family),
        By::ServiceAddress => vip(to, family),
        By::Name => {
            // Pods outside the mesh ask the cluster's own server.
            let outside = cast.topology().outside("outside").at(Family::V4, 53);
            let server = if from.starts_with("plain") {
                outside
            } else {
                RESOLVER
            };
            let v6 = family == Family::V6;
            let answer = dns::query(cast.topology().pod(from), server, &hostname(to), v6)?;
            ensure!(
                answer.addresses == [vip(to, family)],
                "{} is {answer:?}",
                hostname(to)
            );
            answer.addresses[0]
        }
    };
    Ok(SocketAddr::new(ip, port::ADDRESSES))
}

/// One row: the connection works, and both ends see the addresses they should.
fn row(cast: &Cast, from: &str, to: &str, by: By, family: Family) -> Result<()> {
    let asked = resolve(cast, from, to, by, family)?;
    let (client, server) = (cast.topology().pod(from), cast.topology().pod(to));
    let (at_server, at_client) = client::addresses(client, asked)?;
    ensure!(
        at_client.peer == asked,
        "the client's peer is {}",
        at_client.peer
    );
    ensure!(
        at_client.local.ip() == client.ip(family),
        "the client is {}",
        at_client.local
    );
    ensure!(
        at_server.peer.ip() == client.ip(family),
        "the server's client is {}",
        at_server.peer
    );
    ensure!(
        at_server.local == server.at(family, port::ADDRESSES),
        "the server is {}",
        at_server.local
    );
    Ok(())
}

#[test]
fn every_pair_reaches_each_other_and_only_the_mesh_is_sealed() {
    let cast = Cast::start(&[]).unwrap();
    let mut wrong = Vec::new();
    let mut rows = 0;
    for from in ["client", "plain-client"] {
        for to in ["near", "far", "plain-near", "plain-far"] {
            for by in [By::PodAddress, By::ServiceAddress, By::Name] {
                for family in FAMILIES {
                    rows += 1;
                    if let Err(error) = row(&cast, from, to, by, family) {
                        wrong.push(format!("{from} to {to} by {by:?} {family:?}: {error:#}"));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {rows} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    for (from, to, readable) in [
        ("client", "far", false),
        ("client", "plain-far", true),
        ("plain-client", "far", true),
        ("plain-client", "plain-far", true),
    ] {
        assert_eq!(
            overheard(&cast, from, to).unwrap(),
            readable,
            "{from} to {to}"
        );
    }
    cast.expect("counted", counted(&cast));
}

/// Whether a text sent from one pod to another is readable between the nodes.
fn overheard(cast: &Cast, from: &str, to: &str) -> Result<bool> {
    let text = format!("secret-of-{from}-for-{to}");
    let capture = PacketCapture::start(&cast.topology().fabric, 1 << 20)?;
    for family in FAMILIES {
        let at = cast.pod_at(to, family, port::ECHO);
        client::echo(cast.topology().pod(from), at, &text).context("the echo")?;
    }
    Ok(PacketCapture::shows(&capture.finish()?, &text))
}

/// Both sides count the tunnels, with both names.
fn counted(cast: &Cast) -> Result<()> {
    let both = [
        r#"source_workload_namespace="meshed""#,
        r#"destination_workload_namespace="meshed""#,
    ];
    for (node, reporter) in [(0, "source"), (1, "destination")] {
        let reporter = format!("reporter=\"{reporter}\"");
        let parts = [
            &both[..],
            &[&*reporter, r#"connection_security_policy="mutual_tls""#],
        ]
        .concat();
        let opened = cast
            .mesh
            .metric(node, "istio_tcp_connections_opened_total", &parts)?;
        ensure!(
            opened >= 8.0,
            "node {node} counts {opened} tunnelled connections"
        );
    }
    let forgotten = cast
        .mesh
        .metric(0, "ambit_telemetry_unfinished_records_total", &[])?;
    ensure!(
        forgotten == 0.0,
        "{forgotten} connections ended without an outcome"
    );
    Ok(())
}

#[test]
fn the_cast_is_what_the_rows_need() {
    for (name, node, meshed) in PODS {
        assert_eq!(name.starts_with("plain"), !meshed);
        assert_eq!(
            name.ends_with("near") || name.ends_with("client"),
            node == 0,
            "{name}"
        );
    }
}
