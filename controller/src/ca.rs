//! The certificate authority of the mesh in standalone mode: it keeps its root in a directory,
//! knows nodes by token or client certificate, and signs for a node only the identities of
//! workloads that run there. How the two are established are traits, [`Authenticator`] and
//! [`NodeIdentities`], so that Kubernetes' token review can stand beside them.

mod authenticate;
mod authority;
mod files;
mod rotation;
mod service;
mod serving;
mod token;

pub use authenticate::{
    AuthFuture, Authenticator, Authenticators, Caller, ClientCertificates, Credentials, Denied,
    NodeTokenAuthenticator,
};
pub use authority::{AuthorityConfig, CaSetupError, CertificateAuthority};
pub use rotation::Maintenance;
pub use service::{CaEvents, CaService, NoEvents, NodeIdentities, Refusal};
pub use serving::{ServingCertificate, TlsIncoming};
pub use token::{NodeTokens, TokenError};

#[cfg(test)]
mod tests;
