//! Every environment variable the node agent reads: name, form, default and meaning. The one
//! table from which values are read, unknown names are recognised and the reference page is made.

use super::Variable;

/// Variables of one component, in the order of the reference page.
pub(crate) struct Section {
    /// Heading.
    pub(crate) title: &'static str,
    /// Its variables.
    pub(crate) variables: &'static [&'static Variable],
}

macro_rules! sections {
    ($($title:literal { $($name:ident $form:literal $default:literal $meaning:literal;)* })*) => {
        $($(
            pub(crate) const $name: Variable = Variable {
                name: stringify!($name),
                form: $form,
                default: $default,
                meaning: $meaning,
            };
        )*)*
        /// The whole table.
        pub(crate) const SECTIONS: &[Section] = &[
            $(Section { title: $title, variables: &[$(&$name),*] }),*
        ];
    };
}

sections! {
    "The node and its cluster" {
        NODE_NAME "text" "" "Kubernetes name of the node. Required with `AMBIT_ENROLMENT=controller`; names the workloads whose certificates are kept ready.";
        NETWORK "text" "" "The network this node is in; empty for the only one.";
        CLUSTER_ID "text" "`Kubernetes`" "The cluster, as sent in the `clusterid` header and shown in telemetry.";
        ISTIO_META_CLUSTER_ID "text" "`CLUSTER_ID`" "As `CLUSTER_ID`, and stronger than it.";
        CLUSTER_DOMAIN "DNS name" "`cluster.local`" "Suffix of the cluster's service names.";
        TRUST_DOMAIN "DNS name" "`cluster.local`" "Trust domain of the agent's own identity, and of the identities it accepts.";
        AMBIT_TRUST_DOMAIN_ALIASES "comma-separated list" "" "Further trust domains whose peers are accepted as if they were of the own one.";
        INSTANCE_IP "IP address" "`1.1.1.1`" "The agent's own address, as told to the control plane.";
        POD_NAME "text" "" "The agent's own pod. With `POD_NAMESPACE` and `SERVICE_ACCOUNT` it is the agent's identity.";
        POD_NAMESPACE "text" "" "The namespace of the agent's own pod.";
        SERVICE_ACCOUNT "text" "" "The service account of the agent's own pod.";
        KUBERNETES_SERVICE_HOST "text" "" "Set by Kubernetes; only whether it is set counts: it decides the default control-plane address.";
        PROXY_CONFIG "YAML or JSON" "" "`discoveryAddress`, `proxyAdminPort`, `statsPort`, `concurrency`, `proxyMetadata`, laid over the same fields of `./etc/istio/config/mesh` (`defaultConfig`). A variable of its own is stronger.";
    }
    "Discovery" {
        XDS_ADDRESS "https://host:port" "`https://istiod.istio-system.svc:15012` in Kubernetes, else `https://localhost:15012`" "The control plane's discovery service. Set to empty: no discovery.";
        XDS_ROOT_CA "file, `SYSTEM` or PEM" "`./var/run/secrets/istio/root-cert.pem`" "What its certificate is verified with. A file is read again when it changes.";
        ALT_XDS_HOSTNAME "DNS name" "" "Name to verify its certificate against, instead of the address's.";
        XDS_ON_DEMAND "true or false" "`false`" "Ask for resources when a connection needs them instead of holding the whole mesh. Excludes the DNS proxy.";
        LOCAL_XDS_PATH "file" "" "Workloads, services and policies as YAML, held besides what discovery sends.";
        LOCAL_XDS "YAML" "" "The same, in the variable itself.";
        PREFERED_SERVICE_NAMESPACE "text" "" "Namespace whose services win among equals of one name, after the client's own.";
    }
    "Certificates" {
        CA_ADDRESS "https://host:port" "as `XDS_ADDRESS`'s default" "The certificate authority.";
        CA_ROOT_CA "file, `SYSTEM` or PEM" "`./var/run/secrets/istio/root-cert.pem`" "What its certificate is verified with. A file is read again when it changes.";
        ALT_CA_HOSTNAME "DNS name" "" "Name to verify its certificate against, instead of the address's.";
        AUTH_TOKEN "file or text" "`./var/run/secrets/tokens/istio-token` if it exists" "Bearer token for discovery, enrolment and the certificate authority. A file is read again for every request.";
        AMBIT_CLIENT_CERT "file" "" "PEM chain with which the agent identifies itself to the control plane; needs `AMBIT_CLIENT_KEY`.";
        AMBIT_CLIENT_KEY "file" "" "PEM key of `AMBIT_CLIENT_CERT`.";
        SECRET_TTL "duration" "`24h`" "Lifetime to ask for. Renewed at half of it.";
        FAKE_CA "true or false" "`false`" "Sign certificates in the process with a root made at start, which nobody else trusts. For tests only.";
        CRL_PATH "file" "" "PEM bundle of revocation lists, read again when it changes. Peers it revokes are refused and cut.";
        TLS12_ENABLED "true or false" "`false`" "Accept TLS 1.2 besides 1.3.";
        COMPLIANCE_POLICY "`pqc` or empty" "" "`pqc`: only post-quantum key exchange (X25519MLKEM768). Without it that exchange is offered first.";
    }
    "Proxy" {
        ENABLE_PROXY "true or false" "`true`" "Carry connections.";
        PROXY_MODE "shared or dedicated" "`shared`" "One agent for the pods of a node, or for one workload.";
        PROXY_WORKLOAD_INFO "namespace/name/service-account" "" "The one workload. Required with `PROXY_MODE=dedicated`.";
        ZTUNNEL_WORKER_THREADS "`N` or `N%`" "the CPU limit, else the largest of a quarter of the processors, the CPU request and 2" "Data threads. `0`: one per processor.";
        ZTUNNEL_RESOURCE_CPU_LIMIT "CPU quantity" "" "CPU limit of the agent's container.";
        ZTUNNEL_CPU_LIMIT "CPU quantity" "" "Older name of `ZTUNNEL_RESOURCE_CPU_LIMIT`.";
        ZTUNNEL_RESOURCE_CPU_REQUEST "CPU quantity" "" "CPU request of the agent's container.";
        IPV6_ENABLED "true or false" "`true`" "Listen on IPv6 too.";
        PACKET_MARK "number" "`1337` in shared mode" "Firewall mark of the agent's sockets, by which they escape capture.";
        ENABLE_ORIG_SRC "true, false or empty" "" "Keep the client's address toward the application: required, off, or (empty) where possible.";
        INPOD_PORT_REUSE "true or false" "`true`" "Share listening ports between an old and a new agent.";
        LOCALHOST_APP_TUNNEL "true or false" "`true`" "Send application-tunnel traffic to localhost.";
        UNSTABLE_ENABLE_SOCKS5 "true or false" "`false`" "Reserved; not offered. Setting it is reported at start.";
        ENABLE_RESPONSE_BAGGAGE "true or false" "`true`" "Describe the destination workload in tunnel responses, and read such descriptions.";
        AUTHZ_POLICY_INFO_LOGGING "true or false" "`false`" "Log which policy decided at INFO instead of DEBUG.";
        KEEPALIVE_ENABLED "true or false" "`true`" "TCP keepalive on data connections.";
        KEEPALIVE_TIME "duration" "`180s`" "Idle time before the first probe.";
        KEEPALIVE_INTERVAL "duration" "`180s`" "Time between probes.";
        KEEPALIVE_RETRIES "number" "`9`" "Probes before the connection is given up.";
        USER_TIMEOUT_ENABLED "true or false" "`false`" "Give unacknowledged data up after time + retries × interval.";
        AMBIT_LOOPBACK_CONGESTION "congestion control or empty" "`cubic`" "Congestion control between application and agent, where pacing is pure loss. Empty: the system's.";
        AMBIT_TUNNEL_CONGESTION "congestion control or empty" "" "Congestion control between nodes. Empty: the system's.";
        AMBIT_CONNECT_ATTEMPTS "number, 1 to 10" "`3`" "Endpoints of a service tried when connecting fails before any byte was sent.";
    }
    "Tunnel" {
        HTTP2_STREAM_WINDOW_SIZE "bytes" "`4194304`" "Flow-control window of a tunnelled connection.";
        HTTP2_CONNECTION_WINDOW_SIZE "bytes" "`16777216`" "Flow-control window of a tunnel.";
        HTTP2_FRAME_SIZE "bytes, 16384 to 16777215" "`1048576`" "Largest frame accepted.";
        POOL_MAX_STREAMS_PER_CONNECTION "number" "`100`" "Connections put on one tunnel before another is opened.";
        POOL_UNUSED_RELEASE_TIMEOUT "duration" "`5m`" "How long an idle tunnel is kept.";
    }
    "DNS" {
        ISTIO_META_DNS_CAPTURE "true or false" "`true`" "Answer captured DNS queries. Excluded by `XDS_ON_DEMAND`.";
        ISTIO_META_DNS_PROXY_ADDR "localhost:port or ip:port" "`localhost:15053`" "Where the resolver listens in each pod.";
    }
    "Enrolment and capture" {
        AMBIT_ENROLMENT "zds or controller" "`zds`" "Who tells which pods are in the mesh: a CNI agent on `INPOD_UDS`, or the controller.";
        INPOD_UDS "path" "`/var/run/ztunnel/ztunnel.sock`" "Socket of the CNI agent.";
        AMBIT_ENROLMENT_ADDRESS "https://host:port" "`XDS_ADDRESS`" "The controller's enrolment service.";
        AMBIT_CAPTURE "auto, ebpf or cni" "`auto`" "What brings pods' connections to the agent: our eBPF programs, or the CNI agent's redirect rules. `auto`: eBPF; with `AMBIT_ENROLMENT=zds` on a kernel that lacks it, the rules of the CNI agent.";
        AMBIT_BPFFS_DIR "path" "`/sys/fs/bpf/ambit`" "Where programs and maps are pinned. One per agent.";
        AMBIT_CGROUP "path" "the cgroup v2 mount" "Control group whose processes are captured.";
        AMBIT_PROC_DIR "path" "`/proc`" "The host's process file system, where pods' network namespaces are found.";
        AMBIT_KUBELET "process name" "`kubelet`" "The process whose connections from the node are let through to pods (health probes).";
    }
    "Ports of the agent" {
        AMBIT_ADMIN_PORT "port" "`15000`" "Admin, on localhost.";
        AMBIT_METRICS_PORT "port" "`15020`" "Metrics.";
        AMBIT_READINESS_PORT "port" "`15021`" "Readiness.";
        AMBIT_SELF_PORT "port or off" "`15008`" "Tunnel listener of the agent itself, by which its metrics are scraped.";
    }
    "Ending" {
        CONNECTION_TERMINATION_DEADLINE "duration" "" "How long open connections may last after SIGTERM.";
        TERMINATION_GRACE_PERIOD_SECONDS "number" "" "The pod's grace period: the deadline is 5 seconds less (1 less when it is 10 or under). Without either: 5 seconds.";
    }
    "Logging" {
        RUST_LOG "filter" "`info`" "Which log lines are written, such as `info,dns=debug`.";
        LOG_FORMAT "`json` or empty" "" "Lines as JSON objects.";
    }
}

/// Prefixes under which any name is taken.
pub(crate) const PREFIXES: &[(&str, &str)] = &[
    (
        "ISTIO_META_",
        "Text passed on as metadata of the node under the rest of the name.",
    ),
    ("ISTIO_METAJSON_", "The same, as JSON."),
    (
        "XDS_HEADER_",
        "Header added to discovery and enrolment requests, named by the rest.",
    ),
    (
        "CA_HEADER_",
        "Header added to certificate requests, named by the rest.",
    ),
];
