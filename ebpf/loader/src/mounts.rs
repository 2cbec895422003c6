//! The mount table: where the cgroup v2 tree, bpffs and pinned namespaces are.

use std::io;
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo`, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// What of the file system is mounted, e.g. `/` or `net:[4026532000]`.
    pub(crate) root: String,
    /// Where.
    pub(crate) point: PathBuf,
    /// Its type.
    pub(crate) kind: String,
}

/// All mounts of this process's mount namespace.
pub(crate) fn all() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

/// The root of the cgroup v2 tree: with the hybrid layout it is not `/sys/fs/cgroup`.
pub(crate) fn cgroup_root(mounts: &[Mount]) -> Option<&Path> {
    mounts
        .iter()
        .find(|m| m.kind == "cgroup2" && m.root == "/")
        .map(|m| m.point.as_path())
}

/// Whether `path` lies on bpffs.
pub(crate) fn on_bpffs(mounts: &[Mount], path: &Path) -> bool {
    mounts
        .iter()
        .filter(|m| path.starts_with(&m.point))
        .max_by_key(|m| m.point.components().count())
        .is_some_and(|m| m.kind == "bpf")
}

fn parse(table: &str) -> Vec<Mount> {
    table.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut fields = front.split(' ').skip(3);
    let root = fields.next()?.to_owned();
    let point = PathBuf::from(unescape(fields.next()?));
    Some(Mount {
        root,
        point,
        kind: back.split(' ').next()?.to_owned(),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let mut out = field.to_owned();
    for (escape, character) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        out = out.replace(escape, character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 30 0:23 / /sys rw,relatime shared:7 - sysfs sysfs rw
31 25 0:26 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755
32 31 0:27 / /sys/fs/cgroup/cpu rw shared:10 - cgroup cgroup rw,cpu
44 31 0:39 /sub /mnt/part rw shared:22 - cgroup2 cgroup2 rw
45 31 0:39 / /sys/fs/cgroup/unified rw shared:22 - cgroup2 cgroup2 rw
46 25 0:40 / /sys/fs/bpf rw,nosuid shared:23 - bpf bpf rw,mode=700
50 60 0:4 net:[4026532210] /run/netns/a\\040b rw - nsfs nsfs rw
broken line";

    #[test]
    fn finds_the_unified_root_and_bpffs() {
        let mounts = parse(HYBRID);
        assert_eq!(mounts.len(), 7);
        assert_eq!(
            cgroup_root(&mounts),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        assert!(on_bpffs(&mounts, Path::new("/sys/fs/bpf/ambit")));
        assert!(!on_bpffs(&mounts, Path::new("/sys/fs/bpfx")));
        assert_eq!(mounts[6].point, Path::new("/run/netns/a b"));
    }

    #[test]
    fn nothing_found() {
        let mounts = parse("25 30 0:23 / /sys rw,relatime shared:7 - sysfs sysfs rw");
        assert_eq!(cgroup_root(&mounts), None);
        assert!(!on_bpffs(&mounts, Path::new("/sys/fs/bpf/ambit")));
    }
}
