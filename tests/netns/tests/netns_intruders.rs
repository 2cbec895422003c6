//! The tunnel port and certificates: who is let in, and what becomes of garbage.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ambit_testkit::apps::{client, port};
use ambit_testkit::intruder::{Authority, is_let_in, say};
use ambit_testkit::topology::Family;
use ambit_testkit::wait;
use anyhow::{Context, Result, ensure};
use netns_tests::Cast;

/// The tunnel port.
const TUNNEL: u16 = 15008;
/// An identity of the mesh.
const CLIENT: &str = "spiffe://cluster.local/ns/meshed/sa/client";

#[test]
fn only_the_right_certificates_open_a_tunnel() {
    let mut cast = Cast::start(&[]).unwrap();
    let done = certificates(&cast);
    cast.expect("certificates", done);
    let done = garbage(&cast);
    cast.expect("garbage", done);
    let done = an_agent_without_an_authority_refuses(&mut cast);
    cast.expect("an agent without an authority", done);
}

fn tunnel(cast: &Cast) -> SocketAddr {
    cast.pod_at("far", Family::V4, TUNNEL)
}

fn certificates(cast: &Cast) -> Result<()> {
    let from = cast.topology().pod("plain-client");
    let mesh = Authority::of_mesh(&cast.mesh.data_directory())?;
    let foreign = Authority::foreign()?;
    let other_domain = CLIENT.replace("cluster.local", "elsewhere.example");
    for (what, credentials, let_in) in [
        ("a valid certificate", Some(mesh.sign(CLIENT, -1, 1)?), true),
        ("none", None, false),
        (
            "another authority's",
            Some(foreign.sign(CLIENT, -1, 1)?),
            false,
        ),
        (
            "another trust domain's",
            Some(mesh.sign(&other_domain, -1, 1)?),
            false,
        ),
        (
            "no identity of the mesh",
            Some(mesh.sign("https://example.org/", -1, 1)?),
            false,
        ),
        ("an expired one", Some(mesh.sign(CLIENT, -48, -24)?), false),
        ("one not valid yet", Some(mesh.sign(CLIENT, 24, 48)?), false),
    ] {
        let taken = is_let_in(from, tunnel(cast), credentials).context(what)?;
        ensure!(taken == let_in, "{what}: let in is {taken}");
    }
    Ok(())
}

/// What is not TLS is closed soon, and the agent carries on.
fn garbage(cast: &Cast) -> Result<()> {
    let from = cast.topology().pod("plain-client");
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 4096],
        b"",
    ] {
        let start = Instant::now();
        if !bytes.is_empty() {
            say(from, tunnel(cast), bytes)?;
        }
        ensure!(
            start.elapsed() < Duration::from_secs(12),
            "garbage was held for {:?}",
            start.elapsed()
        );
    }
    let ours = cast.topology().pod("client");
    client::echo(
        ours,
        cast.pod_at("far", Family::V4, port::ECHO),
        "still here",
    )?;
    Ok(())
}

/// An agent that starts while the authority is away takes no connection until it has certificates.
fn an_agent_without_an_authority_refuses(cast: &mut Cast) -> Result<()> {
    cast.mesh.take_agent(0)?.terminate()?;
    cast.mesh.kill_controller()?;
    cast.mesh.launch_agent(0, &[])?;
    let at = cast.pod_at("far", Family::V4, port::ECHO);
    let tried = client::echo(cast.topology().pod("client"), at, "too early");
    ensure!(
        tried.is_err(),
        "an agent without certificates carried a connection"
    );
    cast.mesh.start_controller()?;
    cast.mesh.wait_agent(0)?;
    wait::until_true(Duration::from_secs(20), "connections to be carried", || {
        client::echo(cast.topology().pod("client"), at, "x").is_ok()
    })
}
