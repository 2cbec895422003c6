//! Words to the person who runs a command.
#![expect(
    clippy::print_stdout,
    reason = "these commands speak on standard output"
)]

use std::fmt::Display;

/// One line.
pub(crate) fn say(line: impl Display) {
    println!("{line}");
}
