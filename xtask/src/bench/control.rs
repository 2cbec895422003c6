//! The controller: memory with many workloads, and the time from a change to every simulated agent.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ambit_testkit::mesh::Binaries;
use ambit_testkit::process::{Launch, Program};
use ambit_testkit::yaml;
use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::rounds::median;
use super::simulated::{Access, Seen, follow};

/// Simulated agents.
const CLIENTS: usize = 100;
/// Changes measured.
const CHANGES: usize = 20;
/// Objects in one file.
const PER_FILE: usize = 100;
/// The longest one step may take.
const STEP: Duration = Duration::from_secs(60);
/// Name of the pod that changes.
const WATCHED: &str = "changing";

/// Figures at one size.
#[derive(Debug, Serialize)]
pub(crate) struct Control {
    pub(crate) workloads: usize,
    pub(crate) clients: usize,
    pub(crate) resident: u64,
    pub(crate) first_push_ms: f64,
    pub(crate) change_p50_ms: f64,
    pub(crate) change_p99_ms: f64,
}

/// Measures at two sizes.
pub(crate) fn measure(programs: &Path, quick: bool) -> Result<Vec<Control>> {
    let changes = if quick { CHANGES / 2 } else { CHANGES };
    [1_000, 10_000]
        .iter()
        .map(|size| one(programs, *size, changes))
        .collect()
}

fn one(programs: &Path, workloads: usize, changes: usize) -> Result<Control> {
    let directory = tempfile::Builder::new().prefix("ambit-bench-").tempdir()?;
    let config = directory.path().join("config");
    std::fs::create_dir(&config)?;
    write_objects(&config, workloads)?;
    let (mut program, access, data) = start(programs, directory.path(), &config)?;
    let tokens = tokens(programs, &data)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (seen, reports) = channel();
    let started = Instant::now();
    let clients = std::thread::spawn(move || {
        runtime.block_on(async move {
            let mut tasks = tokio::task::JoinSet::new();
            for (client, token) in tokens.into_iter().enumerate() {
                let watched = format!("/{WATCHED}");
                tasks.spawn(follow(access.clone(), client, token, watched, seen.clone()));
            }
            drop(seen);
            // They end when the controller does.
            tasks.join_all().await
        })
    });
    let first = wait_for_all(&reports, workloads)?;
    let times = time_changes(&config, &reports, changes)?;
    let resident = program.resident()?;
    program.check()?;
    program.kill()?;
    drop(reports);
    clients
        .join()
        .map_err(|_| anyhow::anyhow!("the simulated clients panicked"))?;
    let p99 = times[(times.len() - 1) * 99 / 100];
    Ok(Control {
        workloads,
        clients: CLIENTS,
        resident,
        first_push_ms: (first - started).as_secs_f64() * 1e3,
        change_p50_ms: median(times.iter().copied()),
        change_p99_ms: p99,
    })
}

fn pod(name: &str, index: usize, revision: &str) -> String {
    let (a, b, c) = (index / 62_500, index / 250 % 250, index % 250 + 1);
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: bench\n\
         \x20 uid: bench-{name}\n\
         \x20 labels: {{app: app-{app}, service.istio.io/canonical-revision: {revision}}}\n\
         spec: {{serviceAccountName: app-{app}, nodeName: node-{node}, containers: [{{name: a, image: a}}]}}\n\
         status:\n  phase: Running\n  podIP: 10.{a}.{b}.{c}\n  podIPs: [{{ip: 10.{a}.{b}.{c}}}]\n\
         \x20 conditions: [{{type: Ready, status: \"True\"}}]\n---\n",
        app = index % 100,
        node = index % CLIENTS,
    )
}

fn write_objects(config: &Path, workloads: usize) -> Result<()> {
    let mut text = yaml::namespace("bench", true);
    for app in 0..100_u8 {
        let name = format!("app-{app}");
        text += &yaml::service(
            "bench",
            &name,
            &name,
            &[[10, 200, 0, app + 1].into()],
            &[80],
        );
    }
    std::fs::write(config.join("services.yaml"), text)?;
    let indices: Vec<usize> = (1..workloads).collect();
    for (number, part) in indices.chunks(PER_FILE).enumerate() {
        let mut text = String::new();
        for index in part {
            text.write_str(&pod(&format!("pod-{index}"), *index, "v1"))?;
        }
        std::fs::write(config.join(format!("pods-{number}.yaml")), text)?;
    }
    change(config, 0)
}

/// Replaces the file of one pod, as an editor does.
fn change(config: &Path, revision: usize) -> Result<()> {
    let hidden = config.join(".changing.new");
    std::fs::write(&hidden, pod(WATCHED, 0, &format!("r{revision}")))?;
    Ok(std::fs::rename(hidden, config.join("changing.yaml"))?)
}

fn start(programs: &Path, directory: &Path, config: &Path) -> Result<(Program, Access, PathBuf)> {
    let data = directory.join("data");
    std::fs::create_dir(&data)?;
    let (port, admin, metrics) = (free_port()?, free_port()?, free_port()?);
    let launch = Launch {
        name: "controller",
        program: Binaries::in_directory(programs).controller,
        arguments: vec![
            "run".into(),
            "--config".into(),
            config.display().to_string(),
            "--data-dir".into(),
            data.display().to_string(),
            "--listen".into(),
            format!("127.0.0.1:{port}"),
            "--admin".into(),
            format!("127.0.0.1:{admin}"),
            "--metrics".into(),
            format!("127.0.0.1:{metrics}"),
        ],
        environment: Vec::new(),
        log_directory: directory.to_owned(),
    };
    let mut program = Program::start_here(&launch)?;
    program.wait_until(STEP, "its port", || {
        Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
    })?;
    let roots = ambit_testkit::mesh::find_file(&data, "root-cert.pem").context("no root")?;
    Ok((
        program,
        Access::new(format!("https://127.0.0.1:{port}"), &roots)?,
        data,
    ))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn tokens(programs: &Path, data: &Path) -> Result<Vec<String>> {
    let controller = Binaries::in_directory(programs).controller;
    (0..CLIENTS)
        .map(|node| {
            let output = Command::new(&controller)
                .args(["node-token", "--data-dir"])
                .arg(data)
                .args(["--node", &format!("node-{node}")])
                .output()?;
            if !output.status.success() {
                bail!(
                    "controller node-token: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        })
        .collect()
}

/// When the last client had everything.
fn wait_for_all(reports: &Receiver<Seen>, workloads: usize) -> Result<Instant> {
    let mut have = [0; CLIENTS];
    let mut last = Instant::now();
    while have.iter().any(|n| *n < workloads) {
        let seen = reports
            .recv_timeout(STEP)
            .context("the first push does not arrive")?;
        have[seen.client] += seen.resources;
        last = seen.at;
    }
    Ok(last)
}

/// Milliseconds from each change to each client, sorted.
fn time_changes(config: &Path, reports: &Receiver<Seen>, changes: usize) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for revision in 1..=changes {
        // What is left of the change before must not count for this one.
        while reports.recv_timeout(Duration::from_millis(300)).is_ok() {}
        let start = Instant::now();
        change(config, revision)?;
        let mut waiting = [true; CLIENTS];
        while waiting.contains(&true) {
            let seen = reports
                .recv_timeout(STEP)
                .context("a change does not arrive")?;
            if seen.watched && waiting[seen.client] {
                waiting[seen.client] = false;
                times.push((seen.at - start).as_secs_f64() * 1e3);
            }
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}
