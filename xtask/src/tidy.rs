//! `cargo xtask tidy`: the rules of the workspace that a program can check. Also an ordinary test.

mod arrows;
mod licences;
mod sources;
mod syntax;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::output::say;
use crate::workspace;

/// Something against the rules, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// A file of the repository, by its path from the root.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            what: what.into(),
        }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }

    /// Code that only ever runs in tests.
    pub(crate) fn is_test(&self) -> bool {
        let test_file = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        test_file || self.path.starts_with("tests/") || self.path.contains("/benches/")
    }

    /// Code of tests, and of the tools around the programs that ship.
    pub(crate) fn is_tool(&self) -> bool {
        let tools = ["xtask/", "crates/testkit/", "fuzz/"];
        self.is_test() || tools.iter().any(|tool| self.path.starts_with(tool))
    }
}

/// Fails with every finding.
pub(crate) fn run() -> Result<()> {
    let findings = check()?;
    for finding in &findings {
        say(finding);
    }
    match findings.len() {
        0 => Ok(()),
        n => bail!("{n} findings"),
    }
}

fn check() -> Result<Vec<Finding>> {
    let files = files(&workspace::root())?;
    let mut findings = arrows::check(&workspace::metadata()?);
    findings.extend(licences::check()?);
    findings.extend(files.iter().flat_map(sources::check));
    for file in files.iter().filter(|f| f.is_rust() && !f.is_generated()) {
        findings.extend(syntax::check(file));
    }
    findings.sort();
    Ok(findings)
}

/// Every text file, without what is built and what is hidden.
fn files(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            let hidden = name.starts_with('.') && !matches!(&*name, ".ci" | ".cargo");
            if hidden || name == "target" {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                files.push(File {
                    path: relative(root, &path),
                    text,
                });
            }
        }
    }
    Ok(files)
}

fn relative(root: &Path, path: &Path) -> String {
    let inside: PathBuf = path.strip_prefix(root).unwrap_or(path).to_owned();
    inside.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let findings = check().unwrap();
        let list: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "\n{}", list.join("\n"));
    }
}
