//! The handle on capture: opening, enrolling, releasing.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ambit_ebpf_common::{CONGESTION_NAME, MAX_KUBELETS, NetnsEntry, Settings, flags};

use crate::error::{Doing, Error};
use crate::pins::{Agent, Lock, Ownership, Pins};
use crate::pod::Enrolment;
use crate::table::Table;
use crate::{Dump, DumpPod, Listeners, Options, OriginalDestinations, Pod};
use crate::{address, netns, objects, requirements};

/// Capture on this node. All methods may be called from any thread; those that change something block for
/// milliseconds, so call them from the control thread. Dropping it leaves capture in force.
#[derive(Debug)]
pub struct Capture {
    pins: Pins,
    cgroup: PathBuf,
    generation: u64,
    ownership: Ownership,
    enrolment: Enrolment,
    kubelets: Table<u32, u32>,
    origins: OriginalDestinations,
}

impl Capture {
    /// Checks the machine, then loads and attaches the programs, or adopts what an earlier agent pinned in
    /// the same directory; from then on that agent can change nothing any more.
    ///
    /// # Errors
    /// [`Error::Missing`] names everything that the machine lacks.
    pub fn open(options: Options) -> Result<Self, Error> {
        let settings = settings(options.congestion.as_deref())?;
        let machine = requirements::check(&options)?;
        let pins = Pins::new(options.directory);
        pins.create()?;
        let lock = pins.lock()?;
        let (ownership, mut agent) = Ownership::open(&pins)?;
        agent.generation += 1;
        ownership.write(&agent)?;
        attach(&pins, &machine.cgroup, &mut agent)?;
        ownership.write(&agent)?;
        let capture = Self {
            generation: agent.generation,
            cgroup: machine.cgroup,
            enrolment: Enrolment::open(&pins)?,
            kubelets: Table::open_existing(&pins.map("KUBELETS"))?,
            origins: OriginalDestinations::open(&pins.map("FLOWS"))?,
            ownership,
            pins,
        };
        let table: Table<u32, Settings> = Table::open_existing(&capture.pins.map("SETTINGS"))?;
        table
            .set(&0, &settings)
            .doing(|| "write the settings".to_owned())?;
        drop(lock);
        Ok(capture)
    }

    /// Captures a pod, or brings an enrolled one up to date (new listeners first, so nothing is refused).
    /// When it fails nothing of the pod stays captured, unless it was enrolled before.
    ///
    /// # Errors
    /// For a pod that cannot be captured, or when the kernel refuses.
    pub fn enroll(&self, pod: &Pod<'_>) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.enrolment.enroll(pod)
    }

    /// Hands the pod's new connections to other listeners, without a gap: close the old ones afterwards.
    /// A family without a new listener keeps the one it has.
    ///
    /// # Errors
    /// When the pod is not enrolled.
    pub fn set_listeners(&self, cookie: u64, listeners: Listeners<'_>) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.enrolment.require(cookie)?;
        self.enrolment.set_listeners(cookie, listeners)
    }

    /// Ends the capture of a pod and restores its namespace. Open connections are left alone.
    ///
    /// # Errors
    /// When the kernel refuses; releasing a pod that is not enrolled is no error.
    pub fn release(&self, cookie: u64) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.enrolment.release(cookie)
    }

    /// Releases every pod that is not in `keep` and returns their cookies.
    ///
    /// # Errors
    /// As [`Capture::release`].
    pub fn release_stale(&self, keep: &[u64]) -> Result<Vec<u64>, Error> {
        let _lock = self.lock()?;
        let stale = |cookie: &u64| !keep.contains(cookie);
        let cookies: Vec<u64> = self
            .enrolment
            .cookies()?
            .into_iter()
            .filter(stale)
            .collect();
        for cookie in &cookies {
            self.enrolment.release(*cookie)?;
        }
        Ok(cookies)
    }

    /// Cookies of the enrolled pods, those adopted from an earlier agent included.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enrolled(&self) -> Result<Vec<u64>, Error> {
        self.enrolment.cookies()
    }

    /// A handle for the data path.
    #[must_use]
    pub fn original_destinations(&self) -> OriginalDestinations {
        self.origins.clone()
    }

    /// See [`OriginalDestinations::take`].
    #[must_use]
    pub fn original_dst(
        &self,
        cookie: u64,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Option<SocketAddr> {
        self.origins.take(cookie, local, peer)
    }

    /// Connections of this process (thread-group id in the initial pid namespace) to pods are probes and
    /// reach the application directly. They do so with the agent down, too. When the kubelet restarts, note
    /// the new process and forget the old one: its number may be given to any process.
    ///
    /// # Errors
    /// When there is no such process, when it lives in an enrolled pod, or when the kernel refuses.
    pub fn note_kubelet(&self, tgid: u32) -> Result<(), Error> {
        let path = format!("/proc/{tgid}/ns/net");
        let cookie = std::fs::File::open(&path)
            .and_then(|netns| netns::cookie(netns.as_fd()))
            .doing(|| format!("find the network namespace of process {tgid}"))?;
        let _lock = self.lock()?;
        if self.enrolment.require(cookie).is_ok() {
            return Err(Error::KubeletInPod { tgid, cookie });
        }
        for old in self.noted_kubelets()? {
            // Its number may be given to any process.
            if !Path::new(&format!("/proc/{old}")).exists() {
                self.kubelets
                    .remove(&old)
                    .doing(|| format!("forget process {old}"))?;
            }
        }
        self.kubelets
            .set(&tgid, &1)
            .doing(|| format!("note process {tgid}"))?;
        self.enrolment
            .change(cookie, |entry| entry.flags |= flags::KUBELET)
    }

    /// Undoes [`Capture::note_kubelet`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget_kubelet(&self, tgid: u32) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.kubelets
            .remove(&tgid)
            .doing(|| format!("forget process {tgid}"))?;
        if self.noted_kubelets()?.is_empty() {
            self.enrolment.forget_kubelets()?;
        }
        Ok(())
    }

    /// What is captured, for diagnostics.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn dump(&self) -> Result<Dump, Error> {
        let mut pods = Vec::new();
        for cookie in self.enrolment.cookies()? {
            let Some(entry) = self.enrolment.find(cookie)? else {
                continue;
            };
            pods.push(DumpPod {
                cookie,
                addresses: addresses(&entry),
                dns: entry.flags & flags::DNS != 0,
                inbound: objects::open_attached(&self.pins.pod(cookie))?.is_some(),
            });
        }
        Ok(Dump {
            directory: self.pins.root().to_owned(),
            cgroup: self.cgroup.clone(),
            generation: self.generation,
            pods,
            kubelets: self.noted_kubelets()?,
            pending_connections: self.origins.pending(),
        })
    }

    /// Releases all pods and removes every program, map, pin, rule and setting.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn uninstall(self) -> Result<(), Error> {
        let _lock = self.lock()?;
        for cookie in self.enrolment.cookies()? {
            self.enrolment.release(cookie)?;
        }
        self.pins.remove_all()
    }

    fn lock(&self) -> Result<Lock, Error> {
        let lock = self.pins.lock()?;
        self.ownership.require(self.generation)?;
        Ok(lock)
    }

    fn noted_kubelets(&self) -> Result<Vec<u32>, Error> {
        self.kubelets
            .keys(MAX_KUBELETS)
            .doing(|| "read the map KUBELETS".to_owned())
    }
}

/// Attaches the programs that are missing and replaces those of another version. The caller writes the
/// fingerprints afterwards: when this is interrupted, the next agent does it again.
fn attach(pins: &Pins, cgroup: &Path, agent: &mut Agent) -> Result<(), Error> {
    let (node, pod) = objects::fingerprints();
    if agent.node != node || !objects::node_is_attached(pins) {
        objects::attach_node(pins, cgroup)?;
        tracing::info!(cgroup = %cgroup.display(), "attached the node's programs");
    }
    if agent.pod != pod {
        for cookie in pins.pods() {
            objects::attach_pod(pins, cookie, None)?;
        }
    }
    (agent.node, agent.pod) = (node, pod);
    Ok(())
}

/// What the programs are told; the algorithm's name is checked, but not whether this kernel has it: pods'
/// connections then keep the system's default.
fn settings(congestion: Option<&str>) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    let Some(name) = congestion else {
        return Ok(settings);
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() >= CONGESTION_NAME || !name.bytes().all(plain) {
        return Err(Error::ConfigCongestion {
            name: name.to_owned(),
        });
    }
    settings.congestion[..name.len()].copy_from_slice(name.as_bytes());
    let available = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let known = std::fs::read_to_string(available).unwrap_or_default();
    if !known.split_whitespace().any(|each| each == name) {
        tracing::warn!(
            name,
            known = known.trim(),
            "this kernel has no such congestion control"
        );
    }
    Ok(settings)
}

fn addresses(entry: &NetnsEntry) -> Vec<std::net::IpAddr> {
    entry
        .addresses
        .iter()
        .take(entry.count as usize)
        .map(|a| address::to_ip(*a))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn congestion_control_is_named_as_the_kernel_does() {
        assert_eq!(settings(None).unwrap(), Settings::default());
        let cubic = settings(Some("cubic")).unwrap().congestion;
        assert_eq!(&cubic[..6], b"cubic\0");
        for bad in ["", "a name of blanks", "sixteen_letters_", "nul\0"] {
            let error = settings(Some(bad)).unwrap_err().to_string();
            assert!(error.contains("congestion control"), "{error}");
        }
    }
}
