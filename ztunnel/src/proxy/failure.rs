//! Why a connection was not made, or did not end well: one closed list, and the one place that says
//! what each means on the wire, in metrics and in the log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_identity::{FetchError, PeerError};
use ambit_model::{Hostname, PolicyKey};
use ambit_net::ConnectError;
use ambit_net::copy::CopyError;
use ambit_policy::DenyReason;
use ambit_state::{InboundError, ResolveError};
use ambit_telemetry::ResponseFlag;
use http::StatusCode;

use super::headers::authority::AuthorityError;

/// Why a connection was not made or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The peer sent something else than a CONNECT with an authority.
    #[error("the request is not a CONNECT with an authority")]
    PeerRequest,
    /// The authority is not understood.
    #[error("bad CONNECT request")]
    PeerAuthority(#[source] AuthorityError),
    /// The authority has no business here.
    #[error("bad CONNECT request")]
    PeerDestination(#[source] InboundError),
    /// The peer did not prove who it is, or not over HTTP/2.
    #[error("the tunnel was not established")]
    PeerTunnel(#[source] ambit_hbone::Error),
    /// The peer's certificate names nobody of the mesh, or was revoked.
    #[error("the peer was refused")]
    PeerIdentity(#[source] PeerError),
    /// Policy refuses it.
    #[error("{reason}{}", by.as_ref().map_or(String::new(), |key| format!(" {key}")))]
    Denied {
        /// The policy.
        by: Option<PolicyKey>,
        /// Why it refuses.
        reason: DenyReason,
    },
    /// The agent's own port was asked for: carrying it would be a loop.
    #[error("{0} is a port of the node agent itself and cannot be connected to")]
    SelfCall(SocketAddr),
    /// Discovery does not know the pod.
    #[error("discovery does not know the local workload {workload} after {waited:?}")]
    LocalUnknown {
        /// `namespace/name`.
        workload: String,
        /// How long was waited.
        waited: Duration,
    },
    /// Discovery could not be asked about an address.
    #[error("discovery could not be asked about the destination")]
    Discovery(#[source] ambit_xds::DemandError),
    /// No certificate for the pod.
    #[error("no certificate for the local workload")]
    LocalCertificate(#[source] FetchError),
    /// Nowhere to go.
    #[error("no route")]
    NoRoute(#[source] ResolveError),
    /// A name that discovery gives has no address.
    #[error("{hostname} does not resolve: {reason}")]
    NoAddress {
        /// The name.
        hostname: Hostname,
        /// What the resolver said.
        reason: String,
    },
    /// No TCP connection to the destination or the application.
    #[error("cannot connect to {to}")]
    UpstreamConnect {
        /// Whereto.
        to: SocketAddr,
        /// Why.
        #[source]
        source: Arc<ConnectError>,
    },
    /// No TCP connection to the tunnel port.
    #[error("cannot connect to {to}{}", network_policy_hint(source))]
    UpstreamTunnelPort {
        /// Whereto.
        to: SocketAddr,
        /// Why.
        #[source]
        source: Arc<ConnectError>,
    },
    /// A TCP connection, but no tunnel.
    #[error("no tunnel to {to}")]
    UpstreamTunnel {
        /// Whereto.
        to: SocketAddr,
        /// Why.
        #[source]
        source: ambit_hbone::Error,
    },
    /// The other end of the tunnel is not who it has to be.
    #[error("{to} is not trusted")]
    UpstreamIdentity {
        /// Whereto.
        to: SocketAddr,
        /// Why.
        #[source]
        source: PeerError,
    },
    /// The other end of the tunnel said no.
    #[error("{to} answered {status}{}", status_hint(*status))]
    UpstreamRefused {
        /// The tunnel's other end.
        to: SocketAddr,
        /// Its answer.
        status: StatusCode,
    },
    /// An end failed while bytes flowed.
    #[error("connection broken")]
    Broken(#[source] CopyError),
}

/// What silence on the tunnel port usually means.
fn network_policy_hint(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Timeout(_) => {
            ": no answer; a NetworkPolicy may block port 15008, which the mesh needs"
        }
        _ => "",
    }
}

fn status_hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => ": a policy at the destination refuses this client",
        StatusCode::BAD_REQUEST => ": the destination does not serve that address",
        StatusCode::SERVICE_UNAVAILABLE => ": the application there does not take the connection",
        _ => "",
    }
}

impl Failure {
    /// No tunnel to `to`, because of `source`.
    #[must_use]
    pub fn no_tunnel(to: SocketAddr, source: ambit_hbone::Error) -> Self {
        match PeerError::find(&source) {
            Some(source) => Self::UpstreamIdentity { to, source },
            None => Self::UpstreamTunnel { to, source },
        }
    }
}

/// What a failure means to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// To a tunnel's client.
    pub status: StatusCode,
    /// In metrics and the access log.
    pub flag: ResponseFlag,
    /// The reason by which bad input of peers is counted; `None` where it is not the peer's fault.
    pub peer_error: Option<&'static str>,
    /// Another endpoint may do better, as no byte was sent yet.
    pub retry: bool,
}

impl Failure {
    /// What it means to the outside.
    #[must_use]
    pub fn answer(&self) -> Answer {
        use ResponseFlag as Flag;
        use StatusCode as Status;
        let answer = |status, flag, peer_error, retry| Answer {
            status,
            flag,
            peer_error,
            retry,
        };
        match self {
            Self::PeerRequest => {
                answer(Status::BAD_REQUEST, Flag::None, Some("bad_request"), false)
            }
            Self::PeerAuthority(_) => answer(
                Status::BAD_REQUEST,
                Flag::None,
                Some("bad_authority"),
                false,
            ),
            Self::PeerDestination(_) => answer(
                Status::BAD_REQUEST,
                Flag::None,
                Some("bad_destination"),
                false,
            ),
            Self::PeerTunnel(error) => {
                let (flag, kind) = tunnel_fault(error);
                answer(Status::BAD_REQUEST, flag, Some(kind), false)
            }
            Self::PeerIdentity(PeerError::Revoked) => answer(
                Status::UNAUTHORIZED,
                Flag::CertRevoked,
                Some("revoked"),
                false,
            ),
            Self::PeerIdentity(_) => answer(
                Status::UNAUTHORIZED,
                Flag::TlsFailure,
                Some("bad_identity"),
                false,
            ),
            Self::Denied { .. } => answer(Status::UNAUTHORIZED, Flag::Deny, None, false),
            Self::SelfCall(_) => answer(Status::BAD_REQUEST, Flag::None, Some("self_call"), false),
            Self::LocalUnknown { .. } | Self::Discovery(_) => {
                answer(Status::SERVICE_UNAVAILABLE, Flag::None, None, false)
            }
            Self::LocalCertificate(_) => answer(
                Status::SERVICE_UNAVAILABLE,
                Flag::IdentityError,
                None,
                false,
            ),
            Self::NoRoute(_) | Self::NoAddress { .. } => {
                answer(Status::SERVICE_UNAVAILABLE, Flag::None, None, false)
            }
            Self::UpstreamConnect { .. } => {
                answer(Status::SERVICE_UNAVAILABLE, Flag::Connect, None, true)
            }
            Self::UpstreamTunnelPort { source, .. } => {
                let flag = match **source {
                    ConnectError::Timeout(_) => Flag::NetworkPolicy,
                    ConnectError::Local(_) | ConnectError::Remote(_) => Flag::Connect,
                };
                answer(Status::SERVICE_UNAVAILABLE, flag, None, true)
            }
            Self::UpstreamTunnel { source, .. } => {
                let flag = tunnel_fault(source).0;
                answer(Status::SERVICE_UNAVAILABLE, flag, None, true)
            }
            Self::UpstreamIdentity { source, .. } => {
                // A certificate of somebody else counts as a failed connect, as in the reference.
                let revoked = *source == PeerError::Revoked;
                let flag = if revoked {
                    Flag::CertRevoked
                } else {
                    Flag::Connect
                };
                answer(Status::SERVICE_UNAVAILABLE, flag, None, true)
            }
            Self::UpstreamRefused { status, .. } => {
                let denied = *status == Status::UNAUTHORIZED;
                let flag = if denied { Flag::Deny } else { Flag::Connect };
                let retry = *status == Status::SERVICE_UNAVAILABLE;
                answer(Status::SERVICE_UNAVAILABLE, flag, None, retry)
            }
            Self::Broken(_) => answer(Status::SERVICE_UNAVAILABLE, Flag::None, None, false),
        }
    }
}

fn tunnel_fault(error: &ambit_hbone::Error) -> (ResponseFlag, &'static str) {
    use ambit_hbone::Error;
    match error {
        Error::PeerPlaintext => (ResponseFlag::TlsFailure, "plaintext"),
        Error::PeerTls(_) => (ResponseFlag::TlsFailure, "bad_tls"),
        Error::PeerAlpn => (ResponseFlag::TlsFailure, "bad_alpn"),
        Error::PeerHandshakeTimeout => (ResponseFlag::TlsFailure, "slow_handshake"),
        _ => (ResponseFlag::H2HandshakeFailure, "bad_http2"),
    }
}

/// Prints an error with its sources: the one reporter of chains.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(error: ConnectError) -> Arc<ConnectError> {
        Arc::new(error)
    }

    #[test]
    fn statuses_are_those_of_the_wire() {
        let to: SocketAddr = "10.0.0.1:15008".parse().unwrap();
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let check = |failure: Failure, status: u16, flag: &str| {
            let answer = failure.answer();
            assert_eq!(
                (answer.status.as_u16(), answer.flag.as_str()),
                (status, flag),
                "{failure}"
            );
        };
        check(Failure::PeerRequest, 400, "-");
        check(Failure::PeerAuthority(AuthorityError::NoPort), 400, "-");
        check(Failure::SelfCall(to), 400, "-");
        check(
            Failure::Denied {
                by: None,
                reason: DenyReason::NoAllowMatched,
            },
            401,
            "DENY",
        );
        check(
            Failure::PeerIdentity(PeerError::Revoked),
            401,
            "CERT_REVOKED",
        );
        check(
            Failure::LocalUnknown {
                workload: "a/b".into(),
                waited: Duration::from_secs(5),
            },
            503,
            "-",
        );
        let source = connect(ConnectError::Remote(refused()));
        check(Failure::UpstreamConnect { to, source }, 503, "CONNECT");
        let source = connect(ConnectError::Timeout(Duration::from_secs(10)));
        check(
            Failure::UpstreamTunnelPort { to, source },
            503,
            "NETWORK_POLICY",
        );
        let source = ambit_hbone::Error::PeerAlpn;
        check(Failure::UpstreamTunnel { to, source }, 503, "TLS_FAILURE");
        let source = ambit_hbone::Error::PeerClosed;
        check(
            Failure::UpstreamTunnel { to, source },
            503,
            "H2_HANDSHAKE_FAILURE",
        );
    }

    #[test]
    fn only_what_another_endpoint_may_mend_is_tried_again() {
        let to: SocketAddr = "10.0.0.1:15008".parse().unwrap();
        let refused = |status| Failure::UpstreamRefused { to, status };
        assert!(refused(StatusCode::SERVICE_UNAVAILABLE).answer().retry);
        assert!(!refused(StatusCode::UNAUTHORIZED).answer().retry);
        assert!(!refused(StatusCode::BAD_REQUEST).answer().retry);
        assert!(
            !Failure::Denied {
                by: None,
                reason: DenyReason::Matched
            }
            .answer()
            .retry
        );
    }

    #[test]
    fn messages_say_what_to_do() {
        let to = "10.0.0.1:15008".parse().unwrap();
        let source = connect(ConnectError::Timeout(Duration::from_secs(10)));
        let text = Failure::UpstreamTunnelPort { to, source }.to_string();
        assert!(
            text.contains("NetworkPolicy") && text.contains("15008"),
            "{text}"
        );
        let by = Some(PolicyKey::new("shop", "deny-all"));
        let text = Failure::Denied {
            by,
            reason: DenyReason::Matched,
        }
        .to_string();
        assert_eq!(text, "denied by policy shop/deny-all");
    }
}
