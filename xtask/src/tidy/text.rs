//! Rules about what is written in files: headers, where unsafe code, the environment and protocol
//! types may appear, and paths that exist on one machine only.

use super::Finding;
use super::repository::{File, Repository};

/// Where unsafe code may be.
const UNSAFE_HOMES: &[&str] = &["crates/net/", "ebpf/"];

/// Where protocol types may be used.
const PROTO_HOMES: &[&str] = &[
    "crates/proto/",
    "crates/model/src/convert",
    "crates/xds/",
    "crates/identity/src/ca",
    "controller/src/serve",
    "controller/src/ca",
    "ztunnel/src/capture/",
    "ztunnel/src/control",
    "xtask/",
];

/// Beginnings of paths that only exist on somebody's machine.
const MACHINE_PATHS: &[&str] = &["/root/", "/home/", "/work/", "/Users/"];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let mut findings: Vec<Finding> = repository.files.iter().flat_map(machine_paths).collect();
    for file in repository.rust() {
        findings.extend(header(file));
        if file.path.ends_with("/mod.rs") {
            findings.push(Finding::new(
                &file.path,
                "name it after its module, beside the folder",
            ));
        }
        if !file.is_test() {
            findings.extend(homes(file));
        }
    }
    findings
}

fn header(file: &File) -> Option<Finding> {
    let first = file
        .text
        .lines()
        .find(|l| !l.is_empty() && !l.starts_with("#!"))?;
    (!first.starts_with("//!")).then(|| {
        Finding::new(
            &file.path,
            "does not start with a //! header saying what it is",
        )
    })
}

fn machine_paths(file: &File) -> Vec<Finding> {
    if file.path == "xtask/src/tidy/text.rs" || file.path == "Cargo.lock" {
        return Vec::new();
    }
    file.text
        .lines()
        .enumerate()
        .filter(|(_, line)| MACHINE_PATHS.iter().any(|path| names_path(line, path)))
        .map(|(at, _)| Finding::new(place(file, at), "names a path of one machine"))
        .collect()
}

/// Whether the line holds `path` at the start of a path, not inside of one.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/}$*>)".contains(c))
    })
}

fn homes(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in code_lines(file) {
        if has_word(&line, "unsafe") && !in_homes(file, UNSAFE_HOMES) {
            findings.push(Finding::new(
                place(file, at),
                "unsafe code lives in net and ebpf only",
            ));
        }
        if line.contains("env::var") && !reads_environment(file) {
            findings.push(Finding::new(
                place(file, at),
                "the environment is read in config.rs only",
            ));
        }
        if (line.contains("ambit_proto::") || line.contains("prost::"))
            && !in_homes(file, PROTO_HOMES)
        {
            findings.push(Finding::new(
                place(file, at),
                "protocol types have their homes; see ARCHITECTURE.md",
            ));
        }
    }
    findings
}

/// Lines of production code: no comments, and nothing from an inline test module on.
fn code_lines(file: &File) -> impl Iterator<Item = (usize, String)> {
    file.text
        .lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at, without_strings(line)))
}

/// The line with what is between quotes left out.
fn without_strings(line: &str) -> String {
    line.split('"').step_by(2).collect()
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|w| w == word)
}

fn in_homes(file: &File, homes: &[&str]) -> bool {
    homes.iter().any(|home| file.path.starts_with(home))
}

fn reads_environment(file: &File) -> bool {
    file.path.ends_with("/config.rs") || file.path.starts_with("xtask/")
}

fn place(file: &File, line: usize) -> String {
    format!("{}:{}", file.path, line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn problems(path: &str, text: &str) -> usize {
        let file = file(path, text);
        homes(&file).len() + header(&file).iter().len() + machine_paths(&file).len()
    }

    #[test]
    fn each_rule_finds_its_breach_and_lets_the_rest_be() {
        for (path, text, expected) in [
            ("crates/state/src/a.rs", "//! Header.\nfn a() {}\n", 0),
            ("crates/state/src/a.rs", "fn a() {}\n", 1),
            ("crates/state/src/a.rs", "//! Header.\nunsafe { a() }\n", 1),
            ("crates/net/src/a.rs", "//! Header.\nunsafe { a() }\n", 0),
            (
                "ztunnel/src/a.rs",
                "//! Header.\nlet a = std::env::var(\"A\");\n",
                1,
            ),
            (
                "ztunnel/src/config.rs",
                "//! Header.\nlet a = std::env::var(\"A\");\n",
                0,
            ),
            (
                "ztunnel/src/proxy/a.rs",
                "//! Header.\nuse ambit_proto::ca;\n",
                1,
            ),
            (
                "crates/model/src/convert/a.rs",
                "//! Header.\nuse ambit_proto::ca;\n",
                0,
            ),
            ("crates/model/src/a.rs", "//! Header.\n// see /root/a\n", 1),
            (
                "crates/model/src/a.rs",
                "//! Header.\n// see /sys/root/a\n",
                0,
            ),
        ] {
            assert_eq!(problems(path, text), expected, "{path}: {text}");
        }
    }
}
