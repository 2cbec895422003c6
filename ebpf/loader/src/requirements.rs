//! What the machine must have, checked before anything is loaded. Each lack is named in one sentence with
//! what to do about it; all are reported at once.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::error::{Doing, Error, Missing};
use crate::mounts::{self, Mount};
use crate::options::Options;
use crate::sys::{self, attach_type};

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const BPFFS: &str = "/sys/fs/bpf";

/// Types of programs, as the kernel numbers them.
const CGROUP_SOCK: u32 = 9;
const SOCK_OPS: u32 = 13;
const CGROUP_SOCK_ADDR: u32 = 18;
const SK_LOOKUP: u32 = 30;

/// `r0 = 1`, `exit`.
const RETURN_ONE: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
/// `r0 = *(u32 *)(r1 + 64)` (`ingress_ifindex`), `r0 = 1`, `exit`.
const READ_INGRESS: [u64; 3] = [0x0000_0000_0040_1061, RETURN_ONE[0], RETURN_ONE[1]];
/// `call get_netns_cookie`, `r0 = 1`, `exit`.
const NETNS_COOKIE: [u64; 3] = [0x0000_007a_0000_0085, RETURN_ONE[0], RETURN_ONE[1]];
/// `r1 = -93`, `call set_retval`, `r0 = 0`, `exit`.
const SET_RETVAL: [u64; 4] = [
    0xffff_ffa3_0000_01b7,
    0x0000_00bb_0000_0085,
    0x0000_0000_0000_00b7,
    0x95,
];

/// One thing that a kernel may lack, found by loading the smallest program that needs it.
struct Feature {
    program_type: u32,
    attach_type: u32,
    instructions: &'static [u64],
    what: &'static str,
    since: &'static str,
    option: &'static str,
}

const FEATURES: [Feature; 7] = [
    Feature {
        program_type: CGROUP_SOCK_ADDR,
        attach_type: attach_type::CONNECT4,
        instructions: &NETNS_COOKIE,
        what: "connect programs that know the network namespace",
        since: "5.7",
        option: "CONFIG_CGROUP_BPF",
    },
    Feature {
        program_type: CGROUP_SOCK_ADDR,
        attach_type: attach_type::RECVMSG4,
        instructions: &RETURN_ONE,
        what: "recvmsg programs",
        since: "5.2",
        option: "CONFIG_CGROUP_BPF",
    },
    Feature {
        program_type: CGROUP_SOCK_ADDR,
        attach_type: attach_type::GETPEERNAME4,
        instructions: &RETURN_ONE,
        what: "getpeername programs",
        since: "5.8",
        option: "CONFIG_CGROUP_BPF",
    },
    Feature {
        program_type: SOCK_OPS,
        attach_type: attach_type::SOCK_OPS,
        instructions: &RETURN_ONE,
        what: "sockops programs",
        since: "4.13",
        option: "CONFIG_CGROUP_BPF",
    },
    Feature {
        program_type: SK_LOOKUP,
        attach_type: attach_type::SK_LOOKUP,
        instructions: &RETURN_ONE,
        what: "socket lookup programs",
        since: "5.9",
        option: "CONFIG_NET and CONFIG_BPF_SYSCALL",
    },
    Feature {
        program_type: SK_LOOKUP,
        attach_type: attach_type::SK_LOOKUP,
        instructions: &READ_INGRESS,
        what: "socket lookup programs that know the ingress interface",
        since: "5.17",
        option: "CONFIG_BPF_SYSCALL",
    },
    Feature {
        program_type: CGROUP_SOCK,
        attach_type: attach_type::SOCK_CREATE,
        instructions: &SET_RETVAL,
        what: "socket creation programs that choose the error",
        since: "5.18",
        option: "CONFIG_CGROUP_BPF",
    },
];

/// What the checks found.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Root of the cgroup v2 tree.
    pub(crate) cgroup: PathBuf,
}

/// Checks everything; mounts bpffs when it is absent and the options allow it.
pub(crate) fn check(options: &Options) -> Result<Machine, Error> {
    let mounts = mounts::all().doing(|| "read /proc/self/mountinfo".to_owned())?;
    let mut missing = privileges();
    if missing.is_empty() {
        missing.extend(kernel());
    }
    let cgroup = cgroup(options, &mounts)
        .map_err(|lack| missing.push(lack))
        .ok();
    if let Err(lack) = bpffs(options, &mounts, missing.is_empty()) {
        missing.push(lack);
    }
    match cgroup {
        Some(cgroup) if missing.is_empty() => Ok(Machine { cgroup }),
        _ => Err(Error::Missing(missing)),
    }
}

fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Missing {
    Missing {
        what: what.into(),
        remedy: remedy.into(),
    }
}

fn privileges() -> Vec<Missing> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or(0);
    lacking(effective)
}

fn lacking(effective: u64) -> Vec<Missing> {
    [
        (
            CAP_SYS_ADMIN,
            "CAP_SYS_ADMIN, needed to load programs and to enter pods' network namespaces",
        ),
        (
            CAP_NET_ADMIN,
            "CAP_NET_ADMIN, needed to attach network programs and to set marks and routes",
        ),
    ]
    .into_iter()
    .filter(|(bit, _)| effective & (1 << bit) == 0)
    .map(|(_, what)| {
        missing(
            what,
            "run the agent as root, or add this capability to its container's securityContext",
        )
    })
    .collect()
}

fn kernel() -> Vec<Missing> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    if let Err(error) = sys::create_map(sys::MapType::Array, "probe", (4, 4), 1) {
        return vec![match error.raw_os_error() {
            Some(libc::ENOSYS) => missing(
                "the bpf system call",
                format!("use a kernel built with CONFIG_BPF_SYSCALL (this is {release})"),
            ),
            _ => missing(
                format!("permission to use the bpf system call ({error})"),
                "allow bpf in the container's seccomp profile and lift kernel lockdown's confidentiality mode",
            ),
        }];
    }
    let mut lacks: Vec<Missing> = FEATURES
        .iter()
        .filter_map(|f| feature(f, release))
        .collect();
    if let Err(error) = crate::netns::own_cookie() {
        lacks.push(missing(
            format!("cookies of network namespaces ({error})"),
            format!("use Linux 5.14 or newer (this is {release})"),
        ));
    }
    lacks
}

fn feature(feature: &Feature, release: &str) -> Option<Missing> {
    let Feature {
        program_type,
        attach_type,
        instructions,
        what,
        since,
        option,
    } = feature;
    let error = sys::try_program(*program_type, *attach_type, instructions).err()?;
    Some(missing(
        format!("the kernel's support for {what} ({error})"),
        format!("use Linux {since} or newer built with {option} (this is {release})"),
    ))
}

fn cgroup(options: &Options, mounts: &[Mount]) -> Result<PathBuf, Missing> {
    let root = match &options.cgroup {
        Some(given) => given.as_path(),
        None => mounts::cgroup_root(mounts).ok_or_else(|| {
            missing(
                "a cgroup v2 tree in the mount table, where programs see all sockets",
                "mount the host's /sys/fs/cgroup into the container, or run `mount -t cgroup2 none /sys/fs/cgroup/unified`",
            )
        })?,
    };
    if root.join("cgroup.procs").exists() {
        return Ok(root.to_owned());
    }
    Err(missing(
        format!("a cgroup v2 tree at {}", root.display()),
        "name the directory where the host's cgroup v2 root is mounted",
    ))
}

/// bpffs keeps programs attached while no agent runs.
fn bpffs(options: &Options, mounts: &[Mount], may_mount: bool) -> Result<(), Missing> {
    let directory = &options.directory;
    if mounts::on_bpffs(mounts, directory) {
        return Ok(());
    }
    let remedy = "mount the host's /sys/fs/bpf into the container with mountPropagation Bidirectional, \
                  or run `mount -t bpf bpf /sys/fs/bpf`";
    let what = format!(
        "bpffs below {}, which keeps capture in force across restarts",
        directory.display()
    );
    if !options.mount_bpffs || !may_mount || !directory.starts_with(BPFFS) {
        return Err(missing(what, remedy));
    }
    mount_bpffs(Path::new(BPFFS)).map_err(|error| missing(format!("{what} ({error})"), remedy))
}

fn mount_bpffs(point: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), point, Some("bpf"), flags, Some("mode=0700"))?;
    tracing::info!(point = %point.display(), "mounted bpffs");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_missing_capability() {
        let all = (1 << CAP_SYS_ADMIN) | (1 << CAP_NET_ADMIN);
        assert!(lacking(all).is_empty());
        assert_eq!(lacking(0).len(), 2);
        let lacks = lacking(1 << CAP_SYS_ADMIN);
        assert_eq!(lacks.len(), 1);
        assert!(lacks[0].what.starts_with("CAP_NET_ADMIN"), "{}", lacks[0]);
    }

    #[test]
    fn says_where_the_cgroup_tree_should_be() {
        let options = Options {
            cgroup: Some("/nonexistent".into()),
            ..Options::default()
        };
        let lack = cgroup(&options, &[]).unwrap_err();
        assert!(lack.what.contains("/nonexistent"), "{lack}");
        assert!(
            cgroup(&Options::default(), &[])
                .unwrap_err()
                .remedy
                .contains("cgroup2")
        );
    }

    #[test]
    fn bpffs_is_not_mounted_against_the_options() {
        let options = Options {
            mount_bpffs: false,
            ..Options::default()
        };
        assert!(
            bpffs(&options, &[], true)
                .unwrap_err()
                .remedy
                .contains("mount -t bpf")
        );
        let elsewhere = Options {
            directory: "/somewhere/else".into(),
            ..Options::default()
        };
        assert!(
            bpffs(&elsewhere, &[], true)
                .unwrap_err()
                .what
                .contains("/somewhere/else")
        );
    }
}
