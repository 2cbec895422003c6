//! Finds a pod's network namespace: at a path, or through the pod's processes, whose control
//! groups are named after the pod's uid. What is found must hold the pod's address, because a
//! wrong namespace would give one pod the identity of another.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ambit_model::PodUid;
use ambit_net::Netns;

use super::addresses;

/// Why a pod's namespace was not found; it may be found later.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The path names no network namespace.
    #[error("{} is not a network namespace", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No process runs in the pod's control groups.
    #[error("no process of the pod runs on this node yet")]
    NoProcess,
    /// The processes could not be listed.
    #[error("cannot list the processes in {}", proc.display())]
    Processes {
        /// The process file system.
        proc: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The namespace is the node's own: the pod uses the host's network.
    #[error("the pod uses the node's own network")]
    HostNetwork,
    /// The namespace found does not hold any of the pod's addresses.
    #[error("the network namespace found holds none of the pod's addresses")]
    OtherPod,
    /// The namespace cannot be looked into.
    #[error("cannot look into the pod's network namespace")]
    Enter(#[source] io::Error),
}

/// The namespace at a path, if it is the pod's.
///
/// # Errors
/// See [`LocateError`].
pub fn at_path(path: &Path, addresses: &[IpAddr]) -> Result<Netns, LocateError> {
    let netns = Netns::open(path).map_err(|source| LocateError::Path {
        path: path.to_owned(),
        source,
    })?;
    verify(netns, addresses)
}

/// The namespace of the pod's oldest process, if it is the pod's.
///
/// # Errors
/// See [`LocateError`].
pub fn by_processes(proc: &Path, uid: &PodUid, addresses: &[IpAddr]) -> Result<Netns, LocateError> {
    let mut processes = processes_of(proc, uid).map_err(|source| LocateError::Processes {
        proc: proc.to_owned(),
        source,
    })?;
    // The oldest first: the sandbox, whose namespace is the pod's. Containers may make others.
    processes.sort();
    for (_, pid) in processes {
        let path = proc.join(pid.to_string()).join("ns/net");
        // A process that has just ended is no reason to give up.
        let Ok(netns) = Netns::open(&path) else {
            continue;
        };
        return verify(netns, addresses);
    }
    Err(LocateError::NoProcess)
}

fn verify(netns: Netns, expected: &[IpAddr]) -> Result<Netns, LocateError> {
    if Netns::current().map_err(LocateError::Enter)? == netns {
        return Err(LocateError::HostNetwork);
    }
    match addresses::holds(&netns, expected) {
        Ok(true) => Ok(netns),
        Ok(false) => Err(LocateError::OtherPod),
        Err(error) => Err(LocateError::Enter(error)),
    }
}

/// Start time and pid of every process in a control group of the pod.
fn processes_of(proc: &Path, uid: &PodUid) -> io::Result<Vec<(u64, u32)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(proc)? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let path = entry.path();
        let Ok(groups) = fs::read_to_string(path.join("cgroup")) else {
            continue;
        };
        if in_pod(&groups, uid.as_str()) {
            let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
            found.push((start_time(&stat).unwrap_or(u64::MAX), pid));
        }
    }
    Ok(found)
}

/// Whether `/proc/<pid>/cgroup` names a control group of the pod: a path member `pod<uid>`, bare or
/// as systemd writes it (`kubepods-besteffort-pod<uid>.slice`, with `_` for `-`).
#[must_use]
pub fn in_pod(groups: &str, uid: &str) -> bool {
    if uid.is_empty() {
        return false;
    }
    let escaped = uid.replace('-', "_");
    groups.split(['/', '\n', ':']).any(|member| {
        let member = member.strip_suffix(".slice").unwrap_or(member);
        let named = |uid: &str| {
            member
                .strip_suffix(uid)
                .and_then(|rest| rest.strip_suffix("pod"))
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('-'))
        };
        named(uid) || named(&escaped)
    })
}

/// Field 22 of `/proc/<pid>/stat`: clock ticks after boot. The name in field 2 may hold anything,
/// so fields are counted from its closing parenthesis.
#[must_use]
pub fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f8d6f57-5d4c-4f61-9d0e-8e2f1b4f6a11";

    #[test]
    fn control_groups_of_a_pod() {
        let systemd = UID.replace('-', "_");
        for (groups, expected) in [
            (format!("0::/kubepods/besteffort/pod{UID}/abc"), true),
            (
                format!("0::/kubepods.slice/kubepods-pod{systemd}.slice/cri-x.scope"),
                true,
            ),
            (
                format!("0::/kubepods.slice/kubepods-burstable-pod{systemd}.slice"),
                true,
            ),
            (
                format!("4:memory:/x\n0::/../../kubelet-kubepods-pod{systemd}.slice/y"),
                true,
            ),
            (format!("0::/kubepods/pod{UID}x/abc"), false),
            (format!("0::/user/{UID}"), false),
            (format!("0::/user/mypod{UID}"), false),
            ("0::/init.scope".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(in_pod(&groups, UID), expected, "{groups}");
        }
        assert!(!in_pod("0::/kubepods/pod", ""), "an empty uid is no pod");
    }

    #[test]
    fn start_times() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2 3";
        assert_eq!(start_time(stat), Some(777));
        assert_eq!(start_time("garbage"), None);
        assert_eq!(start_time(")"), None);
    }

    #[test]
    fn a_path_that_is_no_namespace_or_the_nodes_own_is_refused() {
        let any = ["10.0.0.1".parse().unwrap()];
        let refused = |path: &str| at_path(Path::new(path), &any).unwrap_err();
        assert!(matches!(
            refused("/proc/self/ns/uts"),
            LocateError::Path { .. }
        ));
        assert!(matches!(refused("/not/there"), LocateError::Path { .. }));
        assert!(matches!(
            refused("/proc/self/ns/net"),
            LocateError::HostNetwork
        ));
    }

    #[test]
    fn processes_are_found_in_a_process_file_system() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, start, group) in [
            (10, 500, format!("0::/kubepods/pod{UID}/b")),
            (11, 100, format!("0::/kubepods/pod{UID}/a")),
            (12, 1, "0::/other".to_owned()),
        ] {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("cgroup"), group).unwrap();
            let stat = format!("{pid} (x) S 1 1 1 0 -1 1 1 0 0 0 0 0 0 0 20 0 1 0 {start} 1");
            fs::write(dir.join("stat"), stat).unwrap();
        }
        fs::create_dir(proc.path().join("self")).unwrap();
        let mut found = processes_of(proc.path(), &UID.into()).unwrap();
        found.sort();
        assert_eq!(found, [(100, 11), (500, 10)]);
        let error = by_processes(proc.path(), &"another".into(), &[]).unwrap_err();
        assert!(matches!(error, LocateError::NoProcess));
    }
}
