//! Licences and sources of dependencies, by the rules of `deny.toml`, without the network.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, Package};

use super::Finding;
use crate::workspace;

/// What `deny.toml` says that is checked here.
struct Rules {
    licences: BTreeSet<String>,
    banned: BTreeSet<String>,
}

/// Checks every dependency.
pub(crate) fn check(metadata: &Metadata) -> Result<Vec<Finding>> {
    let rules = Rules::load()?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        if metadata.workspace_members.contains(&package.id) {
            continue;
        }
        let licence = package.license.as_deref().unwrap_or_default();
        if !rules.accepts(licence) {
            findings.push(finding(
                package,
                format!("licence {licence:?} is not in deny.toml"),
            ));
        }
        if rules.banned.contains(package.name.as_str()) {
            findings.push(finding(package, "is banned by deny.toml".to_owned()));
        }
        let registry = package.source.as_ref().is_some_and(|s| s.is_crates_io());
        if !registry && package.source.is_some() {
            findings.push(finding(package, "does not come from crates.io".to_owned()));
        }
    }
    Ok(findings)
}

fn finding(package: &Package, what: String) -> Finding {
    Finding {
        path: format!("{} {}", package.name, package.version),
        line: 0,
        what,
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
