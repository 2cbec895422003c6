//! The command line and its environment variables, and the configuration they result in. The only
//! place that reads the environment.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::snapshot::MeshSettings;
use crate::validate::{is_hostname, is_label};

/// Ambit's controller: reads what the mesh is described by, serves it to node agents, signs their
/// certificates.
#[derive(Debug, Parser)]
#[command(name = "controller", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a mesh described by a directory of YAML or JSON files
    ///
    /// Files are read again when they change. GET /status on the admin address tells of every
    /// object whether it is in force.
    Run(Box<RunArgs>),
    /// Check a directory of objects without serving it
    ///
    /// Prints what is wrong with file and line, and exits with 1 when an object is refused.
    Validate(ValidateArgs),
    /// Print the token a node agent shows to this controller
    ///
    /// Write it to a file on the node and name that file in the agent's AUTH_TOKEN. The token says
    /// which node it is for: each node needs its own.
    NodeToken(NodeTokenArgs),
}

/// Names that hold for the whole mesh.
#[derive(Clone, Debug, Args)]
pub struct MeshArgs {
    /// Trust domain of all identities
    #[arg(
        long,
        env = "TRUST_DOMAIN",
        default_value = "cluster.local",
        value_name = "NAME"
    )]
    pub trust_domain: String,
    /// Suffix of service host names: <service>.<namespace>.svc.<NAME>
    #[arg(
        long,
        env = "CLUSTER_DOMAIN",
        default_value = "cluster.local",
        value_name = "NAME"
    )]
    pub cluster_domain: String,
    /// Name of the cluster
    #[arg(
        long,
        env = "CLUSTER_ID",
        default_value = "Kubernetes",
        value_name = "NAME"
    )]
    pub cluster_id: String,
    /// Namespace whose policies apply to the whole mesh
    #[arg(
        long,
        env = "ROOT_NAMESPACE",
        default_value = "istio-system",
        value_name = "NAME"
    )]
    pub root_namespace: String,
    /// Network of workloads that name none
    #[arg(long, env = "NETWORK", default_value = "", value_name = "NAME")]
    pub network: String,
}

/// Options of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Directory of objects, read with its subdirectories: *.yaml, *.yml, *.json
    #[arg(long, env = "AMBIT_CONFIG_DIR", value_name = "DIR")]
    pub config: PathBuf,
    /// Directory for the certificate authority and the key of node tokens; made when missing
    #[arg(
        long,
        env = "AMBIT_DATA_DIR",
        default_value = "/var/lib/ambit",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
    /// Directory of your own authority: ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem
    #[arg(long, env = "AMBIT_CACERTS", value_name = "DIR")]
    pub cacerts: Option<PathBuf>,
    /// Address for node agents: discovery, enrolment and certificates, always with TLS
    #[arg(
        long,
        env = "AMBIT_LISTEN",
        default_value = "0.0.0.0:15012",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Address for /status, /clients, /nodes and log levels
    #[arg(
        long,
        env = "AMBIT_ADMIN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    pub admin: SocketAddr,
    /// Address for /metrics and /healthz/ready
    #[arg(
        long,
        env = "AMBIT_METRICS",
        default_value = "0.0.0.0:15014",
        value_name = "ADDRESS"
    )]
    pub metrics: SocketAddr,
    /// Name or IP address by which agents reach the controller; may be given several times
    ///
    /// They are written into the controller's certificate, besides localhost, the address of
    /// --listen and the names of Istio's control plane.
    #[arg(
        long = "advertise",
        env = "AMBIT_ADVERTISE",
        value_delimiter = ',',
        value_name = "HOST"
    )]
    pub advertise: Vec<String>,
    /// How long a workload's certificate is valid when the agent does not say, in hours
    #[arg(long, env = "AMBIT_CERTIFICATE_HOURS", default_value_t = 24, value_name = "HOURS",
          value_parser = clap::value_parser!(u64).range(1..=2160))]
    pub certificate_hours: u64,
    /// Names that hold for the whole mesh.
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// Log levels, such as info or controller=debug,info
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "LEVELS")]
    pub log: String,
    /// Form of log lines
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_name = "FORM")]
    pub log_format: LogFormat,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Readable lines.
    #[value(alias = "plain")]
    Text,
    /// JSON objects.
    Json,
}

/// Form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// One line per finding.
    Text,
    /// One JSON object.
    Json,
}

/// Options of `validate`.
#[derive(Clone, Debug, Args)]
pub struct ValidateArgs {
    /// Directory of objects, or one file
    #[arg(value_name = "DIR")]
    pub path: PathBuf,
    /// Form of the result
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: OutputFormat,
    /// Names that hold for the whole mesh.
    #[command(flatten)]
    pub mesh: MeshArgs,
}

/// Options of `node-token`.
#[derive(Clone, Debug, Args)]
pub struct NodeTokenArgs {
    /// Name of the node, as in spec.nodeName of its pods
    #[arg(long, value_name = "NAME")]
    pub node: String,
    /// Data directory of the controller
    #[arg(
        long,
        env = "AMBIT_DATA_DIR",
        default_value = "/var/lib/ambit",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
    /// Days the token is valid
    #[arg(long, default_value_t = 365, value_name = "DAYS",
          value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub valid_days: u64,
    /// Write a client certificate (cert-chain.pem, key.pem, root-cert.pem) into this directory
    /// instead of printing a token
    #[arg(long, value_name = "DIR")]
    pub certificate: Option<PathBuf>,
    /// Directory of your own authority, as for `run`; only with --certificate
    #[arg(long, env = "AMBIT_CACERTS", value_name = "DIR")]
    pub cacerts: Option<PathBuf>,
    /// Trust domain of all identities
    #[arg(
        long,
        env = "TRUST_DOMAIN",
        default_value = "cluster.local",
        value_name = "NAME"
    )]
    pub trust_domain: String,
}

/// What `run` works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of objects.
    pub objects: PathBuf,
    /// Directory of the authority and the token key.
    pub data_dir: PathBuf,
    /// Directory of a plugged-in authority.
    pub cacerts: Option<PathBuf>,
    /// For node agents.
    pub listen: SocketAddr,
    /// For people.
    pub admin: SocketAddr,
    /// For monitoring.
    pub metrics: SocketAddr,
    /// Names in the controller's certificate.
    pub dns_names: Vec<String>,
    /// Addresses in the controller's certificate.
    pub addresses: Vec<IpAddr>,
    /// Lifetime of certificates when the agent does not say.
    pub certificate_ttl: Duration,
    /// Names that hold for the whole mesh.
    pub mesh: MeshSettings,
}

/// Everything wrong with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);

/// Names by which agents reach a control plane unless told otherwise.
const DNS_NAMES: &[&str] = &[
    "localhost",
    "controller",
    "ambit-controller.ambit-system.svc",
    "istiod.istio-system.svc",
    "istiod.istio-system.svc.cluster.local",
];

impl MeshArgs {
    /// Checks the names; all errors at once.
    pub fn settings(&self) -> Result<MeshSettings, ConfigErrors> {
        let mut errors = Vec::new();
        for (option, value) in [
            ("--trust-domain", &self.trust_domain),
            ("--cluster-domain", &self.cluster_domain),
        ] {
            if !is_hostname(value) {
                errors.push(format!(
                    "{option} is {value:?}; expected a domain name such as cluster.local"
                ));
            }
        }
        if !is_label(&self.root_namespace) {
            errors.push(format!(
                "--root-namespace is {:?}; expected the name of a namespace",
                self.root_namespace
            ));
        }
        for (option, value) in [
            ("--cluster-id", &self.cluster_id),
            ("--network", &self.network),
        ] {
            if value.contains('/') {
                errors.push(format!(
                    "{option} is {value:?}; expected a name without '/'"
                ));
            }
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        Ok(MeshSettings {
            cluster: self.cluster_id.clone(),
            trust_domain: self.trust_domain.clone(),
            cluster_domain: self.cluster_domain.clone(),
            root_namespace: self.root_namespace.clone(),
            network: self.network.clone(),
        })
    }
}

impl Config {
    /// Checks the options; all errors at once.
    pub fn from_args(args: &RunArgs) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mesh = args.mesh.settings().unwrap_or_else(|ConfigErrors(found)| {
            errors.extend(found);
            MeshSettings::default()
        });
        let mut dns_names: Vec<String> = DNS_NAMES.iter().map(|name| (*name).to_owned()).collect();
        let mut addresses: Vec<IpAddr> =
            vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
        if !args.listen.ip().is_unspecified() {
            addresses.push(args.listen.ip());
        }
        for host in args.advertise.iter().filter(|host| !host.is_empty()) {
            match host.parse() {
                Ok(address) => addresses.push(address),
                Err(_) if is_hostname(host) => dns_names.push(host.clone()),
                Err(_) => errors.push(format!(
                    "--advertise is {host:?}; expected a host name or an IP address, without a port"
                )),
            }
        }
        addresses.sort();
        addresses.dedup();
        if args.admin == args.metrics && args.admin.port() != 0 {
            errors.push(format!(
                "--admin and --metrics are both {}; give them different addresses",
                args.admin
            ));
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        Ok(Self {
            objects: args.config.clone(),
            data_dir: args.data_dir.clone(),
            cacerts: args.cacerts.clone(),
            listen: args.listen,
            admin: args.admin,
            metrics: args.metrics,
            dns_names,
            addresses,
            certificate_ttl: Duration::from_secs(args.certificate_hours * 3600),
            mesh,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<Config, ConfigErrors> {
        let all = ["controller", "run", "--config", "/objects"]
            .iter()
            .chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Run(args) => Config::from_args(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_have_defaults() {
        let config = run(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "0.0.0.0:15012");
        assert!(
            config
                .dns_names
                .iter()
                .any(|name| name == "istiod.istio-system.svc")
        );
        assert_eq!(config.mesh, MeshSettings::default());
    }

    #[test]
    fn advertised_names_go_into_the_certificate() {
        let config = run(&["--advertise", "mesh.example.com,10.0.0.1"]).unwrap();
        assert!(
            config
                .dns_names
                .iter()
                .any(|name| name == "mesh.example.com")
        );
        assert!(config.addresses.contains(&[10, 0, 0, 1].into()));
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let arguments = [
            "--trust-domain",
            "a b",
            "--root-namespace",
            "X",
            "--advertise",
            "10.0.0.1:80",
            "--network",
            "a/b",
        ];
        let ConfigErrors(errors) = run(&arguments).unwrap_err();
        assert_eq!(errors.len(), 4, "{errors:#?}");
        assert!(
            errors[0].starts_with("--trust-domain is \"a b\"; expected"),
            "{errors:#?}"
        );
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
