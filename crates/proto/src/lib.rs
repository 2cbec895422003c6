//! The protocol types of the mesh: workload discovery, authorization, certificates, enrolment.
//! Generated from the `.proto` files by `cargo xtask codegen` and committed. Knows no logic:
//! meaning is given to these types in `ambit-model` and at the protocol clients and servers.
//!
//! ```
//! use ambit_proto::workload::{Address, Workload, address};
//! let address = Address { r#type: Some(address::Type::Workload(Workload::default())) };
//! assert!(matches!(address.r#type, Some(address::Type::Workload(_))));
//! ```
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::clone_on_ref_ptr,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

/// Workloads and services (`istio.workload`).
pub mod workload {
    include!("generated/istio.workload.rs");
}

/// Authorization policies (`istio.security`).
pub mod security {
    include!("generated/istio.security.rs");
}

/// Certificate signing (`istio.v1.auth`).
pub mod ca {
    include!("generated/istio.v1.auth.rs");
}

/// The CNI agent's hand-over of pods (`istio.workload.zds`).
pub mod zds {
    include!("generated/istio.workload.zds.rs");
}

/// Per-node enrolment (`ambit.node.v1`).
pub mod enrolment {
    include!("generated/ambit.node.v1.rs");
}

/// Envoy's packages, nested as the generated code refers to them.
pub mod envoy {
    /// `envoy.config`.
    pub mod config {
        /// `envoy.config.core`.
        pub mod core {
            /// `envoy.config.core.v3`.
            pub mod v3 {
                include!("generated/envoy.config.core.v3.rs");
            }
        }
    }
    /// `envoy.service`.
    pub mod service {
        /// `envoy.service.discovery`.
        pub mod discovery {
            /// `envoy.service.discovery.v3`.
            pub mod v3 {
                include!("generated/envoy.service.discovery.v3.rs");
            }
        }
    }
}

/// Google's packages, nested as the generated code refers to them.
pub mod google {
    /// `google.rpc`.
    pub mod rpc {
        include!("generated/google.rpc.rs");
    }
}

pub use envoy::config::core::v3 as core;
pub use envoy::service::discovery::v3 as discovery;
pub use google::rpc;

/// Type URL of workloads and services.
pub const ADDRESS_TYPE: &str = "type.googleapis.com/istio.workload.Address";
/// Type URL of authorization policies.
pub const AUTHORIZATION_TYPE: &str = "type.googleapis.com/istio.security.Authorization";
