//! Licences and sources of dependencies, by the rules of `deny.toml`, without the network.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Finding;
use crate::workspace;

/// What `deny.toml` says that is checked here.
struct Rules {
    licences: BTreeSet<String>,
    banned: BTreeSet<String>,
}

/// A dependency, as `cargo tree` shows it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Dependency {
    name: String,
    version: String,
    /// Where it comes from, unless that is crates.io.
    source: Option<String>,
    licence: String,
}

/// Checks every dependency that is built.
pub(crate) fn check() -> Result<Vec<Finding>> {
    let rules = Rules::load()?;
    let mut findings = Vec::new();
    for dependency in dependencies()? {
        if dependency
            .source
            .as_ref()
            .is_some_and(|source| source.starts_with('/'))
        {
            continue;
        }
        let licence = &dependency.licence;
        if !rules.accepts(licence) {
            findings.push(dependency.finding(format!("licence {licence:?} is not in deny.toml")));
        }
        if rules.banned.contains(&dependency.name) {
            findings.push(dependency.finding("is banned by deny.toml".to_owned()));
        }
        if let Some(source) = &dependency.source
            && !source.contains("proc-macro")
        {
            findings.push(dependency.finding(format!("comes from {source}, not from crates.io")));
        }
    }
    Ok(findings)
}

/// `cargo tree` and not `cargo metadata`: the latter also lists what no enabled feature asks for.
fn dependencies() -> Result<BTreeSet<Dependency>> {
    let output = Command::new("cargo")
        .current_dir(workspace::root())
        .args([
            "tree",
            "--workspace",
            "--prefix",
            "none",
            "--format",
            "{p}|{l}",
            "--offline",
        ])
        .args(["--edges", "normal,build,dev", "--no-dedupe"])
        .output()
        .context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(Dependency::parse)
        .collect())
}

impl Dependency {
    /// Reads `name v1.2.3 (source)|licence`.
    fn parse(line: &str) -> Option<Self> {
        let (package, licence) = line.split_once('|')?;
        let mut words = package.splitn(3, ' ');
        let (name, version) = (words.next()?, words.next()?);
        let source = words.next().map(|s| s.trim_matches(['(', ')']).to_owned());
        Some(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            source,
            licence: licence.trim_end_matches(" (*)").to_owned(),
        })
    }

    fn finding(&self, what: String) -> Finding {
        Finding {
            path: format!("{} {}", self.name, self.version),
            line: 0,
            what,
        }
    }
}

impl Rules {
    fn load() -> Result<Self> {
        let text = std::fs::read_to_string(workspace::root().join("deny.toml"))?;
        let deny: toml::Table = text.parse().context("deny.toml")?;
        let list = |section: &str, key: &str| {
            let found = deny
                .get(section)
                .and_then(|s| s.get(key))
                .and_then(|l| l.as_array());
            found.cloned().unwrap_or_default()
        };
        let licences = list("licenses", "allow");
        let banned = list("bans", "deny");
        Ok(Self {
            licences: licences
                .iter()
                .filter_map(|l| Some(l.as_str()?.to_owned()))
                .collect(),
            banned: banned
                .iter()
                .filter_map(|b| b.get("crate").or(Some(b))?.as_str().map(str::to_owned))
                .collect(),
        })
    }

    /// Whether an SPDX expression can be satisfied. Only `OR`, `AND`, `/` and parentheses without
    /// nesting occur in practice.
    fn accepts(&self, expression: &str) -> bool {
        let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
        flat.split(" AND ").all(|part| {
            part.split(" OR ")
                .any(|licence| self.licences.contains(licence.trim()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_tree_are_read() {
        let one = Dependency::parse("serde_derive v1.0.2 (proc-macro)|MIT OR Apache-2.0").unwrap();
        assert_eq!(
            (&*one.name, &*one.licence),
            ("serde_derive", "MIT OR Apache-2.0")
        );
        let git = Dependency::parse("x v1.0.0 (https://example.org/x#1234)|MIT (*)").unwrap();
        assert_eq!(git.source.as_deref(), Some("https://example.org/x#1234"));
        assert_eq!(git.licence, "MIT");
        assert_eq!(Dependency::parse(""), None);
    }

    #[test]
    fn expressions_are_understood() {
        let rules = Rules {
            licences: ["MIT", "Apache-2.0", "Unicode-3.0"]
                .map(str::to_owned)
                .into(),
            banned: BTreeSet::new(),
        };
        for good in [
            "MIT",
            "MIT OR GPL-2.0",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
        ] {
            assert!(rules.accepts(good), "{good}");
        }
        for bad in [
            "",
            "GPL-2.0",
            "MIT AND GPL-2.0",
            "(MIT OR Apache-2.0) AND GPL-3.0",
        ] {
            assert!(!rules.accepts(bad), "{bad}");
        }
    }
}
