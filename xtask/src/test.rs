//! `cargo xtask test`: every test this machine can run, step by step, with the time each took. What
//! cannot be run is skipped with a reason, and a failure where nothing may be skipped.

mod cargo;
mod steps;

use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::config;
use crate::output::say;

/// Options of `cargo xtask test`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// List the steps and what each needs.
    #[arg(long)]
    list: bool,
    /// Run only these steps.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
}

/// Counts of tests; a step that is not made of tests counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    pub(crate) const SKIPPED: Self = Self {
        passed: 0,
        failed: 0,
        skipped: 1,
    };

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs the steps.
pub(crate) fn run(options: &Options) -> Result<()> {
    let steps = steps::all();
    if options.list {
        for step in &steps {
            say(format_args!("{:<10} {}", step.name, step.about));
        }
        return Ok(());
    }
    if let Some(unknown) = options
        .only
        .iter()
        .find(|o| !steps.iter().any(|s| s.name == **o))
    {
        let names: Vec<_> = steps.iter().map(|s| s.name).collect();
        bail!("no step {unknown:?}: there are {}", names.join(", "));
    }
    let chosen = |name: &str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    let mut total = Counts::default();
    let mut lines = Vec::new();
    for step in steps.iter().filter(|step| chosen(step.name)) {
        say(format_args!("--- {}: {}", step.name, step.about));
        let start = Instant::now();
        let (counts, note) = run_step(step);
        total.add(counts);
        let seconds = start.elapsed().as_secs_f64();
        lines.push(format!("{:<10} {seconds:>7.1} s  {note}", step.name));
    }
    say("\nstep          time    result");
    lines.iter().for_each(say);
    say(format_args!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    ));
    if total.failed > 0 {
        bail!("there are failures");
    }
    Ok(())
}

fn run_step(step: &steps::Step) -> (Counts, String) {
    if let Some(reason) = (step.lacks)() {
        return if config::in_ci() {
            (
                Counts::FAILED,
                format!("FAILED: {reason}, and nothing may be skipped here"),
            )
        } else {
            (Counts::SKIPPED, format!("skipped: {reason}"))
        };
    }
    match (step.run)() {
        Ok(counts) if counts.failed > 0 => (
            counts,
            format!(
                "FAILED: {} of {}",
                counts.failed,
                counts.failed + counts.passed
            ),
        ),
        Ok(counts) if counts.skipped > 0 && config::in_ci() => {
            let failed = Counts {
                failed: counts.skipped,
                skipped: 0,
                ..counts
            };
            (
                failed,
                format!(
                    "FAILED: {} skipped, and nothing may be here",
                    counts.skipped
                ),
            )
        }
        Ok(counts) => (counts, format!("ok, {} passed", counts.passed)),
        Err(error) => (Counts::FAILED, format!("FAILED: {error:#}")),
    }
}
