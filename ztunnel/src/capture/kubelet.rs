//! Finds the kubelet, whose connections to pods are health probes and pass to the application.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use ambit_ebpf::Capture;
use tracing::{debug, info, warn};

use super::limits::KUBELET_SCAN;

/// Process ids whose name (`/proc/<pid>/comm`) is `name`.
#[must_use]
pub fn find_processes(proc: &Path, name: &str) -> BTreeSet<u32> {
    let Ok(entries) = fs::read_dir(proc) else {
        return BTreeSet::new();
    };
    // The kernel keeps 15 characters of a name.
    let name: String = name.chars().take(15).collect();
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
            (comm.trim_end() == name && !is_in_pod(&entry.path())).then_some(pid)
        })
        .collect()
}

/// Whether the process belongs to a pod: a container may give its process any name, and probes pass
/// without a policy.
fn is_in_pod(process: &Path) -> bool {
    fs::read_to_string(process.join("cgroup")).is_ok_and(|cgroups| cgroups.contains("kubepods"))
}

/// Tells the capture programs of the kubelet's process, and of every later one. Never returns;
/// drop it to end. What was told stays in force, so that probes work while the agent is away.
pub async fn follow_kubelet(capture: Arc<Capture>, proc: std::path::PathBuf, name: String) {
    let mut noted = BTreeSet::new();
    let mut warned = BTreeSet::new();
    let mut tick = tokio::time::interval(KUBELET_SCAN);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let found = find_processes(&proc, &name);
        for pid in found.difference(&noted.clone()) {
            match capture.note_kubelet(*pid) {
                Ok(()) => {
                    info!(pid, name, "probes of this process pass");
                    noted.insert(*pid);
                }
                Err(error) if warned.insert(*pid) => {
                    warn!(pid, name, %error, "cannot let probes of this process pass yet");
                }
                Err(_) => {}
            }
        }
        for pid in noted.difference(&found) {
            if let Err(error) = capture.forget_kubelet(*pid) {
                debug!(pid, %error, "cannot forget an ended process");
            }
        }
        noted.retain(|pid| found.contains(pid));
        warned.retain(|pid| found.contains(pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_name() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, comm) in [
            ("7", "kubelet\n"),
            ("8", "kubelet-x\n"),
            ("self", "kubelet\n"),
        ] {
            fs::create_dir(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("comm"), comm).unwrap();
        }
        let impostor = proc.path().join("9");
        fs::create_dir(&impostor).unwrap();
        fs::write(impostor.join("comm"), "kubelet\n").unwrap();
        fs::write(
            impostor.join("cgroup"),
            "0::/kubepods.slice/kubepods-pod1.slice/x\n",
        )
        .unwrap();
        assert_eq!(find_processes(proc.path(), "kubelet"), BTreeSet::from([7]));
        assert_eq!(
            find_processes(Path::new("/not/there"), "kubelet"),
            BTreeSet::new()
        );
    }
}
