//! Certificates, wired: the authority's client, what is trusted, revocation lists, and the gauges
//! of when certificates end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_identity::issue::{Authority, IssueError, NewRootOptions};
use ambit_identity::{
    CaClient, CaError, Certificates, CertificatesWorker, Clock, Compliance, CrlFile, GrpcCa, Roots,
    Settings, SignFuture, SignRequest, Signed, SystemClock, Tls, TlsSettings, TrustStore,
};
use ambit_telemetry::Metrics;
use parking_lot::Mutex;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::limits::GAUGES;
use super::{ChannelError, Server};
use crate::config::Config;

/// Certificates and what must run for them.
pub struct Prepared {
    /// The handle.
    pub certificates: Certificates,
    /// Run it until the end of the agent.
    pub worker: CertificatesWorker,
    /// Follow it, where revocation lists are configured.
    pub revocations: Option<CrlFile>,
    /// What is trusted.
    pub trust: Arc<TrustStore>,
}

/// Prepares everything. Connects to nobody yet.
///
/// # Errors
/// When the fake authority cannot make its root.
pub fn prepare(config: &Config) -> Result<Prepared, IssueError> {
    let settings = &config.certificates;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Roots come with the first certificate; until then nobody is trusted.
    let trust = Arc::new(TrustStore::new(Roots::default()));
    let tls_settings = TlsSettings {
        tls12: settings.tls12,
        compliance: if settings.post_quantum_only {
            Compliance::Pqc
        } else {
            Compliance::None
        },
        trust_domain_aliases: config.node.trust_domain_aliases.clone(),
    };
    let ca: Arc<dyn CaClient> = match Server::certificates(config) {
        Some(server) => Arc::new(RemoteCa::new(server)),
        None => Arc::new(FakeCa::new(config.node.trust_domain.as_str())?),
    };
    let tls = Arc::new(Tls::new(&tls_settings, Arc::clone(&trust), clock));
    let manager = Settings {
        ttl: settings.ttl,
        ..Settings::default()
    };
    let (certificates, worker) = Certificates::new(manager, ca, tls);
    Ok(Prepared {
        certificates,
        worker,
        revocations: settings.crl.as_ref().map(CrlFile::new),
        trust,
    })
}

/// Keeps the gauges of certificates' ends current. Never returns; drop it to end.
pub async fn publish_expiries(certificates: Certificates, metrics: Arc<Metrics>) {
    let mut shown = BTreeSet::new();
    let mut tick = tokio::time::interval(GAUGES);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let mut now = BTreeSet::new();
        for expiry in certificates.expiries() {
            let end = expiry
                .not_after
                .duration_since(UNIX_EPOCH)
                .unwrap_or(Duration::ZERO);
            let seconds = i64::try_from(end.as_secs()).unwrap_or(i64::MAX);
            metrics.certificates.set_expiry(&expiry.identity, seconds);
            now.insert(expiry.identity);
        }
        for gone in shown.difference(&now) {
            metrics.certificates.forget(gone);
        }
        shown = now;
    }
}

type Authenticated = InterceptedService<Channel, Headers>;

#[derive(Clone)]
struct Headers(Arc<Server>);

impl tonic::service::Interceptor for Headers {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        self.0.add_headers(request.metadata_mut())?;
        Ok(request)
    }
}

/// The configured authority. The channel is kept while the files it was made from are the same.
struct RemoteCa {
    server: Arc<Server>,
    cached: Mutex<Option<(Vec<u8>, GrpcCa<Authenticated>)>>,
}

impl RemoteCa {
    fn new(server: Server) -> Self {
        Self {
            server: Arc::new(server),
            cached: Mutex::new(None),
        }
    }

    fn client(&self) -> Result<GrpcCa<Authenticated>, ChannelError> {
        let fingerprint = self.server.fingerprint()?;
        let mut cached = self.cached.lock();
        if let Some((made_from, client)) = &*cached
            && *made_from == fingerprint
        {
            return Ok(client.clone());
        }
        let channel = self.server.connect_lazy()?;
        let headers = Headers(Arc::clone(&self.server));
        let client = GrpcCa::new(InterceptedService::new(channel, headers));
        *cached = Some((fingerprint, client.clone()));
        Ok(client)
    }
}

impl CaClient for RemoteCa {
    fn sign(&self, request: SignRequest) -> SignFuture<'_> {
        Box::pin(async move {
            let client = self.client().map_err(|error| {
                let cause = std::error::Error::source(&error);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                CaError::Unreachable(format!("{error}{cause}"))
            })?;
            client.sign(request).await
        })
    }
}

/// Signs in the process with a root made at start: nobody else trusts it.
struct FakeCa(Authority);

impl FakeCa {
    fn new(trust_domain: &str) -> Result<Self, IssueError> {
        tracing::warn!("FAKE_CA is set: certificates prove nothing");
        let options = NewRootOptions {
            trust_domain,
            lifetime: Duration::from_secs(365 * 24 * 3600),
            now: SystemTime::now(),
        };
        Ok(Self(Authority::ephemeral(options)?))
    }
}

impl CaClient for FakeCa {
    fn sign(&self, request: SignRequest) -> SignFuture<'_> {
        let signed = self.0.sign(
            &request.identity,
            &request.csr_pem,
            request.ttl,
            SystemTime::now(),
        );
        let answer = match signed {
            Ok(issued) => Ok(Signed {
                chain: issued.chain,
                roots: self.0.roots().to_vec(),
            }),
            Err(error) => Err(CaError::BadAnswer {
                identity: request.identity,
                reason: error.to_string(),
            }),
        };
        Box::pin(std::future::ready(answer))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ambit_identity::Priority;

    use super::*;

    #[tokio::test]
    async fn the_fake_authority_signs() {
        let source = BTreeMap::from([("FAKE_CA".to_owned(), "true".to_owned())]);
        let config = Config::from_source(&source).unwrap();
        let prepared = prepare(&config).unwrap();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let worker = tokio::spawn(prepared.worker.run(async {
            ended.await.ok();
        }));
        let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        prepared
            .certificates
            .fetch(&identity, Priority::RealTime)
            .await
            .unwrap();
        assert_eq!(prepared.certificates.expiries()[0].identity, identity);
        drop(end);
        worker.await.unwrap();
    }

    #[tokio::test]
    async fn an_unreadable_root_is_said_in_the_failure() {
        let source = BTreeMap::from([
            ("CA_ROOT_CA".to_owned(), "/not/there.pem".to_owned()),
            ("CA_ADDRESS".to_owned(), "https://localhost:1".to_owned()),
        ]);
        let config = Config::from_source(&source).unwrap();
        let ca = RemoteCa::new(Server::certificates(&config).unwrap());
        let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let request = SignRequest {
            identity,
            csr_pem: String::new(),
            ttl: Duration::from_secs(60),
        };
        let error = ca.sign(request).await.unwrap_err().to_string();
        assert!(error.contains("/not/there.pem"), "{error}");
    }
}
