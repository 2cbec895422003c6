//! The objects the mesh is described by, as they are written in Kubernetes: only the fields that
//! are read, decoded alike from files and from an API server's answers. Refuses to know where an
//! object came from and what it means.

pub mod core;
pub mod gateway;
pub mod kinds;
pub mod labels;
pub mod meta;
pub mod networking;
pub mod security;

pub use self::core::{EndpointSlice, Namespace, Node, Pod, Service};
pub use self::gateway::{Gateway, GatewayClass};
pub use self::kinds::{AnyObject, Kind};
pub use self::meta::{Labels, Object, ObjectMeta};
pub use self::networking::{ServiceEntry, WorkloadEntry};
pub use self::security::{AuthorizationPolicy, PeerAuthentication};
