//! A pod's resolver configuration: where it is, and what of it counts. The file belongs to the
//! pod, so it is opened without following its links out of its root, without waiting, and read
//! only in part.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use ambit_net::{Inode, Netns};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

use super::limits::{RESOLV_CONF, SEARCH_DOMAINS, SERVERS};
use crate::capture::locate::start_time;

/// The part of `resolv.conf` that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Servers in the order to be asked.
    pub servers: Vec<IpAddr>,
    /// Search domains: lower case, without dots at the ends.
    pub search: Vec<String>,
}

impl ResolvConf {
    /// Reads what can be understood and ignores the rest, as libc does.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if conf.servers.len() < SERVERS => {
                    // A scoped address (`fe80::1%eth0`) makes sense on one link only.
                    conf.servers
                        .extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                Some("search" | "domain") => conf.search = words.filter_map(domain).collect(),
                _ => {}
            }
        }
        conf.search.truncate(SEARCH_DOMAINS);
        conf
    }

    /// Reads a file of the agent itself.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(Self::parse(&read(File::open(path)?)?))
    }

    /// Finds the pod's through the oldest process in its namespace.
    ///
    /// # Errors
    /// `NotFound` when there is no such process, or it has none.
    pub fn of_pod(proc: &Path, netns: &Netns) -> io::Result<Self> {
        let mut processes = processes_in(proc, netns.inode())?;
        processes.sort();
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for (_, pid) in processes.into_iter().take(8) {
            match open_in_root(&proc.join(pid.to_string()).join("root")) {
                Ok(file) => return Ok(Self::parse(&read(file)?)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn domain(word: &str) -> Option<String> {
    let word = word.trim_matches('.').to_ascii_lowercase();
    (!word.is_empty() && word.len() <= 253).then_some(word)
}

fn read(file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(RESOLV_CONF as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens `etc/resolv.conf` below a process's root, where its symbolic links are its own: an
/// absolute one would otherwise lead to a file of the host.
fn open_in_root(root: &Path) -> io::Result<File> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root: OwnedFd = open(root, directory, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(root, "etc/resolv.conf", flags, Mode::empty(), resolve)?;
    // A pipe or device would make the reader wait for its maker.
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    Ok(file.into())
}

/// Start time and pid of the processes in a network namespace.
fn processes_in(proc: &Path, netns: Inode) -> io::Result<Vec<(u64, u32)>> {
    let wanted = format!("net:[{}]", netns.number);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(proc)?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let path = entry.path();
        let inside = std::fs::read_link(path.join("ns/net"))
            .is_ok_and(|link| link.as_os_str() == wanted.as_str());
        if inside {
            let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
            found.push((start_time(&stat).unwrap_or(u64::MAX), pid));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_taken() {
        let text = "# made by kubelet\nsearch shop.svc.cluster.local svc.cluster.local. Cluster.Local\n\
                    nameserver 10.96.0.10 # dns\nnameserver fd00::a\nnameserver fe80::1%eth0\n\
                    nameserver bad\noptions ndots:5\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n";
        let conf = ResolvConf::parse(text);
        let servers: Vec<_> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10", "fd00::a", "1.1.1.1"]);
        assert_eq!(
            conf.search,
            [
                "shop.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local"
            ]
        );
        assert_eq!(ResolvConf::parse("domain a\nsearch b").search, ["b"]);
        assert_eq!(
            ResolvConf::parse("\0\u{ff}nameserver"),
            ResolvConf::default()
        );
    }

    #[test]
    fn a_pods_links_do_not_lead_out_of_its_root() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let path = etc.join("resolv.conf");
        assert_eq!(
            open_in_root(root.path()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        // An absolute link means a file of the pod.
        std::os::unix::fs::symlink("/etc/real", &path).unwrap();
        assert!(open_in_root(root.path()).is_err());
        std::fs::write(etc.join("real"), "nameserver 10.0.0.1").unwrap();
        assert_eq!(
            read(open_in_root(root.path()).unwrap()).unwrap(),
            "nameserver 10.0.0.1"
        );
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("../../../../../../etc/passwd", &path).unwrap();
        assert!(open_in_root(root.path()).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(open_in_root(root.path()).is_err());
    }

    #[test]
    fn the_processes_of_a_namespace_are_found() {
        let here = Netns::current().unwrap();
        let found = processes_in(Path::new("/proc"), here.inode()).unwrap();
        assert!(found.iter().any(|(_, pid)| *pid == std::process::id()));
        let empty = Netns::create().unwrap();
        let error = ResolvConf::of_pod(Path::new("/proc"), &empty).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
