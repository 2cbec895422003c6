//! `CreateCertificate`: who asks, for whom, may it, then sign. A caller that may not is told
//! nothing but that; the log and the counter say why.

use std::sync::Arc;
use std::time::Duration;

use ambit_identity::issue::IssueError;
use ambit_model::{Identity, NodeName};
use ambit_proto::ca::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use ambit_proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use tonic::{Request, Response, Status};

use super::authenticate::{Authenticators, Caller, Credentials, unauthenticated};
use super::authority::CertificateAuthority;

/// Bytes of a request. Attack: large messages held in memory.
const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Which identities are at home on a node.
pub trait NodeIdentities: Send + Sync + 'static {
    /// Whether a workload with this identity runs on the node now.
    fn may_issue(&self, node: &NodeName, identity: &Identity) -> bool;
}

/// Why a request was turned down: label of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The caller is not known.
    Unauthenticated,
    /// The identity is of another trust domain.
    TrustDomain,
    /// No workload with the identity runs on the caller's node.
    NotOnNode,
    /// The request makes no sense.
    Invalid,
    /// The authority could not sign.
    Internal,
}

impl Refusal {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::TrustDomain => "trust_domain",
            Self::NotOnNode => "not_on_node",
            Self::Invalid => "invalid",
            Self::Internal => "internal",
        }
    }
}

/// What happened, for counters.
pub trait CaEvents: Send + Sync + 'static {
    /// A certificate was signed.
    fn issued(&self) {}
    /// A request was turned down.
    fn refused(&self, _reason: Refusal) {}
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl CaEvents for NoEvents {}

/// The gRPC service.
pub struct CaService {
    authority: Arc<CertificateAuthority>,
    authenticators: Authenticators,
    identities: Arc<dyn NodeIdentities>,
    events: Arc<dyn CaEvents>,
}

impl std::fmt::Debug for CaService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaService").finish_non_exhaustive()
    }
}

/// A refusal with its reasons: one for the log, one for the caller.
struct Refused {
    kind: Refusal,
    reason: String,
    status: Status,
}

impl Refused {
    fn opaque(kind: Refusal, reason: String) -> Self {
        Self {
            kind,
            reason,
            status: unauthenticated(),
        }
    }

    fn invalid(reason: String) -> Self {
        let status = Status::invalid_argument(reason.clone());
        Self {
            kind: Refusal::Invalid,
            reason,
            status,
        }
    }
}

impl CaService {
    /// Joins the parts.
    #[must_use]
    pub fn new(
        authority: Arc<CertificateAuthority>,
        authenticators: Authenticators,
        identities: Arc<dyn NodeIdentities>,
        events: Arc<dyn CaEvents>,
    ) -> Self {
        Self {
            authority,
            authenticators,
            identities,
            events,
        }
    }

    /// As a service to mount.
    #[must_use]
    pub fn into_server(self) -> IstioCertificateServiceServer<Self> {
        IstioCertificateServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES)
    }

    fn create(
        &self,
        caller: &Caller,
        request: &IstioCertificateRequest,
    ) -> Result<Vec<String>, Refused> {
        let identity = requested_identity(request)?;
        let ours = &self.authority.config().trust_domain;
        if identity.trust_domain != *ours {
            let reason = format!("{identity} is not of trust domain {ours}");
            return Err(Refused::opaque(Refusal::TrustDomain, reason));
        }
        if !self.identities.may_issue(&caller.node, &identity) {
            let reason = format!("no workload with {identity} runs on node {}", caller.node);
            return Err(Refused::opaque(Refusal::NotOnNode, reason));
        }
        let ttl = match u64::try_from(request.validity_duration) {
            Ok(seconds @ 1..) => Duration::from_secs(seconds),
            _ => self.authority.config().default_ttl,
        };
        let signed = self.authority.sign(&identity, &request.csr, ttl);
        let (issued, response) = signed.map_err(|error| refusal(&error))?;
        tracing::debug!(%identity, node = %caller.node, serial = issued.serial, "certificate signed");
        Ok(response)
    }

    fn refuse(&self, caller: &str, refused: Refused) -> Status {
        self.events.refused(refused.kind);
        tracing::warn!(
            caller,
            kind = refused.kind.as_str(),
            reason = refused.reason,
            "certificate refused"
        );
        refused.status
    }
}

fn requested_identity(request: &IstioCertificateRequest) -> Result<Identity, Refused> {
    let field = |name| {
        let value = request.metadata.as_ref()?.fields.get(name)?;
        match &value.kind {
            Some(Kind::StringValue(text)) if !text.is_empty() => Some(text.as_str()),
            _ => None,
        }
    };
    if let Some(signer) = field("CertSigner") {
        return Err(Refused::invalid(format!(
            "metadata CertSigner: no signer {signer:?} here"
        )));
    }
    let Some(text) = field("ImpersonatedIdentity") else {
        let reason = "metadata ImpersonatedIdentity is missing: expected the SPIFFE id to sign for";
        return Err(Refused::invalid(reason.into()));
    };
    text.parse()
        .map_err(|error| Refused::invalid(format!("metadata ImpersonatedIdentity: {error}")))
}

fn refusal(error: &IssueError) -> Refused {
    match error {
        IssueError::BadRequest(_)
        | IssueError::WrongIdentity { .. }
        | IssueError::TtlTooLong { .. } => Refused::invalid(error.to_string()),
        IssueError::AuthorityExpired(_) | IssueError::BadAuthority(_) | IssueError::Local(_) => {
            Refused {
                kind: Refusal::Internal,
                reason: error.to_string(),
                status: Status::internal("the certificate authority cannot sign"),
            }
        }
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CaService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let credentials = Credentials::of(&request);
        let caller = match self.authenticators.authenticate(&credentials).await {
            Ok(caller) => caller,
            Err(denials) => {
                let reasons: Vec<String> = denials.iter().map(ToString::to_string).collect();
                let peer = credentials
                    .peer
                    .map(|peer| peer.to_string())
                    .unwrap_or_default();
                let refused = Refused::opaque(Refusal::Unauthenticated, reasons.join("; "));
                return Err(self.refuse(&peer, refused));
            }
        };
        match self.create(&caller, request.get_ref()) {
            Ok(cert_chain) => {
                self.events.issued();
                Ok(Response::new(IstioCertificateResponse { cert_chain }))
            }
            Err(refused) => Err(self.refuse(caller.node.as_str(), refused)),
        }
    }
}
