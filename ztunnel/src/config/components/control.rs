//! Settings of the channels to the control plane: discovery and certificates.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::config::node::Node;
use crate::config::reader::Reader;
use crate::config::{Variable, parse, variables as v};

/// Where Istio mounts the root certificate and the token, relative to the working directory.
const DEFAULT_ROOT: &str = "./var/run/secrets/istio/root-cert.pem";
const DEFAULT_TOKEN: &str = "./var/run/secrets/tokens/istio-token";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a server's certificate is verified with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum RootCertificates {
    /// PEM file, read again when it changes.
    File(PathBuf),
    /// PEM text.
    Pem(String),
    /// The system's.
    System,
}

impl RootCertificates {
    fn from_text(text: &str) -> Self {
        if text == "SYSTEM" {
            Self::System
        } else if text.contains("-----BEGIN") {
            Self::Pem(text.to_owned())
        } else {
            Self::File(PathBuf::from(text))
        }
    }

    fn read(reader: &Reader<'_>, variable: &Variable) -> Self {
        Self::from_text(reader.text(variable).as_deref().unwrap_or(DEFAULT_ROOT))
    }
}

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// None is sent.
    None,
    /// File, read for every request.
    File(PathBuf),
    /// The token itself.
    Text(String),
}

impl Token {
    fn read(reader: &Reader<'_>) -> Self {
        let default = || {
            let path = Path::new(DEFAULT_TOKEN);
            if path.exists() {
                Self::File(path.to_owned())
            } else {
                Self::None
            }
        };
        reader.text(&v::AUTH_TOKEN).map_or_else(default, |text| {
            // What looks like a path is one even while the file is missing: a path is never sent.
            let path_like = text.starts_with(['/', '.']) || Path::new(&text).exists();
            if path_like {
                Self::File(PathBuf::from(text))
            } else {
                Self::Text(text)
            }
        })
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Text(_) => f.write_str("Text(redacted)"),
        }
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

/// Headers for gRPC requests. Values may be credentials: they are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    fn read(reader: &mut Reader<'_>, prefix: &str) -> Self {
        let mut headers = Vec::new();
        for (name, value) in reader.prefixed(prefix) {
            let name = name.to_ascii_lowercase();
            let known = http::HeaderName::from_bytes(name.as_bytes()).is_ok()
                && http::HeaderValue::from_str(&value).is_ok_and(|value| value.to_str().is_ok())
                && !name.ends_with("-bin");
            if known {
                headers.push((name, value));
            } else {
                reader.invalid(
                    &format!("{prefix}{name}"),
                    "(not shown)",
                    "a header name and text",
                );
            }
        }
        Self(headers)
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, _)| (name, "redacted")))
    }
}

/// Files with which the agent identifies itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientCertificate {
    /// PEM chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// Workloads, services and policies given by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum StaticConfig {
    /// YAML file.
    File(PathBuf),
    /// YAML text.
    Text(String),
}

/// Discovery (xDS).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// `https://host:port`; `None`: no discovery.
    pub address: Option<String>,
    /// What its certificate is verified with.
    pub roots: RootCertificates,
    /// Name to verify instead of the address's.
    pub alternative_hostname: Option<String>,
    /// Bearer token.
    pub token: Token,
    /// Certificate to present.
    pub client_certificate: Option<ClientCertificate>,
    /// Further headers.
    pub headers: Headers,
    /// Subscribe to names as they are needed.
    pub on_demand: bool,
    /// Static configuration.
    pub local: Option<StaticConfig>,
    /// Namespace preferred among equal services.
    pub preferred_service_namespace: Option<String>,
}

impl Discovery {
    pub(in crate::config) fn from_source(reader: &mut Reader<'_>, node: &Node) -> Self {
        let address = match reader.raw(&v::XDS_ADDRESS) {
            Some(text) if text.is_empty() => None,
            Some(_) => reader.parsed(&v::XDS_ADDRESS, parse::https),
            None => reader
                .proxy_config
                .discovery_address
                .clone()
                .and_then(|text| {
                    let parsed = parse::https(&text);
                    if parsed.is_none() {
                        reader.invalid("PROXY_CONFIG discoveryAddress", &text, v::XDS_ADDRESS.form);
                    }
                    parsed
                })
                .or_else(|| Some(node.default_control_plane().to_owned())),
        };
        Self {
            address,
            roots: RootCertificates::read(reader, &v::XDS_ROOT_CA),
            alternative_hostname: reader.text(&v::ALT_XDS_HOSTNAME),
            token: Token::read(reader),
            client_certificate: client_certificate(reader),
            headers: Headers::read(reader, "XDS_HEADER_"),
            on_demand: reader.switch(&v::XDS_ON_DEMAND, false),
            local: local(reader),
            preferred_service_namespace: reader.text(&v::PREFERED_SERVICE_NAMESPACE),
        }
    }
}

fn local(reader: &mut Reader<'_>) -> Option<StaticConfig> {
    match (reader.path(&v::LOCAL_XDS_PATH), reader.text(&v::LOCAL_XDS)) {
        (Some(_), Some(_)) => {
            reader.conflict("LOCAL_XDS_PATH and LOCAL_XDS exclude each other: set one");
            None
        }
        (Some(path), None) => Some(StaticConfig::File(path)),
        (None, text) => text.map(StaticConfig::Text),
    }
}

fn client_certificate(reader: &mut Reader<'_>) -> Option<ClientCertificate> {
    match (
        reader.path(&v::AMBIT_CLIENT_CERT),
        reader.path(&v::AMBIT_CLIENT_KEY),
    ) {
        (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
        (None, None) => None,
        _ => {
            reader.conflict("AMBIT_CLIENT_CERT and AMBIT_CLIENT_KEY need each other: set both");
            None
        }
    }
}

/// Certificates and the authority that signs them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// `https://host:port`; `None` only with [`fake`](Self::fake).
    pub address: Option<String>,
    /// What its certificate is verified with.
    pub roots: RootCertificates,
    /// Name to verify instead of the address's.
    pub alternative_hostname: Option<String>,
    /// Bearer token.
    pub token: Token,
    /// Certificate to present.
    pub client_certificate: Option<ClientCertificate>,
    /// Further headers.
    pub headers: Headers,
    /// Lifetime to ask for.
    pub ttl: Duration,
    /// Sign in the process, for tests.
    pub fake: bool,
    /// Revocation lists.
    pub crl: Option<PathBuf>,
    /// TLS 1.2 besides 1.3.
    pub tls12: bool,
    /// Only post-quantum key exchange.
    pub post_quantum_only: bool,
}

impl Certificates {
    pub(in crate::config) fn from_source(reader: &mut Reader<'_>, node: &Node) -> Self {
        let fake = reader.switch(&v::FAKE_CA, false);
        let address = match reader.raw(&v::CA_ADDRESS) {
            _ if fake => None,
            None => Some(node.default_control_plane().to_owned()),
            Some(text) if text.is_empty() => {
                reader.invalid(v::CA_ADDRESS.name, "", v::CA_ADDRESS.form);
                None
            }
            Some(_) => reader.parsed(&v::CA_ADDRESS, parse::https),
        };
        let ttl = reader.duration(&v::SECRET_TTL, DAY);
        if ttl < Duration::from_secs(1) {
            reader.invalid(v::SECRET_TTL.name, "0", "a duration of at least 1s");
        }
        Self {
            address,
            roots: RootCertificates::read(reader, &v::CA_ROOT_CA),
            alternative_hostname: reader.text(&v::ALT_CA_HOSTNAME),
            token: Token::read(reader),
            client_certificate: match (
                reader.path(&v::AMBIT_CLIENT_CERT),
                reader.path(&v::AMBIT_CLIENT_KEY),
            ) {
                (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
                _ => None,
            },
            headers: Headers::read(reader, "CA_HEADER_"),
            ttl,
            fake,
            crl: reader.path(&v::CRL_PATH),
            tls12: reader.switch(&v::TLS12_ENABLED, false),
            post_quantum_only: post_quantum_only(reader),
        }
    }
}

/// An unknown policy is an error: running with less than was asked for would be silent.
fn post_quantum_only(reader: &mut Reader<'_>) -> bool {
    reader
        .parsed(&v::COMPLIANCE_POLICY, |text| match text {
            "pqc" => Some(true),
            // The build decides about FIPS, as it does for Istio's ztunnel.
            "fips-140-2" | "fips-140-3" => Some(false),
            _ => None,
        })
        .unwrap_or(false)
}
