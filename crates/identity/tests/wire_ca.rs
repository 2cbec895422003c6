//! `CreateCertificate` against a real gRPC server that answers as it is told.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_identity::{CaClient, CaError, CertificateRequest, GrpcCa, SignRequest};
use ambit_proto::ca::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use ambit_proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use common::{DAY, authority, web};
use parking_lot::Mutex;
use prost_types::value::Kind;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

type Answer =
    Box<dyn Fn(&Request<IstioCertificateRequest>) -> Result<Vec<String>, Status> + Send + Sync>;

struct Scripted {
    answer: Answer,
    seen: Arc<Mutex<Vec<IstioCertificateRequest>>>,
}

#[tonic::async_trait]
impl IstioCertificateService for Scripted {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let answer = (self.answer)(&request);
        self.seen.lock().push(request.into_inner());
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: answer?,
        }))
    }
}

struct Running {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<IstioCertificateRequest>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(answer: Answer) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::default());
        let service = Scripted {
            answer,
            seen: Arc::clone(&seen),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let task = tokio::spawn(async move {
            Server::builder()
                .add_service(IstioCertificateServiceServer::new(service))
                .serve_with_incoming_shutdown(incoming, async {
                    let _stopped = stopped.await;
                })
                .await
                .unwrap();
        });
        Self {
            address,
            seen,
            stop,
            task,
        }
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_lazy()
    }

    async fn end(self) {
        drop(self.stop);
        tokio::time::timeout(Duration::from_secs(10), self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

fn request() -> SignRequest {
    let csr_pem = CertificateRequest::new(&web()).unwrap().pem().to_owned();
    SignRequest {
        identity: web(),
        csr_pem,
        ttl: DAY,
    }
}

#[tokio::test]
async fn the_request_is_as_istio_wants_it_and_the_answer_is_split() {
    let (first, second) = (authority(SystemTime::now()), authority(SystemTime::now()));
    let sub = first.intermediate("sub", DAY, SystemTime::now()).unwrap();
    let (first_pem, second_pem) = (first.roots_pem(), second.roots_pem());
    let server = Running::start(Box::new(move |request| {
        let token = request.metadata().get("authorization").unwrap();
        assert_eq!(token, "Bearer t");
        let csr = &request.get_ref().csr;
        let issued = sub.sign(&web(), csr, DAY, SystemTime::now()).unwrap();
        let mut chain = issued.response(&sub);
        chain.pop();
        chain.push(format!("{first_pem}{second_pem}"));
        Ok(chain)
    }))
    .await;
    let with_token = InterceptedService::new(server.channel(), |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("authorization", "Bearer t".parse().unwrap());
        Ok(request)
    });
    let signed = GrpcCa::new(with_token).sign(request()).await.unwrap();
    assert_eq!(signed.chain.len(), 2);
    assert_eq!(signed.roots.len(), 2);
    {
        let seen = server.seen.lock();
        assert_eq!(seen[0].validity_duration, 86_400);
        let metadata = seen[0].metadata.as_ref().unwrap();
        let impersonated = metadata.fields["ImpersonatedIdentity"].kind.clone();
        assert_eq!(impersonated, Some(Kind::StringValue(web().to_string())));
        assert_eq!(metadata.fields.len(), 1);
    }
    server.end().await;
}

#[tokio::test]
async fn answers_that_make_no_sense_are_named() {
    let root = authority(SystemTime::now()).roots_pem();
    let junk = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n".to_owned();
    let cases: Vec<(Vec<String>, &str)> = vec![
        (vec![], "no certificate"),
        (vec![root.clone()], "fewer than two"),
        (vec![root.clone(), String::new()], "fewer than two"),
        (vec![junk, root.clone()], "unusable"),
        (vec![root.clone(); 65], "more than"),
    ];
    for (answer, text) in cases {
        let given = answer.clone();
        let server = Running::start(Box::new(move |_| Ok(given.clone()))).await;
        let error = GrpcCa::new(server.channel())
            .sign(request())
            .await
            .unwrap_err();
        assert!(matches!(error, CaError::BadAnswer { .. }), "{error}");
        assert!(error.to_string().contains(text), "{answer:?}: {error}");
        server.end().await;
    }
}

#[tokio::test]
async fn a_refusal_is_told_from_a_silence() {
    let server = Running::start(Box::new(|_| Err(Status::unauthenticated("no\nnode")))).await;
    let error = GrpcCa::new(server.channel())
        .sign(request())
        .await
        .unwrap_err();
    assert!(!error.is_unreachable());
    let text = error.to_string();
    assert!(
        text.contains("Unauthenticated") && text.contains("no node"),
        "{text}"
    );
    let channel = server.channel();
    server.end().await;

    let error = GrpcCa::new(channel).sign(request()).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(
        error.to_string().to_lowercase().contains("refused"),
        "{error}"
    );
}
