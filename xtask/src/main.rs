//! The project's own commands: `cargo xtask <command>`. Dispatch only; each command has its module.

mod bench;
mod codegen;
mod config;
mod demo;
mod ebpf;
mod fuzz;
mod output;
mod test;
mod tidy;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Ambit's own build, test and demonstration commands"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the mesh at work on this machine, each claim with its evidence.
    Demo(demo::Options),
    /// Run every test this machine can run.
    Test(test::Options),
    /// Measure the mesh beside a direct connection.
    Bench(bench::Options),
    /// Check the rules of the workspace.
    Tidy,
    /// Compile the BPF programs into ebpf/objects.
    Ebpf {
        /// Fail when the committed objects are not what the source compiles to.
        #[arg(long)]
        check: bool,
    },
    /// Generate the Rust types of the protocol definitions in crates/proto/proto.
    Codegen {
        /// Fail when the committed code differs from what would be generated.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Tidy => tidy::run(),
        Command::Ebpf { check } => ebpf::run(check),
        Command::Codegen { check } => codegen::run(check),
    }
}
