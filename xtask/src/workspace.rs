//! Where the workspace is, and running cargo in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// `cargo metadata` of the workspace's own packages.
pub(crate) fn metadata() -> Result<cargo_metadata::Metadata> {
    let mut command = cargo_metadata::MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).no_deps();
    command.exec().context("cargo metadata")
}

/// Builds the programs that ship and returns the directory they are in.
pub(crate) fn build_programs(profile: &str) -> Result<PathBuf> {
    let done = Command::new("cargo")
        .current_dir(root())
        .args([
            "build",
            "--profile",
            profile,
            "-p",
            "ztunnel",
            "-p",
            "controller",
        ])
        .status()
        .context("cargo cannot be run")?;
    if !done.success() {
        bail!("the programs do not build");
    }
    let directory = if profile == "dev" { "debug" } else { profile };
    Ok(metadata()?.target_directory.as_std_path().join(directory))
}

/// Runs this same command again, from a release build of this program.
pub(crate) fn run_optimised() -> Result<()> {
    let done = Command::new("cargo")
        .current_dir(root())
        .args(["run", "--quiet", "--release", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .status()
        .context("cargo cannot be run")?;
    if !done.success() {
        bail!("the release build of this command failed");
    }
    Ok(())
}
