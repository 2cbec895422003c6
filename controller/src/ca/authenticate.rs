//! Who calls: from what a request brings along to the node it comes from.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use ambit_identity::uri_names;
use ambit_model::{NodeName, TrustDomain};
use rustls_pki_types::CertificateDer;
use tonic::Status;

use super::token::{NodeTokens, is_node_name};

/// What a request brings along.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// `authorization: Bearer …`.
    pub bearer: Option<String>,
    /// The client's certificates, leaf first; verified by the TLS layer.
    pub chain: Option<Arc<Vec<CertificateDer<'static>>>>,
    /// `clusterid`.
    pub cluster: Option<String>,
    /// For the log.
    pub peer: Option<SocketAddr>,
}

impl Credentials {
    /// Collects them from a gRPC request.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let header = |name| {
            request
                .metadata()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let bearer = header("authorization")
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim().to_owned());
        Self {
            bearer,
            chain: request.peer_certs(),
            cluster: header("clusterid").map(str::to_owned),
            peer:
                request
                    .extensions()
                    .get::<tonic::transport::server::TlsConnectInfo<
                        tonic::transport::server::TcpConnectInfo,
                    >>()
                    .and_then(|info| info.get_ref().remote_addr())
                    .or_else(|| request.remote_addr()),
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The node.
    pub node: NodeName,
    /// How it was recognised.
    pub method: &'static str,
}

/// Why a caller is not known. For the log only: the caller is told nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Which authenticator says so.
    pub method: &'static str,
    /// Why.
    pub reason: String,
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.method, self.reason)
    }
}

/// The answer to come.
pub type AuthFuture<'a> = Pin<Box<dyn Future<Output = Option<Result<Caller, Denied>>> + Send + 'a>>;

/// One way to recognise a caller.
pub trait Authenticator: Send + Sync + 'static {
    /// `None` if the credentials are not of this kind.
    fn authenticate<'a>(&'a self, credentials: &'a Credentials) -> AuthFuture<'a>;
}

/// Several ways, tried in order: the first that recognises the caller decides.
#[derive(Clone)]
pub struct Authenticators(Arc<[Box<dyn Authenticator>]>);

impl std::fmt::Debug for Authenticators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Authenticators")
            .field(&self.0.len())
            .finish()
    }
}

impl Authenticators {
    /// Tries these.
    #[must_use]
    pub fn new(authenticators: Vec<Box<dyn Authenticator>>) -> Self {
        Self(authenticators.into())
    }

    /// The standalone ones: node tokens and node certificates.
    #[must_use]
    pub fn standalone(tokens: NodeTokens, trust_domain: TrustDomain) -> Self {
        Self::new(vec![
            Box::new(NodeTokenAuthenticator { tokens }),
            Box::new(ClientCertificates { trust_domain }),
        ])
    }

    /// The caller, or why nobody recognises it.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, Vec<Denied>> {
        let mut denials = Vec::new();
        for authenticator in self.0.iter() {
            match authenticator.authenticate(credentials).await {
                Some(Ok(caller)) => return Ok(caller),
                Some(Err(denied)) => denials.push(denied),
                None => {}
            }
        }
        if denials.is_empty() {
            let reason = "no bearer token and no client certificate".to_owned();
            denials.push(Denied {
                method: "none",
                reason,
            });
        }
        Err(denials)
    }

    /// The caller of a gRPC request; an opaque status and a precise line in the log otherwise.
    pub async fn caller<T: Sync>(&self, request: &tonic::Request<T>) -> Result<Caller, Status> {
        self.caller_of(&Credentials::of(request)).await
    }

    /// The same for credentials that were collected before.
    pub async fn caller_of(&self, credentials: &Credentials) -> Result<Caller, Status> {
        self.authenticate(credentials).await.map_err(|denials| {
            let reasons: Vec<String> = denials.iter().map(ToString::to_string).collect();
            tracing::warn!(
                peer = ?credentials.peer,
                cluster = ?credentials.cluster,
                reason = reasons.join("; "),
                "caller not recognised"
            );
            unauthenticated()
        })
    }
}

/// What a caller is told that may not have what it asks for, whatever the reason.
pub(super) fn unauthenticated() -> Status {
    Status::unauthenticated("request authentication failure")
}

/// Recognises nodes by the tokens of `controller node-token`.
#[derive(Debug)]
pub struct NodeTokenAuthenticator {
    /// Verifies them.
    pub tokens: NodeTokens,
}

impl Authenticator for NodeTokenAuthenticator {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials) -> AuthFuture<'a> {
        const METHOD: &str = "node token";
        Box::pin(async {
            let token = credentials.bearer.as_deref()?;
            Some(match self.tokens.verify(token) {
                Ok(node) => Ok(Caller {
                    node,
                    method: METHOD,
                }),
                Err(error) => Err(Denied {
                    method: METHOD,
                    reason: error.to_string(),
                }),
            })
        })
    }
}

/// Recognises nodes by client certificates of this controller's authority.
#[derive(Debug)]
pub struct ClientCertificates {
    /// The trust domain of node names.
    pub trust_domain: TrustDomain,
}

impl ClientCertificates {
    /// The URI name of a node's certificate. Not of the shape of a workload's identity, so that
    /// neither can be taken for the other.
    #[must_use]
    pub fn uri(trust_domain: &TrustDomain, node: &str) -> String {
        format!("spiffe://{trust_domain}/ambit/node/{node}")
    }

    fn node(&self, chain: &[CertificateDer<'static>]) -> Result<NodeName, String> {
        let leaf = chain.first().ok_or("no certificate")?;
        let names = uri_names(leaf).map_err(|error| error.to_string())?;
        let [name] = &*names else {
            return Err(format!("{} URI names, expected one", names.len()));
        };
        name.strip_prefix(&Self::uri(&self.trust_domain, ""))
            .filter(|node| is_node_name(node))
            .map(NodeName::from)
            .ok_or_else(|| format!("{name:?} does not name a node of {}", self.trust_domain))
    }
}

impl Authenticator for ClientCertificates {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials) -> AuthFuture<'a> {
        const METHOD: &str = "client certificate";
        Box::pin(async {
            let chain = credentials.chain.as_deref()?;
            Some(match self.node(chain) {
                Ok(node) => Ok(Caller {
                    node,
                    method: METHOD,
                }),
                Err(reason) => Err(Denied {
                    method: METHOD,
                    reason,
                }),
            })
        })
    }
}
