//! The fuzz targets: built with coverage, each run for a short time.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::output::say;
use crate::test::Counts;
use crate::workspace;

/// Seconds each target runs.
const SECONDS: u32 = 10;
/// What makes the compiler count coverage; works on stable.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1";

/// Why it cannot run here.
pub(crate) fn lacks() -> Option<String> {
    if !directory().join("Cargo.toml").exists() {
        return Some("there are no fuzz targets".into());
    }
    let compiler = Command::new("c++").arg("--version").output();
    compiler
        .is_err()
        .then(|| "needs a C++ compiler for the fuzzing library".into())
}

fn directory() -> PathBuf {
    workspace::root().join("fuzz")
}

/// Builds all targets and runs each.
pub(crate) fn smoke() -> Result<Counts> {
    let directory = directory();
    let target = workspace::metadata()?
        .target_directory
        .as_std_path()
        .join("fuzz");
    let built = Command::new("cargo")
        .current_dir(&directory)
        .env("RUSTFLAGS", COVERAGE)
        .args([
            "build",
            "--release",
            "--bins",
            "--target",
            host()?.as_str(),
            "--target-dir",
        ])
        .arg(&target)
        .status()?;
    if !built.success() {
        bail!("the fuzz targets do not build");
    }
    let binaries = target.join(host()?).join("release");
    let mut counts = Counts::default();
    for name in targets(&directory)? {
        say(format_args!("fuzz {name}"));
        counts.add(run(&binaries.join(&name), &directory, &name)?);
    }
    Ok(counts)
}

fn run(binary: &Path, directory: &Path, name: &str) -> Result<Counts> {
    let scratch = tempfile::tempdir()?;
    let seeds = directory.join("seeds").join(name);
    let mut command = Command::new(binary);
    command
        .arg(format!("-max_total_time={SECONDS}"))
        .arg("-print_final_stats=1");
    command.arg(format!("-artifact_prefix={}/", scratch.path().display()));
    command.arg(scratch.path());
    if seeds.exists() {
        command.arg(seeds);
    }
    let status = command
        .status()
        .with_context(|| binary.display().to_string())?;
    if status.success() {
        return Ok(Counts::PASSED);
    }
    // The input is kept: the scratch directory would take it along.
    let kept = std::env::temp_dir().join(format!("fuzz-{name}"));
    std::fs::rename(scratch.keep(), &kept)?;
    say(format_args!(
        "fuzz target {name} failed; its input is in {}",
        kept.display()
    ));
    Ok(Counts::FAILED)
}

fn targets(directory: &Path) -> Result<Vec<String>> {
    let manifest: toml::Table = std::fs::read_to_string(directory.join("Cargo.toml"))?.parse()?;
    let bins = manifest
        .get("bin")
        .and_then(|b| b.as_array())
        .context("no targets in fuzz")?;
    Ok(bins
        .iter()
        .filter_map(|b| Some(b.get("name")?.as_str()?.to_owned()))
        .collect())
}

/// The host's triple: with an explicit target, build scripts are built without coverage.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc does not tell its host")?.to_owned())
}
