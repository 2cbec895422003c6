//! The one internal model of the mesh: workloads, services, policies, addresses and names, with
//! their conversions from and to the protocol types. Refuses to know sockets, clocks, runtimes,
//! metrics and the environment: everything here is plain data and pure functions.
//!
//! ```
//! use ambit_model::Identity;
//! let id: Identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
//! assert_eq!(id.namespace.as_str(), "shop");
//! ```

mod convert;
mod gateway;
mod identity;
mod names;
mod policy;
mod service;
mod workload;

pub use convert::{AddressResource, ConvertError, Converter, PolicyError};
pub use gateway::{
    GatewayAddress, GatewayDestination, NamespacedHostname, NetworkAddress, NetworkCidr,
};
pub use identity::{Identity, IdentityError, TrustDomain};
pub use names::{
    ClusterId, Hostname, Namespace, NetworkId, NodeName, PodUid, PolicyKey, ServiceAccount,
    ServiceKey, WorkloadUid,
};
pub use policy::{
    Action, AuthorizationPolicy, Clause, IpRange, Match, PolicyBody, Rule, Scope,
    ServiceAccountMatch, StringMatch,
};
pub use service::{
    HealthPolicy, IpFamilies, LoadBalancing, LoadBalancingMode, LocalityScope, Service,
    ServicePort, Visibility, WeightedWaypoint,
};
pub use workload::{
    AppProtocol, ApplicationTunnel, DEFAULT_CLUSTER, DEFAULT_SERVICE_ACCOUNT, Health, Locality,
    NetworkMode, Port, ServicePorts, TunnelProtocol, Workload, WorkloadType,
};
