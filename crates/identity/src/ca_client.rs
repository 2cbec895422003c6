//! The certificate authority as this side sees it: a trait, and `CreateCertificate` over gRPC.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ambit_model::Identity;
use ambit_proto::ca::IstioCertificateRequest;
use ambit_proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use prost_types::{Struct, Value, value::Kind};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::{Code, Status};

use crate::error::{CaError, bounded};
use crate::limits::{CA_REQUEST_TIMEOUT, MAX_CA_RESPONSE_BYTES, MAX_ISSUED_CHAIN};

/// What is asked of the authority.
#[derive(Clone, Debug)]
pub struct SignRequest {
    /// Whom to sign for.
    pub identity: Identity,
    /// The signing request.
    pub csr_pem: String,
    /// How long the certificate shall be valid.
    pub ttl: Duration,
}

/// What the authority answered; unchecked.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Leaf first, without roots.
    pub chain: Vec<CertificateDer<'static>>,
    /// The roots to trust.
    pub roots: Vec<CertificateDer<'static>>,
}

/// The answer to come.
pub type SignFuture<'a> = Pin<Box<dyn Future<Output = Result<Signed, CaError>> + Send + 'a>>;

/// A certificate authority.
pub trait CaClient: Send + Sync + 'static {
    /// Has a request signed.
    fn sign(&self, request: SignRequest) -> SignFuture<'_>;
}

/// `istio.v1.auth.IstioCertificateService` over a channel, or any gRPC service, of the caller's
/// making: addresses, TLS and credentials (an interceptor) are its business.
#[derive(Clone, Debug)]
pub struct GrpcCa<T> {
    service: T,
}

impl<T> GrpcCa<T> {
    /// Uses `service` for every request, cloning it.
    pub fn new(service: T) -> Self {
        Self { service }
    }
}

impl<T> CaClient for GrpcCa<T>
where
    T: GrpcService<Body> + Clone + Send + Sync + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    fn sign(&self, request: SignRequest) -> SignFuture<'_> {
        let service = self.service.clone();
        Box::pin(async move {
            let mut client = IstioCertificateServiceClient::new(service)
                .max_decoding_message_size(MAX_CA_RESPONSE_BYTES);
            let identity = request.identity.clone();
            let call = client.create_certificate(message(request));
            let answer = match tokio::time::timeout(CA_REQUEST_TIMEOUT, call).await {
                Ok(Ok(answer)) => answer.into_inner().cert_chain,
                Ok(Err(status)) => return Err(refusal(identity, &status)),
                Err(_) => {
                    let text = format!("no answer in {} s", CA_REQUEST_TIMEOUT.as_secs());
                    return Err(CaError::Unreachable(text));
                }
            };
            parse(&answer).map_err(|reason| CaError::BadAnswer { identity, reason })
        })
    }
}

fn message(request: SignRequest) -> IstioCertificateRequest {
    let impersonated = Value {
        kind: Some(Kind::StringValue(request.identity.to_string())),
    };
    IstioCertificateRequest {
        csr: request.csr_pem,
        validity_duration: i64::try_from(request.ttl.as_secs()).unwrap_or(i64::MAX),
        metadata: Some(Struct {
            fields: BTreeMap::from([("ImpersonatedIdentity".to_owned(), impersonated)]),
        }),
    }
}

fn refusal(identity: Identity, status: &Status) -> CaError {
    match status.code() {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted
        | Code::Unknown
        | Code::ResourceExhausted => {
            let cause =
                std::error::Error::source(status).map(|cause| format!(": {}", chain(cause)));
            let text = format!("{}{}", status.message(), cause.unwrap_or_default());
            CaError::Unreachable(bounded(&text))
        }
        code => CaError::Refused {
            identity,
            code: format!("{code:?}"),
            message: bounded(status.message()),
        },
    }
}

/// The innermost cause says what happened ("connection refused"), the outer ones where.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// Leaf first, one certificate each; the roots, possibly several, are the last element.
fn parse(answer: &[String]) -> Result<Signed, String> {
    let Some((roots, chain)) = answer.split_last() else {
        return Err("no certificate".into());
    };
    if answer.len() > MAX_ISSUED_CHAIN {
        return Err(format!("more than {MAX_ISSUED_CHAIN} elements"));
    }
    let mut certificates = Vec::with_capacity(chain.len());
    for element in chain {
        certificates.extend(certificates_of(element)?);
    }
    let roots = certificates_of(roots)?;
    if certificates.is_empty() || roots.is_empty() {
        return Err("fewer than two certificates: a leaf and a root are needed".into());
    }
    Ok(Signed {
        chain: certificates,
        roots,
    })
}

fn certificates_of(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    if certificates.len() > MAX_ISSUED_CHAIN {
        return Err(format!("more than {MAX_ISSUED_CHAIN} certificates"));
    }
    Ok(certificates)
}
