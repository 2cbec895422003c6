//! The running commentary: claims, ticks, evidence, and the commands to try.

use std::fmt::Display;

use anyhow::Result;

use super::stage::{self, Stage};
use crate::output::say;

/// Tells what happens and keeps count.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    held: usize,
    failed: usize,
}

impl Narrator {
    /// What is on the stage.
    pub(super) fn scene(&self, stage: &Stage) {
        let topology = &stage.mesh.topology;
        say("\nTwo nodes, each a network namespace; pods are namespaces behind them:");
        for (index, node) in topology.nodes.iter().enumerate() {
            let pods = topology.pods().iter().filter(|pod| pod.node == index);
            let pods: Vec<_> = pods
                .map(|pod| format!("{} ({})", pod.name, pod.host.v4))
                .collect();
            say(format_args!(
                "  {} {}: {}",
                node.name,
                node.host.v4,
                pods.join(", ")
            ));
        }
        let outside = topology.outside("outside");
        say(format_args!("  outside the mesh: {}", outside.v4));
        say(
            "The shop: web calls orders, orders calls stock, by name. None of them knows of a mesh.\n",
        );
    }

    /// Checks a claim and shows the evidence, or what went against it.
    pub(super) fn claim(&mut self, text: &str, check: impl FnOnce() -> Result<Vec<String>>) {
        let (mark, lines) = match check() {
            Ok(evidence) => {
                self.held += 1;
                ("\u{2713}", evidence)
            }
            Err(error) => {
                self.failed += 1;
                ("\u{2717}", vec![format!("{error:#}")])
            }
        };
        say(format_args!("{mark} {text}"));
        for line in lines.iter().flat_map(|l| l.lines()) {
            say(format_args!("    {line}"));
        }
    }

    /// The sum; returns how many failed.
    pub(super) fn close(&self) -> usize {
        say(format_args!(
            "\n{} claims hold, {} do not",
            self.held, self.failed
        ));
        self.failed
    }
}

/// What a person can do now.
pub(super) fn commands(stage: &Stage) {
    let topology = &stage.mesh.topology;
    let (web, node) = (topology.pod("web").name(), topology.nodes[0].host.name());
    let fabric = topology.fabric.name();
    let config = stage.mesh.config_directory();
    let line = |about: &str, command: &dyn Display| say(format_args!("  # {about}\n  {command}"));
    say("\nAll of it stays up until Ctrl-C. To try, in another terminal:\n");
    line(
        "a request from web to orders, by its service address",
        &format_args!(
            "ip netns exec {web} curl -s http://{}:{}/",
            stage::ORDERS_VIP,
            stage::SHOP_PORT
        ),
    );
    line(
        "what goes over the link between the nodes",
        &format_args!("ip netns exec {fabric} tcpdump -ni br0 -A tcp port 15008"),
    );
    line(
        "the agent of node 1: its view of the mesh, and its metrics",
        &format_args!(
            "ip netns exec {node} curl -s localhost:15000/config_dump\n  ip netns exec {node} curl -s \
         localhost:15020/metrics"
        ),
    );
    line(
        "its access log",
        &format_args!("tail -f {}", stage.mesh.agent(0).log_path().display()),
    );
    line(
        "edit the mesh's objects; saving is applying",
        &format_args!("ls {}", config.display()),
    );
    line(
        "what the controller made of them",
        &format_args!(
            "ip netns exec {fabric} curl -s http://{}:15010/status",
            topology.fabric.v4
        ),
    );
}
