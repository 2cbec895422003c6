//! The steps, cheap ones first.

use anyhow::Result;

use super::{Counts, cargo};
use crate::{codegen, demo, ebpf, fuzz, tidy, workspace};

/// One step.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Why this machine cannot run it, if it cannot.
    pub(super) lacks: fn() -> Option<String>,
    pub(super) run: fn() -> Result<Counts>,
}

/// The suites on namespaces, one program each.
const NETNS: &[&str] = &[
    "netns_topology",
    "netns_matrix",
    "netns_streams",
    "netns_changes",
    "netns_intruders",
];

/// Packages whose tests make namespaces or load BPF programs.
const PRIVILEGED: &[&str] = &["ambit-ebpf", "ambit-net", "ztunnel"];

pub(super) fn all() -> Vec<Step> {
    let step = |name, about, lacks, run| Step {
        name,
        about,
        lacks,
        run,
    };
    vec![
        step("fmt", "formatting", nothing, || {
            cargo::check(&["fmt", "--all", "--check"])
        }),
        step("tidy", "the rules of the workspace", nothing, || {
            whole(tidy::run())
        }),
        step(
            "codegen",
            "generated code matches the .proto files",
            nothing,
            || whole(codegen::run(true)),
        ),
        step(
            "ebpf",
            "committed BPF objects match their source",
            nothing,
            || whole(ebpf::run(true)),
        ),
        step("clippy", "lints", nothing, || {
            let strict = ["--", "-D", "warnings"];
            cargo::check(&[&["clippy", "--workspace", "--all-targets"], &strict[..]].concat())
        }),
        step("tests", "unit, process and wire tests", nothing, || {
            let exclude = PRIVILEGED.iter().flat_map(|package| ["--exclude", package]);
            let arguments = ["test", "--workspace", "--no-fail-fast"]
                .into_iter()
                .chain(exclude);
            cargo::test(&arguments.collect::<Vec<_>>())
        }),
        step(
            "kernel",
            "tests with namespaces, sockets and BPF",
            privileges,
            || {
                let packages = PRIVILEGED.iter().flat_map(|package| ["--package", package]);
                let arguments = ["test", "--no-fail-fast"].into_iter().chain(packages);
                cargo::test(&arguments.collect::<Vec<_>>())
            },
        ),
        step(
            "fuzz",
            "a short run of every fuzz target",
            fuzz::lacks,
            fuzz::smoke,
        ),
        step("netns", "the programs on two nodes", privileges, netns),
        step(
            "demo",
            "every claim of the demonstration",
            privileges,
            || whole(demo::run(&demo::Options::check())),
        ),
    ]
}

fn whole(done: Result<()>) -> Result<Counts> {
    done.map(|()| Counts::PASSED)
}

fn nothing() -> Option<String> {
    None
}

/// What namespaces and BPF need.
fn privileges() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root for network namespaces and BPF".into());
    }
    for tool in ["ip", "nft"] {
        let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .iter()
            .any(|directory| std::path::Path::new(directory).join(tool).exists());
        if !found {
            return Some(format!("needs the program `{tool}`"));
        }
    }
    None
}

fn netns() -> Result<Counts> {
    workspace::build_programs("release")?;
    let mut counts = Counts::default();
    for suite in NETNS {
        // One after the other: each has the machine's cgroup root and links to itself.
        let arguments = ["test", "-p", "netns-tests", "--test", suite];
        counts.add(cargo::test(
            &[&arguments[..], &["--", "--test-threads=1"]].concat(),
        )?);
    }
    Ok(counts)
}
