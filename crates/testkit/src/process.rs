//! The mesh's programs as processes: started with a log file, waited for, killed by their id, and
//! never left behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::topology::Host;
use crate::wait;

/// How long a program may take to end after SIGTERM.
const END: Duration = Duration::from_secs(40);

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// For messages and the log's file name.
    pub name: &'a str,
    /// The executable.
    pub program: PathBuf,
    /// Arguments.
    pub arguments: Vec<String>,
    /// The whole environment: nothing is inherited but `PATH` and `RUST_BACKTRACE`.
    pub environment: Vec<(String, String)>,
    /// Directory for the log.
    pub log_directory: PathBuf,
}

impl Program {
    /// Starts it in a namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(host: &Host, launch: &Launch<'_>) -> Result<Self> {
        Self::run(launch, |command| host.spawn(command))
    }

    /// Starts it where the caller is.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_here(launch: &Launch<'_>) -> Result<Self> {
        Self::run(launch, Command::spawn)
    }

    fn run(
        launch: &Launch<'_>,
        spawn: impl FnOnce(&mut Command) -> std::io::Result<Child>,
    ) -> Result<Self> {
        let log = launch.log_directory.join(format!("{}.log", launch.name));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)?;
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("RUST_BACKTRACE", "1")
            .envs(launch.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = spawn(&mut command)
            .with_context(|| format!("cannot start {}", launch.program.display()))?;
        Ok(Self {
            name: launch.name.to_owned(),
            child,
            log,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where its log is.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log, for messages.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Fails with its log's end if it is no longer running.
    ///
    /// # Errors
    /// When it ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}):\n{}", self.name, self.log_tail(20));
        }
        Ok(())
    }

    /// Waits until `ready` holds, failing early when the program ends.
    ///
    /// # Errors
    /// When it ends or the time is over; with the end of its log.
    pub fn wait_until(
        &mut self,
        limit: Duration,
        what: &str,
        mut ready: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let start = std::time::Instant::now();
        loop {
            self.check()?;
            let seen = ready();
            if matches!(seen, Ok(true)) {
                return Ok(());
            }
            if start.elapsed() > limit {
                let why = seen.err().map(|e| format!(" ({e:#})")).unwrap_or_default();
                let tail = self.log_tail(20);
                bail!(
                    "{}: waited {limit:?} for {what}{why}; its log ends:\n{tail}",
                    self.name
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        Ok(())
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// When it does not end; it is killed then.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let ended = wait::until(END, "the program to end", || Ok(self.child.try_wait()?));
        ended.with_context(|| format!("{} did not end; its log:\n{}", self.name, self.log_tail(20)))
    }

    /// SIGKILL, then waits for the end.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// CPU seconds used so far, user and system.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.pid())
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid()))?;
        let pages: u64 = text
            .split_whitespace()
            .nth(1)
            .context("statm is short")?
            .parse()?;
        Ok(pages * 4096)
    }
}

/// CPU seconds of a process. The kernel counts in ticks of 10 ms.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(')').context("stat is short")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2);
    Ok(ticks.filter_map(|n| n.parse::<f64>().ok()).sum::<f64>() / 100.0)
}

impl Drop for Program {
    /// Tests end anywhere; a program must not outlive its test.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().and_then(|()| self.child.wait()).ok();
        }
    }
}
