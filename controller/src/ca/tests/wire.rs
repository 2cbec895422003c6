//! The service on a TLS port, asked by the node's own client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ambit_identity::{CaClient, CaError, CertificateRequest, GrpcCa, SignRequest, SystemClock};
use ambit_model::{Identity, NodeName, TrustDomain};
use ambit_proto::ca::IstioCertificateRequest;
use ambit_proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use parking_lot::Mutex;
use prost_types::{Struct, Value, value::Kind};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Server};
use tonic::{Code, Request, Status};

use super::{DAY, web};
use crate::ca::{
    Authenticators, AuthorityConfig, CaEvents, CaService, CertificateAuthority, NodeIdentities,
    NodeTokens, Refusal, ServingCertificate, TlsIncoming,
};

/// Node `n1` runs `web`, nothing else does.
struct Homes;

impl NodeIdentities for Homes {
    fn may_issue(&self, node: &NodeName, identity: &Identity) -> bool {
        node.as_str() == "n1" && identity.service_account.as_str() == "web"
    }
}

#[derive(Default)]
struct Counters {
    issued: AtomicUsize,
    refused: Mutex<Vec<Refusal>>,
}

impl CaEvents for Counters {
    fn issued(&self) {
        self.issued.fetch_add(1, Ordering::Relaxed);
    }
    fn refused(&self, reason: Refusal) {
        self.refused.lock().push(reason);
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    address: SocketAddr,
    authority: Arc<CertificateAuthority>,
    tokens: NodeTokens,
    events: Arc<Counters>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Bench {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = AuthorityConfig {
            max_ttl: 2 * DAY,
            ..AuthorityConfig::new(dir.path().join("data"))
        };
        let authority = CertificateAuthority::open(config, Arc::new(SystemClock)).unwrap();
        let authority = Arc::new(authority);
        let tokens = NodeTokens::open(dir.path(), Arc::new(SystemClock)).unwrap();
        let authenticators = Authenticators::standalone(tokens.clone(), TrustDomain::default());
        let events = Arc::new(Counters::default());
        let service = CaService::new(
            Arc::clone(&authority),
            authenticators,
            Arc::new(Homes),
            Arc::clone(&events) as _,
        );
        let names = vec!["istiod.istio-system.svc".to_owned()];
        let addresses = vec!["127.0.0.1".parse().unwrap()];
        let serving = ServingCertificate::new(Arc::clone(&authority), names, addresses).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TlsIncoming::new(listener, serving.server_config().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            Server::builder()
                .add_service(service.into_server())
                .serve_with_incoming_shutdown(incoming, async {
                    let _stopped = stopped.await;
                })
                .await
                .unwrap();
        });
        Self {
            _dir: dir,
            address,
            authority,
            tokens,
            events,
            stop,
            server,
        }
    }

    fn tls(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.roots_pem()))
            .domain_name("istiod.istio-system.svc")
    }

    fn channel(&self, tls: ClientTlsConfig) -> Channel {
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect_lazy()
    }

    /// What a request with these headers comes to.
    async fn raw(
        &self,
        token: Option<&str>,
        identity: &str,
        csr: String,
        seconds: i64,
    ) -> Result<Vec<String>, Status> {
        let value = Value {
            kind: Some(Kind::StringValue(identity.into())),
        };
        let fields = [("ImpersonatedIdentity".to_owned(), value)].into();
        let mut request = Request::new(IstioCertificateRequest {
            csr,
            validity_duration: seconds,
            metadata: Some(Struct { fields }),
        });
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = IstioCertificateServiceClient::new(self.channel(self.tls()));
        Ok(client
            .create_certificate(request)
            .await?
            .into_inner()
            .cert_chain)
    }

    async fn end(self) -> Vec<Refusal> {
        drop(self.stop);
        tokio::time::timeout(Duration::from_secs(10), self.server)
            .await
            .unwrap()
            .unwrap();
        let refused = self.events.refused.lock();
        refused.clone()
    }
}

fn csr(identity: &Identity) -> String {
    CertificateRequest::new(identity).unwrap().pem().to_owned()
}

fn not_after(pem: &str) -> i64 {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    pem.parse_x509().unwrap().validity().not_after.timestamp()
}

fn seconds_from_now(seconds: i64) -> std::ops::RangeInclusive<i64> {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let at = i64::try_from(now).unwrap() + seconds;
    at - 30..=at + 30
}

#[tokio::test]
async fn a_node_gets_what_runs_on_it() {
    let bench = Bench::start().await;
    let token = bench.tokens.issue("n1", DAY).unwrap();
    let header: tonic::metadata::MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
    let with_token = move |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("authorization", header.clone());
        Ok::<_, Status>(request)
    };
    let ca = GrpcCa::new(InterceptedService::new(
        bench.channel(bench.tls()),
        with_token,
    ));
    let request = SignRequest {
        identity: web(),
        csr_pem: csr(&web()),
        ttl: DAY,
    };
    let signed = ca.sign(request).await.unwrap();
    assert_eq!(ambit_identity::peer_identity(&signed.chain).unwrap(), web());
    assert_eq!(signed.roots.len(), 1);
    assert_eq!(bench.events.issued.load(Ordering::Relaxed), 1);

    let db: Identity = "spiffe://cluster.local/ns/shop/sa/db".parse().unwrap();
    let request = SignRequest {
        identity: db.clone(),
        csr_pem: csr(&db),
        ttl: DAY,
    };
    let error = ca.sign(request).await.unwrap_err();
    let CaError::Refused { code, message, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(code, "Unauthenticated");
    assert_eq!(
        message, "request authentication failure",
        "the caller learns nothing"
    );
    assert_eq!(bench.end().await, [Refusal::NotOnNode]);
}

#[tokio::test]
async fn strangers_and_other_nodes_get_nothing() {
    let bench = Bench::start().await;
    let other = tempfile::tempdir().unwrap();
    let forger = NodeTokens::open(other.path(), Arc::new(SystemClock)).unwrap();
    let ended = bench.tokens.issue("n1", Duration::ZERO).unwrap();
    let n2 = bench.tokens.issue("n2", DAY).unwrap();
    let n1 = bench.tokens.issue("n1", DAY).unwrap();
    let foreign = "spiffe://other.example/ns/shop/sa/web";
    let mut messages = std::collections::HashSet::new();
    for (token, identity) in [
        (None, web().to_string()),
        (Some("garbage".to_owned()), web().to_string()),
        (Some(forger.issue("n1", DAY).unwrap()), web().to_string()),
        (Some(n2), web().to_string()),
        (Some(n1), foreign.to_owned()),
    ] {
        let csr = csr(&identity.parse().unwrap());
        let status = bench
            .raw(token.as_deref(), &identity, csr, 3600)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        messages.insert(status.message().to_owned());
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    // Within the leeway for clocks, a token that has just ended is taken.
    bench
        .raw(Some(&ended), &web().to_string(), csr(&web()), 3600)
        .await
        .unwrap();
    let expected = [
        Refusal::Unauthenticated,
        Refusal::Unauthenticated,
        Refusal::Unauthenticated,
        Refusal::NotOnNode,
        Refusal::TrustDomain,
    ];
    assert_eq!(bench.end().await, expected);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_why() {
    let bench = Bench::start().await;
    let token = bench.tokens.issue("n1", DAY).unwrap();
    let token = Some(token.as_str());
    let web_id = web().to_string();
    let db: Identity = "spiffe://cluster.local/ns/shop/sa/db".parse().unwrap();
    for (identity, csr, seconds, text) in [
        (
            web_id.as_str(),
            csr(&db),
            3600,
            "is for spiffe://cluster.local/ns/shop/sa/db",
        ),
        (&web_id, "garbage".into(), 3600, "signing request refused"),
        (&web_id, String::new(), 3600, "signing request refused"),
        (&web_id, csr(&web()), 2 * 86_400 + 1, "validity"),
        ("web", csr(&web()), 3600, "ImpersonatedIdentity"),
        ("", csr(&web()), 3600, "ImpersonatedIdentity"),
    ] {
        let status = bench.raw(token, identity, csr, seconds).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{text}: {status}");
        assert!(status.message().contains(text), "{text}: {status}");
    }
    assert_eq!(bench.end().await, [Refusal::Invalid; 6]);
}

#[tokio::test]
async fn no_validity_means_a_day() {
    let bench = Bench::start().await;
    let token = bench.tokens.issue("n1", DAY).unwrap();
    for (asked, given) in [(0, 86_400), (-5, 86_400), (i64::MIN, 86_400), (600, 600)] {
        let chain = bench
            .raw(Some(&token), &web().to_string(), csr(&web()), asked)
            .await
            .unwrap();
        assert!(
            seconds_from_now(given).contains(&not_after(&chain[0])),
            "{asked}"
        );
    }
    assert!(bench.end().await.is_empty());
}

#[tokio::test]
async fn a_node_certificate_is_as_good_as_a_token_and_a_workload_certificate_is_not() {
    let bench = Bench::start().await;
    let identity = |pem: (String, String)| tonic::transport::Identity::from_pem(pem.0, pem.1);
    let node = bench.authority.node_certificate("n1", DAY).unwrap();
    let ca = GrpcCa::new(bench.channel(bench.tls().identity(identity(node))));
    let request = || SignRequest {
        identity: web(),
        csr_pem: csr(&web()),
        ttl: DAY,
    };
    ca.sign(request()).await.unwrap();
    let other = bench.authority.node_certificate("n2", DAY).unwrap();
    let ca = GrpcCa::new(bench.channel(bench.tls().identity(identity(other))));
    assert!(matches!(
        ca.sign(request()).await,
        Err(CaError::Refused { .. })
    ));

    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![rcgen::SanType::URI(web().to_string().try_into().unwrap())];
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let (_, mut chain) = bench.authority.sign(&web(), &csr, DAY).unwrap();
    let workload = (chain.remove(0), key.serialize_pem());
    let ca = GrpcCa::new(bench.channel(bench.tls().identity(identity(workload))));
    assert!(matches!(
        ca.sign(request()).await,
        Err(CaError::Refused { .. })
    ));

    // A certificate of another authority does not even get through the handshake.
    let dir = tempfile::tempdir().unwrap();
    let config = AuthorityConfig::new(dir.path());
    let forger = CertificateAuthority::open(config, Arc::new(SystemClock)).unwrap();
    let forged = forger.node_certificate("n1", DAY).unwrap();
    let ca = GrpcCa::new(bench.channel(bench.tls().identity(identity(forged))));
    let error = ca.sign(request()).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert_eq!(
        bench.end().await,
        [Refusal::NotOnNode, Refusal::Unauthenticated]
    );
}

#[tokio::test]
async fn clients_that_say_nothing_do_not_keep_others_out() {
    let bench = Bench::start().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(tokio::net::TcpStream::connect(bench.address).await.unwrap());
    }
    let token = bench.tokens.issue("n1", DAY).unwrap();
    bench
        .raw(Some(&token), &web().to_string(), csr(&web()), 3600)
        .await
        .unwrap();
    drop(silent);
    bench.end().await;
}
