//! Where the workspace is, and running cargo in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The platform whose dependencies are looked at.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// `cargo metadata`, without dependencies from elsewhere when `shallow`.
pub(crate) fn metadata(shallow: bool) -> Result<cargo_metadata::Metadata> {
    let mut command = cargo_metadata::MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml"));
    if shallow {
        command.no_deps();
    } else {
        // What other platforms would need is not built.
        command.other_options(["--filter-platform".to_owned(), PLATFORM.to_owned()]);
    }
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
    Ok(metadata(true)?
        .target_directory
        .as_std_path()
        .join(directory))
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
