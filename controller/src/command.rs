//! The commands, from parsed options to exit codes.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ambit_identity::SystemClock;
use ambit_runtime::{Shutdown, admin::LogControl};
use ambit_telemetry::{LogHandle, LogOptions};
use anyhow::{Context as _, Result};

use crate::app::App;
use crate::ca::{AuthorityConfig, CertificateAuthority, NodeTokens};
use crate::config::{
    Cli, Command, Config, LogFormat, NodeTokenArgs, OutputFormat, RunArgs, ValidateArgs,
};
use crate::metrics::Metrics;
use crate::status;
use crate::translate::translate;
use crate::watch::Store;

/// Runs a command; the exit code of `validate` tells whether an object is refused.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Run(args) => serve(&args).map(|()| ExitCode::SUCCESS),
        Command::Validate(args) => validate(&args),
        Command::NodeToken(args) => node_token(&args).map(|()| ExitCode::SUCCESS),
    }
}

fn serve(args: &RunArgs) -> Result<()> {
    let config = Config::from_args(args)?;
    let metrics = Arc::new(Metrics::default());
    let options = LogOptions {
        filter: args.log.clone(),
        json: args.log_format == LogFormat::Json,
    };
    let log = ambit_telemetry::logging::init(&options, metrics.log_dropped.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("controller")
        .build()
        .context("cannot start the runtime")?;
    let control: Arc<dyn LogControl> = Arc::new(Log(log.clone()));
    let result = runtime.block_on(async {
        let app = App::start(config, metrics, control, Shutdown::default()).await?;
        tracing::info!(
            discovery = %app.address,
            admin = %app.admin_address,
            metrics = %app.metrics_address,
            "ready"
        );
        app.run().await
    });
    log.flush();
    result
}

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

fn validate(args: &ValidateArgs) -> Result<ExitCode> {
    let store = Store::new(args.mesh.settings()?);
    let snapshot = load(&args.path, store)?;
    let report = status::report(&snapshot, &translate(&snapshot));
    let mut out = std::io::stdout().lock();
    match args.output {
        OutputFormat::Text => out.write_all(report.text().as_bytes())?,
        OutputFormat::Json => {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
    }
    Ok(if report.has_refusals() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

fn load(path: &Path, mut store: Store) -> Result<crate::snapshot::Snapshot> {
    if path.is_file() {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {path:?}"))?;
        store.update(&path.display().to_string(), &text);
        return Ok(store.snapshot());
    }
    Ok(crate::watch::load(path, store)?.1)
}

fn node_token(args: &NodeTokenArgs) -> Result<()> {
    let ttl = Duration::from_secs(args.valid_days * 24 * 3600);
    let Some(dir) = &args.certificate else {
        let tokens = NodeTokens::open(&args.data_dir, Arc::new(SystemClock))?;
        let token = tokens.issue(&args.node, ttl)?;
        writeln!(std::io::stdout().lock(), "{token}")?;
        return Ok(());
    };
    let config = AuthorityConfig {
        plugged_in: args.cacerts.clone(),
        trust_domain: args.trust_domain.as_str().into(),
        ..AuthorityConfig::new(&args.data_dir)
    };
    let authority = CertificateAuthority::open(config, Arc::new(SystemClock))?;
    let (chain, key) = authority.node_certificate(&args.node, ttl)?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {dir:?}"))?;
    let mut out = std::io::stdout().lock();
    for (name, content, mode) in [
        ("key.pem", key, 0o600),
        ("cert-chain.pem", chain, 0o644),
        ("root-cert.pem", authority.roots_pem(), 0o644),
    ] {
        let path = dir.join(name);
        write(&path, &content, mode).with_context(|| format!("cannot write {path:?}"))?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}

fn write(path: &Path, content: &str, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    // One that was there keeps its mode when opened.
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(content.as_bytes())
}
