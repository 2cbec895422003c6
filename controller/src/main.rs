//! The controller's program: parses the command line and runs the command.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use controller::config::Cli;

fn main() -> ExitCode {
    match controller::command::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Standard error may be closed; there is nowhere else to say it.
            drop(writeln!(std::io::stderr().lock(), "controller: {error:#}"));
            ExitCode::from(2)
        }
    }
}
