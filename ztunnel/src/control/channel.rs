//! Channels to the control plane: https only, with the configured roots, name and credentials.
//! Files are read when they are needed, so that what is renewed on disk counts at once.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use tonic::Status;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::limits::{CONNECT_TIMEOUT, H2_KEEPALIVE, MAX_FILE, TCP_KEEPALIVE};
use crate::config::{self, ClientCertificate, Config, RootCertificates, Token};

/// One service of the control plane, and how to be let in.
#[derive(Clone, Debug)]
pub struct Server {
    /// `https://host:port`.
    pub address: String,
    /// What its certificate is verified with.
    pub roots: RootCertificates,
    /// Name to verify instead of the address's.
    pub hostname: Option<String>,
    /// Bearer token.
    pub token: Token,
    /// Certificate to present.
    pub client_certificate: Option<ClientCertificate>,
    /// Further headers.
    pub headers: config::Headers,
    /// Cluster, for the `clusterid` header.
    pub cluster: String,
}

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// A file of the configuration cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The system has no root certificates.
    #[error("the system has no usable root certificates")]
    NoSystemRoots,
    /// Roots, certificate or key are not usable.
    #[error("the TLS settings for {address} are not usable")]
    Tls {
        /// The server.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The server was not reached.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

impl Server {
    /// The discovery service, if one is configured.
    #[must_use]
    pub fn discovery(config: &Config) -> Option<Self> {
        let discovery = &config.discovery;
        Some(Self {
            address: discovery.address.clone()?,
            roots: discovery.roots.clone(),
            hostname: discovery.alternative_hostname.clone(),
            token: discovery.token.clone(),
            client_certificate: discovery.client_certificate.clone(),
            headers: discovery.headers.clone(),
            cluster: config.node.cluster.to_string(),
        })
    }

    /// The enrolment service: discovery's credentials at perhaps another address.
    #[must_use]
    pub fn enrolment(config: &Config) -> Option<Self> {
        let address = config.enrolment.controller.clone()?;
        let mut server = Self::discovery(config).unwrap_or_else(|| Self {
            address: address.clone(),
            roots: config.discovery.roots.clone(),
            hostname: config.discovery.alternative_hostname.clone(),
            token: config.discovery.token.clone(),
            client_certificate: config.discovery.client_certificate.clone(),
            headers: config.discovery.headers.clone(),
            cluster: config.node.cluster.to_string(),
        });
        server.address = address;
        Some(server)
    }

    /// The certificate authority, unless it is the fake one.
    #[must_use]
    pub fn certificates(config: &Config) -> Option<Self> {
        let certificates = &config.certificates;
        Some(Self {
            address: certificates.address.clone()?,
            roots: certificates.roots.clone(),
            hostname: certificates.alternative_hostname.clone(),
            token: certificates.token.clone(),
            client_certificate: certificates.client_certificate.clone(),
            headers: certificates.headers.clone(),
            cluster: config.node.cluster.to_string(),
        })
    }

    /// A new connection, with everything read afresh.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub async fn connect(&self) -> Result<Channel, ChannelError> {
        let endpoint = self.endpoint()?;
        let failed = |source| ChannelError::Connect {
            address: self.address.clone(),
            source,
        };
        endpoint.connect().await.map_err(failed)
    }

    /// A channel that connects when it is first used, and again when the connection broke.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn connect_lazy(&self) -> Result<Channel, ChannelError> {
        Ok(self.endpoint()?.connect_lazy())
    }

    fn endpoint(&self) -> Result<Endpoint, ChannelError> {
        let bad = |source| ChannelError::Tls {
            address: self.address.clone(),
            source,
        };
        let (time, interval, retries) = TCP_KEEPALIVE;
        Endpoint::from_shared(self.address.clone())
            .map_err(bad)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Some(time))
            .tcp_keepalive_interval(Some(interval))
            .tcp_keepalive_retries(Some(retries))
            .http2_keep_alive_interval(H2_KEEPALIVE.0)
            .keep_alive_timeout(H2_KEEPALIVE.1)
            .keep_alive_while_idle(true)
            .tls_config(self.tls()?)
            .map_err(bad)
    }

    fn tls(&self) -> Result<ClientTlsConfig, ChannelError> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.roots {
            RootCertificates::Pem(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            RootCertificates::File(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
            RootCertificates::System => tls.trust_anchors(system_roots()?),
        };
        if let Some(hostname) = &self.hostname {
            tls = tls.domain_name(hostname);
        }
        if let Some(own) = &self.client_certificate {
            tls = tls.identity(Identity::from_pem(read(&own.certificate)?, read(&own.key)?));
        }
        Ok(tls)
    }

    /// What a cached channel was made from: when it changes, the channel is made anew.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn fingerprint(&self) -> Result<Vec<u8>, ChannelError> {
        let mut all = match &self.roots {
            RootCertificates::File(path) => read(path)?,
            RootCertificates::Pem(_) | RootCertificates::System => Vec::new(),
        };
        if let Some(own) = &self.client_certificate {
            all.extend(read(&own.certificate)?);
            all.extend(read(&own.key)?);
        }
        Ok(all)
    }

    /// Puts token, cluster and configured headers on a request.
    ///
    /// # Errors
    /// `Unauthenticated` when the token cannot be read: a request without it would be refused with
    /// a less helpful reason.
    pub fn add_headers(&self, metadata: &mut MetadataMap) -> Result<(), Status> {
        let unfit = |what: &str| Status::unauthenticated(format!("{what} is not a header value"));
        let token = match &self.token {
            Token::None => None,
            Token::Text(text) => Some(text.clone()),
            Token::File(path) => {
                let refused = |error: &dyn std::error::Error| {
                    Status::unauthenticated(format!("cannot read the token: {error}"))
                };
                let bytes = read(path).map_err(|error| {
                    refused(std::error::Error::source(&error).unwrap_or(&error))
                })?;
                Some(String::from_utf8(bytes).map_err(|error| refused(&error))?)
            }
        };
        if let Some(token) = token {
            let bearer = format!("Bearer {}", token.trim());
            let mut value: AsciiMetadataValue = bearer.parse().map_err(|_| unfit("the token"))?;
            value.set_sensitive(true);
            metadata.insert("authorization", value);
        }
        let cluster = self.cluster.parse().map_err(|_| unfit("the cluster id"))?;
        metadata.insert("clusterid", cluster);
        for (name, value) in &self.headers.0 {
            let key: AsciiMetadataKey = name.parse().map_err(|_| unfit(name))?;
            metadata.insert(key, value.parse().map_err(|_| unfit(name))?);
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ChannelError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|source| ChannelError::File {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

fn system_roots() -> Result<Vec<rustls::pki_types::TrustAnchor<'static>>, ChannelError> {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        Err(ChannelError::NoSystemRoots)
    } else {
        Ok(store.roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(token: Token) -> Server {
        Server {
            address: "https://localhost:1".to_owned(),
            roots: RootCertificates::System,
            hostname: None,
            token,
            client_certificate: None,
            headers: config::Headers(vec![("x-tenant".to_owned(), "blue".to_owned())]),
            cluster: "east".to_owned(),
        }
    }

    #[test]
    fn the_token_file_is_read_for_every_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let server = server(Token::File(path.clone()));
        let headers = || {
            let mut metadata = MetadataMap::new();
            server.add_headers(&mut metadata).map(|()| metadata)
        };
        assert_eq!(headers().unwrap_err().code(), tonic::Code::Unauthenticated);
        for text in ["first\n", "second"] {
            std::fs::write(&path, text).unwrap();
            let metadata = headers().unwrap();
            assert_eq!(
                metadata.get("authorization").unwrap(),
                &format!("Bearer {}", text.trim())
            );
            assert_eq!(metadata.get("clusterid").unwrap(), "east");
            assert_eq!(metadata.get("x-tenant").unwrap(), "blue");
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(headers().is_err());
    }

    #[test]
    fn a_missing_root_file_is_named() {
        let mut server = server(Token::None);
        server.roots = RootCertificates::File("/not/there.pem".into());
        let error = server.connect_lazy().unwrap_err();
        assert_eq!(error.to_string(), "cannot read /not/there.pem");
    }
}
