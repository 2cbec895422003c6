//! `cargo xtask ebpf`: compiles the BPF programs into `ebpf/objects`, or proves that the committed objects
//! are what the source compiles to. Knows the toolchain they need and installs what of it is missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

const PROGRAMS: &str = "ebpf/programs";
const OBJECTS: &str = "ebpf/objects";
const MANIFEST: &str = "ebpf/objects/MANIFEST";
/// What goes into the objects. The workspace's `Cargo.toml` gives the common crate its edition only.
const SOURCES: [&str; 2] = ["ebpf/programs", "ebpf/common"];
/// Binary of the programs' crate, and the object it becomes.
const BINARIES: [(&str, &str); 2] = [("node", "node.bpf.o"), ("pod", "pod.bpf.o")];
const TARGET: &str = "bpfel-unknown-none";

/// A compiler with its own source, of the same LLVM version as the linker.
const RUSTC: &str = "/usr/bin/rustc";
const LLVM: &str = "/usr/lib/llvm-22";
const PACKAGES: [&str; 6] = [
    "rustc-web",
    "rust-web-src",
    "llvm-22",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
];
const LINKER_VERSION: &str = "0.13.0";

/// Builds the objects, or with `check` compares them to the source.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    if check { verify(&root) } else { rebuild(&root) }
}

fn rebuild(root: &Path) -> Result<()> {
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(missing) => {
            report(&format!("installing the toolchain: {missing}"));
            install()?;
            Tools::find().map_err(anyhow::Error::msg)?
        }
    };
    let objects = compile(root, &tools)?;
    let mut manifest = Manifest {
        source: hash_sources(root)?,
        ..Manifest::default()
    };
    manifest.tools = tools.versions;
    std::fs::create_dir_all(root.join(OBJECTS))?;
    for (name, bytes) in objects {
        std::fs::write(root.join(OBJECTS).join(name), &bytes)?;
        manifest.objects.insert(name.to_owned(), hash(&bytes));
    }
    std::fs::write(root.join(MANIFEST), manifest.print())?;
    report(&format!("wrote {OBJECTS}"));
    Ok(())
}

fn verify(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join(MANIFEST))
        .with_context(|| format!("cannot read {MANIFEST}: run `cargo xtask ebpf`"))?;
    let manifest = Manifest::parse(&text)?;
    if hash_sources(root)? != manifest.source {
        bail!(
            "the sources in {} changed since the objects were built: run `cargo xtask ebpf`",
            SOURCES.join(" and ")
        );
    }
    for (_, name) in BINARIES {
        let bytes = std::fs::read(root.join(OBJECTS).join(name))
            .with_context(|| format!("cannot read {OBJECTS}/{name}"))?;
        if manifest.objects.get(name) != Some(&hash(&bytes)) {
            bail!(
                "{OBJECTS}/{name} is not the object that {MANIFEST} names: run `cargo xtask ebpf`"
            );
        }
    }
    report("sources and objects are those of the manifest");
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(missing) => {
            report(&format!(
                "not rebuilt, because the toolchain is not here: {missing}"
            ));
            return Ok(());
        }
    };
    if tools.versions != manifest.tools {
        report(&format!(
            "not rebuilt, because the toolchain here is another one: {:?} instead of {:?}",
            tools.versions, manifest.tools
        ));
        return Ok(());
    }
    for (name, bytes) in compile(root, &tools)? {
        if manifest.objects.get(name) != Some(&hash(&bytes)) {
            bail!("the source compiles to another {OBJECTS}/{name}: run `cargo xtask ebpf`");
        }
    }
    report("rebuilt: the objects are byte for byte what the source compiles to");
    Ok(())
}

/// The tools that the objects were, or would be, built with.
struct Tools {
    linker: PathBuf,
    versions: BTreeMap<String, String>,
}

impl Tools {
    /// Finds the tools, or says which is missing.
    fn find() -> Result<Self, String> {
        let source = "/usr/lib/rustlib/src/rust/library/core/src/lib.rs";
        if !Path::new(RUSTC).exists() || !Path::new(source).exists() {
            return Err(format!(
                "no {RUSTC} with its source (packages rustc-web and rust-web-src)"
            ));
        }
        let objcopy = Path::new(LLVM).join("bin/llvm-objcopy");
        if !objcopy.exists() {
            return Err(format!("no {} (package llvm-22)", objcopy.display()));
        }
        let linker = find_linker().ok_or("no bpf-linker (cargo install bpf-linker)")?;
        let mut versions = BTreeMap::new();
        for (name, program) in [("rustc", Path::new(RUSTC)), ("bpf-linker", &linker)] {
            versions.insert(name.to_owned(), version(program)?);
        }
        Ok(Self { linker, versions })
    }
}

fn version(program: &Path) -> Result<String, String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .next()
        .map(str::to_owned)
        .ok_or_else(|| format!("{} has no version", program.display()))
}

fn find_linker() -> Option<PathBuf> {
    let cargo = home("CARGO_HOME", ".cargo").join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain([cargo]);
    directories
        .find_map(|directory| Some(directory.join("bpf-linker")).filter(|file| file.exists()))
}

fn home(variable: &str, below_home: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(below_home),
        PathBuf::from,
    )
}

fn install() -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "--no-install-recommends"])
        .args(PACKAGES);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    succeed(&mut apt).context(
        "the toolchain comes from Debian packages; elsewhere, change the objects on a machine that has them",
    )?;
    if find_linker().is_none() {
        let mut cargo = Command::new("cargo");
        cargo.args([
            "install",
            "bpf-linker",
            "--locked",
            "--version",
            LINKER_VERSION,
        ]);
        cargo
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", LLVM);
        succeed(&mut cargo)?;
    }
    Ok(())
}

/// Compiles with nothing of this build's environment, and strips what only a debugger would read.
fn compile(root: &Path, tools: &Tools) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let out = root.join(PROGRAMS).join("target");
    let stripped = tempfile::tempdir()?;
    let registry = home("CARGO_HOME", ".cargo");
    let flags = [
        format!("-Clinker={}", tools.linker.display()),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        // Names a directory of the bindings only; the objects are the same for every machine.
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        // The objects tell the verifier's messages which line they are about: keep the line, not the machine.
        format!("--remap-path-prefix={}=cargo", registry.display()),
        format!("--remap-path-prefix={}=.", root.display()),
    ];
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root.join(PROGRAMS));
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME"
            || name.starts_with("RUST") && name != "RUSTUP_HOME"
        {
            cargo.env_remove(&variable);
        }
    }
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "-Zbuild-std=core",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&out)
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    succeed(&mut cargo)?;
    let mut objects = Vec::new();
    for (binary, name) in BINARIES {
        let built = out.join(TARGET).join("release").join(binary);
        let object = stripped.path().join(name);
        let mut strip = Command::new(Path::new(LLVM).join("bin/llvm-objcopy"));
        succeed(strip.arg("--strip-debug").arg(&built).arg(&object))?;
        objects.push((name, std::fs::read(&object)?));
    }
    Ok(objects)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Names and contents of all source files.
fn hash_sources(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for directory in SOURCES {
        collect(&root.join(directory), &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let name = file.strip_prefix(root)?.to_string_lossy().into_owned();
        let bytes = std::fs::read(&file)?;
        hasher.update(format!("{name} {}\n", bytes.len()));
        hasher.update(bytes);
    }
    Ok(hex(&hasher.finalize()))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

/// What the committed objects were made of and with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Manifest {
    source: String,
    tools: BTreeMap<String, String>,
    objects: BTreeMap<String, String>,
}

impl Manifest {
    fn print(&self) -> String {
        let mut text =
            String::from("# Written by `cargo xtask ebpf`; `cargo xtask ebpf --check` compares.\n");
        text.push_str(&format!("source {}\n", self.source));
        for (name, version) in &self.tools {
            text.push_str(&format!("tool {name} {version}\n"));
        }
        for (name, hash) in &self.objects {
            text.push_str(&format!("object {name} {hash}\n"));
        }
        text
    }

    fn parse(text: &str) -> Result<Self> {
        let mut manifest = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (kind, rest) = line
                .split_once(' ')
                .with_context(|| format!("{MANIFEST}: {line}"))?;
            match (kind, rest.split_once(' ')) {
                ("source", None) => manifest.source = rest.to_owned(),
                ("tool", Some((name, version))) => {
                    manifest.tools.insert(name.to_owned(), version.to_owned());
                }
                ("object", Some((name, hash))) => {
                    manifest.objects.insert(name.to_owned(), hash.to_owned());
                }
                _ => bail!("{MANIFEST}: cannot read the line `{line}`"),
            }
        }
        Ok(manifest)
    }
}

#[expect(
    clippy::print_stderr,
    reason = "this is what the command says to its user"
)]
fn report(message: &str) {
    eprintln!("ebpf: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_reads_what_it_prints() {
        let pair = |a: &str, b: &str| BTreeMap::from([(a.to_owned(), b.to_owned())]);
        let manifest = Manifest {
            source: "00ff".to_owned(),
            tools: pair("rustc", "rustc 1.96.0 (abc 2026-05-25)"),
            objects: pair("node.bpf.o", "01"),
        };
        assert_eq!(Manifest::parse(&manifest.print()).unwrap(), manifest);
        assert!(Manifest::parse("object x").is_err());
        assert!(Manifest::parse("source a b").is_err());
    }

    /// The cheap part of `--check`, as an ordinary test.
    #[test]
    fn the_committed_objects_belong_to_the_source() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let manifest =
            Manifest::parse(&std::fs::read_to_string(root.join(MANIFEST)).unwrap()).unwrap();
        assert_eq!(
            hash_sources(&root).unwrap(),
            manifest.source,
            "run `cargo xtask ebpf`"
        );
        for (name, expected) in &manifest.objects {
            let bytes = std::fs::read(root.join(OBJECTS).join(name)).unwrap();
            assert_eq!(&hash(&bytes), expected, "{name}");
        }
    }
}
