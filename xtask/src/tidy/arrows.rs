//! Which package may depend on which: the table of ARCHITECTURE.md, and nothing else.

use cargo_metadata::{DependencyKind, Metadata, Package};

use super::Finding;

/// A package and the packages of the workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("ambit-proto", &[]),
    ("ambit-model", &["ambit-proto"]),
    ("ambit-policy", &["ambit-model"]),
    ("ambit-identity", &["ambit-model", "ambit-proto"]),
    ("ambit-xds", &["ambit-proto"]),
    ("ambit-state", &["ambit-model", "ambit-policy"]),
    ("ambit-net", &[]),
    ("ambit-hbone", &["ambit-net"]),
    ("ambit-runtime", &[]),
    ("ambit-telemetry", &["ambit-model"]),
    ("ambit-ebpf-common", &[]),
    ("ambit-ebpf", &["ambit-ebpf-common"]),
    (
        "ambit-testkit",
        &["ambit-proto", "ambit-model", "ambit-net"],
    ),
    (
        "ztunnel",
        &[
            "ambit-proto",
            "ambit-model",
            "ambit-policy",
            "ambit-identity",
            "ambit-hbone",
            "ambit-xds",
            "ambit-state",
            "ambit-net",
            "ambit-runtime",
            "ambit-telemetry",
            "ambit-ebpf",
        ],
    ),
    (
        "controller",
        &[
            "ambit-proto",
            "ambit-model",
            "ambit-policy",
            "ambit-identity",
            "ambit-runtime",
            "ambit-telemetry",
        ],
    ),
    ("xtask", &["ambit-proto", "ambit-testkit"]),
    ("netns-tests", &["ambit-testkit"]),
];

/// Packages whose code is pure, and what they must not even know of.
const PURE: &[&str] = &["ambit-model", "ambit-policy"];
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "h2",
    "tonic",
    "kube",
    "prometheus-client",
    "tracing",
    "rand",
    "time",
    "nix",
    "libc",
    "socket2",
];

/// The only packages that may speak to Kubernetes.
const KUBERNETES: &[&str] = &["controller", "cli"];

/// The only package that sets up logging.
const LOGGING: &[&str] = &["ambit-telemetry"];

/// Packages that keep their own table of lints, because they hold unsafe code.
const UNSAFE: &[&str] = &["ambit-net", "ambit-ebpf", "ambit-ebpf-common"];

/// Checks every package of the workspace.
pub(crate) fn check(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        let Some((_, allowed)) = ARROWS
            .iter()
            .find(|(name, _)| *name == package.name.as_str())
        else {
            findings.push(finding(
                package,
                "the package has no row in xtask/src/tidy/arrows.rs",
            ));
            continue;
        };
        for (name, what) in dependencies(package) {
            findings.extend(judge(package, allowed, &name, &what));
        }
        if package.features.keys().any(|f| f.contains("test")) {
            findings.push(finding(package, "shipped packages have no testing feature"));
        }
        findings.extend(lints(package));
    }
    findings
}

/// Dependencies that are built into the package; what only its tests use is free.
fn dependencies(package: &Package) -> impl Iterator<Item = (String, String)> {
    let built = package
        .dependencies
        .iter()
        .filter(|d| d.kind != DependencyKind::Development);
    built.map(|d| (d.name.clone(), format!("must not depend on {}", d.name)))
}

fn judge(package: &Package, allowed: &[&str], name: &str, what: &str) -> Option<Finding> {
    let me = package.name.as_str();
    let internal = ARROWS.iter().any(|(row, _)| *row == name);
    let refused = (internal && !allowed.contains(&name))
        || (PURE.contains(&me) && IMPURE.contains(&name))
        || (matches!(name, "kube" | "k8s-openapi") && !KUBERNETES.contains(&me))
        || (name == "tracing-subscriber" && !LOGGING.contains(&me));
    refused.then(|| finding(package, what))
}

/// The workspace's lints apply, or the package is among the exempt.
fn lints(package: &Package) -> Option<Finding> {
    let manifest = std::fs::read_to_string(&package.manifest_path).unwrap_or_default();
    let inherits = manifest.contains("[lints]\nworkspace = true");
    let exempt = UNSAFE.contains(&package.name.as_str());
    (!inherits && !exempt).then(|| finding(package, "lacks `[lints] workspace = true`"))
}

fn finding(package: &Package, what: &str) -> Finding {
    Finding {
        path: package.name.to_string(),
        line: 0,
        what: what.to_owned(),
    }
}
