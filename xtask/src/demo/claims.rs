//! What the demonstration claims, each with the way it is proved. Those about failures are next door.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ambit_testkit::apps::{client, dns, port};
use ambit_testkit::topology::{Family, Host, PacketCapture};
use ambit_testkit::{wait, yaml};
use anyhow::{Context, Result, ensure};

use super::failures;
use super::narration::Narrator;
use super::stage::{ORDERS_VIP, RESOLVER, SHOP_PORT, STOCK_VIP, Stage, WEB_VIP};

/// How long a change may take to show.
pub(super) const SOON: Duration = Duration::from_secs(10);
/// Bytes held of a packet capture.
pub(super) const CAPTURE: usize = 8 << 20;

/// Checks all, in the order of a story.
pub(super) fn all(stage: &mut Stage, narrator: &mut Narrator) -> Result<()> {
    narrator.claim(
        "The shop works: one request passes three services on two nodes",
        || shop(stage),
    );
    narrator.claim(
        "Names are answered by the mesh, from inside the pod",
        || names(stage),
    );
    narrator.claim(
        "Captured without iptables or nftables: the pods hold no rules",
        || no_rules(stage),
    );
    narrator.claim("Applications see the addresses they expect", || {
        addresses(stage)
    });
    narrator.claim("Between the nodes there is only TLS", || encrypted(stage));
    narrator.claim("Both agents know both identities", || identities(stage));
    narrator.claim("A DENY refuses, and names its policy", || denied(stage));
    narrator.claim("A policy change cuts a connection that is open", || {
        cut(stage)
    });
    narrator.claim(
        "STRICT refuses plaintext from outside the mesh, which was let in before",
        || strict(stage),
    );
    failures::all(stage, narrator)
}

fn shop(stage: &Stage) -> Result<Vec<String>> {
    let web = stage.mesh.topology.pod("web");
    let body = client::get(web, (WEB_VIP, SHOP_PORT).into(), "/buy")?;
    ensure!(
        body.contains("web") && body.contains("orders") && body.contains("stock"),
        "{body}"
    );
    Ok(vec![body])
}

fn names(stage: &Stage) -> Result<Vec<String>> {
    let web = stage.mesh.topology.pod("web");
    let mut evidence = Vec::new();
    for (name, vip) in [
        ("orders.shop.svc.cluster.local", ORDERS_VIP),
        ("stock.shop", STOCK_VIP),
    ] {
        let answer = dns::query(web, RESOLVER, name, false).context(name)?;
        ensure!(
            answer.addresses == [std::net::IpAddr::from(vip)],
            "{name}: {answer:?}"
        );
        ensure!(
            answer.from == RESOLVER,
            "answered by {} instead of {RESOLVER}",
            answer.from
        );
        evidence.push(format!(
            "{name} = {vip}, and the pod sees {RESOLVER} answer"
        ));
    }
    Ok(evidence)
}

/// The packet filter's rules inside a host.
fn rules(host: &Host) -> Result<String> {
    let output = Command::new("ip")
        .args(["netns", "exec", host.name(), "nft", "list", "ruleset"])
        .output()
        .context("nft cannot be run: install nftables")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let legacy = host.run(|| {
        // Absent where the kernel has no iptables at all.
        Ok(std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default())
    })?;
    Ok(format!(
        "{}{legacy}",
        String::from_utf8_lossy(&output.stdout)
    ))
}

fn no_rules(stage: &Stage) -> Result<Vec<String>> {
    let topology = &stage.mesh.topology;
    for pod in topology.pods() {
        let rules = rules(&pod.host)?;
        ensure!(
            rules.trim().is_empty(),
            "{} holds rules:\n{rules}",
            pod.name
        );
    }
    let pins = count_files(&stage.mesh.directory().join("bpf/node-1"))?;
    Ok(vec![
        format!("no rule in any of {} pods", topology.pods().len()),
        format!("what captures instead: {pins} BPF programs and maps, pinned for node-1"),
    ])
}

/// Files below a directory: pins are files.
fn count_files(directory: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        count += if path.is_dir() {
            count_files(&path)?
        } else {
            1
        };
    }
    Ok(count)
}

fn addresses(stage: &Stage) -> Result<Vec<String>> {
    let topology = &stage.mesh.topology;
    let (web, orders) = (topology.pod("web"), topology.pod("orders"));
    let asked: SocketAddr = (ORDERS_VIP, port::ADDRESSES).into();
    let (server, client) = client::addresses(web, asked)?;
    ensure!(
        client.peer == asked,
        "the client sees {} as its peer",
        client.peer
    );
    ensure!(
        client.local.ip() == web.v4,
        "the client sees {} as its own",
        client.local
    );
    ensure!(
        server.peer.ip() == web.v4,
        "the server sees {} as its client",
        server.peer
    );
    ensure!(
        server.local.ip() == orders.v4,
        "the server sees {} as its own",
        server.local
    );
    Ok(vec![
        format!(
            "web connects to {asked}: getpeername {}, getsockname {}",
            client.peer, client.local
        ),
        format!("orders accepts from {}, at {}", server.peer, server.local),
    ])
}

/// What is readable on the bridge while one host sends a text to another.
pub(super) fn overhear(stage: &Stage, from: &str, to: &str, text: &str) -> Result<Vec<u8>> {
    let topology = &stage.mesh.topology;
    let at = topology.pod(to).at(Family::V4, port::ECHO);
    let capture = PacketCapture::start(&topology.fabric, CAPTURE)?;
    let said = client::echo(topology.pod(from), at, text);
    let seen = capture.finish()?;
    said.with_context(|| format!("{from} to {to}"))?;
    Ok(seen)
}

fn encrypted(stage: &Stage) -> Result<Vec<String>> {
    let marker = "this-text-is-a-secret";
    let clear = overhear(stage, "plain-a", "plain-b", marker)?;
    ensure!(
        PacketCapture::shows(&clear, marker),
        "the capture itself sees nothing"
    );
    let sealed = overhear(stage, "web", "orders", marker)?;
    ensure!(
        !PacketCapture::shows(&sealed, marker),
        "the text is readable on the link"
    );
    // Record header of TLS application data.
    ensure!(
        sealed.windows(3).any(|w| w == [0x17, 0x03, 0x03]),
        "no TLS records on the link"
    );
    Ok(vec![
        format!(
            "plain-a to plain-b: \"{marker}\" is readable in {} captured bytes",
            clear.len()
        ),
        format!(
            "web to orders: it is not, in {} bytes; TLS records are",
            sealed.len()
        ),
    ])
}

fn identities(stage: &Stage) -> Result<Vec<String>> {
    let (web, orders) = (
        "spiffe://cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/orders",
    );
    let mut evidence = Vec::new();
    for node in 0..2 {
        let parts = [
            format!("src.identity=\"{web}\""),
            format!("dst.identity=\"{orders}\""),
        ];
        let line = wait_for_line(stage, node, &parts)?;
        let fields = line.split('\t').next_back().unwrap_or_default();
        evidence.push(format!(
            "{}: {fields}",
            stage.mesh.topology.nodes[node].name
        ));
    }
    Ok(evidence)
}

/// Waits for a line of an agent's log that has all the parts.
pub(super) fn wait_for_line(stage: &Stage, node: usize, parts: &[String]) -> Result<String> {
    wait::until(SOON, &format!("a log line with {parts:?}"), || {
        let log = stage.mesh.agent(node).log();
        let mut lines = log.lines().rev();
        Ok(lines
            .find(|line| parts.iter().all(|part| line.contains(part)))
            .map(str::to_owned))
    })
}

fn denied(stage: &Stage) -> Result<Vec<String>> {
    let topology = &stage.mesh.topology;
    let (web, orders) = (topology.pod("web"), topology.pod("orders"));
    let stock: SocketAddr = (STOCK_VIP, SHOP_PORT).into();
    client::get(web, stock, "/").context("before the policy")?;
    let policy = yaml::authorization("shop", "stock-is-for-orders", "stock", "DENY", &["web"]);
    stage.mesh.apply("deny.yaml", &policy)?;
    wait::until_true(SOON, "web to be refused", || {
        client::get(web, stock, "/").is_err()
    })?;
    client::get(orders, stock, "/").context("orders, which is not denied")?;
    let line = wait_for_line(stage, 1, &["stock-is-for-orders".to_owned()])?;
    let counted = stage
        .mesh
        .metric(1, "ambit_policy_decisions_total", &["stock-is-for-orders"])?;
    ensure!(counted >= 1.0, "no decision is counted for the policy");
    stage.mesh.remove("deny.yaml")?;
    wait::until_true(SOON, "web to be let in again", || {
        client::get(web, stock, "/").is_ok()
    })?;
    Ok(vec![
        line.split_once('\t')
            .map_or(line.clone(), |(_, rest)| rest.replace('\t', "  ")),
        format!(
            "ambit_policy_decisions_total counts {counted} for it; orders was let in all the time"
        ),
    ])
}

fn cut(stage: &Stage) -> Result<Vec<String>> {
    let web = stage.mesh.topology.pod("web");
    let mut open = client::connect(web, (ORDERS_VIP, port::ECHO).into())?;
    client::echo_on(&mut open, "still there?")?;
    let policy = yaml::authorization("shop", "no-more-web", "orders", "DENY", &["web"]);
    stage.mesh.apply("cut.yaml", &policy)?;
    let start = std::time::Instant::now();
    open.set_read_timeout(Some(SOON))?;
    let ended = std::io::Read::read(&mut open, &mut [0; 1]);
    let after = start.elapsed();
    let was_cut = match &ended {
        Ok(length) => *length == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    stage.mesh.remove("cut.yaml")?;
    ensure!(was_cut, "the connection goes on: {ended:?}");
    wait::until_true(SOON, "web to be let in again", || {
        client::echo(web, (ORDERS_VIP, port::ECHO).into(), "x").is_ok()
    })?;
    Ok(vec![format!(
        "an echo connection of web ended {} ms after the policy was saved",
        after.as_millis()
    )])
}

fn strict(stage: &Stage) -> Result<Vec<String>> {
    let topology = &stage.mesh.topology;
    let (outside, web) = (topology.outside("outside"), topology.pod("web"));
    let at = web.at(Family::V4, port::ECHO);
    client::echo(outside, at, "hello").context("before STRICT")?;
    stage
        .mesh
        .apply("strict.yaml", &yaml::peer_authentication("shop", "STRICT"))?;
    wait::until_true(SOON, "outside to be refused", || {
        client::echo(outside, at, "x").is_err()
    })?;
    client::echo(topology.pod("orders"), at, "x").context("orders, with mutual TLS")?;
    stage.mesh.remove("strict.yaml")?;
    wait::until_true(SOON, "outside to be let in", || {
        client::echo(outside, at, "x").is_ok()
    })?;
    Ok(vec![
        "refused under STRICT, while a pod of the mesh was let in".to_owned(),
    ])
}
