//! A whole mesh on a topology: the controller in standalone mode and one node agent per node, as the
//! released programs run, with files for configuration.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::apps::client;
use crate::command;
use crate::process::{Launch, Program};
use crate::topology::{Plan, Topology};
use crate::wait;

/// Port of discovery, certificates and enrolment.
const CONTROL_PORT: u16 = 15012;
/// Admin port of the controller.
const CONTROLLER_ADMIN: u16 = 15010;
/// Metrics port of the controller.
const CONTROLLER_METRICS: u16 = 15014;
/// Admin port of an agent.
const AGENT_ADMIN: u16 = 15000;
/// Metrics port of an agent.
const AGENT_METRICS: u16 = 15020;
/// Readiness port of an agent.
const AGENT_READY: u16 = 15021;
/// How long a program may take to be ready.
pub const START: Duration = Duration::from_secs(30);

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The node agent.
    pub ztunnel: PathBuf,
    /// The controller.
    pub controller: PathBuf,
}

impl Binaries {
    /// The release build if there is one, else the debug build, of the target directory that the
    /// running program is in.
    ///
    /// # Errors
    /// When neither exists, with how to build them.
    pub fn find() -> Result<Self> {
        let me = std::env::current_exe()?;
        for target in me.ancestors().skip(1) {
            for profile in ["dist", "release", "debug"] {
                let found = Self::in_directory(&target.join(profile));
                if found.ztunnel.exists() && found.controller.exists() {
                    return Ok(found);
                }
            }
        }
        bail!(
            "no ztunnel and controller beside {}: cargo build --release -p ztunnel -p controller",
            me.display()
        )
    }

    /// The programs in a directory.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            ztunnel: directory.join("ztunnel"),
            controller: directory.join("controller"),
        }
    }
}

/// A running mesh.
#[derive(Debug)]
pub struct Mesh {
    // Fields drop in order: programs before the namespaces they run in.
    agents: Vec<Option<Program>>,
    controller: Option<Program>,
    bpffs: BpfFs,
    /// The nodes and pods.
    pub topology: Topology,
    binaries: Binaries,
    agent_environment: Vec<(String, String)>,
    directory: TempDir,
}

/// A file of configuration: name and content.
pub type Document = (String, String);

impl Mesh {
    /// Builds the topology, writes what `configure` makes of it, and starts controller and agents.
    /// Returns when all are ready.
    ///
    /// # Errors
    /// When something does not come up; with the end of its log.
    pub fn start(
        plan: &Plan,
        binaries: Binaries,
        agent_environment: &[(&str, &str)],
        configure: impl FnOnce(&Topology) -> Vec<Document>,
    ) -> Result<Self> {
        let topology = Topology::build(plan)?;
        let directory = tempfile::Builder::new().prefix("ambit-").tempdir()?;
        for part in ["config", "data", "tokens"] {
            std::fs::create_dir(directory.path().join(part))?;
        }
        let bpffs = BpfFs::mount(directory.path().join("bpf"))?;
        let agent_environment = agent_environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let agents = topology.nodes.iter().map(|_| None).collect();
        let documents = configure(&topology);
        let mut mesh = Self {
            agents,
            controller: None,
            bpffs,
            topology,
            binaries,
            agent_environment,
            directory,
        };
        for (name, content) in documents {
            mesh.apply(&name, &content)?;
        }
        mesh.start_controller()?;
        for node in 0..mesh.topology.nodes.len() {
            mesh.make_token(node)?;
            mesh.launch_agent(node, &[])?;
        }
        for node in 0..mesh.topology.nodes.len() {
            mesh.wait_agent(node)?;
        }
        Ok(mesh)
    }

    /// The directory of everything: configuration, data, tokens, logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of configuration.
    #[must_use]
    pub fn config_directory(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// Writes a file of configuration, whole, as an editor does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn apply(&self, name: &str, content: &str) -> Result<()> {
        let hidden = self.config_directory().join(format!(".{name}.new"));
        std::fs::write(&hidden, content)?;
        std::fs::rename(&hidden, self.config_directory().join(name))?;
        Ok(())
    }

    /// Removes a file of configuration.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove(&self, name: &str) -> Result<()> {
        std::fs::remove_file(self.config_directory().join(name)).context(name.to_owned())
    }

    /// The controller.
    ///
    /// # Panics
    /// When it is stopped: a mistake in the test.
    #[must_use]
    pub fn controller(&self) -> &Program {
        self.controller.as_ref().expect("the controller runs")
    }

    /// The agent of a node.
    ///
    /// # Panics
    /// When it is stopped: a mistake in the test.
    #[must_use]
    pub fn agent(&self, node: usize) -> &Program {
        self.agents[node].as_ref().expect("the agent runs")
    }

    /// The agents that run.
    pub fn agents(&self) -> impl Iterator<Item = &Program> {
        self.agents.iter().flatten()
    }

    /// Starts the controller and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_controller(&mut self) -> Result<()> {
        let address = self.topology.fabric.v4;
        let arguments = [
            "run".to_owned(),
            "--config".to_owned(),
            self.config_directory().display().to_string(),
            "--data-dir".to_owned(),
            self.data_directory().display().to_string(),
            "--listen".to_owned(),
            format!("{address}:{CONTROL_PORT}"),
            "--admin".to_owned(),
            format!("{address}:{CONTROLLER_ADMIN}"),
            "--metrics".to_owned(),
            format!("{address}:{CONTROLLER_METRICS}"),
        ];
        let launch = Launch {
            name: "controller",
            program: self.binaries.controller.clone(),
            arguments: arguments.into(),
            environment: Vec::new(),
            log_directory: self.directory.path().to_owned(),
        };
        let fabric = self.topology.fabric.clone();
        let mut program = Program::start(&fabric, &launch)?;
        let at = (address, CONTROL_PORT).into();
        program.wait_until(START, "its port", || {
            Ok(client::connect(&fabric, at).is_ok())
        })?;
        self.controller = Some(program);
        Ok(())
    }

    /// Stops the controller with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_controller(&mut self) -> Result<()> {
        self.controller
            .take()
            .context("the controller does not run")?
            .kill()
    }

    /// Starts an agent and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_agent(&mut self, node: usize) -> Result<()> {
        self.launch_agent(node, &[])?;
        self.wait_agent(node)
    }

    /// Starts an agent with more environment and does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch_agent(&mut self, node: usize, extra: &[(&str, &str)]) -> Result<()> {
        let program = self.spawn_agent(node, extra)?;
        self.agents[node] = Some(program);
        Ok(())
    }

    /// Starts one more agent for a node, beside the one that runs, as an upgrade does.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_agent(&self, node: usize, extra: &[(&str, &str)]) -> Result<Program> {
        let mut environment = self.environment(node)?;
        environment.extend(self.agent_environment.iter().cloned());
        environment.extend(
            extra
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        );
        let launch = Launch {
            name: &format!("ztunnel-{}", node + 1),
            program: self.binaries.ztunnel.clone(),
            arguments: Vec::new(),
            environment,
            log_directory: self.directory.path().to_owned(),
        };
        Program::start(&self.topology.nodes[node].host, &launch)
    }

    /// Puts an agent in the place of the one that ran; returns the old one, still running.
    pub fn replace_agent(&mut self, node: usize, program: Program) -> Option<Program> {
        self.agents[node].replace(program)
    }

    /// Takes an agent out, running, to end it in one way or another.
    ///
    /// # Errors
    /// When it does not run.
    pub fn take_agent(&mut self, node: usize) -> Result<Program> {
        self.agents[node].take().context("the agent does not run")
    }

    /// Waits until an agent says it is ready.
    ///
    /// # Errors
    /// When it does not, with the end of its log.
    pub fn wait_agent(&mut self, node: usize) -> Result<()> {
        let host = self.topology.nodes[node].host.clone();
        let at = ([127, 0, 0, 1], AGENT_READY).into();
        let program = self.agents[node]
            .as_mut()
            .context("the agent does not run")?;
        program.wait_until(START, "readiness", || {
            let (status, body) = client::get_any(&host, at, "/healthz/ready")?;
            if status == 200 {
                Ok(true)
            } else {
                bail!("{body}")
            }
        })
    }

    /// Asks an agent's admin server.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub fn admin(&self, node: usize, path: &str) -> Result<String> {
        let at = ([127, 0, 0, 1], AGENT_ADMIN).into();
        Ok(client::get(&self.topology.nodes[node].host, at, path)?)
    }

    /// Asks the controller's admin server.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub fn controller_admin(&self, path: &str) -> Result<String> {
        let fabric = &self.topology.fabric;
        Ok(client::get(
            fabric,
            (fabric.v4, CONTROLLER_ADMIN).into(),
            path,
        )?)
    }

    /// An agent's metrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self, node: usize) -> Result<String> {
        let at = ([127, 0, 0, 1], AGENT_METRICS).into();
        Ok(client::get(
            &self.topology.nodes[node].host,
            at,
            "/stats/prometheus",
        )?)
    }

    /// The sum of an agent's series of a metric that have all the parts in their line.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metric(&self, node: usize, name: &str, parts: &[&str]) -> Result<f64> {
        let text = self.metrics(node)?;
        let lines = text.lines().filter(|line| {
            let named = line
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']));
            named && parts.iter().all(|part| line.contains(part))
        });
        Ok(lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum())
    }

    /// The last lines of every program's log that tell of something wrong, for messages.
    #[must_use]
    pub fn complaints(&self) -> String {
        let programs = self.agents.iter().flatten().chain(&self.controller);
        let mut text = String::new();
        for program in programs {
            let log = program.log();
            let wrong = |line: &&str| {
                ["\terror\t", "\twarn\t", "panicked"]
                    .iter()
                    .any(|w| line.contains(w))
            };
            let lines: Vec<_> = log.lines().filter(wrong).collect();
            let last = &lines[lines.len().saturating_sub(12)..];
            text += &format!(
                "\n{} complains {} times, last:\n{}",
                program.name(),
                lines.len(),
                last.join("\n")
            );
        }
        text
    }

    /// Waits until every agent knows that the pods of these names take tunnels.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn wait_captured(&self, pods: &[&str]) -> Result<()> {
        wait::until(START, "all pods to be known as captured", || {
            for node in 0..self.topology.nodes.len() {
                for pod in pods {
                    if !self.takes_tunnels(node, pod)? {
                        bail!("agent {} does not know {pod} as captured", node + 1);
                    }
                }
            }
            Ok(Some(()))
        })
    }

    /// Whether an agent's dump shows the workload with a tunnel protocol.
    fn takes_tunnels(&self, node: usize, pod: &str) -> Result<bool> {
        let dump: serde_json::Value = serde_json::from_str(&self.admin(node, "/config_dump")?)?;
        let workloads = dump.get("workloads").context("no workloads in the dump")?;
        let all: Vec<&serde_json::Value> = match workloads {
            serde_json::Value::Array(all) => all.iter().collect(),
            serde_json::Value::Object(all) => all.values().collect(),
            _ => bail!("workloads are not a list"),
        };
        Ok(all.iter().any(|workload| {
            let named = workload.get("name").and_then(|n| n.as_str()) == Some(pod);
            let keys = ["protocol", "tunnel", "tunnelProtocol"];
            let protocol = keys.iter().find_map(|key| workload.get(*key)?.as_str());
            named && protocol.is_some_and(|p| p.eq_ignore_ascii_case("hbone"))
        }))
    }

    /// The controller's own directory: its authority, and the key of node tokens.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn token(&self, node: usize) -> PathBuf {
        self.directory
            .path()
            .join("tokens")
            .join(&self.topology.nodes[node].name)
    }

    /// Has the controller make the credentials of a node.
    fn make_token(&self, node: usize) -> Result<()> {
        let output = Command::new(&self.binaries.controller)
            .args(["node-token", "--data-dir"])
            .arg(self.data_directory())
            .args(["--node", &self.topology.nodes[node].name])
            .output()?;
        if !output.status.success() {
            bail!(
                "controller node-token: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        std::fs::write(self.token(node), output.stdout)?;
        Ok(())
    }

    fn environment(&self, node: usize) -> Result<Vec<(String, String)>> {
        let address = format!("https://{}:{CONTROL_PORT}", self.topology.fabric.v4);
        let roots = find_file(&self.data_directory(), "root-cert.pem")
            .context("the controller has no root")?;
        let roots = roots.display().to_string();
        let directory = self.bpffs.0.join(&self.topology.nodes[node].name);
        let pairs = [
            ("NODE_NAME", self.topology.nodes[node].name.clone()),
            ("INSTANCE_IP", self.topology.nodes[node].host.v4.to_string()),
            ("XDS_ADDRESS", address.clone()),
            ("CA_ADDRESS", address),
            ("XDS_ROOT_CA", roots.clone()),
            ("CA_ROOT_CA", roots),
            ("AUTH_TOKEN", self.token(node).display().to_string()),
            ("AMBIT_ENROLMENT", "controller".to_owned()),
            ("AMBIT_CAPTURE", "ebpf".to_owned()),
            ("AMBIT_BPFFS_DIR", directory.display().to_string()),
            ("ZTUNNEL_WORKER_THREADS", "2".to_owned()),
        ];
        Ok(pairs.map(|(key, value)| (key.to_owned(), value)).into())
    }
}

/// Looks for a file by name, at most one directory deep.
#[must_use]
pub fn find_file(directory: &Path, name: &str) -> Option<PathBuf> {
    let direct = directory.join(name);
    if direct.exists() {
        return Some(direct);
    }
    let entries = std::fs::read_dir(directory).ok()?;
    entries
        .flatten()
        .map(|e| e.path().join(name))
        .find(|path| path.exists())
}

/// A file system for pins of this mesh alone; what is pinned goes with it.
#[derive(Debug)]
struct BpfFs(PathBuf);

impl BpfFs {
    fn mount(at: PathBuf) -> Result<Self> {
        std::fs::create_dir(&at)?;
        command::run(&format!("mount -t bpf bpf {}", at.display()))?;
        Ok(Self(at))
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // A busy mount is detached and goes with its last user.
        command::run(&format!("umount -l {}", self.0.display())).ok();
    }
}
