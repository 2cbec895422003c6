//! Runs cargo, passes on what it says, and counts tests by the summaries it prints.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Counts;
use crate::output::say;
use crate::workspace;

/// Runs a command that passes or fails as a whole.
pub(super) fn check(arguments: &[&str]) -> Result<Counts> {
    let status = command(arguments).status().context("cargo cannot be run")?;
    if !status.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    Ok(Counts::PASSED)
}

/// Runs tests and counts them.
pub(super) fn test(arguments: &[&str]) -> Result<Counts> {
    let mut child = command(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be run")?;
    let output = child.stdout.take().context("the output of cargo")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        counts.add(summary(&line).unwrap_or_default());
        say(line);
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        // It did not build, or a test ended the process.
        counts.add(Counts::FAILED);
    }
    Ok(counts)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(workspace::root()).args(arguments);
    command
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn summary(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |word: &str| {
        let part = rest.split(';').find(|part| part.trim().ends_with(word));
        part.and_then(|part| part.split_whitespace().next()?.parse().ok())
    };
    Some(Counts {
        passed: number("passed")?,
        failed: number("failed")?,
        skipped: number("ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 5 filtered out";
        assert_eq!(
            summary(line),
            Some(Counts {
                passed: 12,
                failed: 3,
                skipped: 1
            })
        );
        assert_eq!(summary("running 3 tests"), None);
    }
}
