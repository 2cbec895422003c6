//! What connections carry: who speaks first, half-close, a gigabyte, thousands at once, resets, and
//! what is none of the mesh's business.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use ambit_testkit::apps::{client, port};
use ambit_testkit::topology::Family;
use ambit_testkit::wait;
use anyhow::{Context, Result, ensure};
use netns_tests::{Cast, FAMILIES};

/// A gigabyte.
const LARGE: u64 = 1_000_000_000;
/// Connections open at once.
const MANY: usize = 2_000;

#[test]
fn streams_are_carried_whole() {
    let cast = Cast::start(&[]).unwrap();
    let done = server_first(&cast);
    cast.expect("server_first", done);
    let done = half_close(&cast);
    cast.expect("half_close", done);
    let done = large(&cast);
    cast.expect("large", done);
    let done = many_at_once(&cast);
    cast.expect("many_at_once", done);
    let done = resets(&cast);
    cast.expect("resets", done);
    let done = refused_port(&cast);
    cast.expect("refused_port", done);
    let done = datagrams(&cast);
    cast.expect("datagrams", done);
    let done = from_the_host(&cast);
    cast.expect("from_the_host", done);
    let done = nothing_is_left_open(&cast);
    cast.expect("nothing_is_left_open", done);
}

fn server_first(cast: &Cast) -> Result<()> {
    for to in ["near", "far", "plain-far"] {
        let at = cast.pod_at(to, Family::V4, port::SERVER_FIRST);
        let banner = client::banner(cast.topology().pod("client"), at)?;
        ensure!(banner == format!("220 {to} ready"), "{banner}");
    }
    Ok(())
}

/// The client closes its half first and still gets the answer; and the other way round.
fn half_close(cast: &Cast) -> Result<()> {
    let from = cast.topology().pod("client");
    for family in FAMILIES {
        let verdict = client::upload(from, cast.pod_at("far", family, port::SINK), 3_000_000)?;
        ensure!(verdict == "ok 3000000", "{verdict}");
        // The echo server sees our end, sends the rest, and ends too.
        let mut stream = client::connect(from, cast.pod_at("far", family, port::ECHO))?;
        stream.write_all(b"last words")?;
        stream.shutdown(Shutdown::Write)?;
        let mut rest = String::new();
        stream.read_to_string(&mut rest)?;
        ensure!(rest == "last words", "{rest}");
    }
    Ok(())
}

fn large(cast: &Cast) -> Result<()> {
    let from = cast.topology().pod("client");
    let verdict = client::upload(from, cast.pod_at("far", Family::V4, port::SINK), LARGE)?;
    ensure!(verdict == format!("ok {LARGE}"), "{verdict}");
    let came = client::download(from, cast.pod_at("far", Family::V6, port::SOURCE), LARGE)?;
    ensure!(came == LARGE, "{came} bytes came");
    Ok(())
}

fn many_at_once(cast: &Cast) -> Result<()> {
    let from = cast.topology().pod("client");
    let at = cast.pod_at("far", Family::V4, port::ECHO);
    let mut open = Vec::new();
    for n in 0..MANY {
        open.push(client::connect(from, at).with_context(|| format!("connection {n}"))?);
    }
    // All are open together, and each still carries its own bytes.
    for (n, stream) in open.iter_mut().enumerate() {
        client::echo_on(stream, &format!("number {n}")).with_context(|| format!("echo {n}"))?;
    }
    for (n, stream) in open.iter_mut().enumerate().rev() {
        client::echo_on(stream, &format!("again {n}")).with_context(|| format!("echo {n}"))?;
    }
    Ok(())
}

/// A reset at one end reaches the other, and neither agent minds.
fn resets(cast: &Cast) -> Result<()> {
    let from = cast.topology().pod("client");
    for _ in 0..20 {
        let mut stream = client::connect(from, cast.pod_at("far", Family::V4, port::RESET))?;
        stream.write_all(b"x")?;
        let ended = stream.read(&mut [0; 1]);
        ensure!(
            !matches!(ended, Ok(1..)),
            "a byte came from a server that resets"
        );
        // An unread answer makes the close a reset.
        let mut stream = client::connect(from, cast.pod_at("far", Family::V4, port::ECHO))?;
        stream.write_all(b"unread")?;
        drop(stream);
    }
    client::echo(
        from,
        cast.pod_at("far", Family::V4, port::ECHO),
        "after resets",
    )?;
    Ok(())
}

fn refused_port(cast: &Cast) -> Result<()> {
    let from = cast.topology().pod("client");
    let closed = client::echo(from, cast.pod_at("far", Family::V4, port::CLOSED), "x");
    ensure!(closed.is_err(), "nothing listens there");
    Ok(())
}

fn datagrams(cast: &Cast) -> Result<()> {
    for family in FAMILIES {
        for to in ["near", "far", "plain-far"] {
            let at = cast.pod_at(to, family, port::UDP_ECHO);
            let from = client::udp_echo(cast.topology().pod("client"), at, "datagram")?;
            ensure!(from == at, "answered by {from}");
        }
    }
    Ok(())
}

/// A process of the node reaches a pod of the mesh, as a probe does.
fn from_the_host(cast: &Cast) -> Result<()> {
    for family in FAMILIES {
        let node = &cast.topology().nodes[0].host;
        let body = client::get(node, cast.pod_at("client", family, port::HTTP), "/healthz")?;
        ensure!(body.starts_with("client saw"), "{body}");
    }
    Ok(())
}

fn nothing_is_left_open(cast: &Cast) -> Result<()> {
    for node in 0..2 {
        wait::until_true(
            Duration::from_secs(10),
            "all connections to be closed",
            || matches!(cast.mesh.metric(node, "istio_tcp_sockets_open", &[]), Ok(open) if open == 0.0),
        )?;
    }
    Ok(())
}
