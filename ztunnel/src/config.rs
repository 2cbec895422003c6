//! The agent's configuration: environment variables as given, read in one pass through a `Source`
//! into typed, defaulted and cross-checked structs, with every error reported at once. The only
//! file that touches the process environment; each component receives only its own struct.

mod components;
mod nearest;
mod node;
pub mod parse;
mod proxy_config;
mod reader;
mod reference;
mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::Serialize;

pub use components::{
    Admin, CaptureMode, Certificates, ClientCertificate, Discovery, Dns, Drain, Enrolment,
    EnrolmentSource, Headers, Keepalive, Logging, OriginalSource, Proxy, ProxyMode,
    RootCertificates, Sockets, StaticConfig, Token, Tunnel, WorkloadReference,
};
pub use node::Node;
pub use reference::reference_page;

/// The file with Istio's mesh configuration, relative to the working directory as in Istio's image.
pub const MESH_CONFIG_PATH: &str = "./etc/istio/config/mesh";

/// Where variables come from: the process environment, or a map in tests.
pub trait Source {
    /// The value of one variable.
    fn value(&self, name: &str) -> Option<String>;
    /// Every name that is set.
    fn names(&self) -> Vec<String>;
    /// The mesh configuration file's text; `None` where there is none.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    fn mesh_config(&self) -> std::io::Result<Option<String>>;
}

/// The environment of this process.
#[derive(Debug, Default)]
pub struct Environment;

impl Source for Environment {
    fn value(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect()
    }

    fn mesh_config(&self) -> std::io::Result<Option<String>> {
        match std::fs::read_to_string(MESH_CONFIG_PATH) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Source for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }

    fn mesh_config(&self) -> std::io::Result<Option<String>> {
        Ok(None)
    }
}

/// One environment variable: a line of the reference page.
#[derive(Debug)]
pub struct Variable {
    /// Name.
    pub name: &'static str,
    /// Accepted form, as shown in errors.
    pub form: &'static str,
    /// Default, as shown on the reference page.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// Everything the agent was told. Serialised (secrets redacted) at `/config`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The node, its cluster and the agent's own pod.
    pub node: Node,
    /// Discovery (xDS).
    pub discovery: Discovery,
    /// Certificates and the authority that signs them.
    pub certificates: Certificates,
    /// Data path.
    pub proxy: Proxy,
    /// HBONE tunnels.
    pub tunnel: Tunnel,
    /// Data sockets.
    pub sockets: Sockets,
    /// DNS proxy.
    pub dns: Dns,
    /// Enrolment and capture of pods.
    pub enrolment: Enrolment,
    /// Admin, metrics and readiness.
    pub admin: Admin,
    /// Ending.
    pub drain: Drain,
    /// Logging.
    pub logging: Logging,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every value that is not understood, every contradiction and every unknown `AMBIT_*` name.
    pub fn from_source(source: &dyn Source) -> Result<Self, ConfigErrors> {
        let mut reader = reader::Reader::new(source);
        let node = Node::from_source(&mut reader);
        let discovery = Discovery::from_source(&mut reader, &node);
        let config = Self {
            certificates: Certificates::from_source(&mut reader, &node),
            proxy: Proxy::from_source(&mut reader),
            tunnel: Tunnel::from_source(&mut reader),
            sockets: Sockets::from_source(&mut reader),
            dns: Dns::from_source(&mut reader, &node, &discovery),
            enrolment: Enrolment::from_source(&mut reader, &node, &discovery),
            admin: Admin::from_source(&mut reader),
            drain: Drain::from_source(&mut reader),
            logging: Logging::from_source(&mut reader),
            node,
            discovery,
        };
        if !config.proxy.enabled && !config.dns.enabled {
            reader.conflict("ENABLE_PROXY=false and ISTIO_META_DNS_CAPTURE=false leave nothing to do: enable one");
        }
        reader.finish(config)
    }

    /// From this process's environment.
    ///
    /// # Errors
    /// As [`Config::from_source`].
    pub fn from_environment() -> Result<Self, ConfigErrors> {
        Self::from_source(&Environment)
    }
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Bind {
    /// 127.0.0.1, and ::1 where IPv6 is enabled.
    Localhost(u16),
    /// Every address.
    Any(u16),
    /// Just this one.
    Exact(SocketAddr),
}

impl Bind {
    /// The addresses to bind.
    #[must_use]
    pub fn addresses(self, ipv6: bool) -> Vec<SocketAddr> {
        match self {
            Self::Exact(address) => vec![address],
            Self::Any(port) if ipv6 => vec![(Ipv6Addr::UNSPECIFIED, port).into()],
            Self::Any(port) => vec![(Ipv4Addr::UNSPECIFIED, port).into()],
            Self::Localhost(port) => {
                let mut hosts = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
                if ipv6 {
                    hosts.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
                }
                hosts
                    .into_iter()
                    .map(|host| SocketAddr::new(host, port))
                    .collect()
            }
        }
    }

    /// The port.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Localhost(port) | Self::Any(port) => port,
            Self::Exact(address) => address.port(),
        }
    }
}

/// Why one setting is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The value is not of the variable's form.
    #[error("{name}={value:?} is not understood: expected {form}")]
    Invalid {
        /// The variable.
        name: String,
        /// Its value, cut to a printable length; secrets are not shown.
        value: String,
        /// What would be accepted.
        form: String,
    },
    /// A name with our prefix that means nothing.
    #[error("{name} is not a setting{}", nearest.map_or(String::new(), |n| format!(": did you mean {n}?")))]
    Unknown {
        /// The name.
        name: String,
        /// The most similar one.
        nearest: Option<&'static str>,
    },
    /// Settings that exclude or need each other.
    #[error("{0}")]
    Conflict(String),
    /// The mesh configuration file cannot be read.
    #[error("{} cannot be read", path.display())]
    MeshConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Everything that is wrong, in the order found.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} setting(s) refused", self.0.len())?;
        for error in &self.0 {
            write!(f, "\n  {error}")?;
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                write!(f, ": {cause}")?;
                source = cause.source();
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests;
