//! What is where below the agent's directory on bpffs, the lock on it, and who owns it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ambit_ebpf_common::LAYOUT;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Doing, Error};
use crate::limits::{LOCK_RETRY, LOCK_WAIT};
use crate::sys::{self, MapType, Plain};
use crate::table::Table;

/// Paths of the pins.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    root: PathBuf,
}

impl Pins {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    pub(crate) fn link(&self, program: &str) -> PathBuf {
        self.root.join("links").join(program)
    }

    pub(crate) fn pod(&self, cookie: u64) -> PathBuf {
        self.root.join("pods").join(cookie.to_string())
    }

    /// Makes the directories.
    pub(crate) fn create(&self) -> Result<(), Error> {
        for name in ["maps", "links", "pods"] {
            let path = self.root.join(name);
            std::fs::create_dir_all(&path).doing(|| format!("create {}", path.display()))?;
        }
        Ok(())
    }

    /// Cookies of the pods whose lookup program is pinned.
    pub(crate) fn pods(&self) -> Vec<u64> {
        let names = std::fs::read_dir(self.root.join("pods"))
            .into_iter()
            .flatten()
            .flatten();
        names
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Removes a link: its program runs no more when this returns.
    pub(crate) fn remove_link(&self, path: &Path) -> Result<(), Error> {
        let opened = sys::open_pin(path).doing(|| format!("open {}", path.display()))?;
        let Some(link) = opened else { return Ok(()) };
        // Fails when the link's namespace or cgroup is gone already.
        if let Err(error) = sys::detach(link.as_fd()) {
            tracing::debug!(path = %path.display(), %error, "link is detached already");
        }
        std::fs::remove_file(path).doing(|| format!("remove {}", path.display()))
    }

    /// Removes everything; links first, so that no program runs without its maps' pins.
    pub(crate) fn remove_all(&self) -> Result<(), Error> {
        for directory in ["links", "pods"] {
            for path in entries(&self.root.join(directory)) {
                self.remove_link(&path)?;
            }
        }
        for path in entries(&self.root.join("maps")) {
            std::fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
        }
        for path in ["links", "pods", "maps"].map(|name| self.root.join(name)) {
            std::fs::remove_dir(&path).doing(|| format!("remove {}", path.display()))?;
        }
        std::fs::remove_dir(&self.root).doing(|| format!("remove {}", self.root.display()))
    }

    /// Waits for the directory's lock. It is held for single changes, not for the agent's life, so that
    /// the next agent can take over while this one still finishes its connections.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        let deadline = Instant::now() + LOCK_WAIT;
        let mut file = File::open(&self.root).doing(|| format!("open {}", self.root.display()))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Lock(lock)),
                Err((returned, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                    file = returned;
                    std::thread::sleep(LOCK_RETRY);
                }
                Err((_, errno)) => {
                    return Err(errno.into()).doing(|| {
                        format!("lock {}, which another agent uses", self.root.display())
                    });
                }
            }
        }
    }
}

/// The lock of a directory; released when dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The one entry of map `AGENT`: which version's programs and maps are pinned, and who may change them.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Agent {
    /// Layout of the maps.
    pub(crate) layout: u64,
    /// Raised by each agent that opens the directory; only the last may change anything.
    pub(crate) generation: u64,
    /// Fingerprint of the node's programs.
    pub(crate) node: u64,
    /// Fingerprint of the pods' program.
    pub(crate) pod: u64,
}

// SAFETY: `repr(C)`, four words without padding, and any bytes are valid.
unsafe impl Plain for Agent {}

/// The map that holds [`Agent`].
#[derive(Debug)]
pub(crate) struct Ownership {
    table: Table<u32, Agent>,
    directory: PathBuf,
}

impl Ownership {
    /// Opens the map. Fails when the pinned maps have another layout than this version's.
    pub(crate) fn open(pins: &Pins) -> Result<(Self, Agent), Error> {
        let path = pins.map("AGENT");
        let table = Table::open_or_create(&path, MapType::Array, "AGENT", 1)?;
        let ownership = Self {
            table,
            directory: pins.root().to_owned(),
        };
        let mut agent = ownership.read()?;
        if agent.generation == 0 {
            agent.layout = LAYOUT.into();
        }
        if agent.layout != u64::from(LAYOUT) {
            let reason = format!(
                "its layout is version {}, this agent knows version {LAYOUT}: uninstall with the agent that made it",
                agent.layout
            );
            return Err(Error::Pinned { path, reason });
        }
        Ok((ownership, agent))
    }

    pub(crate) fn read(&self) -> Result<Agent, Error> {
        let found = self
            .table
            .find(&0)
            .doing(|| "read the map AGENT".to_owned())?;
        Ok(found.unwrap_or_default())
    }

    pub(crate) fn write(&self, agent: &Agent) -> Result<(), Error> {
        self.table
            .set(&0, agent)
            .doing(|| "write the map AGENT".to_owned())
    }

    /// Fails when an agent of a later generation has opened the directory.
    pub(crate) fn require(&self, generation: u64) -> Result<(), Error> {
        if self.read()?.generation == generation {
            return Ok(());
        }
        Err(Error::Superseded {
            directory: self.directory.clone(),
        })
    }
}
