//! What happens when policy changes and when parts of the mesh go away and come back.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ambit_testkit::apps::{client, port};
use ambit_testkit::topology::{Family, Host, PacketCapture};
use ambit_testkit::{wait, yaml};
use anyhow::{Context, Result, ensure};
use netns_tests::{Cast, FAMILIES, MESHED};

/// How long a change may take to be in force.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn changes_lose_nothing_and_leak_nothing() {
    let mut cast = Cast::start(&[("CONNECTION_TERMINATION_DEADLINE", "3s")]).unwrap();
    let done = denied_and_cut(&cast);
    cast.expect("denied_and_cut", done);
    let done = strict(&cast);
    cast.expect("strict", done);
    let done = refused_policy_denies(&cast);
    cast.expect("refused_policy_denies", done);
    let done = controller_restarts(&mut cast);
    cast.expect("controller_restarts", done);
    let done = agent_is_killed(&mut cast);
    cast.expect("agent_is_killed", done);
    let done = agent_is_upgraded(&mut cast);
    cast.expect("agent_is_upgraded", done);
    let done = a_pod_comes_and_goes(&mut cast);
    cast.expect("a_pod_comes_and_goes", done);
}

fn far_echo(cast: &Cast) -> SocketAddr {
    cast.pod_at("far", Family::V4, port::ECHO)
}

fn denied_and_cut(cast: &Cast) -> Result<()> {
    let (from, other) = (cast.topology().pod("client"), cast.topology().pod("near"));
    let mut open = client::connect(from, far_echo(cast))?;
    client::echo_on(&mut open, "before")?;
    let policy = yaml::authorization(MESHED, "deny-client", "far", "DENY", &["client"]);
    cast.mesh.apply("deny.yaml", &policy)?;
    open.set_read_timeout(Some(SOON))?;
    match open.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => anyhow::bail!("the live connection goes on: {other:?}"),
    }
    ensure!(
        client::echo(from, far_echo(cast), "x").is_err(),
        "denied, and yet let in"
    );
    client::echo(other, far_echo(cast), "x").context("another identity")?;
    let named = cast
        .mesh
        .metric(1, "ambit_policy_decisions_total", &["deny-client", "deny"])?;
    ensure!(named >= 1.0, "the policy's decisions are not counted");
    cast.mesh.remove("deny.yaml")?;
    wait::until_true(SOON, "the policy to be gone", || {
        client::echo(from, far_echo(cast), "x").is_ok()
    })
}

fn strict(cast: &Cast) -> Result<()> {
    let (plain, meshed) = (
        cast.topology().pod("plain-client"),
        cast.topology().pod("client"),
    );
    for family in FAMILIES {
        client::echo(plain, cast.pod_at("far", family, port::ECHO), "x").context("permissive")?;
    }
    cast.mesh
        .apply("strict.yaml", &yaml::peer_authentication(MESHED, "STRICT"))?;
    for family in FAMILIES {
        let at = cast.pod_at("far", family, port::ECHO);
        wait::until_true(SOON, "plaintext to be refused", || {
            client::echo(plain, at, "x").is_err()
        })?;
        client::echo(meshed, at, "x").context("mutual TLS")?;
    }
    cast.mesh.remove("strict.yaml")?;
    wait::until_true(SOON, "plaintext to be let in", || {
        client::echo(plain, far_echo(cast), "x").is_ok()
    })
}

/// A policy that cannot be understood denies its targets, and says so in the status.
fn refused_policy_denies(cast: &Cast) -> Result<()> {
    let from = cast.topology().pod("client");
    let broken = yaml::authorization(MESHED, "broken", "far", "ALLOW", &["client"])
        .replace("principals", "ipBlocks")
        .replace(
            &format!("cluster.local/ns/{MESHED}/sa/client"),
            "10.0.0.0/99",
        );
    cast.mesh.apply("broken.yaml", &broken)?;
    wait::until_true(SOON, "the target to be denied", || {
        client::echo(from, far_echo(cast), "x").is_err()
    })?;
    client::echo(from, cast.pod_at("near", Family::V4, port::ECHO), "x").context("others")?;
    let status = cast.mesh.controller_admin("/status")?;
    ensure!(
        status.contains("broken") && status.contains("10.0.0.0/99"),
        "{status}"
    );
    cast.mesh.remove("broken.yaml")?;
    wait::until_true(SOON, "the target to be let in", || {
        client::echo(from, far_echo(cast), "x").is_ok()
    })
}

/// Connects again and again until told to stop, counting what fails.
struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Traffic {
    fn start(from: &Host, to: SocketAddr) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (stopped, counted, from) = (Arc::clone(&stop), Arc::clone(&done), from.clone());
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match client::echo(&from, to, "traffic") {
                    Ok(()) => {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => failures.push(error.to_string()),
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            failures
        });
        Self { stop, done, thread }
    }

    /// Waits until some more have gone through.
    fn wait_for_more(&self) -> Result<()> {
        let before = self.done.load(Ordering::Relaxed);
        wait::until_true(SOON, "traffic to go on", || {
            self.done.load(Ordering::Relaxed) > before + 20
        })
    }

    fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self
            .thread
            .join()
            .map_err(|_| anyhow::anyhow!("the traffic panicked"))?;
        let done = self.done.load(Ordering::Relaxed);
        ensure!(
            failures.is_empty(),
            "{} failed, {done} did not: {:?}",
            failures.len(),
            failures[0]
        );
        Ok(())
    }
}

fn controller_restarts(cast: &mut Cast) -> Result<()> {
    let traffic = Traffic::start(cast.topology().pod("client"), far_echo(cast));
    traffic.wait_for_more()?;
    cast.mesh.kill_controller()?;
    traffic.wait_for_more().context("without a controller")?;
    cast.mesh.start_controller()?;
    // A change after the restart reaches the agents.
    let policy = yaml::authorization(MESHED, "deny-near", "far", "DENY", &["near"]);
    cast.mesh.apply("deny.yaml", &policy)?;
    let near = cast.topology().pod("near");
    wait::until_true(Duration::from_secs(30), "the change to arrive", || {
        client::echo(near, far_echo(cast), "x").is_err()
    })?;
    cast.mesh.remove("deny.yaml")?;
    wait::until_true(SOON, "the change back", || {
        client::echo(near, far_echo(cast), "x").is_ok()
    })?;
    traffic.finish().context("while the controller restarted")
}

fn agent_is_killed(cast: &mut Cast) -> Result<()> {
    cast.mesh.take_agent(0)?.kill()?;
    let text = "nothing-of-this-may-show";
    let capture = PacketCapture::start(&cast.topology().fabric, 1 << 20)?;
    let from = cast.topology().pod("client");
    for to in ["far", "plain-far"] {
        for family in FAMILIES {
            let tried = client::echo(from, cast.pod_at(to, family, port::ECHO), text);
            ensure!(tried.is_err(), "went through to {to} without an agent");
        }
    }
    ensure!(
        !PacketCapture::shows(&capture.finish()?, text),
        "sent in clear without an agent"
    );
    // Pods outside the mesh do not notice.
    let plain = cast.topology().pod("plain-client");
    client::echo(plain, cast.pod_at("plain-far", Family::V4, port::ECHO), "x")?;
    cast.mesh.start_agent(0)?;
    wait::until_true(SOON, "the pods to be carried again", || {
        client::echo(cast.topology().pod("client"), far_echo(cast), "x").is_ok()
    })
}

/// A new agent starts beside the old one, which then drains: no new connection fails.
fn agent_is_upgraded(cast: &mut Cast) -> Result<()> {
    let traffic = Traffic::start(cast.topology().pod("client"), far_echo(cast));
    traffic.wait_for_more()?;
    let ports = [
        ("AMBIT_ADMIN_PORT", "16000"),
        ("AMBIT_METRICS_PORT", "16020"),
        ("AMBIT_READINESS_PORT", "16021"),
        ("AMBIT_SELF_PORT", "off"),
    ];
    let mut new = cast.mesh.spawn_agent(0, &ports)?;
    let node = cast.topology().nodes[0].host.clone();
    let ready = SocketAddr::from(([127, 0, 0, 1], 16021));
    new.wait_until(
        Duration::from_secs(30),
        "readiness of the new agent",
        || Ok(client::get_any(&node, ready, "/healthz/ready")?.0 == 200),
    )?;
    let old = cast
        .mesh
        .replace_agent(0, new)
        .context("there was no old agent")?;
    old.terminate()?;
    traffic
        .wait_for_more()
        .context("after the old agent ended")?;
    traffic.finish().context("while the agent was upgraded")?;
    // Back to an agent at the usual ports.
    cast.mesh.take_agent(0)?.terminate()?;
    cast.mesh.start_agent(0)
}

fn a_pod_comes_and_goes(cast: &mut Cast) -> Result<()> {
    cast.mesh.topology.add_pod("late", 1)?;
    let node = cast.topology().nodes[1].name.clone();
    let late = cast.topology().find_pod("late").context("the pod")?;
    cast.mesh
        .apply("late.yaml", &yaml::pod(MESHED, late, &node))?;
    cast.mesh.wait_captured(&["late"])?;
    let apps = ambit_testkit::apps::Apps::one("late", cast.topology().pod("late"))?;
    let from = cast.topology().pod("client").clone();
    client::echo(
        &from,
        cast.pod_at("late", Family::V6, port::ECHO),
        "welcome",
    )?;
    drop(apps);
    cast.mesh.remove("late.yaml")?;
    cast.mesh.topology.remove_pod("late")?;
    wait::until_true(SOON, "the agent to let the pod go", || {
        matches!(
            cast.mesh.metric(1, "workload_manager_active_proxy_count", &[]),
            Ok(active) if active == 2.0
        )
    })?;
    client::echo(&from, far_echo(cast), "still here")?;
    Ok(())
}
