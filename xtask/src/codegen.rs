//! `cargo xtask codegen`: turns the `.proto` files into the committed Rust types of `ambit-proto`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const PROTO_DIR: &str = "crates/proto/proto";
const OUT_DIR: &str = "crates/proto/src/generated";

/// Generates the types, or with `check` compares them to the committed ones.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = workspace_root();
    let generated = tempfile::tempdir()?;
    generate(&root.join(PROTO_DIR), generated.path())?;
    let out = root.join(OUT_DIR);
    if check {
        return compare(generated.path(), &out);
    }
    std::fs::create_dir_all(&out)?;
    for file in files(generated.path())? {
        let name = file.file_name().context("generated file without a name")?;
        std::fs::copy(&file, out.join(name))?;
    }
    Ok(())
}

fn generate(protos: &Path, out: &Path) -> Result<()> {
    let mut inputs: Vec<PathBuf> = files(protos)?;
    inputs.retain(|p| p.extension().is_some_and(|e| e == "proto"));
    let descriptors = protox::compile(&inputs, [protos])?;
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .build_client(true)
        .build_server(true)
        .compile_fds(descriptors)?;
    Ok(())
}

fn compare(generated: &Path, committed: &Path) -> Result<()> {
    for file in files(generated)? {
        let name = file.file_name().context("generated file without a name")?;
        let old = std::fs::read(committed.join(name)).unwrap_or_default();
        if old != std::fs::read(&file)? {
            bail!(
                "{} does not match its .proto file: run `cargo xtask codegen`",
                committed.join(name).display()
            );
        }
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = std::fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?;
    found.sort();
    Ok(found)
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
