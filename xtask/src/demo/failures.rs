//! Claims about what happens when parts fail.

use ambit_testkit::apps::{client, port};
use ambit_testkit::topology::{Family, PacketCapture};
use ambit_testkit::wait;
use anyhow::{Context, Result, ensure};

use super::claims::{CAPTURE, SOON};
use super::narration::Narrator;
use super::stage::{SHOP_PORT, Stage, WEB_VIP};

/// Checks all of them.
pub(super) fn all(stage: &mut Stage, narrator: &mut Narrator) -> Result<()> {
    let killed = kill_agent(stage);
    narrator.claim(
        "An agent killed: its pods' connections are refused, nothing goes out in clear",
        || killed,
    );
    let back = restart_agent(stage);
    narrator.claim("The agent restarted: it takes its pods over again", || back);
    let without = without_controller(stage);
    narrator.claim("The controller killed: traffic goes on", || without);
    narrator.claim("UDP passes as before", || udp(stage));
    Ok(())
}

fn kill_agent(stage: &mut Stage) -> Result<Vec<String>> {
    let marker = "a-leak-would-show-this";
    let agent = stage.mesh.take_agent(0)?;
    let pid = agent.pid();
    agent.kill()?;
    let topology = &stage.mesh.topology;
    let (web, orders) = (topology.pod("web"), topology.pod("orders"));
    let capture = PacketCapture::start(&topology.fabric, CAPTURE)?;
    let tries = 5;
    let refused = (0..tries)
        .filter(|_| client::echo(web, orders.at(Family::V4, port::ECHO), marker).is_err())
        .count();
    let seen = capture.finish()?;
    ensure!(
        refused == tries,
        "{} of {tries} connections went through",
        tries - refused
    );
    ensure!(
        !PacketCapture::shows(&seen, marker),
        "the text was on the link in clear"
    );
    Ok(vec![format!(
        "ztunnel {pid} killed; {refused} of {tries} connections refused, no byte on the link"
    )])
}

fn restart_agent(stage: &mut Stage) -> Result<Vec<String>> {
    let start = std::time::Instant::now();
    stage.mesh.start_agent(0)?;
    let web = stage.mesh.topology.pod("web");
    let shop = (WEB_VIP, SHOP_PORT).into();
    wait::until(SOON, "the shop to work again", || {
        Ok(Some(client::get(web, shop, "/buy")?))
    })?;
    Ok(vec![format!(
        "the shop works again {} ms after the start",
        start.elapsed().as_millis()
    )])
}

fn without_controller(stage: &mut Stage) -> Result<Vec<String>> {
    stage.mesh.kill_controller()?;
    let web = stage.mesh.topology.pod("web");
    let shop = (WEB_VIP, SHOP_PORT).into();
    let body = client::get(web, shop, "/buy").context("without a controller");
    stage.mesh.start_controller()?;
    Ok(vec![body?])
}

fn udp(stage: &Stage) -> Result<Vec<String>> {
    let topology = &stage.mesh.topology;
    let at = topology.pod("orders").at(Family::V4, port::UDP_ECHO);
    let from = client::udp_echo(topology.pod("web"), at, "datagram")?;
    ensure!(from == at, "answered by {from}");
    Ok(vec![format!("a datagram to {at} came back from there")])
}
