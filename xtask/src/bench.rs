//! `cargo xtask bench`: the mesh beside a direct connection, on the two-node topology, in one
//! interleaved run. Ratios, not verdicts: it fails only when something cannot be measured.

mod bars;
mod bulk;
mod control;
mod report;
mod requests;
mod rounds;
mod simulated;
mod stage;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::workspace;

/// Options of `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Short rounds: minutes instead of a quarter of an hour.
    #[arg(long)]
    quick: bool,
    /// Write all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Build profile of the programs.
    #[arg(long, default_value = "dist")]
    profile: String,
    /// Take the programs from this directory instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Only what needs no mesh: the direct figures.
    #[arg(long)]
    baseline: bool,
    /// Leave the second column, under cubic, out.
    #[arg(long)]
    no_cubic: bool,
    /// Leave the controller's figures out.
    #[arg(long)]
    no_controller: bool,
    /// Only the controller's figures.
    #[arg(long)]
    controller: bool,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Time of one measurement.
    pub(crate) time: Duration,
    /// Repetitions; medians are taken over them.
    pub(crate) rounds: usize,
}

impl Options {
    fn effort(&self) -> Effort {
        if self.quick {
            Effort {
                time: Duration::from_secs(2),
                rounds: 3,
            }
        } else {
            Effort {
                time: Duration::from_secs(5),
                rounds: 5,
            }
        }
    }
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        // An unoptimised load generator would be what is measured.
        return workspace::run_optimised();
    }
    let mut report = report::Report::default();
    let effort = options.effort();
    if options.baseline {
        report.columns.push(stage::measure_direct(effort)?);
    } else {
        let programs = match &options.programs {
            Some(directory) => directory.clone(),
            None => workspace::build_programs(&options.profile)?,
        };
        if !options.controller {
            report.columns = stage::measure(&programs, effort, !options.no_cubic)?;
        }
        if !options.no_controller {
            report.control = control::measure(&programs, options.quick)?;
        }
    }
    report.print();
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}
