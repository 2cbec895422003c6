//! The node agent's process: reads the environment, sets up log and limits, and runs the agent.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ambit_runtime::admin::LogControl;
use ambit_telemetry::{LogHandle, LogOptions, Metrics, logging};
use anyhow::Context;
use ztunnel::app::{App, Process};
use ztunnel::config::Config;

/// How often memory that is free is looked for.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// The log, as the admin server changes it.
struct Log(LogHandle);

impl LogControl for Log {
    fn current(&self) -> String {
        self.0.current()
    }

    fn set(&self, levels: &str) -> Result<(), String> {
        self.0.set(levels).map_err(|error| error.to_string())
    }

    fn reset(&self) -> Result<(), String> {
        self.0.reset().map_err(|error| error.to_string())
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "there may be no log yet")]
            {
                eprintln!("ztunnel: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    ambit_net::tune_memory();
    let config = Config::from_environment()?;
    let metrics = Arc::new(Metrics::new("ztunnel", env!("CARGO_PKG_VERSION")));
    let options = LogOptions {
        filter: config.logging.filter.clone(),
        json: config.logging.json,
    };
    let log = logging::init(&options, metrics.telemetry.log_lines_dropped.clone())?;
    if let Err(error) = ambit_net::raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let process = Process {
        metrics,
        log: Arc::new(Log(log.clone())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the control thread's runtime")?;
    let ended = runtime.block_on(async {
        let app = App::start(config, process).await?;
        tokio::select! {
            ended = app.run() => ended,
            never = give_back_memory() => match never {},
        }
    });
    log.flush();
    ended
}

/// Loading capture programs and bursts of connections leave heaps that are mostly free.
async fn give_back_memory() -> std::convert::Infallible {
    let mut looks = tokio::time::interval(TRIM_INTERVAL);
    loop {
        looks.tick().await;
        ambit_net::trim_memory();
    }
}
