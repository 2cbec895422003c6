//! The authority itself: made or found in a directory, signing, replaced in place when its files
//! change or its root nears its end.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_identity::issue::{
    Authority, AuthorityPem, IssueError, Issued, NewRootOptions, Serving, new_root,
};
use ambit_identity::{Clock, Roots, RootsError, Tls, TlsSettings, TrustStore};
use ambit_model::{Identity, TrustDomain};
use parking_lot::RwLock;

use super::authenticate::ClientCertificates;
use super::files::{self, Access, CA_CERT, CA_KEY, CERT_CHAIN, FileError, ROOT_CERT};
use super::rotation::{self, Maintenance};
use super::token::{TokenError, is_node_name};

/// How the authority works.
#[derive(Clone, Debug)]
pub struct AuthorityConfig {
    /// Where the self-signed root and other secrets of the controller are kept.
    pub data_dir: PathBuf,
    /// Where a plugged-in authority lies (Istio's `cacerts`: ca-cert.pem, ca-key.pem,
    /// root-cert.pem, cert-chain.pem); `None` for a self-signed one in `data_dir`.
    pub plugged_in: Option<PathBuf>,
    /// The trust domain it signs for.
    pub trust_domain: TrustDomain,
    /// What a request without validity gets.
    pub default_ttl: Duration,
    /// The longest validity.
    pub max_ttl: Duration,
    /// How long a self-signed root is valid.
    pub root_lifetime: Duration,
    /// How long a new self-signed root is trusted before it signs, so that every node has it.
    pub rotation_overlap: Duration,
}

impl AuthorityConfig {
    /// Everything but the directory as Istio has it.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            data_dir: data_dir.into(),
            plugged_in: None,
            trust_domain: TrustDomain::default(),
            default_ttl: DAY,
            max_ttl: 90 * DAY,
            root_lifetime: 3650 * DAY,
            rotation_overlap: 2 * DAY,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        self.plugged_in.as_deref().unwrap_or(&self.data_dir)
    }
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum CaSetupError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What the files hold.
    #[error("certificate authority in {dir}")]
    Authority {
        /// Where.
        dir: String,
        /// Why.
        #[source]
        source: IssueError,
    },
    /// The roots.
    #[error("{ROOT_CERT} in {dir}")]
    Roots {
        /// Where.
        dir: String,
        /// Why.
        #[source]
        source: RootsError,
    },
    /// TLS.
    #[error("no TLS configuration for the controller's port")]
    Tls(#[from] rustls::Error),
    /// A name.
    #[error(transparent)]
    Node(#[from] TokenError),
}

/// The mesh's certificate authority. Share it with [`Arc`].
#[derive(Debug)]
pub struct CertificateAuthority {
    pub(super) config: AuthorityConfig,
    current: RwLock<Arc<Authority>>,
    tls: Arc<Tls>,
    clock: Arc<dyn Clock>,
}

impl CertificateAuthority {
    /// Finds the authority, or makes a self-signed one on the first start.
    pub fn open(config: AuthorityConfig, clock: Arc<dyn Clock>) -> Result<Self, CaSetupError> {
        let now = clock.now();
        if config.plugged_in.is_none() {
            files::create_dir(&config.data_dir)?;
            let _lock = files::lock(&config.data_dir)?;
            rotation::recover(&config.data_dir)?;
            if !config.data_dir.join(CA_CERT).exists() {
                create(&config, now)?;
            }
        }
        let authority = load(config.dir(), now)?;
        let trust = TrustStore::new(roots(&authority, config.dir())?);
        let settings = TlsSettings::default();
        let tls = Arc::new(Tls::new(&settings, Arc::new(trust), Arc::clone(&clock)));
        Ok(Self {
            config,
            current: RwLock::new(Arc::new(authority)),
            tls,
            clock,
        })
    }

    /// How it works.
    #[must_use]
    pub fn config(&self) -> &AuthorityConfig {
        &self.config
    }

    /// What clients of the control plane are verified with.
    #[must_use]
    pub fn tls(&self) -> &Arc<Tls> {
        &self.tls
    }

    /// The trusted roots, PEM: what nodes must be given to trust the controller's port.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.current().roots_pem()
    }

    /// When the signing certificate ends, for a gauge.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.current().not_after()
    }

    /// Signs for a workload; with the chain as `CreateCertificate` answers it.
    pub fn sign(
        &self,
        identity: &Identity,
        csr_pem: &str,
        ttl: Duration,
    ) -> Result<(Issued, Vec<String>), IssueError> {
        if ttl > self.config.max_ttl {
            return Err(IssueError::TtlTooLong {
                asked: ttl,
                limit: self.config.max_ttl,
            });
        }
        let authority = self.current();
        let issued = authority.sign(identity, csr_pem, ttl, self.clock.now())?;
        let response = issued.response(&authority);
        Ok((issued, response))
    }

    /// A certificate for a server of the control plane.
    pub fn serving(
        &self,
        dns_names: &[String],
        addresses: &[IpAddr],
        ttl: Duration,
    ) -> Result<Serving, IssueError> {
        self.current()
            .serving(dns_names, addresses, ttl, self.clock.now())
    }

    /// A client certificate by which a node is recognised: certificate chain and key, PEM.
    pub fn node_certificate(
        &self,
        node: &str,
        ttl: Duration,
    ) -> Result<(String, String), CaSetupError> {
        if !is_node_name(node) {
            return Err(TokenError::NodeName(node.to_owned()).into());
        }
        let uri = ClientCertificates::uri(&self.config.trust_domain, node);
        let issued = self.current().client(&uri, ttl, self.clock.now());
        let issued = issued.map_err(|source| CaSetupError::Authority {
            dir: self.config.dir().display().to_string(),
            source,
        })?;
        Ok((issued.chain_pem(), issued.key_pem()))
    }

    /// Takes in changed files, and moves the replacement of a self-signed root forward. To be
    /// called at least hourly; [`Self::maintain`] does.
    pub fn maintain_once(&self) -> Result<Maintenance, CaSetupError> {
        let now = self.clock.now();
        let mut done = Maintenance::default();
        if self.config.plugged_in.is_none() {
            let _lock = files::lock(&self.config.data_dir)?;
            done = rotation::step(&self.config, now)?;
        }
        let authority = load(self.config.dir(), now)?;
        done.roots_changed = self
            .tls
            .trust()
            .set_roots(roots(&authority, self.config.dir())?);
        *self.current.write() = Arc::new(authority);
        Ok(done)
    }

    /// Calls [`Self::maintain_once`] every `interval` until `shutdown`. Files that are unusable
    /// leave the authority as it was.
    pub async fn maintain(&self, interval: Duration, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                _ = ticks.tick() => {}
            }
            match self.maintain_once() {
                Ok(Maintenance {
                    roots_changed: false,
                    ..
                }) => {}
                Ok(done) => tracing::info!(?done, "certificate authority changed"),
                Err(error) => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    tracing::error!(
                        error,
                        "certificate authority's files not used; it stays as it was"
                    );
                }
            }
        }
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn current(&self) -> Arc<Authority> {
        Arc::clone(&self.current.read())
    }
}

/// Makes a self-signed root. Its certificate is written last: without it, the rest is made anew.
fn create(config: &AuthorityConfig, now: SystemTime) -> Result<(), CaSetupError> {
    let dir = &config.data_dir;
    let options = NewRootOptions {
        trust_domain: config.trust_domain.as_str(),
        lifetime: config.root_lifetime,
        now,
    };
    let root = new_root(options).map_err(|source| CaSetupError::Authority {
        dir: dir.display().to_string(),
        source,
    })?;
    files::write(&dir.join(CA_KEY), &root.key_pem, Access::Owner)?;
    files::write(&dir.join(ROOT_CERT), &root.cert_pem, Access::Everybody)?;
    files::write(&dir.join(CERT_CHAIN), "", Access::Everybody)?;
    files::write(&dir.join(CA_CERT), &root.cert_pem, Access::Everybody)?;
    tracing::info!(dir = %dir.display(), "self-signed root made");
    Ok(())
}

fn load(dir: &Path, now: SystemTime) -> Result<Authority, CaSetupError> {
    files::warn_if_exposed(&dir.join(CA_KEY));
    let pem = AuthorityPem {
        ca_cert: &files::read(&dir.join(CA_CERT))?,
        ca_key: &files::read(&dir.join(CA_KEY))?,
        cert_chain: &files::read_optional(&dir.join(CERT_CHAIN))?,
        root_cert: &files::read(&dir.join(ROOT_CERT))?,
    };
    Authority::from_pem(pem, now).map_err(|source| CaSetupError::Authority {
        dir: dir.display().to_string(),
        source,
    })
}

fn roots(authority: &Authority, dir: &Path) -> Result<Roots, CaSetupError> {
    Roots::from_der(authority.roots().to_vec()).map_err(|source| CaSetupError::Roots {
        dir: dir.display().to_string(),
        source,
    })
}
