//! The label vocabulary: names as dashboards know them, and the closed sets of values.

/// What stands for a value that is not known.
pub const UNKNOWN: &str = "unknown";

/// Which side of a connection reports.
pub const REPORTER: &str = "reporter";
/// Source workload's owner.
pub const SOURCE_WORKLOAD: &str = "source_workload";
/// Source canonical service.
pub const SOURCE_CANONICAL_SERVICE: &str = "source_canonical_service";
/// Source canonical revision.
pub const SOURCE_CANONICAL_REVISION: &str = "source_canonical_revision";
/// Source namespace.
pub const SOURCE_WORKLOAD_NAMESPACE: &str = "source_workload_namespace";
/// Source identity.
pub const SOURCE_PRINCIPAL: &str = "source_principal";
/// Source application name.
pub const SOURCE_APP: &str = "source_app";
/// Source application version.
pub const SOURCE_VERSION: &str = "source_version";
/// Source cluster.
pub const SOURCE_CLUSTER: &str = "source_cluster";
/// Destination service host name.
pub const DESTINATION_SERVICE: &str = "destination_service";
/// Destination service namespace.
pub const DESTINATION_SERVICE_NAMESPACE: &str = "destination_service_namespace";
/// Destination service object name.
pub const DESTINATION_SERVICE_NAME: &str = "destination_service_name";
/// Destination workload's owner.
pub const DESTINATION_WORKLOAD: &str = "destination_workload";
/// Destination canonical service.
pub const DESTINATION_CANONICAL_SERVICE: &str = "destination_canonical_service";
/// Destination canonical revision.
pub const DESTINATION_CANONICAL_REVISION: &str = "destination_canonical_revision";
/// Destination namespace.
pub const DESTINATION_WORKLOAD_NAMESPACE: &str = "destination_workload_namespace";
/// Destination identity.
pub const DESTINATION_PRINCIPAL: &str = "destination_principal";
/// Destination application name.
pub const DESTINATION_APP: &str = "destination_app";
/// Destination application version.
pub const DESTINATION_VERSION: &str = "destination_version";
/// Destination cluster.
pub const DESTINATION_CLUSTER: &str = "destination_cluster";
/// Protocol of the traffic, or the transport of a DNS request.
pub const REQUEST_PROTOCOL: &str = "request_protocol";
/// Why a connection did not go well.
pub const RESPONSE_FLAGS: &str = "response_flags";
/// Whether mutual TLS carried it.
pub const CONNECTION_SECURITY_POLICY: &str = "connection_security_policy";
/// Source region.
pub const SOURCE_REGION: &str = "source_region";
/// Source zone.
pub const SOURCE_ZONE: &str = "source_zone";
/// Destination region.
pub const DESTINATION_REGION: &str = "destination_region";
/// Destination zone.
pub const DESTINATION_ZONE: &str = "destination_zone";
/// DNS query type, lower case.
pub const REQUEST_QUERY_TYPE: &str = "request_query_type";
/// Host name asked for.
pub const HOSTNAME: &str = "hostname";
/// Why an xDS stream ended.
pub const REASON: &str = "reason";
/// Type URL of an xDS message.
pub const URL: &str = "url";
/// Program name.
pub const COMPONENT: &str = "component";
/// Program version.
pub const TAG: &str = "tag";
/// Worker thread.
pub const WORKER: &str = "worker";
/// `namespace/name` of an authorization policy.
pub const POLICY: &str = "policy";
/// A policy's action.
pub const ACTION: &str = "action";
/// What came of it.
pub const VERDICT: &str = "verdict";
/// Whether the policy is only evaluated.
pub const DRY_RUN: &str = "dry_run";
/// SPIFFE identity.
pub const IDENTITY: &str = "identity";

/// All labels of the traffic metrics, in the order they are written.
pub const TRAFFIC: [&str; 27] = [
    REPORTER,
    SOURCE_WORKLOAD,
    SOURCE_CANONICAL_SERVICE,
    SOURCE_CANONICAL_REVISION,
    SOURCE_WORKLOAD_NAMESPACE,
    SOURCE_PRINCIPAL,
    SOURCE_APP,
    SOURCE_VERSION,
    SOURCE_CLUSTER,
    DESTINATION_SERVICE,
    DESTINATION_SERVICE_NAMESPACE,
    DESTINATION_SERVICE_NAME,
    DESTINATION_WORKLOAD,
    DESTINATION_CANONICAL_SERVICE,
    DESTINATION_CANONICAL_REVISION,
    DESTINATION_WORKLOAD_NAMESPACE,
    DESTINATION_PRINCIPAL,
    DESTINATION_APP,
    DESTINATION_VERSION,
    DESTINATION_CLUSTER,
    REQUEST_PROTOCOL,
    RESPONSE_FLAGS,
    CONNECTION_SECURITY_POLICY,
    SOURCE_REGION,
    SOURCE_ZONE,
    DESTINATION_REGION,
    DESTINATION_ZONE,
];

macro_rules! values {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant),+
        }

        impl $name {
            /// The value as metrics and logs write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }
    };
}

values! {
    /// Which side of a connection reports.
    Reporter {
        /// The client's node.
        Source = "source",
        /// The server's node.
        Destination = "destination",
    }
}

values! {
    /// Why a connection did not go well.
    ResponseFlag {
        /// Nothing to say.
        None = "-",
        /// A policy refused it.
        Deny = "DENY",
        /// The upstream could not be reached.
        Connect = "CONNECT",
        /// The TLS handshake failed.
        TlsFailure = "TLS_FAILURE",
        /// The HTTP/2 handshake failed.
        H2HandshakeFailure = "H2_HANDSHAKE_FAILURE",
        /// The tunnel port did not answer; a NetworkPolicy may block it.
        NetworkPolicy = "NETWORK_POLICY",
        /// No certificate for the local identity.
        IdentityError = "IDENTITY_ERROR",
        /// The peer's certificate was revoked.
        CertRevoked = "CERT_REVOKED",
    }
}

values! {
    /// Whether mutual TLS carries the connection.
    Security {
        /// It does.
        MutualTls = "mutual_tls",
        /// It does not.
        Unknown = "unknown",
    }
}

values! {
    /// Why an xDS stream ended.
    XdsTermination {
        /// The server could not be reached.
        ConnectionError = "ConnectionError",
        /// The stream failed.
        Error = "Error",
        /// We ended it to open another.
        Reconnect = "Reconnect",
        /// The server ended it.
        Complete = "Complete",
    }
}

impl Reporter {
    /// The access log's word for the same.
    #[must_use]
    pub const fn direction(self) -> &'static str {
        match self {
            Self::Source => "outbound",
            Self::Destination => "inbound",
        }
    }
}
