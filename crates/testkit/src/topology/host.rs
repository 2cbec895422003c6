//! One namespace: a node, a pod, or a host outside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread::JoinHandle;

use ambit_net::Netns;
use anyhow::{Context, Result};

use super::Family;
use crate::command;

/// A network namespace with its addresses.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    netns: Netns,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl Host {
    /// Makes the namespace, its loopback up.
    pub(super) fn create(name: &str, (v4, v6): (Ipv4Addr, Ipv6Addr)) -> Result<Self> {
        command::run(&format!("ip netns add {name}"))?;
        command::run(&format!("ip -n {name} link set lo up"))?;
        let netns = Netns::open(format!("/run/netns/{name}"))?;
        Ok(Self {
            name: name.to_owned(),
            netns,
            v4,
            v6,
        })
    }

    /// Name of the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the namespace is bound, as in the annotation `ambit.dev/netns`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/run/netns/{}", self.name).into()
    }

    /// The namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Its address of a family.
    #[must_use]
    pub fn ip(&self, family: Family) -> IpAddr {
        super::address(self, family)
    }

    /// Its address of a family with a port.
    #[must_use]
    pub fn at(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(family), port)
    }

    /// Runs `work` inside; sockets it makes stay inside.
    ///
    /// # Errors
    /// What `work` returns.
    pub fn run<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.netns.run(work)
    }

    /// Runs `work` inside on a thread of its own, which may block.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<io::Result<T>> {
        let netns = self.netns.clone();
        std::thread::spawn(move || netns.run(|| Ok(work())))
    }

    /// Starts a process inside. The child inherits the namespace of the thread that starts it, and
    /// unlike under `ip netns exec` its mounts stay as they are.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.run(|| command.spawn())
    }

    /// Runs `ip` on the namespace, with words without spaces.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip_command(&self, words: &str) -> Result<String> {
        command::run(&format!("ip -n {} {words}", self.name))
    }

    /// Sets a sysctl of the namespace, such as `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// When it does not exist or the value is refused.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.run(|| std::fs::write(format!("/proc/sys/{name}"), value))
            .with_context(|| format!("sysctl {name}={value} in {}", self.name))
    }

    /// Reads a sysctl of the namespace.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn read_sysctl(&self, name: &str) -> Result<String> {
        let text = self.run(|| std::fs::read_to_string(format!("/proc/sys/{name}")))?;
        Ok(text.trim().to_owned())
    }
}
