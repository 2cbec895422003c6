//! What the writer is given, and how the store is set up.

use ambit_model::{AuthorizationPolicy, Namespace, PolicyKey, Service, Workload};

/// One change of the mesh. The order of changes that concern different resources is irrelevant,
/// within a batch and between batches.
#[derive(Clone, Debug)]
pub enum Change {
    /// A workload, new or in place of the one with its uid.
    Workload(Workload),
    /// A service, new or in place of the one with its key.
    Service(Service),
    /// A policy, new or in place of the one with its key.
    Policy(AuthorizationPolicy),
    /// A workload's uid or a service's `namespace/hostname`, gone.
    RemoveAddress(String),
    /// A policy, gone.
    RemovePolicy(PolicyKey),
}

/// How lookups behave.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `PREFERED_SERVICE_NAMESPACE`: of several services with one address, its bearer here wins
    /// over others that are neither in the client's namespace nor canonical.
    pub preferred_service_namespace: Option<Namespace>,
}

/// What a batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Resources that are new or differ from before.
    pub changed: usize,
    /// Resources that were there and are gone.
    pub removed: usize,
    /// Changes without effect: same content, or gone already.
    pub unchanged: usize,
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Workloads.
    pub workloads: usize,
    /// Services.
    pub services: usize,
    /// Policies.
    pub policies: usize,
    /// (network, address) pairs of workloads.
    pub addresses: usize,
    /// (service, endpoint) pairs, also of services that are not known.
    pub endpoints: usize,
}
