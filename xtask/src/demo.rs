//! `cargo xtask demo`: the mesh at work on one machine, each claim with its evidence. Stays up with
//! commands to try, or with `--check` only verifies.

mod claims;
mod failures;
mod narration;
mod shop;
mod stage;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};

use crate::output::say;
use crate::workspace;
use narration::Narrator;
use stage::Stage;

/// Options of `cargo xtask demo`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Verify every claim, take all down, and fail if one does not hold.
    #[arg(long)]
    check: bool,
    /// Build profile of the programs.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Take the programs from this directory instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

impl Options {
    /// As with `--check`.
    pub(crate) fn check() -> Self {
        Self {
            check: true,
            profile: "release".into(),
            programs: None,
        }
    }
}

/// Set when the person has had enough.
static STOP: AtomicBool = AtomicBool::new(false);

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the demonstration lays out network namespaces and loads BPF programs: run it as root"
        );
    }
    let programs = match &options.programs {
        Some(directory) => directory.clone(),
        None => {
            say("Building ztunnel and controller ...");
            workspace::build_programs(&options.profile)?
        }
    };
    if !options.check {
        catch_interrupt()?;
    }
    let mut narrator = Narrator::default();
    let mut stage = Stage::set(&programs)?;
    narrator.scene(&stage);
    claims::all(&mut stage, &mut narrator)?;
    let failed = narrator.close();
    if options.check {
        drop(stage);
        if failed > 0 {
            bail!("{failed} claims do not hold");
        }
        return Ok(());
    }
    narration::commands(&stage);
    while !STOP.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    say("\nTaking all down.");
    Ok(())
}

/// Ctrl-C ends the demonstration in order: namespaces and programs are removed by their owners.
/// Blocked before any thread starts, so that only the waiting thread gets it.
fn catch_interrupt() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    std::thread::Builder::new()
        .name("interrupt".into())
        .spawn(move || {
            if signals.wait().is_ok() {
                STOP.store(true, Ordering::Relaxed);
                // A second one ends at once.
                if signals.wait().is_ok() {
                    std::process::exit(130);
                }
            }
        })?;
    Ok(())
}
