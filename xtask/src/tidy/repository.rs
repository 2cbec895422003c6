//! The repository's own files as `git` lists them, so that build output and other people's code are
//! never looked at.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// One text file.
pub(super) struct File {
    /// Path from the repository's root, with `/`.
    pub(super) path: String,
    /// Content.
    pub(super) text: String,
}

impl File {
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(super) fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }

    /// Whether it only serves tests and benchmarks.
    pub(super) fn is_test(&self) -> bool {
        const TEST_PARTS: [&str; 5] = ["/tests/", "/benches/", "tests/", "fuzz/", "/examples/"];
        TEST_PARTS.iter().any(|part| {
            if part.starts_with('/') {
                self.path.contains(part)
            } else {
                self.path.starts_with(part)
            }
        }) || self.path.ends_with("/tests.rs")
            || self.path.starts_with("crates/testkit/")
    }
}

/// The text files that are tracked, or new and not ignored.
pub(super) struct Repository {
    pub(super) files: Vec<File>,
}

impl Repository {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let listed = Command::new("git")
            .current_dir(root)
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "-z",
            ])
            .output()
            .context("git cannot be run")?;
        if !listed.status.success() {
            bail!(
                "git ls-files: {}",
                String::from_utf8_lossy(&listed.stderr).trim()
            );
        }
        let mut files = Vec::new();
        for path in String::from_utf8(listed.stdout)?
            .split('\0')
            .filter(|p| !p.is_empty())
        {
            // A file that is not text, or was deleted and not committed yet, has no rules.
            if let Ok(text) = std::fs::read_to_string(root.join(path)) {
                files.push(File {
                    path: path.to_owned(),
                    text,
                });
            }
        }
        if files.is_empty() {
            bail!("no files found in {}", root.display());
        }
        Ok(Self { files })
    }

    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files
            .iter()
            .filter(|f| f.is_rust() && !f.is_generated())
    }
}
