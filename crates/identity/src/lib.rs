//! Who a workload is, and how that is proved: certificate requests, the certificates of this
//! node's workloads and their renewal, trust roots and revocation, TLS configurations and the
//! verification of peers; and, in [`issue`], the other side: signing. Refuses to know sockets,
//! connections and policy: it is given chains and gives answers.
//!
//! The main type is [`Certificates`].
//!
//! ```
//! use ambit_identity::ExpectedPeers;
//! use ambit_model::Identity;
//! let web: Identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
//! let expected = ExpectedPeers::identity(&web);
//! assert!(expected.contains("spiffe://cluster.local/ns/shop/sa/web"));
//! ```

mod ca_client;
mod certificate;
mod certificates;
mod clock;
mod crl;
mod csr;
mod error;
pub mod issue;
pub mod limits;
mod tls;
mod trust;
mod verify;
mod x509;

pub use ca_client::{CaClient, GrpcCa, SignFuture, SignRequest, Signed};
pub use certificate::WorkloadCertificate;
pub use certificates::{
    CertificateDump, CertificateExpiry, Certificates, CertificatesWorker, ChainElementDump,
    Priority, Settings, Stats,
};
pub use clock::{Clock, SystemClock};
pub use crl::{CrlFile, CrlPoll, RevocationLists};
pub use csr::CertificateRequest;
pub use error::{CaError, CrlError, FetchError, PeerError, RootsError};
pub use tls::{ALPN_H2, Compliance, Tls, TlsSettings, placeholder_server_name};
pub use trust::{Roots, TrustStore};
pub use verify::{ExpectedPeers, Peer, peer_identity, uri_names};
