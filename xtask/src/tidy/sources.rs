//! What can be seen in the text of files: headers, sizes, homes of types, words that do not belong.

use super::{File, Finding};

/// Where files should stop; tests and tables aside.
const MAX_LINES: usize = 600;

/// Files that may be longer, and why.
const LARGE_FILES: &[(&str, &str)] = &[];

/// Where protocol types may be named: their home, and where they are turned into the model's.
const PROTO_HOMES: &[&str] = &[
    "crates/proto/",
    "crates/model/src/convert",
    "crates/xds/",
    "crates/identity/src/ca_client",
    "controller/src/serve",
    "controller/src/ca",
    "ztunnel/src/capture/",
    "ztunnel/src/control/",
    // A format of its own, not the mesh's.
    "crates/runtime/src/profile.rs",
];

/// Text that belongs to one machine or one moment. Split so that this file does not hold it.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/", "work/"), "a path of one machine"),
    (concat!("/", "root/"), "a path of one machine"),
    (concat!("/home", "/"), "a path of one machine"),
    (
        concat!("FIX", "ME"),
        "unfinished work: finish it or write an issue",
    ),
    (
        concat!("TO", "DO"),
        "unfinished work: finish it or write an issue",
    ),
    (
        concat!("XX", "X"),
        "unfinished work: finish it or write an issue",
    ),
];

/// Checks one file.
pub(crate) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.path != "Cargo.lock" && !file.is_generated() {
        findings.extend(forbidden(file));
    }
    if !file.is_rust() || file.is_generated() {
        return findings;
    }
    if file.path.ends_with("/mod.rs") && !file.is_test() {
        findings.push(file.finding(0, "use `foo.rs` beside `foo/` instead of `mod.rs`"));
    }
    if !file.text.trim_start().starts_with("//!") {
        findings.push(file.finding(1, "begins without a `//!` header"));
    }
    findings.extend(size(file));
    findings.extend(homes(file));
    findings
}

fn size(file: &File) -> Option<Finding> {
    let lines = file.text.lines().count();
    let excused = file.is_test() || LARGE_FILES.iter().any(|(path, _)| *path == file.path);
    (lines > MAX_LINES && !excused)
        .then(|| file.finding(0, format!("{lines} lines; stop at {MAX_LINES}")))
}

fn forbidden(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().enumerate();
    let hits = lines.flat_map(|(at, line)| {
        let words = FORBIDDEN.iter().filter(move |(word, _)| occurs(line, word));
        words.map(move |(word, why)| file.finding(at + 1, format!("{word:?}: {why}")))
    });
    hits.collect()
}

/// Whether the word is there, and if it is a path, from its root: `/proc/1/root/etc` is not one below
/// the home of root.
fn occurs(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with('/')
            || before.is_none_or(|c| !c.is_alphanumeric() && !"./}>_-".contains(c))
    })
}

fn homes(file: &File) -> Vec<Finding> {
    let in_config = file.path.ends_with("/config.rs") || file.path.contains("/config/");
    let proto_home = file.is_tool() || PROTO_HOMES.iter().any(|home| file.path.starts_with(home));
    let translate = file.path.starts_with("controller/src/translate");
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        if !in_config && !file.is_tool() && reads_environment(line) {
            findings.push(file.finding(at + 1, "the environment is read in config.rs only"));
        }
        if !proto_home && (line.contains("ambit_proto") || line.contains("prost::")) {
            findings.push(file.finding(at + 1, "protocol types have no home here"));
        }
        if translate && !file.is_test() && (line.contains(".await") || line.contains("async ")) {
            findings.push(file.finding(at + 1, "translate awaits nothing"));
        }
    }
    findings
}

fn reads_environment(line: &str) -> bool {
    ["env::var(", "env::var_os(", "env::vars(", "env::vars_os("]
        .iter()
        .any(|call| line.contains(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = File {
            path: path.into(),
            text: text.into(),
        };
        check(&file).into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn each_rule_can_fail() {
        let header = "//! A file.\n";
        for (path, text, part) in [
            ("crates/a/src/b.rs", "fn a() {}", "header"),
            ("crates/a/src/b/mod.rs", header, "mod.rs"),
            (
                "crates/a/src/b.rs",
                "//! A.\nlet a = std::env::var(\"A\");",
                "config.rs",
            ),
            (
                "crates/state/src/b.rs",
                "//! A.\nuse ambit_proto::workload;",
                "no home",
            ),
            (
                "controller/src/translate/a.rs",
                "//! A.\nasync fn a() {}",
                "awaits",
            ),
            ("README.md", concat!("see /", "work/x"), "one machine"),
        ] {
            let found = found(path, text);
            assert!(found.iter().any(|f| f.contains(part)), "{path}: {found:?}");
        }
        assert!(found("README.md", "/proc/1/root/etc").is_empty());
        let long = format!("{header}{}", "\n".repeat(MAX_LINES));
        assert_eq!(found("crates/a/src/b.rs", &long).len(), 1);
        assert_eq!(found("crates/a/tests/b.rs", &long).len(), 0);
        assert_eq!(
            found("ztunnel/src/config.rs", "//! A.\nstd::env::var(\"A\")").len(),
            0
        );
    }
}
